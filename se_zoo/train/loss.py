"""The loss of classifiers, with mixup and weights for rare labels."""

from typing import Any, Callable, Tuple

import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup

from ..data import ImageStream
from ..errors import InvalidInputError
from .config import AugmentConfig, Config
from .preflight import AnyTable

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_loss(config: Config, table: AnyTable, device: torch.device) -> Tuple[Loss, Any]:
    """Return the loss and timm's mixup.

    Args:
        config: The run.
        table: The training split, whose labels are counted for the class balance.
        device: Device for the weights of the labels.

    Returns:
        A function of logits (B, K) and targets; and timm's mixup, or None if none is configured.

    Raises:
        InvalidInputError: If streamed data are to be balanced.
    """
    weights = None
    if config.optim.class_balance:
        if isinstance(table, ImageStream):
            raise InvalidInputError(
                "--optim.class-balance counts all labels first; leave --data.streaming out."
            )
        weights = _label_weights(table.targets, len(table.labels)).to(device)
    if table.multi_label:
        return (lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=weights)), None
    mixup = _make_mixup(config.augment, len(table.labels))
    smoothing = 0.0 if mixup else config.augment.smoothing  # timm's mixup smooths the labels itself
    return (lambda x, y: F.cross_entropy(x, y, weight=weights, label_smoothing=smoothing)), mixup


def _make_mixup(augment: AugmentConfig, classes: int) -> Any:
    """Return timm's mixup and cutmix; None if neither is configured."""
    if not augment.mixup and not augment.cutmix:
        return None
    return Mixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        label_smoothing=augment.smoothing,
        num_classes=classes,
    )


def apply_mixup(
    mixup: Any, inputs: torch.Tensor, targets: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Apply timm's mixup or cutmix; in a clip, all frames get the same rectangle.

    Args:
        mixup: timm's.
        inputs: Images (B, C, H, W) or clips (B, C, T, H, W).
        targets: Classes, (B,) long.

    Returns:
        Inputs of the same shape, and targets (B, K).
    """
    if inputs.dim() == 4:
        return mixup(inputs, targets)
    images, targets = mixup(inputs.flatten(1, 2), targets)  # a clip as an image of C T channels
    return images.view_as(inputs), targets


def _label_weights(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Return weights that favour rare labels, at most 10.

    Args:
        targets: (N,) classes or (N, A) attributes.
        classes: Number of classes or attributes.

    Returns:
        (classes,): weights of the positives of attributes (``pos_weight``), or of the classes.
    """
    if targets.dim() == 2:
        yes = targets.sum(0)
        return ((len(targets) - yes) / yes.clamp(min=1)).clamp(1, 10)
    counts = torch.bincount(targets, minlength=classes).clamp(min=1)
    weights: torch.Tensor = len(targets) / (classes * counts)
    return weights.clamp(max=10)
