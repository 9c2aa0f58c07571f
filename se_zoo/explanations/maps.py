"""The maps, as pure functions of features, gate and channel weights.

Every map is a sum over the backbone's channels: the gate map of arXiv 2412.05134 weighs the
selected channels by their gate, the contribution map all of them by gate times classifier weight,
the support map likewise but what speaks against the class by half, and the activation map (LaFAM,
arXiv 2407.06059) weighs all alike.
"""

import math
import numbers
from typing import NamedTuple, Optional, Tuple, Union

import torch
import torch.nn.functional as F

from ..errors import InvalidInputError

#: One-sided 10 % quantile of the normal distribution, the paper's threshold in standard deviations.
TOP_TENTH_SIGMA = 1.2816

#: Methods whose maps have evidence for (> 0) and against (< 0), and are drawn with their sign.
SIGNED_METHODS = ("contribution", "difference")
#: Methods whose heatmap begins at 0; the zero of the others says nothing.
FROM_ZERO_METHODS = (*SIGNED_METHODS, "support")
#: Methods whose maps are the same for every class.
CLASSLESS_METHODS = ("gate", "activation")

#: What evidence against the class counts in a support map: of 3/4, 1/2, 1/4 and 0 the largest whose
#: means of insertion and ROAD were not below those of Grad-CAM++, on images of which no other
#: figure is reported (`python -m benchmarks.support_weight`). Smaller ones point worse.
AGAINST = 0.5


class Selection(NamedTuple):
    """Selected channels of each image.

    Attributes:
        mask: (B, C) bool.
        rule: One of ``"threshold"`` and ``"rank"`` per image.
    """

    mask: torch.Tensor
    rule: Tuple[str, ...]


def select_channels(gate: torch.Tensor) -> Selection:
    """Channels whose gate stands out, as in arXiv 2412.05134: ``s > mean(s) + 1.2816 std(s)``.

    The rule selects about a tenth of spread-out gates and none of saturated or constant ones; for
    such an image the top tenth by rank is taken (ties in channel order), and the rule says so.

    Args:
        gate: SE vectors, (B, C).
    """
    # In double, so that a constant gate is not "selected" by the rounding of its own mean; on the
    # CPU, because not every device has it (MPS).
    mask, none = selection_mask(gate.detach().cpu().double())
    return Selection(
        mask.to(gate.device), tuple("rank" if n else "threshold" for n in none.tolist())
    )


def selection_mask(values: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """As :func:`select_channels`, in tensors alone.

    Args:
        values: Gates in double, (B, C).

    Returns:
        The mask (B, C), and whether it is by rank, (B,).
    """
    bound = values.mean(1, keepdim=True) + TOP_TENTH_SIGMA * values.std(
        1, keepdim=True, correction=0
    )
    mask = (values > bound) & (values.amax(1, keepdim=True) > values.amin(1, keepdim=True))
    none = ~mask.any(1)
    count = max(1, round(0.1 * values.shape[1]))
    # The top tenth, of equal values the first; a stable sort has no counterpart in ONNX.
    last = values.topk(count, dim=1).values[:, -1:]
    above, equal = values > last, values == last
    by_rank = above | (equal & (equal.cumsum(1) <= count - above.sum(1, keepdim=True)))
    return mask | (by_rank & none[:, None]), none


def weighted_maps(
    features: torch.Tensor, weights: torch.Tensor, images: torch.Tensor
) -> torch.Tensor:
    """``sum_c weights[n, c] * features[images[n], c]`` for every row n.

    Args:
        features: (B, C, *grid), ungated.
        weights: (N, C); the gate is part of the weights.
        images: Index of each row's image, ascending, (N,).

    Returns:
        (N, *grid).
    """
    # One product per image keeps the memory at that of the features, and an image's map free of
    # its neighbours in the batch down to the order of summation.
    counts = images.bincount(minlength=features.shape[0]).tolist()
    maps = [
        rows @ image.flatten(1).to(weights.dtype)
        for rows, image in zip(weights.split(counts), features, strict=True)
    ]
    return torch.cat(maps).unflatten(1, features.shape[2:])


def support(net: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """What speaks for a class, less half of what speaks against it, at every place.

    It is this project's, not the paper's. With ``t_c`` for what channel c adds at a place, it is
    ``sum_c max(t_c, 0) + AGAINST * min(t_c, 0)``. Its heatmap begins at 0, where twice as much
    speaks against the class as for it; what is above 0 need not speak for the class on the whole,
    so it is not drawn as evidence for and against.

    Args:
        net: ``sum_c t_c``, the contribution map, (N, *grid).
        both: ``sum_c |t_c|``, (N, *grid).
    """
    return (1 + AGAINST) / 2 * net + (1 - AGAINST) / 2 * both


def upsample(maps: torch.Tensor, size: Tuple[int, ...]) -> torch.Tensor:
    """Bicubic (images) or trilinear (clips) resizing of (N, *grid), half-pixel convention.

    Bicubic overshoots at edges: clip the result to the range that is shown.
    """
    mode = "bicubic" if maps.dim() == 3 else "trilinear"
    return F.interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]


def check_normalize(normalize: Union[str, float]) -> Union[str, float]:
    """``"image"``, or the positive number as a Python float.

    Raises:
        InvalidInputError: If it is neither.
    """
    if isinstance(normalize, str) and normalize == "image":
        return normalize
    number = isinstance(normalize, numbers.Real) and not isinstance(normalize, bool)
    if not (number and 0 < float(normalize) < math.inf):
        raise InvalidInputError(f'normalize must be "image" or a positive number: {normalize!r}.')
    return float(normalize)


def is_constant(maps: torch.Tensor) -> torch.Tensor:
    """Whether maps (N, *grid) are the same everywhere but for rounding, (N,) bool.

    Such a map says nothing of the place, and its rounding must not be blown up to a picture.
    """
    flat = maps.flatten(1)
    return flat.amax(1) - flat.amin(1) <= 1e-6 * flat.abs().amax(1)


def normalise(
    maps: torch.Tensor, from_zero: bool, normalize: Union[str, float] = "image"
) -> torch.Tensor:
    """Bring raw maps into [0, 1] for display.

    Args:
        maps: Raw maps, (N, *grid).
        from_zero: True for maps whose zero means something (those of :data:`FROM_ZERO_METHODS`):
            negative values become 0 and the strongest positive one 1. False for the others, which
            are stretched from minimum to maximum.
        normalize: ``"image"`` stretches every map by itself, so a weak map looks as strong as a
            strong one. A positive number is the raw value that is drawn as 1 in all maps, which
            makes them comparable.

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
    nothing = is_constant(maps) | (spread <= 0)
    scale = torch.where(nothing, torch.full_like(spread, math.inf), spread)
    shape = (-1,) + (1,) * (maps.dim() - 1)
    return ((maps - low.view(shape)) / scale.view(shape)).clamp(0, 1)


def to_heatmap(
    maps: torch.Tensor, from_zero: bool, normalize: Union[str, float], size: Tuple[int, ...]
) -> torch.Tensor:
    """Raw maps (N, *grid) as heatmaps (N, *size) in [0, 1]: normalised at their own grid, resized,
    and cut where the interpolation overshoots. Arguments as in :func:`normalise`."""
    return upsample(normalise(maps, from_zero, normalize), size).clamp(0, 1)


def gate_weights(gate: torch.Tensor, mask: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Channel weights of the paper's map: mean of the gated features of the selected channels.

    Args:
        gate: (B, C).
        mask: Selected channels, (B, C) bool; by :func:`select_channels` if None.
    """
    chosen = select_channels(gate).mask if mask is None else mask
    return gate * chosen / chosen.sum(1, keepdim=True).clamp(min=1)
