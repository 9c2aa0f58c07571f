"""What is minimised: the loss, with what mixup does to the targets and what rare labels weigh."""

from typing import Any, Callable, Tuple

import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup

from ..data import ImageStream
from ..errors import InvalidInputError
from .config import AugmentConfig, Config
from .preflight import AnyTable

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def criterion_of(config: Config, table: AnyTable, device: torch.device) -> Tuple[Loss, Any]:
    """The loss of logits (B, K) and targets, and timm's mixup, or None where none is asked for.

    Args:
        config: The run.
        table: The training split, whose labels are counted for the class balance.
        device: Where the weights of the labels go.

    Raises:
        InvalidInputError: For a class balance of streamed data.
    """
    weights = None
    if config.optim.class_balance:
        if isinstance(table, ImageStream):
            raise InvalidInputError(
                "--optim.class-balance counts all labels first; leave --data.streaming out."
            )
        weights = label_weights(table.targets, len(table.labels)).to(device)
    if table.multi_label:
        return (lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=weights)), None
    mix = mixing(config.augment, len(table.labels))
    smoothing = 0.0 if mix else config.augment.smoothing  # timm's mixup smooths by itself
    return (lambda x, y: F.cross_entropy(x, y, weight=weights, label_smoothing=smoothing)), mix


def mixing(augment: AugmentConfig, classes: int) -> Any:
    """timm's mixup and cutmix, or None where neither is asked for."""
    if not augment.mixup and not augment.cutmix:
        return None
    return Mixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        label_smoothing=augment.smoothing,
        num_classes=classes,
    )


def mixed(
    mix: Any, inputs: torch.Tensor, targets: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor]:
    """timm's mixup or cutmix of images, or of clips: the same rectangle in all frames."""
    if inputs.dim() == 4:
        return mix(inputs, targets)
    images, targets = mix(inputs.flatten(1, 2), targets)  # a clip as an image of 3 T channels
    return images.view_as(inputs), targets


def label_weights(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Weights of rare labels, at most 10.

    Args:
        targets: (N,) classes or (N, A) attributes.
        classes: Number of classes, or of attributes.

    Returns:
        (classes,): for attributes the weight of a yes (``pos_weight``), for classes their own.
    """
    if targets.dim() == 2:
        yes = targets.sum(0)
        return ((len(targets) - yes) / yes.clamp(min=1)).clamp(1, 10)
    counts = torch.bincount(targets, minlength=classes).clamp(min=1)
    weights: torch.Tensor = len(targets) / (classes * counts)
    return weights.clamp(max=10)
