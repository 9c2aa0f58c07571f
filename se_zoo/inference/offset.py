"""Measure how far a model's maps lie beside the evidence, by explaining mirrored photos."""

import math
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import torch
from PIL import Image
from torch import nn

from ..errors import InvalidInputError
from ..explanations import explain
from ..explanations.maps import Placement, at_input_size

#: Share of the image's sides that is left out at each border, where maps end.
_BORDER = 0.18
#: Least number of images: with fewer, single photos decide.
LEAST = 8
_BATCH = 16


class AxisOffset(NamedTuple):
    """The offset along one axis.

    Attributes:
        pixels: How far the maps lie right of, or below, the evidence.
        before: Mean correlation of maps with the mirrored maps of mirrored images.
        after: The same after the maps were moved to the evidence.
    """

    pixels: float
    before: float
    after: float


class MeasuredOffset(NamedTuple):
    """Offset of a model's maps; ``model.map_offset = measured.offset`` applies it.

    Attributes:
        horizontal: Along x.
        vertical: Along y; None if it was not measured.
        images: Number of images.
    """

    horizontal: AxisOffset
    vertical: Optional[AxisOffset]
    images: int

    @property
    def offset(self) -> Tuple[float, float]:
        """(x, y) in pixels of the model's input.

        Where y was not measured, it is x: symmetric padding is the same in both directions.
        TensorFlow's "same" padding also depends on whether a side is even, so y may differ by half
        a cell there. Part masks of faces tell (docs/evidence.md).
        """
        y = self.horizontal if self.vertical is None else self.vertical
        return round(self.horizontal.pixels, 2), round(y.pixels, 2)


def measure_offset(
    model: nn.Module,
    images: "Iterable[Union[torch.Tensor, Image.Image, str, Path]]",
    *,
    vertical: bool = True,
) -> MeasuredOffset:
    """Measure how far a model's maps lie beside the evidence; the model is not changed.

    Padding moves the cells of a backbone's grid, and training moves them part of the way back. The
    measurement needs no labels: an image and its mirror image are explained for the same class, the
    second map is mirrored back, and half the displacement at which the two correlate best is the
    offset, to a fraction of a pixel. It is looked for within one cell of the maps, and if the best
    place is the end of that range, within two.

    Args:
        model: Model with an SE head.
        images: 100 or more images: normalised batches, (B, C, H, W) or (B, C, T, H, W), of one
            size; or photos as paths or PIL images, which are preprocessed as the model's config
            says.
        vertical: Whether to mirror upside down, too. Give False for models whose images are always
            upright, such as aligned faces: they do not know a face upside down. The vertical
            offset is then taken to be the horizontal one.

    Returns:
        Offsets and correlations. For models of exclusive classes maps of the top-1 class are
        compared, for others those of every predicted label.

    Raises:
        InvalidInputError: If there are fewer than 8 images, every map is constant, or the maps lie
            more than two cells beside the evidence.
    """
    axes = [-1, -2] if vertical else [-1]
    pairs: List[List[Tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in axes]
    count, reach = 0, [0, 0]
    for batch in _batches(model, images):
        count += len(batch)
        first, rows, targets, placement = _maps(model, batch, None, None)
        reach = [max(1, round(cell)) for cell in placement.cells[-2:]]
        for axis, found in zip(axes, pairs, strict=True):
            mirrored = _maps(model, batch.flip(axis), rows, targets)[0]
            found.append((first, mirrored.flip(axis)))
    if count < LEAST:
        raise InvalidInputError(f"{count} images are too few; give {LEAST} or more, best over 100.")
    measured = []
    for axis, found in zip(axes, pairs, strict=True):
        first, mirrored = (torch.cat(side) for side in zip(*found, strict=True))
        measured.append(_axis_offset(first, mirrored, axis, reach[axis]))
    return MeasuredOffset(measured[0], measured[1] if vertical else None, count)


def _batches(
    model: Any, images: "Iterable[Union[torch.Tensor, Image.Image, str, Path]]"
) -> Iterator[torch.Tensor]:
    """Yield normalised batches; the model reads photos as it does for explanations."""
    waiting: List[Union[Image.Image, str, Path]] = []
    for image in images:
        if isinstance(image, torch.Tensor):
            yield from image.split(_BATCH)
            continue
        waiting.append(image)
        if len(waiting) == _BATCH:
            yield model.read_photos(waiting)[0]
            waiting = []
    if waiting:
        yield model.read_photos(waiting)[0]


def _maps(
    model: nn.Module,
    batch: torch.Tensor,
    rows: Optional[torch.Tensor],
    targets: Optional[torch.Tensor],
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor, Placement]:
    """Return contribution maps at input size as if there were no offset, (N, H, W)."""
    images = batch if rows is None else batch[rows]
    found = explain(model, images, targets, "contribution")
    size, placement = tuple(batch.shape[2:]), found.placement._replace(offset=(0.0, 0.0))
    drawn = at_input_size(found.raw, size, placement).cpu()
    each = torch.tensor(found.target)
    return drawn.flatten(0, -3), found.image_index.cpu(), each, placement


def _axis_offset(first: torch.Tensor, mirrored: torch.Tensor, axis: int, reach: int) -> AxisOffset:
    """Return the offset from maps and the mirrored maps of mirrored images, (N, H, W)."""
    scores: Dict[int, float] = {}

    def best(moves: Iterable[int], limit: int) -> int:
        for move in moves:
            if move not in scores and abs(move) <= limit:
                scores[move] = _correlation(first, mirrored, axis, move)
        return max(scores, key=scores.__getitem__)

    step = max(1, reach // 4)  # maps are smooth within a cell
    for limit in (2 * reach, 4 * reach):  # the maps are apart by twice the offset
        top = best(range(-step * (limit // step), limit + 1, step), limit)
        top = best(range(top - step, top + step + 1), limit)
        best((top - 1, top + 1), limit)
        if any(math.isnan(score) for score in scores.values()):
            raise InvalidInputError("Every map is constant; is the model trained?")
        if abs(top) < limit:
            break
    else:
        raise InvalidInputError(
            "the maps fit those of mirrored images best at the end of the search, two cells beside "
            "the evidence; do not use this model's maps, or set map_offset yourself."
        )
    move, after = float(top), scores[top]
    if top - 1 in scores and top + 1 in scores:  # the vertex of the parabola through the three
        left, right = scores[top - 1], scores[top + 1]
        bend = left - 2 * after + right
        move += 0.5 * (left - right) / bend if bend < 0 else 0.0
    return AxisOffset(move / 2, scores[0], after)


def _correlation(first: torch.Tensor, mirrored: torch.Tensor, axis: int, move: int) -> float:
    """Return the mean correlation of maps with mirrored ones moved right, or down, by pixels."""
    inner = [slice(round(_BORDER * n), n - round(_BORDER * n)) for n in first.shape[1:]]
    length = first.shape[axis]
    places = torch.arange(length) - move
    inside = inner[axis]
    kept = torch.arange(length)[inside]
    kept = kept[(places[kept] >= 0) & (places[kept] < length)]
    inner[axis] = slice(None)
    rows = [m.index_select(m.dim() + axis, p)[(slice(None), *inner)].flatten(1).double()
            for m, p in ((first, kept), (mirrored, places[kept]))]  # fmt: skip
    centred = [r - r.mean(1, keepdim=True) for r in rows]
    norms = [c.square().sum(1).sqrt() for c in centred]
    scale = norms[0] * norms[1]
    known = scale > 0
    return float(((centred[0] * centred[1]).sum(1)[known] / scale[known]).mean())
