"""Grey face crops, the picture input of speaker models."""

from typing import Sequence

import numpy as np
from PIL import Image

#: Side of a crop, in pixels.
CROP = 112


def cut_face(picture: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Cut a box out of a picture.

    Where the box reaches outside the picture, edge pixels are repeated.

    Args:
        picture: (H, W, 3) uint8, RGB.
        box: x0, y0, x1, y1 in pixels.

    Returns:
        A grey crop, (112, 112) uint8.
    """
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    columns = np.clip(np.arange(x0, max(x1, x0 + 1)), 0, picture.shape[1] - 1)
    rows = np.clip(np.arange(y0, max(y1, y0 + 1)), 0, picture.shape[0] - 1)
    return as_crop(Image.fromarray(np.ascontiguousarray(picture[rows[:, None], columns])))


def as_crop(image: Image.Image) -> np.ndarray:
    """Resize a picture of a face to a grey crop, (112, 112) uint8; the sides may change ratio."""
    grey = image.convert("L")
    if grey.size != (CROP, CROP):
        grey = grey.resize((CROP, CROP), Image.Resampling.BILINEAR)
    return np.asarray(grey)
