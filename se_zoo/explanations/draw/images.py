"""Overlays of images, and pictures put together from them."""

from typing import TYPE_CHECKING, List, Optional, Tuple, Union

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ...errors import InvalidInputError
from ..maps import upsample

if TYPE_CHECKING:
    from ..explanation import Explanation, Pictures

_CAPTION_HEIGHT = 16
_GAP = 4
#: Smallest width of a tile: small inputs are enlarged, so that captions can be read.
_MIN_TILE_WIDTH = 160


def to_pixels(explanation: "Explanation", images: "Optional[Pictures]" = None) -> np.ndarray:
    """Return the pixels to draw on; heatmaps are resized to them.

    Args:
        explanation: Gives mean, std and number of images.
        images: As in :meth:`Explanation.overlay`, but no PIL images for clips.

    Returns:
        (B, H, W, 3) uint8, for clips (B, T, H, W, 3).

    Raises:
        InvalidInputError: If number or form of the images does not fit the explanation.
    """
    images = explanation.images if images is None else images
    if isinstance(images, torch.Tensor) and images.is_floating_point():
        array = _denormalised(images, explanation.mean, explanation.std)
    elif isinstance(images, (list, tuple)):
        if not images or not all(isinstance(image, Image.Image) for image in images):
            raise InvalidInputError("A list of images to draw on must hold PIL images only.")
        if len({image.size for image in images}) > 1:
            raise InvalidInputError("Images to draw on must all have the same size.")
        array = np.stack([np.asarray(image.convert("RGB")) for image in images])
    else:
        array = np.asarray(images)
    if array.shape[-1:] == (1,):
        array = np.repeat(array, 3, axis=-1)
    clip = explanation.heatmap.shape[1:2] if explanation.is_clip else ()
    fits = array.ndim == 4 + len(clip) and array.shape[0] == len(explanation)
    if not fits or array.shape[-1] != 3 or array.dtype != np.uint8:
        wanted = ", ".join(map(str, (len(explanation), *("T" for _ in clip), "H", "W", 3)))
        raise InvalidInputError(
            f"Images to draw on must be uint8 ({wanted}), a float tensor or PIL images; got "
            f"{array.dtype} {array.shape}."
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


def overlay(
    explanation: "Explanation",
    images: "Optional[Pictures]" = None,
    alpha: float = 0.6,
    cmap: Optional[str] = None,
) -> np.ndarray:
    """Draw maps over their images, (N, [T,] H, W, 3) uint8; see :meth:`Explanation.overlay`."""
    if not 0 <= alpha <= 1:
        raise InvalidInputError(f"alpha must be in [0, 1], not {alpha}.")
    pixels = to_pixels(explanation, images)[explanation.image_index.cpu().numpy()] / 255
    heat = _at_size(explanation.evidence, pixels.shape[1:-1])
    name = cmap or ("bwr" if explanation.signed else "turbo")
    colours = matplotlib.colormaps[name]((heat + 1) / 2 if explanation.signed else heat)[..., :3]
    # The opacity grows with the evidence, so the photograph shows where there is none.
    opacity = alpha * np.abs(heat)[..., None] ** 0.75
    blended = (1 - opacity) * pixels + opacity * colours
    return (blended * 255).round().clip(0, 255).astype(np.uint8)


def _at_size(heat: torch.Tensor, size: Tuple[int, ...]) -> np.ndarray:
    """Resize maps to the pixels that they are drawn on, clipped because bicubic overshoots."""
    if tuple(heat.shape[1:]) != tuple(size):
        heat = upsample(heat, tuple(size)).clamp(float(heat.min()), float(heat.max()))
    return heat.cpu().numpy()


def draw_tiles(lines: List[List[Tuple[np.ndarray, str]]]) -> Image.Image:
    """Arrange captioned pictures in lines; those of one line have the same size."""
    sizes = [_tile_size(line[0][0]) for line in lines]
    right = max(len(line) * (size[0] + _GAP) for line, size in zip(lines, sizes, strict=True))
    bottom = sum(height + _CAPTION_HEIGHT + _GAP for _, height in sizes)
    canvas = Image.new("RGB", (right - _GAP, bottom - _GAP), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default()
    top = 0
    for line, (width, height) in zip(lines, sizes, strict=True):
        for n, (tile, title) in enumerate(line):
            left = n * (width + _GAP)
            picture = Image.fromarray(tile).resize((width, height), Image.Resampling.BICUBIC)
            canvas.paste(picture, (left, top + _CAPTION_HEIGHT))
            draw.text((left + 2, top + 2), _fit(title, width, font), "black", font)
        top += height + _CAPTION_HEIGHT + _GAP
    return canvas


def _tile_size(tile: np.ndarray) -> Tuple[int, int]:
    """Return the width and height at which a picture is drawn."""
    height, width = tile.shape[:2]
    zoom = max(1, -(-_MIN_TILE_WIDTH // width))
    return width * zoom, height * zoom


def _fit(title: str, width: int, font: Union[ImageFont.FreeTypeFont, ImageFont.ImageFont]) -> str:
    """Shorten a title to a width in pixels; its last word, the probability, is kept."""
    if font.getlength(title) <= width:
        return title
    head, _, tail = title.rpartition(" ")
    while head and font.getlength(f"{head}... {tail}") > width:
        head = head[:-1]
    return f"{head}... {tail}"
