"""What the model needs of what a heatmap marks: its answer while pixels go, come or are dimmed."""

from contextlib import nullcontext
from typing import Callable, ContextManager, NamedTuple, Optional, Sequence

import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from ...errors import InvalidInputError
from ..mode import evaluating

#: Logits (B, K) of images (B, C, H, W).
Model = Callable[[torch.Tensor], torch.Tensor]
#: What logits (B, K) become.
Probability = Callable[[torch.Tensor], torch.Tensor]


def softmax(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities of exclusive classes, (B, K)."""
    return logits.float().softmax(1)


def in_eval(model: Model) -> ContextManager[None]:
    """Eval mode, where the model is a module: a measure must not teach BatchNorm what it tries."""
    return evaluating(model) if isinstance(model, nn.Module) else nullcontext()


def seeds_of(count: int, seeds: Optional[Sequence[int]]) -> Sequence[int]:
    """One seed for each image; 0, 1, ... if None.

    Raises:
        InvalidInputError: If there are more or fewer.
    """
    if seeds is None:
        return range(count)
    if len(seeds) != count:
        raise InvalidInputError(f"{count} images need {count} seeds, not {len(seeds)}.")
    return seeds


class Curves(NamedTuple):
    """Probability of the class while pixels are deleted, or inserted, and the area below."""

    deletion: torch.Tensor
    """(B, steps + 1): from the whole image to none of it; smaller is better."""
    insertion: torch.Tensor
    """(B, steps + 1): from a blur to the whole image; larger is better."""

    @property
    def deletion_auc(self) -> torch.Tensor:
        """(B,), by the trapezoidal rule over the share of pixels."""
        return _area(self.deletion)

    @property
    def insertion_auc(self) -> torch.Tensor:
        """(B,), likewise."""
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
    probability: Probability = softmax,
    batch_size: int = 64,
    seeds: Optional[Sequence[int]] = None,
) -> Curves:
    """Curves of the class's probability while the most important pixels go, or come, first.

    Petsiuk et al. (RISE), arXiv 1806.07421, section 4.2: deleted pixels become 0 in the model's
    normalised space, inserted ones come into a Gaussian blur (kernel 11, sigma 5, edges reflected),
    as many a step as the image has pixels over ``steps`` (224 in the paper).

    Args:
        model: Explained model; a module is put into eval mode meanwhile.
        images: Normalised, (B, C, H, W).
        targets: Class of each, (B,).
        heatmaps: (B, H, W), of any scale and sign.
        steps: Of each curve.
        probability: What the logits (N, K) become; ``torch.sigmoid`` for independent labels.
        batch_size: Images in one forward pass.
        seeds: Of the order of equal values, see :func:`ranks`.

    Raises:
        InvalidInputError: If the shapes do not belong together, or steps are more than pixels.
    """
    check_images(images, targets, heatmaps)
    count = heatmaps[0].numel()
    if not 1 <= steps <= count:
        raise InvalidInputError(f"steps is {steps}; it must be from 1 to {count} pixels.")
    rank = ranks(heatmaps, seeds)
    blurred = gaussian_blur(images, [11, 11], [5.0, 5.0])
    gone = [round(count * i / steps) for i in range(steps + 1)]

    def curve(start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        values = []
        for index in range(len(images)):
            found = []
            for part in _chunks(gone, batch_size):
                changed = rank[index] < torch.tensor(part, device=rank.device)[:, None, None]
                mixed = torch.where(changed[:, None], end[index], start[index])
                found.append(probability(model(mixed))[:, targets[index]])
            values.append(torch.cat(found))
        return torch.stack(values)

    with in_eval(model):
        return Curves(curve(images, torch.zeros_like(images)), curve(blurred, images))


def ranks(heatmaps: torch.Tensor, seeds: Optional[Sequence[int]] = None) -> torch.Tensor:
    """Place of each pixel when the most important come first, (B, H, W).

    Equal values go in an order that is drawn for each image: in reading order a map with many
    zeros would be measured by what happens to lie at the top.

    Args:
        heatmaps: (B, H, W).
        seeds: Of each image's order of equal values; 0, 1, ... if None.

    Raises:
        InvalidInputError: If the seeds are not one for each.
    """
    count = heatmaps[0].numel()
    found = []
    for heatmap, seed in zip(heatmaps, seeds_of(len(heatmaps), seeds), strict=True):
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        drawn = drawn.to(heatmap.device)
        order = drawn[heatmap.flatten()[drawn].argsort(descending=True, stable=True)]
        found.append(torch.empty_like(order).scatter_(0, order, torch.arange(count).to(order)))
    return torch.stack(found).view_as(heatmaps)


def _chunks(values: Sequence[int], size: int) -> Sequence[Sequence[int]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


class Kept(NamedTuple):
    """What becomes of the class when the image is multiplied by the heatmap; each (B,)."""

    drop: torch.Tensor
    """max(0, p - p') / p; smaller is better."""
    increase: torch.Tensor
    """Whether p' > p; larger is better."""
    gain: torch.Tensor
    """max(0, p' - p) / (1 - p); larger is better."""


@torch.no_grad()
def drop_increase_gain(
    model: Model,
    images: torch.Tensor,
    targets: torch.Tensor,
    heatmaps: torch.Tensor,
    probability: Probability = softmax,
) -> Kept:
    """The class's probability p of an image, and p' of the image times its heatmap.

    Drop and increase: Chattopadhay et al. (Grad-CAM++), arXiv 1710.11063, section 4.1; gain: Zhang
    et al. (Opti-CAM), arXiv 2301.07002, section 4.1. Their means over images are what is published.

    Args:
        model: Explained model; a module is put into eval mode meanwhile.
        images: Normalised, (B, C, H, W).
        targets: Class of each, (B,).
        heatmaps: In [0, 1], (B, H, W).
        probability: As in :func:`deletion_insertion`.

    Raises:
        InvalidInputError: If the shapes do not belong together, or a value is not in [0, 1].
    """
    check_images(images, targets, heatmaps)
    if not 0 <= float(heatmaps.min()) <= float(heatmaps.max()) <= 1:
        raise InvalidInputError("heatmaps must be in [0, 1]; normalise them first.")
    places = torch.arange(len(images), device=images.device)
    with in_eval(model):
        before = probability(model(images))[places, targets]
        dimmed = images * heatmaps[:, None].to(images.dtype)
        after = probability(model(dimmed))[places, targets]
    return Kept(
        (before - after).clamp(min=0) / before.clamp(min=1e-12),
        after > before,
        (after - before).clamp(min=0) / (1 - before).clamp(min=1e-12),
    )


def check_images(images: torch.Tensor, targets: torch.Tensor, heatmaps: torch.Tensor) -> None:
    """Whether images, their classes and their heatmaps belong together.

    Raises:
        InvalidInputError: If they do not.
    """
    fits = images.dim() == 4 and heatmaps.shape == (len(images), *images.shape[2:])
    if not fits or targets.shape != (len(images),) or not len(images):
        raise InvalidInputError(
            "images are (B, C, H, W), heatmaps (B, H, W), targets (B,); got "
            f"{tuple(images.shape)}, {tuple(heatmaps.shape)} and {tuple(targets.shape)}."
        )
