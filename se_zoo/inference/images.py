"""Read photos, cut them, and explain them."""

from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

from PIL import Image

from ..data.images import seen_size
from ..data.photos import cut_box, read_photo
from ..errors import InvalidInputError
from ..explanations import Explanation

#: Least width of drawn pictures, in pixels, whatever the model's input size.
DRAWN_WIDTH = 260
#: A portrait that comes with matplotlib: Grace Hopper (public domain, US Navy).
DEMO_PHOTO = "grace_hopper.jpg"

Box = Tuple[int, int, int, int]

__all__ = [
    "DEMO_PHOTO", "DRAWN_WIDTH", "Box", "cut_box", "demo_photo", "explain_photos", "load_photo",
    "visible_region",
]  # fmt: skip


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


def visible_region(
    image: Image.Image, size: Tuple[int, int], crop_pct: float, crop_mode: str
) -> Image.Image:
    """Cut out the part of a photo that a model's preprocessing keeps: its centre.

    It has the input's aspect ratio, unless the crop mode is ``"squash"``. It is cut before
    resizing, so it keeps the photo's own resolution.

    Args:
        image: The photo.
        size: (H, W) of the model's input, in pixels.
        crop_pct: Share of the photo's shorter side that is kept; of both sides with ``"squash"``.
        crop_mode: timm's, ``"center"`` or ``"squash"``.

    Returns:
        That part of the photo.

    Raises:
        InvalidInputError: If the crop mode is another one, such as ``"border"``.
    """
    if crop_mode not in ("center", "squash"):
        raise InvalidInputError(
            f"the crop mode {crop_mode!r} pads the photo, so no part of it is what the model sees; "
            "call model.explain(photo)"
        )
    if crop_mode == "center":
        width, height = seen_size((image.width, image.height), size, crop_pct)
    else:
        width, height = (max(1, round(side * crop_pct)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def explain_photos(
    model: Any,
    photos: Sequence[Image.Image],
    targets: Optional[Sequence[Union[int, str]]] = None,
    method: Optional[str] = None,
    versus: Union[int, str, None] = None,
) -> Tuple[Explanation, List[Image.Image]]:
    """Explain photos; the same as ``model.explain(photos)``.

    Args:
        model: An SE model in eval mode.
        photos: RGB images of any size.
        targets: Labels or class indices; by default what the model predicts.
        method: Which map; see :func:`se_zoo.explain`.
        versus: The other class of a difference map.

    Returns:
        The explanation, and the photos as it draws them.

    Raises:
        InvalidInputError: If the model takes no photos.
    """
    explanation: Explanation = model.explain(
        list(photos), None if targets is None else list(targets), method, versus=versus
    )
    drawn = [photo.picture for photo in explanation.photos or () if photo.picture is not None]
    return explanation, drawn
