"""The weights that are evaluated and exported: the trained weights, or their average (EMA).

Where FSDP2 shards the parameters over the processes, each process averages its own shards, and the
whole tensors are gathered when they are needed.
"""

from copy import deepcopy
from pathlib import Path
from typing import Dict, Optional

import torch
from safetensors.torch import load_file
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from .run_folder import save_weights

FILE = "ema.safetensors"


class EvalWeights:
    """The weights to evaluate, of a model that every process holds whole.

    They are kept in a model of their own, because Accelerate replaces ``forward`` of the model that
    it prepares. That model would be evaluated under autocast, whatever precision is asked for.

    Args:
        model: The model before Accelerate prepares it.
        decay: Decay of the average; None to evaluate the trained weights.
    """

    model: nn.Module
    ema: Optional[ModelEmaV3]
    copy: nn.Module

    def __init__(self, model: nn.Module, decay: Optional[float]):
        self.model = model
        self.ema = None if decay is None else ModelEmaV3(model, decay=decay, use_warmup=True)
        self.copy = deepcopy(model) if self.ema is None else self.ema.module

    def attach(self, prepared: nn.Module) -> None:
        """Take the weights from now on from the model as Accelerate prepared it, if need be."""

    def average(self, step: int) -> None:
        """Update the average after an update; steps count from 1."""
        if self.ema is not None:
            self.ema.update(self.model, step=step)

    def to_model(self) -> nn.Module:
        """Return the model with these weights; all processes must call it."""
        if self.ema is None:
            self.copy.load_state_dict(self.model.state_dict())
        return self.copy

    def save(self, folder: Path, main: bool) -> None:
        """Write the average into a checkpoint, in the main process; all processes must call it."""
        if self.ema is not None:
            model = self.to_model()
            if main:
                save_weights(model, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read the average from a checkpoint."""
        if self.ema is not None:
            self.copy.load_state_dict(load_file(folder / FILE))


class ShardedEvalWeights(EvalWeights):
    """The weights to evaluate, of a model whose parameters FSDP2 shards over the processes.

    Gradients, optimizer and trained weights are sharded. The model that is evaluated is whole in
    every process.
    """

    def __init__(self, model: nn.Module, decay: Optional[float]):
        super().__init__(model, decay)
        self.shards: Dict[str, torch.Tensor] = {}

    def attach(self, prepared: nn.Module) -> None:
        """Take the weights from the prepared model, whose parameters are sharded."""
        self.model = prepared
        if self.ema is not None:
            self.shards = {k: _local(v).clone() for k, v in prepared.state_dict().items()}

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Update this process's shards of the average."""
        if self.ema is None:
            return
        weight = 1 - self.ema.get_decay(step)
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.shards[name].lerp_(_local(tensor), weight)
            else:
                self.shards[name].copy_(tensor)

    @torch.no_grad()
    def to_model(self) -> nn.Module:
        """Return the model with these weights, gathered from all processes."""
        state = {}
        for name, tensor in self.model.state_dict().items():
            state[name] = _gathered(self.shards.get(name, _local(tensor)), tensor)
        self.copy.load_state_dict(state)
        return self.copy

    def load(self, folder: Path) -> None:
        """Read this process's shards of the average from a checkpoint."""
        if self.ema is None:
            return
        saved = load_file(folder / FILE)
        for name, tensor in self.model.state_dict().items():
            self.shards[name] = _shard_of(saved[name].to(_local(tensor).device), tensor)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's shard of a tensor; the tensor itself if it is not sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[operator]


def _gathered(shard: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the whole tensor from the shards of all processes, sharded as ``like``."""
    if not hasattr(like, "to_local"):
        return shard
    from torch.distributed.tensor import DTensor

    assert isinstance(like, DTensor)
    sharded = DTensor.from_local(
        shard, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
    return sharded.full_tensor()


def _shard_of(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a copy of this process's shard of a whole tensor, sharded as ``like``."""
    if not hasattr(like, "to_local"):
        return tensor.clone()
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor, like.device_mesh, like.placements).to_local().clone()
