"""Photos as people have them: files, PIL images and arrays."""

import os
from pathlib import Path
from typing import Any, List, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from ..errors import InvalidInputError
from .images import check_size, read_rgb, upright_rgb

#: A file, a PIL image, or a uint8 array (H, W, 3), RGB.
Photo = Union[str, "os.PathLike[str]", Image.Image, np.ndarray]
#: One photo or several.
Photos = Union[Photo, Sequence[Photo]]


def list_photos(photos: Any) -> List[Photo]:
    """Return one photo or several as a list.

    Raises:
        InvalidInputError: If there is none, or one of them is not a photo.
    """
    given = list(photos) if isinstance(photos, (list, tuple)) else [photos]
    if not given:
        raise InvalidInputError("The list of images is empty; give at least one photo.")
    for one in given:
        if not isinstance(one, (str, os.PathLike, Image.Image, np.ndarray)):
            inside = f"a {type(photos).__name__} with " if isinstance(photos, (list, tuple)) else ""
            raise InvalidInputError(
                "images must be a normalised tensor (B, C, H, W), or photos: a path, a PIL image, "
                f"a uint8 array (H, W, 3) or a list of these; got {inside}{type(one).__name__}."
            )
    return given


def read_photo(photo: Photo, number: int = 0) -> Tuple[str, Image.Image]:
    """Read a photo as upright RGB.

    Grey, palette and CMYK images are converted; a transparent one is put on white.

    Args:
        photo: A file, a PIL image, or a uint8 array (H, W, 3), RGB.
        number: Its number among others, for its name.

    Returns:
        Its name (that of its file, or else ``"image 0"`` by its number), and the image.

    Raises:
        InvalidInputError: If the file does not exist, is not an image, is empty or has pixels of
            unknown range, or the array has another form.
    """
    name = f"image {number}"
    try:
        if isinstance(photo, np.ndarray):
            return name, _of_array(photo)
        if isinstance(photo, Image.Image):
            file = getattr(photo, "filename", "")
            name = Path(os.fsdecode(file)).name if file else name
            return name, upright_rgb(photo)
        path = Path(photo)
        name = str(path)
        if path.is_dir():
            raise InvalidInputError(f"{path} is a folder; name the photos in it")
        if not path.is_file():
            raise InvalidInputError(f"no such file: {path}")
        return path.name, read_rgb(path)
    except InvalidInputError:
        raise
    except (ValueError, OSError) as error:  # an image that PIL has not decoded yet may be damaged
        raise InvalidInputError(f"{name}: {error}") from None


def _of_array(array: np.ndarray) -> Image.Image:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise InvalidInputError(
            f"An image array must be uint8 (H, W, 3), RGB, not {array.dtype} {array.shape} "
            "(ndarray)" + ("; give several as a list." if array.ndim == 4 else ".")
        )
    return Image.fromarray(np.ascontiguousarray(array))


def check_box(box: Tuple[int, int, int, int]) -> None:
    """Refuse a box that shows nothing, or too much, of any image.

    Args:
        box: (x0, y0, x1, y1) in pixels.

    Raises:
        InvalidInputError: If it is empty or too large.
    """
    x0, y0, x1, y1 = box
    if not (x0 < x1 and y0 < y1):
        raise InvalidInputError(
            f"the crop {x0} {y0} {x1} {y1} is empty; give x0 y0 x1 y1 with x0 < x1 and y0 < y1."
        )
    try:
        check_size(x1 - x0, y1 - y0)
    except ValueError as error:
        raise InvalidInputError(f"the crop {x0} {y0} {x1} {y1} is too large: {error}.") from None


def cut_box(image: Image.Image, box: Tuple[int, int, int, int], path: object) -> Image.Image:
    """Cut a box out of an image; outside the image, its edge pixels are repeated.

    Args:
        image: The image.
        box: (x0, y0, x1, y1) in pixels.
        path: Name of the image, for messages.

    Returns:
        An image of the size of the box.

    Raises:
        InvalidInputError: If the box is empty, too large, or lies outside the image.
    """
    check_box(box)
    x0, y0, x1, y1 = box
    if max(0, x0) >= min(x1, image.width) or max(0, y0) >= min(y1, image.height):
        raise InvalidInputError(
            f"the crop {x0} {y0} {x1} {y1} shows nothing of {path} ({image.width} x "
            f"{image.height}); give x0 y0 x1 y1 in pixels of the photo."
        )
    columns = np.clip(np.arange(x0, x1), 0, image.width - 1)
    rows = np.clip(np.arange(y0, y1), 0, image.height - 1)
    return Image.fromarray(np.asarray(image)[rows[:, None], columns])
