"""Read photos for a model, cut and normalise them, and explain them."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from PIL import Image

from ..data.images import check_size, read_rgb, seen_size
from ..errors import InvalidInputError
from ..explanations import Explanation
from ..models.input_size import data_config

#: Least width of drawn pictures, in pixels, whatever the model's input size.
DRAWN_WIDTH = 260
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
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; name the photos in it")
    if not path.is_file():
        raise InvalidInputError(f"no such file: {path}")
    try:
        image = read_rgb(path)
    except ValueError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    return image if crop is None else cut_box(image, crop, path)


def cut_box(image: Image.Image, box: Box, path: object) -> Image.Image:
    """Cut a box out of an image; outside the image, its edge pixels are repeated.

    Args:
        image: The image.
        box: (x0, y0, x1, y1) in pixels.
        path: Name of the image, for messages.

    Returns:
        An image of the size of the box.

    Raises:
        InvalidInputError: If the box is empty or lies outside the image.
    """
    x0, y0, x1, y1 = box
    if not (x0 < x1 and y0 < y1 and max(0, x0) < min(x1, image.width)
            and max(0, y0) < min(y1, image.height)):  # fmt: skip
        raise InvalidInputError(
            f"the crop {x0} {y0} {x1} {y1} shows nothing of {path} ({image.width} x "
            f"{image.height}); give x0 y0 x1 y1 with x0 < x1 and y0 < y1."
        )
    try:
        check_size(x1 - x0, y1 - y0)
    except ValueError as error:
        raise InvalidInputError(f"the crop {x0} {y0} {x1} {y1} is too large: {error}.") from None
    columns = np.clip(np.arange(x0, x1), 0, image.width - 1)
    rows = np.clip(np.arange(y0, y1), 0, image.height - 1)
    return Image.fromarray(np.asarray(image)[rows[:, None], columns])


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
            f"the model's crop mode {crop_mode!r} is not supported; transform the photo with timm "
            "and call model.explain"
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
    """Explain photos, with the preprocessing of the model's config.

    Args:
        model: An SE model in eval mode.
        photos: Upright RGB images of any size.
        targets: Labels or class indices; by default what the model predicts.
        method: Which map; see :func:`se_zoo.explain`.
        versus: The other class of a difference map.

    Returns:
        The explanation, and the part of each photo that the model saw, large enough to draw on.

    Raises:
        InvalidInputError: If the model's crop mode is neither ``"center"`` nor ``"squash"``.
    """
    from timm.data.transforms_factory import create_transform

    config: Dict[str, Any] = data_config(model)
    size: Tuple[int, int] = config["input_size"][-2:]
    crop = config["crop_pct"], config.get("crop_mode") or "center"
    seen = [visible_region(photo, size, *crop) for photo in photos]
    transform: Any = create_transform(**{**config, "crop_pct": 1.0, "crop_mode": "squash"})
    batch = torch.stack([transform(image) for image in seen])
    explanation = model.explain(
        batch, None if targets is None else list(targets), method, versus=versus
    )
    zoom = max(1, -(-DRAWN_WIDTH // size[1]))
    drawn = [i.resize((size[1] * zoom, size[0] * zoom), Image.Resampling.LANCZOS) for i in seen]
    return explanation, drawn
