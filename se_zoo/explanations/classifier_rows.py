"""Read the rows of a linear classifier, whatever layer computes it.

A quantised layer has no float weight, and a wrapper (PEFT's LoRA and ``modules_to_save``) has
another one than it applies. Such a layer is asked: its answer to zero is the bias, and its answers
to unit vectors are the columns of the weight. Whether it is linear at all is checked by the caller,
on the head's logits.
"""

from typing import Any, NamedTuple, Optional

import torch
from torch import nn


class LinearRows(NamedTuple):
    """Weight and bias of a linear classifier.

    Attributes:
        weight: (num_classes, C), float.
        bias: (num_classes,), float.
        rounded: Whether the layer itself rounds, because it is quantised.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    rounded: bool


def linear_rows(classifier: Any, channels: int, dtype: torch.dtype) -> Optional[LinearRows]:
    """Return the rows of a classifier of one linear layer or 1x1 convolution, else None.

    Args:
        classifier: The layer, or a module that stands for one; it is in eval mode.
        channels: Number of channels that it must take, C.
        dtype: Type of the rows.
    """
    if not isinstance(classifier, nn.Module) or isinstance(classifier, nn.Identity):
        return None
    if is_plain(classifier):
        weight: Any = classifier.weight
        if weight.shape[1] != channels or weight.numel() != weight.shape[0] * channels:
            return None
        bias: Any = classifier.bias
        rows = weight.detach().flatten(1).to(dtype)
        kept = rows.new_zeros(len(rows)) if bias is None else bias.detach().to(dtype)
        return LinearRows(rows, kept, False)
    return _asked(classifier, channels, dtype)


def is_plain(classifier: Any) -> bool:
    """Return whether a classifier is a linear layer or convolution with a float weight of its own.

    Args:
        classifier: The layer, or a module that stands for one.
    """
    kind = type(getattr(classifier, "weight", None))
    # torch.export traces with stand-ins; those of a quantised weight are of its own class, too.
    plain = kind in (nn.Parameter, torch.Tensor) or kind.__module__.startswith("torch._subclasses.")
    return isinstance(classifier, (nn.Linear, nn.Conv2d, nn.Conv3d)) and plain


def _asked(classifier: nn.Module, channels: int, dtype: torch.dtype) -> Optional[LinearRows]:
    """Return the rows of a layer by its answers, or None if it does not take such inputs."""
    like = next((p for p in classifier.parameters() if p.is_floating_point()), torch.empty(0))
    floats = like.dtype if like.is_floating_point() else torch.float32
    units = torch.eye(channels, device=like.device, dtype=floats)
    try:
        with torch.no_grad():
            zero = classifier(units.new_zeros(1, channels))
            answers = classifier(units)
    except Exception:  # a layer for inputs of another shape; wrappers raise anything
        return None
    if not isinstance(answers, torch.Tensor) or answers.dim() != 2 or len(answers) != channels:
        return None
    bias = zero[0].to(dtype)
    return LinearRows((answers.to(dtype) - bias).t(), bias, is_quantised(classifier))


def is_quantised(module: nn.Module) -> bool:
    """Return whether a layer, or one that it wraps, computes in whole numbers.

    torch's own quantised modules are known by where they are defined, torchao's weights by being a
    tensor of a class of their own.

    Args:
        module: The layer.
    """
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if ".quantized" in type(part).__module__:
            return True
        if isinstance(weight, torch.Tensor) and type(weight) not in (torch.Tensor, nn.Parameter):
            return True
    return False
