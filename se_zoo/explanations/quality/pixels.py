"""What the model needs of what a heatmap marks: its answer while pixels go, come or are dimmed."""

from contextlib import nullcontext
from typing import Callable, ContextManager, NamedTuple, Optional, Sequence

import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from ...errors import InvalidInputError
from ..eval_mode import evaluating

#: Logits (B, K) of images (B, C, H, W).
Model = Callable[[torch.Tensor], torch.Tensor]
#: What logits (B, K) become.
Probability = Callable[[torch.Tensor], torch.Tensor]


def softmax(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities of exclusive classes, (B, K)."""
    return logits.float().softmax(1)


def probability_of(model: Model) -> Probability:
    """What the model's logits become: sigmoid where it says that its labels are independent,
    softmax otherwise."""
    is_multi_label = getattr(model, "is_multi_label", None)
    return torch.sigmoid if is_multi_label is not None and is_multi_label() else softmax


def scorer(
    model: Model, probability: Optional[Probability]
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """What gives the probability (N,) of images (N, C, H, W) and one class each, (N,)."""
    become = probability_of(model) if probability is None else probability

    def score(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        values = become(model(images))
        if not 0 <= int(targets.min()) <= int(targets.max()) < values.shape[1]:
            raise InvalidInputError(
                f"targets are classes from 0 to {values.shape[1] - 1}: {targets.tolist()}."
            )
        return values[torch.arange(len(targets), device=values.device), targets]

    return score


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
    probability: Optional[Probability] = None,
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
        probability: What the logits (N, K) become; by :func:`probability_of` if None.
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
    score = scorer(model, probability)

    def curve(start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        values = []
        for index in range(len(images)):
            found = []
            for part in _chunks(gone, batch_size):
                changed = rank[index] < torch.tensor(part, device=rank.device)[:, None, None]
                mixed = torch.where(changed[:, None], end[index], start[index])
                found.append(score(mixed, targets[index].expand(len(part))))
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
    probability: Optional[Probability] = None,
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
    score = scorer(model, probability)
    with in_eval(model):
        before = score(images, targets)
        after = score(images * heatmaps[:, None].to(images.dtype), targets)
    return Kept(
        (before - after).clamp(min=0) / before.clamp(min=1e-12),
        after > before,
        (after - before).clamp(min=0) / (1 - before).clamp(min=1e-12),
    )


def check_images(images: torch.Tensor, targets: torch.Tensor, heatmaps: torch.Tensor) -> None:
    """Whether images, their classes and their heatmaps belong together.

    Raises:
        InvalidInputError: If they do not, or a heatmap is not finite.
    """
    given = (images, heatmaps, targets)
    shapes = [tuple(g.shape) if isinstance(g, torch.Tensor) else type(g).__name__ for g in given]
    right = all(isinstance(g, torch.Tensor) for g in given) and images.dim() == 4
    if not right or shapes[1:] != [(len(images), *images.shape[2:]), (len(images),)]:
        raise InvalidInputError(
            "images are tensors (B, C, H, W), heatmaps (B, H, W), targets class indices (B,); got "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    if not len(images) or targets.is_floating_point() or not bool(heatmaps.isfinite().all()):
        raise InvalidInputError(
            "there must be an image, targets must be whole numbers, and heatmaps finite."
        )
