"""BatchNorms of weights to start from: find those that were folded, and give them statistics again.

Converters fold a BatchNorm into the convolution before it and leave mean 0 and variance 1. Such a
model predicts as well as before. In training, BatchNorm takes the statistics of the batch instead,
which are far from 0 and 1: every layer changes at once, and the run stays at chance.
"""

from typing import Any, Dict, Iterable, List

import torch
from torch import nn

from ..explanations.channel_selection import in_double

#: Largest distance of folded statistics from 0 and 1; some converters subtract epsilon (1e-3).
_TOLERANCE = 2e-3
#: Batches whose statistics are measured.
BATCHES = 8


def batch_norms(model: nn.Module) -> List[Any]:
    """Return the BatchNorms of a model that have running statistics."""
    kinds = (nn.modules.batchnorm._BatchNorm,)
    return [m for m in model.modules() if isinstance(m, kinds) and m.running_mean is not None]


def folded_norms(model: nn.Module) -> List[Any]:
    """Return the BatchNorms whose statistics are mean 0 and variance 1 in every channel.

    Those of random weights are so, too; ask only of weights that were loaded.

    Args:
        model: The model.
    """
    return [
        norm for norm in batch_norms(model)
        if bool((norm.running_mean.abs() <= _TOLERANCE).all())
        and bool(((norm.running_var - 1).abs() <= _TOLERANCE).all())
    ]  # fmt: skip


def freeze_norms(model: nn.Module) -> None:
    """Put the BatchNorms of a model into eval mode, so that their statistics stay."""
    for norm in batch_norms(model):
        norm.eval()


@torch.no_grad()
def unfold_norms(model: nn.Module, norms: Iterable[Any], inputs: Iterable[torch.Tensor]) -> None:
    """Give folded BatchNorms the statistics of their inputs, and keep what they compute.

    ``(x - mean) / sqrt(var + eps) * weight + bias`` is the same function as before, because weight
    and bias absorb the change. With the batch's statistics in training it stays nearly the same.

    Args:
        model: The model; its parameters and buffers are changed in place.
        norms: Its BatchNorms to change; those without weight and bias stay as they are.
        inputs: Batches of its input, on its device.
    """
    sums: Dict[Any, List[Any]] = {norm: [0.0, 0.0, 0] for norm in norms if norm.affine}

    def add(norm: nn.Module, args: Any) -> None:
        values = in_double(args[0].detach()).transpose(0, 1).flatten(1)  # (C, positions)
        found = sums[norm]
        found[0], found[1] = found[0] + values.sum(1), found[1] + values.square().sum(1)
        found[2] += values.shape[1]

    hooks = [norm.register_forward_pre_hook(add) for norm in sums]
    training = model.training
    model.eval()
    try:
        for batch in inputs:
            model(batch)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    for norm, (total, squares, count) in sums.items():
        if count:
            mean = total / count
            _set_statistics(norm, mean, (squares / count - mean.square()).clamp(min=0))


def _set_statistics(norm: Any, mean: torch.Tensor, var: torch.Tensor) -> None:
    """Set mean and variance, (C,) double, and change weight and bias so that outputs stay."""
    scale = in_double(norm.weight) / (in_double(norm.running_var) + norm.eps).sqrt()
    norm.bias.add_((scale * (mean - in_double(norm.running_mean))).to(norm.bias))
    norm.weight.copy_(scale * (var + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
