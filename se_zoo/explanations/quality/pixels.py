"""Predictions while the pixels that a heatmap marks are deleted, inserted or dimmed."""

from contextlib import nullcontext
from typing import Any, Callable, ContextManager, NamedTuple, Optional, Sequence

import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from ...errors import InvalidInputError
from ..eval_mode import evaluating

#: Returns the logits (B, K) of images (B, C, H, W).
Model = Callable[[torch.Tensor], torch.Tensor]
#: Returns probabilities (B, K) of logits (B, K).
Probability = Callable[[torch.Tensor], torch.Tensor]


def softmax(logits: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of exclusive classes.

    Args:
        logits: (B, K).

    Returns:
        float32 (B, K).
    """
    return logits.float().softmax(1)


def _probability_of(model: Model) -> Probability:
    """Return sigmoid for a multi-label model, softmax for others."""
    inner: Any = model  # of DataParallel, DistributedDataParallel and averaged weights
    while isinstance(getattr(inner, "module", None), nn.Module):
        inner = inner.module
    is_multi_label = getattr(inner, "is_multi_label", None)
    return _sigmoid if is_multi_label is not None and is_multi_label() else softmax


def _sigmoid(logits: torch.Tensor) -> torch.Tensor:
    # In half precision, differences of probabilities would be steps of 0.004.
    return logits.float().sigmoid()


def scorer(
    model: Model, probability: Optional[Probability]
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return a function of images (N, C, H, W) and classes (N,) that gives probabilities (N,)."""
    to_probability = _probability_of(model) if probability is None else probability

    def score(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        values = to_probability(model(images))
        if not 0 <= int(targets.min()) <= int(targets.max()) < values.shape[1]:
            raise InvalidInputError(
                f"targets must be classes from 0 to {values.shape[1] - 1}, not {targets.tolist()}."
            )
        return values[torch.arange(len(targets), device=values.device), targets]

    return score


def in_eval(model: Model) -> ContextManager[None]:
    """Put a module into eval mode, so that a measure does not change BatchNorm's statistics."""
    return evaluating(model) if isinstance(model, nn.Module) else nullcontext()


def image_seeds(count: int, seeds: Optional[Sequence[int]]) -> Sequence[int]:
    """Return one seed per image; by default 0, 1, and so on.

    Raises:
        InvalidInputError: If there are more or fewer seeds than images.
    """
    if seeds is None:
        return range(count)
    if len(seeds) != count:
        raise InvalidInputError(f"{count} images need {count} seeds, not {len(seeds)}.")
    return seeds


class Curves(NamedTuple):
    """Probability of the class while pixels are deleted or inserted."""

    deletion: torch.Tensor
    """(B, steps + 1), from the whole image to an image of zeros; smaller is better."""
    insertion: torch.Tensor
    """(B, steps + 1), from a blurred to the whole image; larger is better."""

    @property
    def deletion_auc(self) -> torch.Tensor:
        """Area under the deletion curve over the share of pixels, trapezoidal rule, (B,)."""
        return _area(self.deletion)

    @property
    def insertion_auc(self) -> torch.Tensor:
        """Area under the insertion curve over the share of pixels, trapezoidal rule, (B,)."""
        return _area(self.insertion)


def _area(curve: torch.Tensor) -> torch.Tensor:
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


@torch.no_grad()
def deletion_insertion(
    model: Model,
    images: torch.Tensor,
    targets: torch.Tensor,
    heatmaps: torch.Tensor,
    steps: int = 224,
    probability: Optional[Probability] = None,
    batch_size: int = 64,
    seeds: Optional[Sequence[int]] = None,
) -> Curves:
    """Measure the class's probability while the most important pixels are deleted, or inserted.

    Petsiuk et al. (RISE), arXiv 1806.07421, section 4.2. Deleted pixels become 0 in the model's
    normalised space. Inserted pixels replace those of a blurred image (Gaussian with kernel 11 and
    sigma 5, edges reflected). Each step changes 1 / ``steps`` of the pixels (224 steps in the
    paper).

    Args:
        model: Explained model; a module is in eval mode during the measurement.
        images: Normalised images, (B, C, H, W).
        targets: Class of each image, (B,).
        heatmaps: (B, H, W), of any scale and sign.
        steps: Number of steps of each curve.
        probability: Returns probabilities (N, K) of logits (N, K); by default sigmoid for a
            multi-label SE model, softmax for others.
        batch_size: Largest number of images in one forward pass.
        seeds: Seed of each image's order of equal values; by default 0, 1, and so on.

    Returns:
        Both curves of each image.

    Raises:
        InvalidInputError: If the shapes do not fit each other, or there are more steps than pixels.
    """
    check_inputs(images, targets, heatmaps)
    count = heatmaps[0].numel()
    if not 1 <= steps <= count:
        raise InvalidInputError(f"steps is {steps}; it must be from 1 to {count} pixels.")
    rank = ranks(heatmaps, seeds)
    blurred = gaussian_blur(images, [11, 11], [5.0, 5.0])
    changed_counts = [round(count * i / steps) for i in range(steps + 1)]
    score = scorer(model, probability)

    def curve(start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        values = []
        for index in range(len(images)):
            found = []
            for part in _chunks(changed_counts, batch_size):
                changed = rank[index] < torch.tensor(part, device=rank.device)[:, None, None]
                mixed = torch.where(changed[:, None], end[index], start[index])
                found.append(score(mixed, targets[index].expand(len(part))))
            values.append(torch.cat(found))
        return torch.stack(values)

    with in_eval(model):
        return Curves(curve(images, torch.zeros_like(images)), curve(blurred, images))


def ranks(heatmaps: torch.Tensor, seeds: Optional[Sequence[int]] = None) -> torch.Tensor:
    """Return the rank of each pixel, 0 for the most important one, (B, H, W).

    Equal values are ranked in a random order, drawn for each image. In reading order, the score of
    a map with many zeros would depend on the top of the image.

    Args:
        heatmaps: (B, H, W).
        seeds: Seed of each image's random order; by default 0, 1, and so on.

    Raises:
        InvalidInputError: If there are more or fewer seeds than images.
    """
    count = heatmaps[0].numel()
    found = []
    for heatmap, seed in zip(heatmaps, image_seeds(len(heatmaps), seeds), strict=True):
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        drawn = drawn.to(heatmap.device)
        order = drawn[heatmap.flatten()[drawn].argsort(descending=True, stable=True)]
        found.append(torch.empty_like(order).scatter_(0, order, torch.arange(count).to(order)))
    return torch.stack(found).view_as(heatmaps)


def _chunks(values: Sequence[int], size: int) -> Sequence[Sequence[int]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


class Kept(NamedTuple):
    """Changes of the class's probability when the image is multiplied by the heatmap, (B,) each.

    The probability is p for the image and p' for the product.
    """

    drop: torch.Tensor
    """max(0, p - p') / p; smaller is better."""
    increase: torch.Tensor
    """Whether p' > p, bool; True is better."""
    gain: torch.Tensor
    """max(0, p' - p) / (1 - p); larger is better."""


@torch.no_grad()
def drop_increase_gain(
    model: Model,
    images: torch.Tensor,
    targets: torch.Tensor,
    heatmaps: torch.Tensor,
    probability: Optional[Probability] = None,
) -> Kept:
    """Compare the class's probability for an image and for the image times its heatmap.

    Drop and increase: Chattopadhay et al. (Grad-CAM++), arXiv 1710.11063, section 4.1. Gain: Zhang
    et al. (Opti-CAM), arXiv 2301.07002, section 4.1. The papers report the means over images.

    Args:
        model: Explained model; a module is in eval mode during the measurement.
        images: Normalised images, (B, C, H, W).
        targets: Class of each image, (B,).
        heatmaps: In [0, 1], (B, H, W).
        probability: As in :func:`deletion_insertion`.

    Returns:
        Drop, increase and gain of each image.

    Raises:
        InvalidInputError: If the shapes do not fit each other, or a value is not in [0, 1].
    """
    check_inputs(images, targets, heatmaps)
    if not 0 <= float(heatmaps.min()) <= float(heatmaps.max()) <= 1:
        raise InvalidInputError("heatmaps must be in [0, 1]; normalise them first.")
    score = scorer(model, probability)
    with in_eval(model):
        before = score(images, targets)
        after = score(images * heatmaps[:, None].to(images.dtype), targets)
    return Kept(
        (before - after).clamp(min=0) / before.clamp(min=1e-12),
        after > before,
        (after - before).clamp(min=0) / (1 - before).clamp(min=1e-12),
    )


def check_inputs(images: torch.Tensor, targets: torch.Tensor, heatmaps: torch.Tensor) -> None:
    """Check that the shapes of images, classes and heatmaps fit each other.

    Raises:
        InvalidInputError: If they do not, or a heatmap is not finite.
    """
    given = (images, heatmaps, targets)
    shapes = [tuple(g.shape) if isinstance(g, torch.Tensor) else type(g).__name__ for g in given]
    tensors = all(isinstance(g, torch.Tensor) for g in given) and images.dim() == 4
    if not tensors or shapes[1:] != [(len(images), *images.shape[2:]), (len(images),)]:
        raise InvalidInputError(
            "images are tensors (B, C, H, W), heatmaps (B, H, W), targets class indices (B,); got "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    if not len(images) or targets.is_floating_point() or not bool(heatmaps.isfinite().all()):
        raise InvalidInputError(
            f"There must be at least one image (got {len(images)}), targets must be whole numbers "
            f"(got {targets.dtype}), and heatmaps must be finite."
        )
