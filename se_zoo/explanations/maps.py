"""The maps, as pure functions of features, gate and channel weights.

Every map is made of a weighted sum of the backbone's channels:

* The gate map of arXiv 2412.05134 weights the selected channels by their gate.
* The contribution map weights all channels by gate times classifier weight.
* The affinity map is the contribution map, shared among like cells (:mod:`.affinity`). Patches of
  a transformer first give back what they took from each other (:mod:`.token_attention`).
* The rival map is that of the class less those of all others, each times a third of its probability
  (:mod:`.rivals`); it is shared, too.
* The class-gate map weights the channels whose gate times classifier weight stands out, less the
  mean of all channels; it is shared among like cells, too.
* The support map is the contribution map with evidence against the class counted by half.
* The activation map (LaFAM, arXiv 2407.06059) weights all channels alike.
"""

import math
import numbers
from typing import NamedTuple, Sequence, Tuple, Union

import torch
import torch.nn.functional as F

from ..errors import InvalidInputError
from .channel_selection import in_double, selection_mask

#: Weight of evidence against the class in a support map. Tried were 3/4, 1/2, 1/4 and 0. This is
#: the largest one whose means of insertion and ROAD were not below those of Grad-CAM++, measured on
#: images that no other reported figure uses (`python -m benchmarks.support_weight`). Maps with a
#: smaller weight point worse.
AGAINST = 0.5

#: Features are signed if their lowest value is below minus this share of the highest one. SiLU and
#: GELU end at -0.28 and -0.17, and reach far above 1.
_SIGNED = 0.5


def weighted_maps(
    features: torch.Tensor, weights: torch.Tensor, counts: Sequence[int]
) -> torch.Tensor:
    """Compute ``sum_c weights[n, c] * features[b, c]`` for every row n, of image b.

    Args:
        features: (B, C, *grid), ungated.
        weights: (N, C); they include the gate. The rows of an image follow each other.
        counts: Number of rows of each image, B numbers.

    Returns:
        (N, *grid), in the dtype of the weights.
    """
    # With one product per image, no copy of the features for each row is made, and the other
    # images of the batch do not change the order of summation.
    places = features.flatten(2).to(weights.dtype).unbind()
    maps = [rows @ image for rows, image in zip(weights.split(list(counts)), places, strict=True)]
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


class Placement(NamedTuple):
    """Where the cells of raw maps lie in the input.

    Attributes:
        cells: Distance of neighbouring cells along each axis, (rows, columns) in pixels, of clips
            (steps, rows, columns) (:func:`se_zoo.layers.grid.cell_sizes`).
        offset: How far right of and below the evidence the maps of the model lie, (x, y) in pixels.
    """

    cells: Tuple[float, ...]
    offset: Tuple[float, float] = (0.0, 0.0)


def stretched(grid: Tuple[int, ...], size: Tuple[int, ...]) -> Placement:
    """Return the placement of maps that are stretched over the whole input."""
    return Placement(tuple(length / cells for cells, length in zip(grid, size, strict=True)))


def at_input_size(maps: torch.Tensor, size: Tuple[int, ...], placement: Placement) -> torch.Tensor:
    """Resize maps (N, *grid) to the input's size, (N, *size), and move them to the evidence.

    They are moved by whole pixels, so that the interpolated values stay as they are. Where a cell
    is missing at an edge, the edge is repeated.
    """
    x, y = placement.offset
    extent = tuple(
        max(1, round(cell * n)) for cell, n in zip(placement.cells, maps.shape[1:], strict=True)
    )
    large = upsample(maps, extent)
    moves = (0, round(y), round(x))[-len(size) :]
    for axis, (length, wanted, move) in enumerate(zip(extent, size, moves, strict=True), 1):
        if length == wanted and not move:
            continue
        places = torch.arange(move, move + wanted, device=maps.device).clamp(0, length - 1)
        large = large.index_select(axis, places)
    return large


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
    low, top = flat.amin(1), flat.amax(1)
    return _is_even(low, top, top - low)


def _is_even(low: torch.Tensor, top: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Return whether maps with these extremes (N,) are constant but for rounding."""
    return spread <= 1e-6 * torch.maximum(top, -low)


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
        (N, *grid) in [0, 1]. With ``"image"`` a constant map becomes 0 everywhere, and so does a
        map of one cell, whatever its value: it marks no place.

    Raises:
        InvalidInputError: If ``normalize`` is neither ``"image"`` nor a positive number.
    """
    normalize = check_normalize(normalize)
    if not isinstance(normalize, str):
        return (maps / normalize).clamp(0, 1)
    flat = maps.flatten(1)
    low, top = flat.amin(1), flat.amax(1)
    spread = top - low
    empty = _is_even(low, top, spread)
    if from_zero:
        empty, spread = empty | (top <= 0), top
    shape = (-1,) + (1,) * (maps.dim() - 1)
    scale = spread.masked_fill(empty, math.inf).view(shape)
    return ((maps if from_zero else maps - low.view(shape)) / scale).clamp(0, 1)


def to_heatmap(
    maps: torch.Tensor,
    from_zero: bool,
    normalize: Union[str, float],
    size: Tuple[int, ...],
    placement: Placement,
) -> torch.Tensor:
    """Return raw maps (N, *grid) as heatmaps (N, *size) in [0, 1].

    They are brought into [0, 1] at their own grid, resized, moved to the evidence, and clipped
    where the interpolation overshoots. The arguments are those of :func:`to_unit_range` and
    :func:`at_input_size`.
    """
    unit = to_unit_range(maps, from_zero, normalize)
    return at_input_size(unit, size, placement).clamp(0, 1)


def gate_weights(gate: torch.Tensor) -> torch.Tensor:
    """Return the channel weights of the gate map, the paper's.

    The map is the mean of the gated features of the selected channels.

    Args:
        gate: SE vectors, (B, C).

    Returns:
        (B, C); 0 for channels that are not selected (:func:`select_channels`).
    """
    chosen = selection_mask(in_double(gate))[0].to(gate.device)
    return gate * chosen / chosen.sum(1, keepdim=True)


class ChannelScale(NamedTuple):
    """How class-gate maps scale the channels of each image, (B, C) each, with the channel's sign.

    Attributes:
        drawn: What a channel is divided by in the map: the root of its largest value; of signed
            features the root of the mean of its squares.
        selected: What its class gate is multiplied by before channels are selected: 1; of signed
            features the same root.
    """

    drawn: torch.Tensor
    selected: torch.Tensor


def channel_scale(features: torch.Tensor) -> ChannelScale:
    """Return the scale of each channel of an image.

    A channel whose mean is negative is turned around, so that the sign that a backbone happens to
    give a channel does not matter. Features behind a ReLU or SiLU have comparable channels, of
    which the class gate alone selects, as the paper's gate does. The channels of signed features
    (ConvNeXt, ViT, Swin) differ in size as much as in weight, so their size counts, too.

    Args:
        features: (B, C, *grid).
    """
    flat = features.flatten(2)
    sign = torch.where(flat.mean(2) < 0, -1.0, 1.0)
    signed = (-flat.amin((1, 2)) > _SIGNED * flat.amax((1, 2)))[:, None]
    root = flat.abs().amax(2).clamp(min=1e-6).sqrt()
    rms = flat.square().mean(2).sqrt().clamp(min=1e-6)
    return ChannelScale(sign * torch.where(signed, rms, root), sign * torch.where(signed, rms, 1.0))


def class_gate_weights(
    class_gate: torch.Tensor, scale: ChannelScale
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the channel weights of class-gate maps.

    The paper's rule selects channels S from the class gate ``t = gate * slope of the logit``,
    scaled, ``u``. The map is the mean of the selected channels, weighted by ``u``, less the mean of
    all C channels, each divided by its scale:
    ``sum_c (u_c [c in S] / sum_S u - 1 / C) f_c / scale_c``. Rule and gate are the paper's; what is
    selected from and drawn is the project's own.

    Args:
        class_gate: ``t``, (N, C).
        scale: :func:`channel_scale` of each row's image, (N, C) each.

    Returns:
        The weights of ``f``, and ``u``, (N, C) each.
    """
    scaled = class_gate * scale.selected
    chosen = selection_mask(in_double(scaled))[0].to(scaled.device)
    shares = scaled.clamp(min=0) * chosen
    total = shares.sum(1, keepdim=True)
    # Nothing speaks for the class of a classifier of zeros, for example.
    even = chosen / chosen.sum(1, keepdim=True)
    shares = torch.where(total > 0, shares / total.clamp(min=1e-30), even)
    return (shares - 1 / shares.shape[1]) / scale.drawn, scaled
