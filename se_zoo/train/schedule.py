"""The learning rate, and each parameter group's share of it."""

import math
from typing import Any, Dict, List, Optional, Tuple

from timm.optim import (
    param_groups_layer_decay,  # pyright: ignore[reportPrivateImportUsage]
    param_groups_weight_decay,  # pyright: ignore[reportPrivateImportUsage]
)
from torch import nn


def lr_at(update: int, total: int, warmup: int, peak: float) -> float:
    """Return the learning rate of an update: a linear warm-up, then a cosine towards 0.

    Args:
        update: 0 to ``total - 1``.
        total: Updates of the run.
        warmup: Updates of the warm-up.
        peak: Highest learning rate.
    """
    if update < warmup:
        return peak * (update + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (update - warmup) / (total - warmup)))


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: Optional[float]
) -> List[Dict[str, Any]]:
    """Return timm's parameter groups.

    Norms, biases and the parameters that the model names have no weight decay. With ``layer_decay``
    each layer has an ``lr_scale``; that of the SE block and the classifier is 1.
    """
    no_decay: Tuple[str, ...] = ()
    if hasattr(model, "no_weight_decay"):
        no_decay = tuple(model.no_weight_decay())  # type: ignore[operator]
    if layer_decay is None:
        return param_groups_weight_decay(model, weight_decay, no_weight_decay_list=no_decay)
    return param_groups_layer_decay(
        model, weight_decay, no_weight_decay_list=no_decay, layer_decay=layer_decay
    )


def set_lr(groups: List[Dict[str, Any]], lr: float) -> None:
    """Set the learning rate of every group to its share."""
    for group in groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def describe_groups(groups: List[Dict[str, Any]]) -> str:
    """Return a table of the groups: parameters, weight decay and share of the learning rate."""
    lines = ["parameters  tensors  weight decay  lr scale"]
    for group in groups:
        count = sum(p.numel() for p in group["params"])
        lines.append(
            f"{count:>10,}  {len(group['params']):>7}  {group['weight_decay']:>12g}  "
            f"{group.get('lr_scale', 1.0):>8.4g}"
        )
    return "\n".join(lines)
