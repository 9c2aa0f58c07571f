"""Regions of strong evidence: boxes and masks in the pixels of the photos."""

from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Tuple, Union

import numpy as np

from ..errors import InvalidInputError
from .draw.canvases import placed_rows

if TYPE_CHECKING:
    from .explanation import Explanation
    from .photo import Region

#: Rows of a mask that are computed at a time, so that a huge photo takes no more than its mask.
_ROWS = 512


class Boxes(NamedTuple):
    """Boxes around strong evidence, as arrays of the shapes that supervision takes."""

    xyxy: np.ndarray
    """(M, 4) float32: x0, y0, x1, y1 in pixels of the photo."""
    row: np.ndarray
    """(M,) int64, row of the explanation that each box belongs to."""
    class_id: np.ndarray
    """(M,) int64, the row's target."""
    confidence: np.ndarray
    """(M,) float32, the strongest value of the heatmap in the box."""


def boxes(explanation: "Explanation", threshold: float) -> Boxes:
    """Return boxes around strong evidence; see :meth:`Explanation.boxes`."""
    _check(explanation, threshold)
    heatmaps = explanation.heatmap.cpu().numpy()
    places = _places(explanation)
    found: List[Tuple[Tuple[float, ...], int, float]] = []
    for n, image in enumerate(explanation.image_index.tolist()):
        (width, height), (left, top, right, bottom) = places[image]
        rows, columns = heatmaps[n].shape
        x, y = (right - left) / columns, (bottom - top) / rows
        for x0, y0, x1, y1, value in _components(heatmaps[n], threshold):
            box = (left + x0 * x, top + y0 * y, left + x1 * x, top + y1 * y)
            inside = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
            if inside[0] < inside[2] and inside[1] < inside[3]:  # else it lies in the padding
                found.append((inside, n, value))
    row = np.array([n for _, n, _ in found], np.int64)
    return Boxes(
        np.array([box for box, _, _ in found], np.float32).reshape(-1, 4),
        row,
        np.array(explanation.target, np.int64)[row],
        np.array([value for _, _, value in found], np.float32),
    )


def masks(explanation: "Explanation", threshold: float) -> Union[np.ndarray, List[np.ndarray]]:
    """Return masks of strong evidence; see :meth:`Explanation.to_masks`."""
    _check(explanation, threshold)
    heatmaps, places = explanation.heatmap.cpu().numpy(), _places(explanation)
    found = []
    for n, image in enumerate(explanation.image_index.tolist()):
        (width, height), region = places[image]
        mask = np.zeros((height, width), bool)
        for top in range(0, height, _ROWS):
            rows = slice(top, min(top + _ROWS, height))
            mask[rows] = placed_rows(heatmaps[n], region, (width, height), rows) >= threshold
        found.append(mask)
    return np.stack(found) if len({mask.shape for mask in found}) == 1 else found


def _check(explanation: "Explanation", threshold: float) -> None:
    if explanation.is_clip:
        raise InvalidInputError("Boxes and masks are of images; the explained inputs are clips.")
    if not 0 < threshold <= 1:
        raise InvalidInputError(f"threshold must be above 0 and at most 1, not {threshold}.")


def _places(explanation: "Explanation") -> List[Tuple[Tuple[int, int], "Region"]]:
    """Return the size of each photo, and the region that its map lies on."""
    if explanation.photos is not None:
        return [(photo.size, photo.region) for photo in explanation.photos]
    height, width = explanation.heatmap.shape[-2:]
    return [((width, height), (0.0, 0.0, float(width), float(height)))] * len(explanation)


def _components(
    heatmap: np.ndarray, threshold: float
) -> Iterator[Tuple[int, int, int, int, float]]:
    """Yield the box and the highest value of each connected part above a threshold.

    Neighbours are the four sides; parts that only touch at a corner are separate.
    """
    left = heatmap >= threshold
    for start in zip(*np.nonzero(left), strict=True):
        if not left[start]:
            continue
        left[start] = False
        stack, pixels = [start], []
        while stack:
            y, x = stack.pop()
            pixels.append((y, x))
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= near[0] < left.shape[0] and 0 <= near[1] < left.shape[1]
                if inside and left[near]:
                    left[near] = False
                    stack.append(near)
        ys, xs = np.array(pixels).T
        yield (
            int(xs.min()),
            int(ys.min()),
            int(xs.max()) + 1,
            int(ys.max()) + 1,
            float(heatmap[ys, xs].max()),
        )
