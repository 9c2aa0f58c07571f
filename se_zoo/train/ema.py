"""The weights that are scored and exported: the trained ones, or their average (EMA).

Where the parameters are spread over the processes (FSDP2), each averages its own part, and the
whole is put together when it is needed.
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


class Scored:
    """The weights to score, of a model that every process holds whole.

    They are kept in a model of their own, because Accelerate replaces ``forward`` of the one that
    it prepares: that one would be scored under autocast, whatever precision is asked for.

    Args:
        model: Before Accelerate prepares it.
        decay: Of the average; None: the weights themselves.
    """

    def __init__(self, model: nn.Module, decay: Optional[float]):
        self.model = model
        self.ema = None if decay is None else ModelEmaV3(model, decay=decay, use_warmup=True)
        self.copy = deepcopy(model) if self.ema is None else self.ema.module

    def follow(self, model: nn.Module) -> None:
        """Take note of the model that Accelerate prepared."""

    def update(self, step: int) -> None:
        """Average the weights after an update; steps count from 1."""
        if self.ema is not None:
            self.ema.update(self.model, step=step)

    def whole(self) -> nn.Module:
        """The model with these weights; all processes take part."""
        if self.ema is None:
            self.copy.load_state_dict(self.model.state_dict())
        return self.copy

    def save(self, folder: Path, main: bool) -> None:
        """Write the average into a state, in the main process; all take part."""
        if self.ema is not None:
            whole = self.whole()
            if main:
                save_weights(whole, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read the average of a state."""
        if self.ema is not None:
            self.copy.load_state_dict(load_file(folder / FILE))


class ShardedScored(Scored):
    """The weights to score, of a model whose parameters FSDP2 spreads over the processes.

    Gradients, optimiser and trained weights are spread; the copy that is scored is whole, on every
    process.
    """

    def __init__(self, model: nn.Module, decay: Optional[float]):
        super().__init__(model, decay)
        self.parts: Dict[str, torch.Tensor] = {}

    def follow(self, model: nn.Module) -> None:
        self.model = model
        if self.ema is not None:
            self.parts = {k: _part(v).clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        if self.ema is None:
            return
        weight = 1 - self.ema.get_decay(step)
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.parts[name].lerp_(_part(tensor), weight)
            else:
                self.parts[name].copy_(tensor)

    @torch.no_grad()
    def whole(self) -> nn.Module:
        state = {}
        for name, tensor in self.model.state_dict().items():
            state[name] = _joined(self.parts.get(name, _part(tensor)), tensor)
        self.copy.load_state_dict(state)
        return self.copy

    def load(self, folder: Path) -> None:
        if self.ema is None:
            return
        saved = load_file(folder / FILE)
        for name, tensor in self.model.state_dict().items():
            self.parts[name] = _cut(saved[name].to(_part(tensor).device), tensor)


def _part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor of the model."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[operator]


def _joined(part: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The whole tensor from the parts of all processes, which lie as those of ``like``."""
    if not hasattr(like, "to_local"):
        return part
    from torch.distributed.tensor import DTensor

    assert isinstance(like, DTensor)
    spread = DTensor.from_local(
        part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
    return spread.full_tensor()


def _cut(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor that all have."""
    if not hasattr(like, "to_local"):
        return whole.clone()
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(whole, like.device_mesh, like.placements).to_local().clone()
