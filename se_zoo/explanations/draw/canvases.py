"""Pictures that maps are drawn on, and the place of a map in each."""

from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from PIL import Image

from ...errors import InvalidInputError
from ..photo import Photo, Region

if TYPE_CHECKING:
    from ..explanation import Explanation, Pictures

#: Largest relative difference of two aspect ratios that count as the same.
_SAME_ASPECT = 0.02
#: Share of a picture that the model saw from which it counts as all: a rounded edge is not drawn.
_ALL_SEEN = 0.97
#: Share of a photo from which a frame is no close-up: the whole photo is drawn instead.
_MOST = 0.6


class Canvas(NamedTuple):
    """A picture to draw on."""

    pixels: np.ndarray  # (H, W, 3) uint8
    region: Region  # what the model saw, in these pixels

    def place(self, evidence: np.ndarray) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Bring a map to the picture.

        Args:
            evidence: The map, (h, w); it lies on the region.

        Returns:
            The map, (H, W) float32, 0 outside of the region, and whether the model saw each pixel,
            (H, W) bool; None if it saw all of them.
        """
        height, width = self.pixels.shape[:2]
        rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
        x0, y0, x1, y1 = self.region
        seen = ((y0 <= rows) & (rows <= y1))[:, None] & ((x0 <= columns) & (columns <= x1))
        placed = placed_rows(evidence, self.region, (width, height), slice(0, height))
        return placed, None if seen.mean() > _ALL_SEEN else seen

    def resized(self, width: int, height: int) -> "Canvas":
        """Return the canvas at another size, in pixels."""
        old_height, old_width = self.pixels.shape[:2]
        if (width, height) == (old_width, old_height):
            return self
        image = Image.fromarray(self.pixels).resize((width, height), Image.Resampling.BICUBIC)
        return Canvas(
            np.asarray(image), _scaled(self.region, width / old_width, height / old_height)
        )


def placed_rows(
    heatmap: np.ndarray, region: Region, size: Tuple[int, int], rows: slice
) -> np.ndarray:
    """Interpolate a map that lies on a region of a picture.

    Args:
        heatmap: The map, (h, w).
        region: Where it lies, in pixels of the picture.
        size: Width and height of the picture, in pixels.
        rows: Rows of the picture that are wanted.

    Returns:
        These rows, (rows, width) float32; 0 outside of the region.
    """
    x0, y0, x1, y1 = region
    down = _interpolation(np.arange(rows.start, rows.stop), y0, y1, heatmap.shape[0])
    across = _interpolation(np.arange(size[0]), x0, x1, heatmap.shape[1])
    return down @ heatmap.astype(np.float32) @ across.T


def _interpolation(pixels: np.ndarray, low: float, high: float, cells: int) -> np.ndarray:
    """Return weights (pixels, cells) that interpolate cells linearly from ``low`` to ``high``."""
    centres = pixels + 0.5
    inside = (low <= centres) & (centres <= high)
    at = ((centres - low) / (high - low) * cells - 0.5).clip(0, cells - 1)
    left = np.minimum(at.astype(int), max(cells - 2, 0))
    share = at - left
    weights = np.zeros((len(pixels), cells), np.float32)
    here = np.arange(len(pixels))
    weights[here, left] = 1 - share
    weights[here, np.minimum(left + 1, cells - 1)] += share
    return weights * inside[:, None]


def _scaled(box: Region, x: float, y: float) -> Region:
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def canvases(explanation: "Explanation", images: "Optional[Pictures]" = None) -> List[Canvas]:
    """Return the picture of each image to draw on, and where its map lies.

    Args:
        explanation: The explanation, not of clips.
        images: As in :meth:`Explanation.overlay`; by default the explained photos or images.

    Raises:
        InvalidInputError: If number, form or aspect ratio of the pictures does not fit.
    """
    photos = explanation.photos
    if images is None and photos is not None:
        return [_of_photo(photo) for photo in photos]
    found = []
    tensor = not isinstance(images, (list, tuple))  # which is what the model saw
    for n, picture in enumerate(_pictures(explanation, images)):
        height, width = picture.shape[:2]
        saw = explanation.heatmap.shape[-1], explanation.heatmap.shape[-2]
        photo = None if photos is None else photos[n]
        seen = tensor or ((width, height) == saw and photo is not None and photo.size != saw)
        if photo is not None and not seen and _same_aspect((width, height), photo.size):
            scale = width / photo.size[0], height / photo.size[1]
            found.append(Canvas(picture, _scaled(photo.region, *scale)))
        elif _same_aspect((width, height), saw):
            found.append(Canvas(picture, (0.0, 0.0, float(width), float(height))))
        else:
            raise InvalidInputError(
                f"Images to draw on must show what the model saw, {saw[0]} x {saw[1]} pixels or "
                f"larger with the same aspect; one is {width} x {height}, and the map would be "
                "stretched over it. Explain the photo itself, model.explain(photo): then its map "
                "is drawn where it belongs."
            )
    return found


def _of_photo(photo: Photo) -> Canvas:
    if photo.picture is None:
        raise InvalidInputError(
            f"A saved explanation keeps no pixels; give the photos to draw on, such as {photo.name}"
            ", as PIL images: images=[...]."
        )
    pixels = np.asarray(photo.picture)
    scale = pixels.shape[1] / photo.size[0], pixels.shape[0] / photo.size[1]
    return Canvas(pixels, _scaled(photo.region, *scale))


def close_up(photo: Photo) -> Optional[Canvas]:
    """Return the framed part of a photo to draw on; None if nothing or most of it is framed."""
    if photo.close_up is None or photo.frame is None:
        return None
    x0, y0, x1, y1 = photo.frame
    width, height = photo.size
    if (min(x1, width) - max(x0, 0)) * (min(y1, height) - max(y0, 0)) > _MOST * width * height:
        return None
    pixels = np.asarray(photo.close_up)
    scale = pixels.shape[1] / (x1 - x0), pixels.shape[0] / (y1 - y0)
    left, top, right, bottom = photo.region
    return Canvas(pixels, _scaled((left - x0, top - y0, right - x0, bottom - y0), *scale))


def _same_aspect(one: Tuple[int, int], other: Tuple[int, int]) -> bool:
    """Return whether two sizes (width, height) have the same aspect, but for a rounded pixel."""
    if one == other:
        return True
    zoom = one[0] / other[0], one[1] / other[1]
    slack = max(_SAME_ASPECT, 1 / min(*one, *other))
    return abs(zoom[0] / zoom[1] - 1) <= slack


def _pictures(explanation: "Explanation", images: Any) -> List[np.ndarray]:
    """Return the pixels of pictures to draw on, each (H, W, 3) uint8."""
    if isinstance(images, (list, tuple)):
        known = all(isinstance(one, (Image.Image, np.ndarray)) for one in images)
        if not known or len(images) != len(explanation):
            raise InvalidInputError(
                f"Images to draw on must be {len(explanation)} PIL images or uint8 arrays "
                f"(H, W, 3); got {len(images)} of {[type(one).__name__ for one in images][:3]}."
            )
        return [_pixels(one) for one in images]
    return list(to_pixels(explanation, images))


def _pixels(one: Any) -> np.ndarray:
    array = np.asarray(one.convert("RGB") if isinstance(one, Image.Image) else one)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise InvalidInputError(
            f"Images to draw on must be uint8 (H, W, 3), not {array.dtype} {array.shape}."
        )
    return array


def to_pixels(explanation: "Explanation", images: "Optional[Pictures]" = None) -> np.ndarray:
    """Return the pixels of a batch to draw on.

    Args:
        explanation: Gives mean, std and number of images.
        images: A normalised tensor or a uint8 array; by default the explained images.

    Returns:
        (B, H, W, 3) uint8, for clips (B, T, H, W, 3).

    Raises:
        InvalidInputError: If number or form of the images does not fit the explanation.
    """
    given: Any = explanation.images if images is None else images
    if images is None and given.numel() == 0:
        raise InvalidInputError(
            "A saved explanation keeps no pixels; give pictures to draw on: images=[...]."
        )
    if isinstance(given, torch.Tensor) and given.is_floating_point():
        array = _denormalised(given, explanation.mean, explanation.std)
    else:
        array = np.asarray(given)
    if array.shape[-1:] == (1,):
        array = np.repeat(array, 3, axis=-1)
    clip = explanation.heatmap.shape[1:2] if explanation.is_clip else ()
    fits = array.ndim == 4 + len(clip) and array.shape[0] == len(explanation)
    if not fits or array.shape[-1] != 3 or array.dtype != np.uint8:
        wanted = ", ".join(map(str, (len(explanation), *("T" for _ in clip), "H", "W", 3)))
        raise InvalidInputError(
            f"Images to draw on must be uint8 ({wanted}), a float tensor or PIL images; got "
            f"{array.dtype} {array.shape}. Pass pictures to draw on: images=[...]."
        )
    return array


def _denormalised(
    images: torch.Tensor, mean: Tuple[float, ...], std: Tuple[float, ...]
) -> np.ndarray:
    """Return normalised images (B, C, [T,] H, W) as uint8 pixels (B, [T,] H, W, C)."""
    shape = (1, -1, *(1 for _ in images.shape[2:]))
    means, stds = torch.tensor(mean).view(shape), torch.tensor(std).view(shape)
    channels = images.shape[1] if images.dim() in (4, 5) else 0
    if channels == 1:  # a grey image, though the model's config has means of three channels
        means, stds = means.mean(1, keepdim=True), stds.mean(1, keepdim=True)
    elif channels != means.shape[1]:
        raise InvalidInputError(
            f"Images {tuple(images.shape)} cannot be drawn with a mean of {len(mean)} channels; "
            "pass pictures to draw on to overlay, grid or save: images=[...]."
        )
    pixels = images.detach().float().cpu() * stds + means
    # Round and clip before uint8, because values above 1 would wrap around.
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).numpy()
