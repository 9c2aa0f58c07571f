"""Drawing explanations: overlays, grids with captions, PNG and JSON files."""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..errors import InvalidInputError
from . import clips
from .maps import upsample

if TYPE_CHECKING:
    from .result import Explanation

_CAPTION_HEIGHT = 16
_GAP = 4
#: Small inputs are enlarged in grids until they are this wide, so that captions can be read.
_MIN_TILE_WIDTH = 160


def to_pixels(explanation: "Explanation", images: Any = None) -> np.ndarray:
    """Images as (B, H, W, 3) uint8 pixels, clips as (B, T, H, W, 3); heatmaps are drawn at their
    size.

    Args:
        explanation: Gives mean, std and number of images.
        images: Normalised float tensor (B, C, H, W), uint8 array (B, H, W, 3), list of PIL
            images of one size, or None for the explained images; with a time axis T in front of H
            for clips, which are no PIL images.

    Raises:
        InvalidInputError: If number or form of the images does not fit the explanation.
    """
    images = explanation.images if images is None else images
    if isinstance(images, torch.Tensor) and images.is_floating_point():
        array = _denormalised(images, explanation.mean, explanation.std)
    elif isinstance(images, (list, tuple)):
        if not images or not all(isinstance(image, Image.Image) for image in images):
            raise InvalidInputError("A list of images to draw on holds PIL images.")
        if len({image.size for image in images}) > 1:
            raise InvalidInputError("Images to draw on must all have one size.")
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
    """Normalised images (B, C, H, W) back as uint8 pixels (B, H, W, C), with T in clips."""
    shape = (1, -1, *(1 for _ in images.shape[2:]))
    means, stds = torch.tensor(mean).view(shape), torch.tensor(std).view(shape)
    channels = images.shape[1] if images.dim() in (4, 5) else 0
    if channels == 1:  # a grey image of a model whose config still speaks of three channels
        means, stds = means.mean(1, keepdim=True), stds.mean(1, keepdim=True)
    elif channels != means.shape[1]:
        raise InvalidInputError(
            f"Images {tuple(images.shape)} cannot be drawn with a mean of {len(mean)} channels; "
            "give overlay, grid and save pictures to draw on: images=[...]."
        )
    pixels = images.detach().float().cpu() * stds + means
    # Round and clip before uint8, or 1.02 wraps around to blue.
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).numpy()


def overlay(
    explanation: "Explanation",
    images: Any = None,
    alpha: float = 0.6,
    cmap: Optional[str] = None,
) -> np.ndarray:
    """Maps over their images, (N, [T,] H, W, 3) uint8; see :meth:`Explanation.overlay`."""
    if not 0 <= alpha <= 1:
        raise InvalidInputError(f"alpha lies in [0, 1], got {alpha}.")
    pixels = to_pixels(explanation, images)[explanation.image_index.cpu().numpy()] / 255
    heat = _at_size(explanation.evidence, pixels.shape[1:-1])
    name = cmap or ("bwr" if explanation.signed else "turbo")
    colours = matplotlib.colormaps[name]((heat + 1) / 2 if explanation.signed else heat)[..., :3]
    # The opacity grows with the evidence: where there is none, one sees the photograph.
    opacity = alpha * np.abs(heat)[..., None] ** 0.75
    blended = (1 - opacity) * pixels + opacity * colours
    return (blended * 255).round().clip(0, 255).astype(np.uint8)


def _at_size(heat: torch.Tensor, size: Tuple[int, ...]) -> np.ndarray:
    """Maps at the size of the pixels they are drawn on, clipped: bicubic overshoots."""
    if tuple(heat.shape[1:]) != tuple(size):
        heat = upsample(heat, tuple(size)).clamp(float(heat.min()), float(heat.max()))
    return heat.cpu().numpy()


def grid(
    explanation: "Explanation", images: Any = None, alpha: float = 0.6, cmap: Optional[str] = None
) -> Image.Image:
    """One line per image: the image, then its overlays with captions; of a clip, one line of
    frames for the clip and one for each of its maps."""
    pixels = to_pixels(explanation, images)
    if explanation.is_clip:
        return draw_tiles(clips.strip_lines(explanation, pixels, alpha, cmap))
    overlays = overlay(explanation, pixels, alpha, cmap)
    titles = explanation.titles()
    rows = explanation.image_index.tolist()
    lines: List[List[Tuple[np.ndarray, str]]] = []
    for i in range(len(explanation)):
        tiles = [(overlays[n], titles[n]) for n, image in enumerate(rows) if image == i]
        lines.append([(pixels[i], "image"), *tiles])
    return draw_tiles(lines)


def draw_tiles(lines: List[List[Tuple[np.ndarray, str]]]) -> Image.Image:
    """Pictures of one size in lines, each with its caption."""
    height, width = lines[0][0][0].shape[:2]
    zoom = max(1, -(-_MIN_TILE_WIDTH // width))
    height, width = height * zoom, width * zoom
    columns = max(len(line) for line in lines)
    step_x, step_y = width + _GAP, height + _CAPTION_HEIGHT + _GAP
    canvas = Image.new("RGB", (columns * step_x - _GAP, len(lines) * step_y - _GAP), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default()
    for y, line in enumerate(lines):
        for x, (tile, title) in enumerate(line):
            picture = Image.fromarray(tile).resize((width, height), Image.Resampling.BICUBIC)
            canvas.paste(picture, (x * step_x, y * step_y + _CAPTION_HEIGHT))
            draw.text((x * step_x + 2, y * step_y + 2), _fit(title, width, font), "black", font)
    return canvas


def _fit(title: str, width: int, font: Any) -> str:
    """The title, shortened in its middle to the tile's width: what ends it is the probability."""
    if font.getlength(title) <= width:
        return title
    head, _, tail = title.rpartition(" ")
    while head and font.getlength(f"{head}... {tail}") > width:
        head = head[:-1]
    return f"{head}... {tail}"


def save(
    explanation: "Explanation",
    path: Union[str, os.PathLike],
    images: Any = None,
    facts: Optional[Dict[str, Any]] = None,
    fps: float = 25.0,
) -> None:
    """Both files under temporary names first, so that a failure leaves nothing half-written."""
    target = Path(path)
    suffix = target.suffix.lower()
    known = (".png", ".mp4") if explanation.is_clip else (".png",)
    if suffix not in known:
        raise InvalidInputError(
            f"Explanations are saved as {' or '.join(known)} (plus a .json beside), not {target}."
        )
    if not target.parent.is_dir():
        raise InvalidInputError(f"The folder {target.parent} does not exist; create it first.")
    for taken in (target, target.with_suffix(".json")):
        if taken.is_dir():
            raise InvalidInputError(f"{taken} is a folder.")
    content = {**(facts or {}), **explanation.to_dict()}
    text = json.dumps(content, indent=1, allow_nan=False)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        drawn = Path(folder) / f"grid{suffix}"
        if suffix == ".mp4":
            clips.write_video(drawn, clips.side_by_side(explanation, images), fps)
        else:
            grid(explanation, images).save(drawn)
        (Path(folder) / "grid.json").write_text(text, encoding="utf-8")
        # The picture first: it is the one that another program may hold, and then neither changes.
        os.replace(drawn, target)
        os.replace(Path(folder) / "grid.json", target.with_suffix(".json"))
