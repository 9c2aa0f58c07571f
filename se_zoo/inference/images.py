"""Read photos and cut them."""

from pathlib import Path
from typing import Optional, Tuple

from PIL import Image

from ..data.photos import cut_box, read_photo

#: A portrait that comes with matplotlib: Grace Hopper (public domain, US Navy).
DEMO_PHOTO = "grace_hopper.jpg"

Box = Tuple[int, int, int, int]


def demo_photo() -> Path:
    """Return the file of the portrait that comes with matplotlib."""
    from matplotlib.cbook import get_sample_data

    return Path(str(get_sample_data(DEMO_PHOTO, asfileobj=False)))


def load_photo(path: Path, crop: Optional[Box] = None) -> Image.Image:
    """Read an image as upright RGB and cut it.

    Grey, palette and CMYK images are converted; a transparent one is put on white.

    Args:
        path: The file.
        crop: Box (x0, y0, x1, y1) to cut out, in pixels; see :func:`cut_box`.

    Returns:
        The image.

    Raises:
        InvalidInputError: If the file does not exist, is not an image, is empty or holds NaN, or
            the box lies outside it.
    """
    _, image = read_photo(path)
    return image if crop is None else cut_box(image, crop, path)
