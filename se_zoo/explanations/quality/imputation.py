"""ROAD: predictions after pixels are replaced by values interpolated from their neighbours."""

from typing import NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F

from ...errors import InvalidInputError
from .pixels import Model, Probability, check_inputs, image_seeds, in_eval, ranks, scorer


class Road(NamedTuple):
    """Probabilities of the class after pixels are replaced, (B, P) each for P shares."""

    most_relevant_first: torch.Tensor
    """Probability without the most important pixels; smaller is better."""
    least_relevant_first: torch.Tensor
    """Probability without the least important pixels; larger is better."""

    @property
    def combined(self) -> torch.Tensor:
        """Half the difference of the two, mean over the shares, (B,); larger is better."""
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
    """Measure the class's probability after the most, or least, important pixels are replaced.

    Rong et al., arXiv 2202.00449, section 4 (noisy linear imputation), combined as in
    pytorch-grad-cam's ``ROADCombined``. The measure favours smooth maps, so compare a map with its
    blurred copy, too.

    Args:
        model: Explained model; a module is in eval mode during the measurement.
        images: Normalised images, (B, C, H, W).
        targets: Class of each image, (B,).
        heatmaps: (B, H, W), of any scale and sign.
        shares: Shares of the pixels to replace.
        probability: As in :func:`deletion_insertion`.
        noise: Standard deviation of the noise added to replaced pixels. Without it, the shape of
            the replaced region could be recognised by its smoothness.
        seeds: Seed of each image's noise and order of equal values, so that neither depends on the
            batch; by default 0, 1, and so on.

    Returns:
        The probabilities for every share.

    Raises:
        InvalidInputError: If the shapes do not fit each other, or a share is not between 0 and 1.
    """
    check_inputs(images, targets, heatmaps)
    if not shares or not all(0 < share < 1 for share in shares):
        raise InvalidInputError(f"shares must be between 0 and 1, not {tuple(shares)}.")
    rank = ranks(heatmaps, seeds)
    count = heatmaps[0].numel()
    noises = noise * _noise(images, image_seeds(len(images), seeds))
    score = scorer(model, probability)

    def probabilities(backwards: bool) -> torch.Tensor:
        values = []
        for share in shares:
            number = round(share * count)
            removed = rank >= count - number if backwards else rank < number
            filled = impute(images, removed)
            filled = torch.where(removed[:, None], filled + noises, filled)
            values.append(score(filled, targets))
        return torch.stack(values, 1)

    with in_eval(model):
        return Road(probabilities(False), probabilities(True))


def _noise(images: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
    parts = [
        torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
        for image, seed in zip(images, seeds, strict=True)
    ]
    return torch.stack(parts).to(images)


def impute(
    images: torch.Tensor, removed: torch.Tensor, tolerance: float = 1e-3, most: int = 2000
) -> torch.Tensor:
    """Fill removed pixels so that each is the weighted mean of its eight neighbours.

    This is the linear system of arXiv 2202.00449, section 4.2. It is symmetric and positive
    definite, so conjugate gradients solve it for a batch, on any device, without a matrix.

    Args:
        images: (B, C, H, W).
        removed: Pixels to fill, (B, H, W) bool; at least one pixel of each image must stay.
        tolerance: Largest residual, relative to the right side. 1e-3 leaves errors as small as the
            noise of :func:`road`.
        most: Largest number of iterations; large holes need more of them.

    Returns:
        The filled images, (B, C, H, W).

    Raises:
        InvalidInputError: If an image has no pixel left.
        RuntimeError: If the system is not solved within ``most`` iterations.
    """
    if bool(removed.flatten(1).all(1).any()):
        raise InvalidInputError("An image has no pixel left to fill the others from.")
    if images.dtype in (torch.float16, torch.bfloat16):  # half precision does not converge
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
    # Relative to the right side, because a good first guess need not be improved by as much.
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
    raise RuntimeError(f"The removed pixels were not filled within {most} iterations.")


def _around(values: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum of each pixel's eight neighbours.

    The weights are the paper's: 1/6 for direct and 1/12 for diagonal neighbours. This is the kernel
    (1 2 1)' (1 2 1) / 12 without its middle. Sums of shifted views are several times faster than a
    convolution with one channel.
    """
    rows = 2 * values
    rows[..., 1:] += values[..., :-1]
    rows[..., :-1] += values[..., 1:]
    both = 2 * rows
    both[..., 1:, :] += rows[..., :-1, :]
    both[..., :-1, :] += rows[..., 1:, :]
    return both.sub_(values, alpha=4).div_(12)


def _rough_fill(known: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Fill unknown pixels with coarse means of known ones, as a first guess for the solver."""
    if min(known.shape[2:]) < 2 or bool((weight > 0).all()):
        return known / weight.clamp(min=1e-6)
    size = known.shape[2:]
    halved = F.avg_pool2d(weight, 2, ceil_mode=True)
    mean = F.avg_pool2d(known * weight, 2, ceil_mode=True) / halved.clamp(min=1e-6)
    there = (halved > 0).to(known.dtype)
    coarse = _rough_fill(mean * there, there)
    wide = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.where(weight > 0, known, wide[:, :, : size[0], : size[1]])
