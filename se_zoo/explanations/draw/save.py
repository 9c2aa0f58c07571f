"""Grids of explanations, and their files: PNG or MP4, and JSON."""

import io
import json
import os
import sys
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image, ImageDraw

from ...errors import InvalidInputError
from ...files import replacing
from .canvases import Canvas, canvases, close_up, to_pixels
from .clips import side_by_side, strip_lines, write_video
from .colours import ALPHA
from .images import check_alpha, paint_on
from .tiles import (
    LARGEST_TILE,
    Legend,
    Tile,
    draw_tiles,
    largest_side,
    legend_of,
    tile_captions,
    tile_size,
)

if TYPE_CHECKING:
    from ..explanation import Explanation, Pictures

#: Maps that stand beside a photo; further ones stand in lines below.
_MAPS = 6
#: Largest side of a tile in a notebook.
_NOTEBOOK_TILE = 400


def grid(
    explanation: "Explanation",
    images: "Optional[Pictures]" = None,
    alpha: float = ALPHA,
    cmap: Optional[str] = None,
    names: Optional[Sequence[str]] = None,
    largest: int = LARGEST_TILE,
) -> Image.Image:
    """Draw each image and its overlays side by side; see :meth:`Explanation.grid`."""
    lines, legend = _lines(explanation, images, alpha, cmap, names, largest)
    return draw_tiles(lines, [legend])


def _lines(
    explanation: "Explanation",
    images: "Optional[Pictures]" = None,
    alpha: float = ALPHA,
    cmap: Optional[str] = None,
    names: Optional[Sequence[str]] = None,
    largest: int = LARGEST_TILE,
) -> Tuple[List[List[Tile]], Legend]:
    """Return the captioned tiles of :func:`grid`, line by line, and the legend."""
    check_alpha(alpha)
    if explanation.is_clip:
        names = None if names is None else _names(explanation, names)
        lines = strip_lines(explanation, to_pixels(explanation, images), alpha, cmap, names)
        return lines, legend_of(explanation, alpha, cmap)
    names = _names(explanation, names)
    places, rows = canvases(explanation, images), explanation.image_index.tolist()
    evidence, captions = explanation.evidence.cpu().numpy(), tile_captions(explanation)
    largest = min(largest, largest_side(len(rows) + len(places)))
    lines, pale = [], False
    for i, canvas in enumerate(places):
        photo = None if explanation.photos is None or images is not None else explanation.photos[i]
        face = None if photo is None else close_up(photo)
        drawn = _fitted(canvas if face is None else face, largest)
        first = drawn.pixels if face is None else _framed(canvas, drawn.pixels.shape[0])
        maps = [
            Tile(paint_on(drawn, evidence[n], alpha, cmap, explanation.signed), *captions[n])
            for n, image in enumerate(rows)
            if image == i
        ]
        heads = [Tile(first, names[i])] + [Tile(np.full_like(first, 255))] * (len(maps) // _MAPS)
        starts = range(0, max(len(maps), 1), _MAPS)
        lines += [[heads[k], *maps[at : at + _MAPS]] for k, at in enumerate(starts)]
        pale = pale or drawn.place(evidence[0])[1] is not None
    return lines, legend_of(explanation, alpha, cmap, pale)


def _names(explanation: "Explanation", names: Optional[Sequence[str]]) -> Sequence[str]:
    """Return the caption of each image: as given, the photo's name, or its number."""
    if names is not None and len(names) != len(explanation):
        raise InvalidInputError(f"{len(names)} names for {len(explanation)} images.")
    if names is not None:
        return names
    if explanation.photos is not None:
        return [photo.name for photo in explanation.photos]
    return ["image"] if len(explanation) == 1 else [f"image {i}" for i in range(len(explanation))]


def _fitted(canvas: Canvas, largest: int) -> Canvas:
    height, width = canvas.pixels.shape[:2]
    return canvas.resized(*tile_size(width, height, largest))


def _framed(canvas: Canvas, height: int) -> np.ndarray:
    """Return a photo at some height in pixels, with a frame around what the model saw of it."""
    wide = max(1, round(canvas.pixels.shape[1] * height / canvas.pixels.shape[0]))
    small = canvas.resized(wide, height)
    image = Image.fromarray(small.pixels)
    for grow, colour in ((1, "black"), (0, "white")):
        x0, y0, x1, y1 = small.region
        box = (x0 - grow, y0 - grow, x1 - 1 + grow, y1 - 1 + grow)
        ImageDraw.Draw(image).rectangle(box, outline=colour, width=2)
    return np.asarray(image)


def save(
    explanation: "Explanation",
    path: Union[str, "os.PathLike[str]"],
    images: "Optional[Pictures]" = None,
    facts: Optional[Dict[str, Any]] = None,
    fps: float = 25.0,
    alpha: float = ALPHA,
    cmap: Optional[str] = None,
    names: Optional[Sequence[str]] = None,
) -> None:
    """Write the picture or video and the JSON beside it; see :meth:`Explanation.save`."""
    known = (".png", ".mp4") if explanation.is_clip else (".png",)
    target = _checked(path, known)
    content = {**(facts or {}), **explanation.to_dict()}

    def draw(file: Path) -> None:
        if target.suffix.lower() == ".mp4":
            write_video(file, side_by_side(explanation, images, alpha, cmap), fps)
        else:
            grid(explanation, images, alpha, cmap, names).save(file, "PNG")

    _write_both(target, draw, content)


def show(explanation: "Explanation") -> None:
    """Show the grid in a notebook or a window; see :meth:`Explanation.show`."""
    picture = grid(explanation)
    # A notebook has imported IPython; nobody else needs it.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        picture.show()
        return
    from IPython.display import display

    display(explanation)


def as_png(explanation: "Explanation") -> Optional[bytes]:
    """Return the grid as a PNG of a size for notebooks; None if there are no pixels."""
    photos = explanation.photos
    kept = explanation.images.numel() if photos is None else photos[0].picture is not None
    if not kept:
        return None
    file = io.BytesIO()
    grid(explanation, largest=_NOTEBOOK_TILE).save(file, "PNG")
    return file.getvalue()


def save_together(
    path: Union[str, "os.PathLike[str]"],
    parts: Sequence[Tuple["Explanation", "Optional[Pictures]", Dict[str, Any]]],
    facts: Optional[Dict[str, Any]] = None,
    alpha: float = ALPHA,
    cmap: Optional[str] = None,
    headings: Sequence[str] = (),
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
        headings: A text above each explanation's pictures; by default none.

    Raises:
        InvalidInputError: If the path has another ending, or its folder does not exist.
    """
    target = _checked(path, (".png",))
    entries = [{**own, **explanation.to_dict()} for explanation, _, own in parts]

    def draw(file: Path) -> None:
        drawn = [_lines(explanation, images, alpha, cmap) for explanation, images, _ in parts]
        legends: Dict[Legend, Legend] = {}
        for _, legend in drawn:  # of two that differ in a further note, the longer one says all
            kept = legends.setdefault(legend._replace(notes=legend.notes[:1]), legend)
            if len(legend.notes) > len(kept.notes):
                legends[legend._replace(notes=legend.notes[:1])] = legend
        lines = [line for lines, _ in drawn for line in lines]
        firsts = accumulate([0, *(len(lines) for lines, _ in drawn)])  # line of each explanation
        above = dict(zip(firsts, headings, strict=False))
        draw_tiles(lines, list(legends.values()), above).save(file, "PNG")

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
