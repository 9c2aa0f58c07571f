"""Bring photos into the form that a model takes, and note which part of each it sees."""

import math
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import torch

from ..data.images import MAX_PIXELS
from ..data.photos import Photos, list_photos, read_photo
from ..errors import InvalidInputError
from ..explanations.photo import Photo, Region, bounded
from ..transform import evaluation_transform
from .input_size import data_config
from .pretrained.config_check import CROP_MODES

if TYPE_CHECKING:
    from ..data.faces.find import FaceFinder
    from ..explanations.se_model import Face


def prepare_photos(
    model: Any, photos: Photos, face: "Face" = False
) -> Tuple[torch.Tensor, Tuple[Photo, ...]]:
    """Preprocess photos as the model's config says, one after the other.

    Args:
        model: An SE model of images.
        photos: A path, a PIL image, a uint8 array (H, W, 3), or a list of these, of any size.
        face: Whether to find the face in each photo first, and how.

    Returns:
        The batch, (B, 3, H, W) float32 on the CPU, and the photo of each of its images.

    Raises:
        InvalidInputError: If a photo cannot be read, is too thin to be resized or has no face, or
            the model takes none.
    """
    given = list_photos(photos)
    if getattr(model, "takes_clips", False):
        raise InvalidInputError(
            "The model takes clips; read one of a video with se_zoo.load_clip(model, path)."
        )
    config = data_config(model)
    if config["input_size"][0] != 3:
        raise InvalidInputError(
            f"The model takes images of {config['input_size'][0]} channels, and photos have 3; "
            "give a normalised tensor."
        )
    transform = evaluation_transform(config)
    finder = _finder(face)
    batch: List[torch.Tensor] = []
    seen: List[Photo] = []
    for number, one in enumerate(given):
        name, image = read_photo(one, number)
        if finder is None:
            try:
                check_resized(image.size, config)
            except ValueError as error:
                raise InvalidInputError(f"{name}: {error}") from None
            batch.append(transform(image))
            seen.append(Photo(name, image.size, seen_region(image.size, config), bounded(image)))
            continue
        picture = bounded(image)
        for framed in finder(image, name):
            batch.append(transform(framed.image))
            left, top = framed.box[:2]
            x0, y0, x1, y1 = seen_region(framed.image.size, config)
            region = (left + x0, top + y0, left + x1, top + y1)
            close_up = bounded(framed.image)
            seen.append(Photo(framed.name, image.size, region, picture, framed.box, close_up))
    return torch.stack(batch), tuple(seen)


def _finder(face: "Face") -> "Optional[FaceFinder]":
    """Return what finds the faces; None if none are looked for."""
    if face is False:
        return None
    from ..data.faces.find import FaceFinder

    if isinstance(face, FaceFinder):
        return face
    return FaceFinder() if isinstance(face, bool) else FaceFinder(face)


def seen_region(size: Tuple[int, int], config: Dict[str, Any]) -> Region:
    """Return the part of a photo that timm's transform for evaluation keeps.

    It follows ``timm.data.transforms_factory.transforms_imagenet_eval`` for its crop modes
    ``"center"``, ``"squash"`` and ``"border"``, with their rounding.

    Args:
        size: Width and height of the photo, in pixels.
        config: Result of timm's ``resolve_data_config``.

    Returns:
        Box in the photo's pixels; outside of the photo, the model sees padding.
    """
    target = tuple(config["input_size"][-2:])
    ends: List[Tuple[float, float]] = []
    for length, full, kept in zip(size, _resized_size(size, config), target[::-1], strict=True):
        spare = full - kept
        start = round(spare / 2) if spare >= 0 else -(-spare // 2)
        zoom = length / full
        ends.append((start * zoom, (start + kept) * zoom))
    (x0, x1), (y0, y1) = ends
    return x0, y0, x1, y1


def check_resized(size: Tuple[int, int], config: Dict[str, Any]) -> None:
    """Refuse a photo that timm's transform for evaluation would make huge, or leave nothing of.

    The transform resizes the whole photo before it crops: 65,535 x 1 pixels would take gigabytes.

    Args:
        size: Width and height of the photo, in pixels.
        config: Result of timm's ``resolve_data_config``.

    Raises:
        ValueError: If the resized photo has a side without pixels, or more than MAX_PIXELS pixels.
    """
    width, height = _resized_size(size, config)
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise ValueError(
            f"it is too thin ({size[0]:,} x {size[1]:,} pixels) to be resized; cut it first"
        )


def _resized_size(size: Tuple[int, int], config: Dict[str, Any]) -> Tuple[int, int]:
    """Return width and height of a photo after timm's resizing, before its crop.

    Raises:
        InvalidInputError: If the crop mode is not one of :func:`seen_region`.
    """
    share, mode = config.get("crop_pct") or 0.875, config.get("crop_mode") or "center"
    if mode not in CROP_MODES:
        raise InvalidInputError(
            f"which part of a photo crop_mode={mode!r} keeps is not known, but of "
            f"{', '.join(CROP_MODES)}; give a normalised tensor"
        )
    rows, columns = (math.floor(side / share) for side in config["input_size"][-2:])
    width, height = size
    if mode == "squash":
        return columns, rows
    if mode == "center" and rows == columns:  # torchvision's Resize cuts the longer side off
        short, long = min(size), max(size)
        longer = int(rows * long / short)
        return (rows, longer) if width <= height else (longer, rows)
    ratios = height / rows, width / columns
    ratio = max(ratios) if mode == "border" else min(ratios)
    return round(width / ratio), round(height / ratio)
