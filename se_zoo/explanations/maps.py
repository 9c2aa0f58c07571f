"""The maps, as pure functions of features, gate and channel weights.

Every map is a weighted sum of the backbone's channels:

* The gate map of arXiv 2412.05134 weights the selected channels by their gate.
* The contribution map weights all channels by gate times classifier weight.
* The support map is the contribution map with evidence against the class counted by half.
* The activation map (LaFAM, arXiv 2407.06059) weights all channels alike.
"""

import math
import numbers
from typing import Optional, Tuple, Union

import torch
import torch.nn.functional as F

from ..errors import InvalidInputError
from .channel_selection import select_channels

#: Weight of evidence against the class in a support map. Tried were 3/4, 1/2, 1/4 and 0. This is
#: the largest one whose means of insertion and ROAD were not below those of Grad-CAM++, measured on
#: images that no other reported figure uses (`python -m benchmarks.support_weight`). Maps with a
#: smaller weight point worse.
AGAINST = 0.5


def weighted_maps(
    features: torch.Tensor, weights: torch.Tensor, images: torch.Tensor
) -> torch.Tensor:
    """Compute ``sum_c weights[n, c] * features[images[n], c]`` for every row n.

    Args:
        features: (B, C, *grid), ungated.
        weights: (N, C); they include the gate.
        images: Index of each row's image, ascending, (N,).

    Returns:
        (N, *grid), in the dtype of the weights.
    """
    # With one product per image, no copy of the features for each row is made, and the other
    # images of the batch do not change the order of summation.
    counts = images.bincount(minlength=features.shape[0]).tolist()
    maps = [
        rows @ image.flatten(1).to(weights.dtype)
        for rows, image in zip(weights.split(counts), features, strict=True)
    ]
    return torch.cat(maps).unflatten(1, features.shape[2:])


def support(net: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """Compute support maps: evidence for a class less half of the evidence against it.

    This map is the project's own, not the paper's. With ``t_c`` for what channel c adds to the
    contribution map at a position, it is ``sum_c max(t_c, 0) + AGAINST * min(t_c, 0)``. It is 0
    where the evidence against the class is twice the evidence for it. A positive value may
    therefore be evidence against the class on the whole, so the map is not drawn with its sign.

    Args:
        net: ``sum_c t_c``, the contribution map, (N, *grid).
        both: ``sum_c |t_c|``, (N, *grid).

    Returns:
        (N, *grid).
    """
    return (1 + AGAINST) / 2 * net + (1 - AGAINST) / 2 * both


def upsample(maps: torch.Tensor, size: Tuple[int, ...]) -> torch.Tensor:
    """Resize maps (N, *grid) to (N, *size), bicubic for images and trilinear for clips.

    Pixel centres lie at half pixels (``align_corners=False``). Bicubic interpolation overshoots at
    edges: clip the result to the range that is shown.
    """
    mode = "bicubic" if maps.dim() == 3 else "trilinear"
    return F.interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]


def check_normalize(normalize: Union[str, float]) -> Union[str, float]:
    """Return ``"image"``, or a positive number as a Python float.

    Raises:
        InvalidInputError: If it is neither.
    """
    if isinstance(normalize, str) and normalize == "image":
        return normalize
    number = isinstance(normalize, numbers.Real) and not isinstance(normalize, bool)
    if not (number and 0 < float(normalize) < math.inf):
        raise InvalidInputError(
            f'normalize must be "image" or a positive number, not {normalize!r}.'
        )
    return float(normalize)


def is_constant(maps: torch.Tensor) -> torch.Tensor:
    """Return whether each of the maps (N, *grid) is constant but for rounding, (N,) bool.

    A constant map marks no place, and stretching it would only show its rounding errors.
    """
    flat = maps.flatten(1)
    return flat.amax(1) - flat.amin(1) <= 1e-6 * flat.abs().amax(1)


def to_unit_range(
    maps: torch.Tensor, from_zero: bool, normalize: Union[str, float] = "image"
) -> torch.Tensor:
    """Bring raw maps into [0, 1] for display.

    Args:
        maps: Raw maps, (N, *grid).
        from_zero: Whether the zero of the maps has a meaning (``Method.from_zero``). If so,
            negative values become 0 and the largest one 1. Other maps are stretched from their
            minimum to their maximum.
        normalize: ``"image"`` stretches every map by itself, so a weak map looks as strong as a
            strong one. A positive number is the raw value that becomes 1 in all maps, which makes
            them comparable.

    Returns:
        (N, *grid) in [0, 1]. A constant map becomes 0 everywhere.

    Raises:
        InvalidInputError: If ``normalize`` is neither ``"image"`` nor a positive number.
    """
    normalize = check_normalize(normalize)
    if not isinstance(normalize, str):
        return (maps / normalize).clamp(0, 1)
    flat = maps.flatten(1)
    top = flat.amax(1)
    low = torch.zeros_like(top) if from_zero else flat.amin(1)
    spread = top - low
    empty = is_constant(maps) | (spread <= 0)
    scale = torch.where(empty, torch.full_like(spread, math.inf), spread)
    shape = (-1,) + (1,) * (maps.dim() - 1)
    return ((maps - low.view(shape)) / scale.view(shape)).clamp(0, 1)


def to_heatmap(
    maps: torch.Tensor, from_zero: bool, normalize: Union[str, float], size: Tuple[int, ...]
) -> torch.Tensor:
    """Return raw maps (N, *grid) as heatmaps (N, *size) in [0, 1].

    They are brought into [0, 1] at their own grid, resized, and clipped where the interpolation
    overshoots. The arguments are those of :func:`to_unit_range`.
    """
    return upsample(to_unit_range(maps, from_zero, normalize), size).clamp(0, 1)


def gate_weights(gate: torch.Tensor, mask: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Return the channel weights of the gate map, the paper's.

    The map is the mean of the gated features of the selected channels.

    Args:
        gate: SE vectors, (B, C).
        mask: Selected channels, (B, C) bool; by :func:`select_channels` if None.

    Returns:
        (B, C); 0 for channels that are not selected.
    """
    chosen = select_channels(gate).mask if mask is None else mask
    return gate * chosen / chosen.sum(1, keepdim=True).clamp(min=1)
