"""How good heatmaps are: whether they lie where the answer is, and whether the model needs what
they mark.

Each measure is a function of batches, the same for every method that makes heatmaps. Where a
measure is published in several forms, the docstring says which it is.
"""

from typing import Callable, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torchvision.transforms.functional import gaussian_blur

from ..errors import InvalidInputError

#: Logits (B, K) of images (B, C, H, W).
Model = Callable[[torch.Tensor], torch.Tensor]


# Where a map lies


def pointing_game(
    heatmaps: torch.Tensor, regions: torch.Tensor, tolerance: int = 0
) -> torch.Tensor:
    """Whether the strongest spot of each heatmap lies in the region.

    Zhang et al., arXiv 1608.00507, section 4.2; there with a tolerance of 15 pixels. Of several
    equally strong spots the first in reading order counts.

    Args:
        heatmaps: (B, H, W); larger for more important.
        regions: (B, H, W) bool.
        tolerance: Pixels by which it may miss, in Euclidean distance.

    Returns:
        (B,) bool.

    Raises:
        InvalidInputError: If the shapes differ, or a region is empty.
    """
    _check_regions(heatmaps, regions)
    width = heatmaps.shape[2]
    places = heatmaps.flatten(1).argmax(1)
    rows, columns = places // width, places % width
    y = torch.arange(heatmaps.shape[1], device=heatmaps.device)[None, :, None]
    x = torch.arange(width, device=heatmaps.device)[None, None]
    distance = (y - rows[:, None, None]).square() + (x - columns[:, None, None]).square()
    return ((distance <= tolerance**2) & regions).flatten(1).any(1)


def energy_in_region(heatmaps: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Share of each heatmap's positive part that lies in the region, over the region's share of the
    area, so 1 is chance.

    Wang et al. (Score-CAM), arXiv 1910.01279, section 4.2, which reports the share alone.

    Args:
        heatmaps: (B, H, W).
        regions: (B, H, W) bool.

    Returns:
        (B,); NaN for a heatmap without a positive value.

    Raises:
        InvalidInputError: If the shapes differ, or a region is empty.
    """
    _check_regions(heatmaps, regions)
    positive = heatmaps.double().clamp(min=0)
    share = (positive * regions).flatten(1).sum(1) / positive.flatten(1).sum(1)
    return (share / regions.double().flatten(1).mean(1)).to(heatmaps.dtype)


def _check_regions(heatmaps: torch.Tensor, regions: torch.Tensor) -> None:
    if heatmaps.dim() != 3 or heatmaps.shape != regions.shape or regions.dtype != torch.bool:
        raise InvalidInputError(
            "heatmaps and regions are (B, H, W), the regions bool; got "
            f"{tuple(heatmaps.shape)} and {tuple(regions.shape)}, {regions.dtype}."
        )
    if not bool(regions.flatten(1).any(1).all()):
        raise InvalidInputError("a region is empty; leave such images out.")


# What the model needs of it


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
    probability: Optional[Callable[[torch.Tensor], torch.Tensor]] = None,
    batch_size: int = 64,
) -> Curves:
    """Curves of the class's probability while the most important pixels go, or come, first.

    Petsiuk et al. (RISE), arXiv 1806.07421, section 4.2, and their code: deleted pixels become 0 in
    the model's normalised space, inserted ones come into a Gaussian blur (kernel 11, sigma 5), as
    many a step as the image has pixels over ``steps``. Equal values go in reading order.

    Args:
        model: In eval mode.
        images: Normalised, (B, C, H, W).
        targets: Class of each, (B,).
        heatmaps: (B, H, W).
        steps: Of each curve.
        probability: What the logits (N, K) become; softmax by default, ``torch.sigmoid`` for
            independent labels.
        batch_size: Images in one forward pass.

    Raises:
        InvalidInputError: If the shapes do not belong together, or steps are more than pixels.
    """
    _check_images(images, targets, heatmaps)
    count = heatmaps[0].numel()
    if not 1 <= steps <= count:
        raise InvalidInputError(f"steps is {steps}; it must be from 1 to {count} pixels.")
    probability = probability or (lambda logits: logits.softmax(1))
    order = heatmaps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(count).expand_as(order).to(order)
    )
    rank = rank.view_as(heatmaps)
    blurred = gaussian_blur(images, [11, 11], [5.0, 5.0])
    gone = [round(count * i / steps) for i in range(steps + 1)]
    curves = []
    for start, end in ((images, torch.zeros_like(images)), (blurred, images)):
        values = []
        for index in range(len(images)):
            found = []
            for part in _chunks(gone, batch_size):
                changed = rank[index] < torch.tensor(part, device=rank.device)[:, None, None]
                mixed = torch.where(changed[:, None], end[index], start[index])
                found.append(probability(model(mixed).float())[:, targets[index]])
            values.append(torch.cat(found))
        curves.append(torch.stack(values))
    return Curves(*curves)


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
    probability: Optional[Callable[[torch.Tensor], torch.Tensor]] = None,
) -> Kept:
    """The class's probability p of an image, and p' of the image times its heatmap.

    Drop and increase: Chattopadhay et al. (Grad-CAM++), arXiv 1710.11063, section 4.1; gain: Zhang
    et al. (Opti-CAM), arXiv 2301.07002, section 4.1. Their means over images are what is published.

    Args:
        model: In eval mode.
        images: Normalised, (B, C, H, W).
        targets: Class of each, (B,).
        heatmaps: In [0, 1], (B, H, W).
        probability: As in :func:`deletion_insertion`.

    Raises:
        InvalidInputError: If the shapes do not belong together, or a value is not in [0, 1].
    """
    _check_images(images, targets, heatmaps)
    if not 0 <= float(heatmaps.min()) <= float(heatmaps.max()) <= 1:
        raise InvalidInputError("heatmaps must be in [0, 1]; normalise them first.")
    probability = probability or (lambda logits: logits.softmax(1))
    places = torch.arange(len(images), device=images.device)
    before = probability(model(images).float())[places, targets]
    after = probability(model(images * heatmaps[:, None]).float())[places, targets]
    return Kept(
        (before - after).clamp(min=0) / before.clamp(min=1e-12),
        after > before,
        (after - before).clamp(min=0) / (1 - before).clamp(min=1e-12),
    )


def _check_images(images: torch.Tensor, targets: torch.Tensor, heatmaps: torch.Tensor) -> None:
    fits = images.dim() == 4 and heatmaps.shape == (len(images), *images.shape[2:])
    if not fits or targets.shape != (len(images),) or not len(images):
        raise InvalidInputError(
            "images are (B, C, H, W), heatmaps (B, H, W), targets (B,); got "
            f"{tuple(images.shape)}, {tuple(heatmaps.shape)} and {tuple(targets.shape)}."
        )


# How maps compare


def rank_correlation(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Spearman's rank correlation of the maps of each pair, ties by their mean rank.

    Args:
        left: (B, H, W).
        right: Of the same shape.

    Returns:
        (B,); NaN where a map is constant.

    Raises:
        InvalidInputError: If the shapes differ.
    """
    if left.shape != right.shape:
        raise InvalidInputError(f"maps are {tuple(left.shape)} and {tuple(right.shape)}.")
    ranks = [torch.stack([_mean_ranks(row) for row in maps.flatten(1)]) for maps in (left, right)]
    one, other = (r - r.mean(1, keepdim=True) for r in ranks)
    return (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))


def _mean_ranks(values: torch.Tensor) -> torch.Tensor:
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[group]


def centre_gaussian(size: Tuple[int, int], share: float = 0.25) -> torch.Tensor:
    """A map that knows nothing but that things are in the middle: the control of every measure.

    Args:
        size: Height and width.
        share: Standard deviation, in parts of each side.

    Returns:
        (H, W), largest 1.
    """
    y, x = (torch.linspace(-0.5, 0.5, n) / share for n in size)
    return torch.exp(-0.5 * (y[:, None].square() + x.square()))


def blurred(heatmaps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Each heatmap smoothed: the control of measures that favour smooth maps, such as ROAD.

    Args:
        heatmaps: (B, H, W).
        sigma: In pixels.
    """
    radius = max(1, round(3 * sigma))
    padded = F.pad(heatmaps[:, None], (radius,) * 4, mode="replicate")
    smooth = gaussian_blur(padded, [2 * radius + 1] * 2, [sigma] * 2)
    return smooth[:, 0, radius:-radius, radius:-radius]
