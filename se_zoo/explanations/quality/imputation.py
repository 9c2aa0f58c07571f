"""ROAD: what happens to a prediction when pixels are replaced by what their neighbours suggest."""

from typing import NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F

from ...errors import InvalidInputError
from .pixels import Model, Probability, check_images, in_eval, ranks, scorer, seeds_of


class Road(NamedTuple):
    """Probabilities of the class after pixels were replaced; each (B, P) for P shares."""

    most_relevant_first: torch.Tensor
    """Smaller is better."""
    least_relevant_first: torch.Tensor
    """Larger is better."""

    @property
    def combined(self) -> torch.Tensor:
        """(B,): half the difference, averaged over the shares; larger is better."""
        return (self.least_relevant_first - self.most_relevant_first).mean(1) / 2


@torch.no_grad()
def road(
    model: Model,
    images: torch.Tensor,
    targets: torch.Tensor,
    heatmaps: torch.Tensor,
    shares: Sequence[float] = (0.2, 0.4, 0.6, 0.8),
    probability: Optional[Probability] = None,
    noise: float = 0.01,
    seeds: Optional[Sequence[int]] = None,
) -> Road:
    """The class's probability when the most, or the least, important pixels are replaced.

    Rong et al., arXiv 2202.00449, section 4 (noisy linear imputation), combined as
    pytorch-grad-cam's ``ROADCombined`` does it. The measure favours smooth maps: hold a map against
    its blurred copy, too.

    Args:
        model: Explained model; a module is put into eval mode meanwhile.
        images: Normalised, (B, C, H, W).
        targets: Class of each, (B,).
        heatmaps: (B, H, W), of any scale and sign.
        shares: Of the pixels that are replaced.
        probability: As in :func:`deletion_insertion`.
        noise: Standard deviation of what is added to replaced pixels, so that the shape of the hole
            cannot be read from its smoothness.
        seeds: Of each image's noise and order of equal values, so that neither depends on the
            batch; 0, 1, ... if None.

    Raises:
        InvalidInputError: If the shapes do not belong together, or a share is not between 0 and 1.
    """
    check_images(images, targets, heatmaps)
    if not shares or not all(0 < share < 1 for share in shares):
        raise InvalidInputError(f"shares lie between 0 and 1: {tuple(shares)}.")
    rank = ranks(heatmaps, seeds)
    count = heatmaps[0].numel()
    noises = noise * _noise(images, seeds_of(len(images), seeds))
    score = scorer(model, probability)

    def side(backwards: bool) -> torch.Tensor:
        values = []
        for share in shares:
            gone = round(share * count)
            removed = rank >= count - gone if backwards else rank < gone
            filled = impute(images, removed)
            filled = torch.where(removed[:, None], filled + noises, filled)
            values.append(score(filled, targets))
        return torch.stack(values, 1)

    with in_eval(model):
        return Road(side(False), side(True))


def _noise(images: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
    parts = [
        torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
        for image, seed in zip(images, seeds, strict=True)
    ]
    return torch.stack(parts).to(images)


def impute(
    images: torch.Tensor, removed: torch.Tensor, tolerance: float = 1e-3, most: int = 2000
) -> torch.Tensor:
    """Replace pixels by the weighted mean of their eight neighbours, all at once.

    The linear system of arXiv 2202.00449, section 4.2; it is symmetric and positive definite, so
    conjugate gradients solve it for a batch, on any device, without a matrix.

    Args:
        images: (B, C, H, W).
        removed: (B, H, W) bool; at least one pixel of each image must stay.
        tolerance: Of the residual, relative to the right side; 1e-3 leaves errors as small as the
            noise of :func:`road`.
        most: Iterations; they grow with the diameter of the holes.

    Raises:
        InvalidInputError: If an image has no pixel left.
        RuntimeError: If the system is not solved by then.
    """
    if bool(removed.flatten(1).all(1).any()):
        raise InvalidInputError("an image has no pixel left from which to fill the others.")
    if images.dtype in (torch.float16, torch.bfloat16):  # in which the system is not solved at all
        return impute(images.float(), removed, tolerance, most).to(images.dtype)
    hole = removed[:, None].to(images.dtype)
    own = _around(torch.ones_like(images[:1, :1]))  # smaller at the edges

    def apply(values: torch.Tensor) -> torch.Tensor:
        return hole * (own * values - _around(values))

    known = images * (1 - hole)
    wanted = hole * _around(known)
    guess = hole * _rough_fill(known, 1 - hole)
    residual = wanted - apply(guess)
    direction, size = residual, residual.square().sum((2, 3), keepdim=True)
    # Relative to the right side, not to the first residual: a good guess needs no better answer.
    enough = tolerance**2 * wanted.square().sum((2, 3), keepdim=True)
    for _ in range(most):
        if bool((size <= enough).all()):
            return known + guess
        moved = apply(direction)
        step = size / (direction * moved).sum((2, 3), keepdim=True).clamp(min=1e-30)
        step = torch.where(size <= enough, torch.zeros_like(step), step)
        guess = guess + step * direction
        residual = residual - step * moved
        fresh = residual.square().sum((2, 3), keepdim=True)
        direction = residual + fresh / size.clamp(min=1e-30) * direction
        size = fresh
    raise RuntimeError(f"the holes were not filled within {most} iterations.")


def _around(values: torch.Tensor) -> torch.Tensor:
    """Weighted sum of the eight neighbours: 1/6 of direct ones, 1/12 of diagonal ones, as in the
    paper. That is (1 2 1)' (1 2 1) / 12 without its middle; sums of shifted views are several times
    faster than a convolution with one channel."""
    rows = 2 * values
    rows[..., 1:] += values[..., :-1]
    rows[..., :-1] += values[..., 1:]
    both = 2 * rows
    both[..., 1:, :] += rows[..., :-1, :]
    both[..., :-1, :] += rows[..., 1:, :]
    return both.sub_(values, alpha=4).div_(12)


def _rough_fill(known: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Unknown pixels from ever coarser means of the known ones: a guess that spares iterations."""
    if min(known.shape[2:]) < 2 or bool((weight > 0).all()):
        return known / weight.clamp(min=1e-6)
    size = known.shape[2:]
    halved = F.avg_pool2d(weight, 2, ceil_mode=True)
    mean = F.avg_pool2d(known * weight, 2, ceil_mode=True) / halved.clamp(min=1e-6)
    there = (halved > 0).to(known.dtype)
    coarse = _rough_fill(mean * there, there)
    wide = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.where(weight > 0, known, wide[:, :, : size[0], : size[1]])
