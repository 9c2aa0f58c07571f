"""Pictures of a report, as PNGs in the page itself."""

import base64
import io
from typing import Any, Optional

import numpy as np
from PIL import Image

from ..predictions import Prediction, Predictions
from .regions import Cells

#: Height of a picture, in pixels.
HEIGHT = 128


def png_url(picture: Image.Image) -> str:
    """Return a picture as a ``data:`` URL."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def mean_map(share: np.ndarray, size: Any, cells: Cells) -> str:
    """Draw a mean map in the aspect of the model's input.

    Args:
        share: Share of evidence of each cell, (rows, columns).
        size: (H, W) of the model's input.
        cells: Where the cells of the map lie.

    Returns:
        A URL of a PNG; the strongest cell has the colour map's end.
    """
    from matplotlib import colormaps

    top = float(share.max()) or 1.0
    pixels = (colormaps["inferno"](share / top)[..., :3] * 255).round().astype(np.uint8)
    width = max(1, round(HEIGHT * size[1] / size[0]))
    rows, columns = _cells_at(cells.rows, HEIGHT), _cells_at(cells.columns, width)
    return png_url(Image.fromarray(pixels[rows[:, None], columns]))


def _cells_at(edges: np.ndarray, length: int) -> np.ndarray:
    """Return the cell that each of the pixels along an axis lies in, (length,)."""
    middles = (np.arange(length) + 0.5) / length
    return (np.searchsorted(edges, middles, side="right") - 1).clip(0, len(edges) - 2)


def overlay(predictions: Predictions, row: Prediction, index: int) -> Optional[str]:
    """Draw the map of a row's class on what the model saw of its photo.

    Args:
        predictions: Where the row is from.
        row: A row.
        index: The class.

    Returns:
        A URL of a PNG.

    Raises:
        InvalidInputError: If the photo cannot be read.
    """
    explanation = predictions.explanation(row)
    pixels = explanation.overlay(explanation.images)[row.target.index(index)]
    height, width = pixels.shape[:2]
    picture = Image.fromarray(pixels)
    resized = picture.resize((max(1, round(HEIGHT * width / height)), HEIGHT))
    return png_url(resized)
