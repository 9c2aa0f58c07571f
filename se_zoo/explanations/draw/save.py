"""Grids of explanations, and their files: PNG or MP4, and JSON."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from ...errors import InvalidInputError
from ...files import replacing
from .clips import side_by_side, strip_lines, write_video
from .images import draw_tiles, overlay, to_pixels

if TYPE_CHECKING:
    from ..explanation import Explanation, Pictures


def grid(
    explanation: "Explanation",
    images: "Optional[Pictures]" = None,
    alpha: float = 0.6,
    cmap: Optional[str] = None,
) -> Image.Image:
    """Draw each image and its overlays side by side; see :meth:`Explanation.grid`."""
    return draw_tiles(_lines(explanation, images, alpha, cmap))


def _lines(
    explanation: "Explanation",
    images: "Optional[Pictures]" = None,
    alpha: float = 0.6,
    cmap: Optional[str] = None,
) -> List[List[Tuple[np.ndarray, str]]]:
    """Return the captioned tiles of :func:`grid`, line by line."""
    pixels = to_pixels(explanation, images)
    if explanation.is_clip:
        return strip_lines(explanation, pixels, alpha, cmap)
    overlays = overlay(explanation, pixels, alpha, cmap)
    titles = explanation.titles()
    rows = explanation.image_index.tolist()
    lines: List[List[Tuple[np.ndarray, str]]] = []
    for i in range(len(explanation)):
        tiles = [(overlays[n], titles[n]) for n, image in enumerate(rows) if image == i]
        lines.append([(pixels[i], "image"), *tiles])
    return lines


def save(
    explanation: "Explanation",
    path: Union[str, "os.PathLike[str]"],
    images: "Optional[Pictures]" = None,
    facts: Optional[Dict[str, Any]] = None,
    fps: float = 25.0,
    alpha: float = 0.6,
    cmap: Optional[str] = None,
) -> None:
    """Write the picture or video and the JSON beside it; see :meth:`Explanation.save`."""
    known = (".png", ".mp4") if explanation.is_clip else (".png",)
    target = _checked(path, known)
    content = {**(facts or {}), **explanation.to_dict()}

    def draw(file: Path) -> None:
        if target.suffix.lower() == ".mp4":
            write_video(file, side_by_side(explanation, images, alpha, cmap), fps)
        else:
            grid(explanation, images, alpha, cmap).save(file, "PNG")

    _write_both(target, draw, content)


def save_together(
    path: Union[str, "os.PathLike[str]"],
    parts: Sequence[Tuple["Explanation", "Optional[Pictures]", Dict[str, Any]]],
    facts: Optional[Dict[str, Any]] = None,
    alpha: float = 0.6,
    cmap: Optional[str] = None,
) -> None:
    """Write several explanations as one PNG, and one JSON beside it.

    The grids stand below each other; the JSON has an entry of ``parts`` for each. Both files are
    written, or neither.

    Args:
        path: Picture to write, ``.png``.
        parts: Each explanation, the pictures to draw it on, and further entries of its JSON.
        facts: Further entries of the whole JSON.
        alpha: Opacity of the strongest spots, in [0, 1].
        cmap: Name of a matplotlib colour map, as in :meth:`Explanation.overlay`.

    Raises:
        InvalidInputError: If the path has another ending, or its folder does not exist.
    """
    target = _checked(path, (".png",))
    entries = [{**own, **explanation.to_dict()} for explanation, _, own in parts]

    def draw(file: Path) -> None:
        lines = [_lines(explanation, images, alpha, cmap) for explanation, images, _ in parts]
        draw_tiles([line for part in lines for line in part]).save(file, "PNG")

    _write_both(target, draw, {**(facts or {}), "parts": entries})


def _checked(path: Union[str, "os.PathLike[str]"], known: Tuple[str, ...]) -> Path:
    """Return the path if a picture, and a JSON file beside it, can be written there."""
    target = Path(path)
    if target.suffix.lower() not in known:
        raise InvalidInputError(
            f"Explanations are saved as {' or '.join(known)} (and a .json beside it), not {target}."
        )
    if not target.parent.is_dir():
        raise InvalidInputError(f"The folder {target.parent} does not exist; create it first.")
    for taken in (target, target.with_suffix(".json")):
        if taken.is_dir():
            raise InvalidInputError(f"{taken} is a folder; choose another name.")
    return target


def _write_both(target: Path, draw: Callable[[Path], None], content: Dict[str, Any]) -> None:
    """Write both files under temporary names, then rename them, so that none is half-written."""
    text = json.dumps(content, indent=1, allow_nan=False)
    # The picture is renamed first: if another program has locked it, neither file changes.
    with replacing(target.with_suffix(".json")) as written, replacing(target) as drawn:
        written.write_text(text, encoding="utf-8")
        draw(drawn)
