"""The learning rate, and which parameters get how much of it."""

import math
from typing import Any, Dict, List, Optional, Tuple

from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from torch import nn


def lr_at(update: int, total: int, warmup: int, peak: float) -> float:
    """Learning rate of update 0 to total - 1: linear warm-up, then a cosine towards 0."""
    if update < warmup:
        return peak * (update + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (update - warmup) / (total - warmup)))


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: Optional[float]
) -> List[Dict[str, Any]]:
    """timm's groups: no decay for norms, biases and what the model names; with ``layer_decay``
    each layer has an ``lr_scale`` (the SE block and the classifier 1)."""
    kept: Tuple[str, ...] = ()
    if hasattr(model, "no_weight_decay"):
        kept = tuple(model.no_weight_decay())  # type: ignore[operator]
    if layer_decay is None:
        return param_groups_weight_decay(model, weight_decay, no_weight_decay_list=kept)
    return param_groups_layer_decay(
        model, weight_decay, no_weight_decay_list=kept, layer_decay=layer_decay
    )


def set_lr(groups: List[Dict[str, Any]], lr: float) -> None:
    """Give every group its share of the learning rate."""
    for group in groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def describe_groups(groups: List[Dict[str, Any]]) -> str:
    """One line per group: parameters, decay and share of the learning rate."""
    lines = ["parameters  tensors  weight decay  lr scale"]
    for group in groups:
        count = sum(p.numel() for p in group["params"])
        lines.append(
            f"{count:>10,}  {len(group['params']):>7}  {group['weight_decay']:>12g}  "
            f"{group.get('lr_scale', 1.0):>8.4g}"
        )
    return "\n".join(lines)
