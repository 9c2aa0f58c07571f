"""Measure whether photos show the same thing in a corner, as marked photos do."""

from typing import Any, Sequence, Tuple

import numpy as np
from PIL import Image

from ..predictions import Predictions
from .collect import Sampled
from .regions import CORNERS

#: Photos in which the corner counts most, and others of the label.
MOST, OTHERS = 16, 48
#: Side of a corner in cells, and of the part of it that has to be the same.
SIDE, PART = 8, 3
#: Two colours are the same if no channel differs by more, of 255.
TOLERANCE = 40


def same_content(
    predictions: Predictions, sample: Sequence[Sampled], lead: np.ndarray, corner: str
) -> Tuple[float, float]:
    """Return how alike the photos are in a corner: those in which it counts most, and others.

    A corner is reduced to 8 x 8 cells. A cell's share is that of the photos that have the median
    colour there. The result is the mean share of the 3 x 3 cells that are most alike, so that a
    mark has to take a tenth of the picture's side.

    Args:
        predictions: Where the rows are from.
        sample: Photos of a label.
        lead: Lead of the corner in each of them, (N,).
        corner: Name of the corner.

    Returns:
        Two shares in [0, 1]; 0 for the others where the label has no others.

    Raises:
        InvalidInputError: If a photo cannot be read.
    """
    order = np.argsort(-lead, kind="stable")
    # The hash of a photo's id puts the others in random order.
    others = sorted(order[MOST:].tolist(), key=lambda n: sample[n].order)[:OTHERS]
    shares = [
        _alike(np.stack([_corner(predictions, sample[n], corner) for n in numbers]))
        for numbers in (order[:MOST].tolist(), others)
        if numbers
    ]
    return (shares[0], shares[1]) if len(shares) == 2 else (shares[0], 0.0)


def _corner(predictions: Predictions, kept: Sampled, corner: str) -> np.ndarray:
    """Return a corner of what the model saw of a photo, float32 (8, 8, 3)."""
    row = predictions.at(kept.place)
    assert row.region is not None  # a row with a map has one
    x0, y0, x1, y1 = row.region
    top, left = CORNERS[corner]
    width, height = (x1 - x0) / 4, (y1 - y0) / 4
    x, y = x0 if left else x1 - width, y0 if top else y1 - height
    photo: Any = predictions.photo(row)
    cells = photo.resize(
        (SIDE, SIDE), Image.Resampling.BOX, _inside((x, y, x + width, y + height), photo.size)
    )
    return np.asarray(cells, np.float32)


def _inside(
    box: Tuple[float, float, float, float], size: Tuple[int, int]
) -> Tuple[float, float, float, float]:
    """Return the part of a box that lies in a photo of (W, H); at least one pixel.

    A model that pads its photos saw more than there is.
    """
    width, height = size
    x0, y0 = min(max(box[0], 0), width - 1), min(max(box[1], 0), height - 1)
    return x0, y0, max(min(box[2], width), x0 + 1), max(min(box[3], height), y0 + 1)


def _alike(corners: np.ndarray) -> float:
    """Return the share of photos that are the same in the cells that are most alike."""
    median = np.median(corners, axis=0)
    same = (np.abs(corners - median).max(-1) <= TOLERANCE).mean(0)  # (8, 8)
    parts = np.lib.stride_tricks.sliding_window_view(same, (PART, PART))
    return float(parts.mean((2, 3)).max())
