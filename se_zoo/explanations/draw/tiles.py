"""Captioned pictures in lines, with a legend below."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...text import printable
from .colours import paint

if TYPE_CHECKING:
    from ..explanation import Explanation

#: Largest side of a picture in a grid, and the number of pixels that all of them may have together.
LARGEST_TILE = 1024
_MOST_PIXELS = 16_000_000
#: Smallest width of a tile: small inputs are enlarged, so that captions can be read.
_MIN_TILE_WIDTH = 160
#: Sizes in pixels at tiles of up to 400 pixels; captions of larger ones grow with them.
_CAPTION_HEIGHT = 20
_GAP = 6
_FONT_SIZE = 12
_BAR = (120, 12)
_LARGE_TILE = 400


class Tile(NamedTuple):
    """A picture and its caption."""

    pixels: np.ndarray  # (H, W, 3) uint8
    caption: str = ""
    value: str = ""  # at the right end of the caption


class Legend(NamedTuple):
    """What the colours of a map mean."""

    low: str
    high: str
    notes: Tuple[str, ...]
    signed: bool
    alpha: float
    cmap: Optional[str]

    def bar(self, zoom: float = 1.0) -> np.ndarray:
        """Return the colours from the lowest to the highest value on grey, (H, W, 3) uint8."""
        width, height = (round(side * zoom) for side in _BAR)
        ramp = np.linspace(-1 if self.signed else 0, 1, width, dtype=np.float32)
        grey = np.full((height, width, 3), 128, np.uint8)
        return paint(grey, np.tile(ramp, (height, 1)), self.alpha, self.cmap, self.signed)


def legend_of(
    explanation: "Explanation", alpha: float, cmap: Optional[str], pale: bool = False
) -> Legend:
    """Return the legend of an explanation's maps.

    Args:
        explanation: The explanation.
        alpha: Opacity of the strongest spots.
        cmap: Name of a matplotlib colour map, or None for the usual colours.
        pale: Whether a picture shows something that the model did not see.
    """
    low, high = {
        "contribution": ("against the label", "for the label"),
        "affinity": ("against the label", "for the label"),
        "rivals": ("for other labels", "for the label"),
        "difference": ("for the other label", "for the label"),
        "support": ("no support", "support for the label"),
    }.get(explanation.method, ("weak", "strong"))
    if explanation.normalize == "image":
        scale = "full colour: the strongest spot of each map"
    else:
        scale = f"full colour: {explanation.normalize:g} in the raw map"
    notes = (scale, "pale: not seen by the model") if pale else (scale,)
    return Legend(low, high, notes, explanation.signed, alpha, cmap)


def tile_captions(explanation: "Explanation") -> List[Tuple[str, str]]:
    """Return the caption and the value of each row's tile; an empty map is named as such.

    The note stands with the value, which is never shortened. A signed map without evidence for its
    label may still be blue.
    """
    captions = explanation.captions()
    if not any(explanation.empty):
        return captions
    blue = (explanation.evidence.flatten(1).amin(1) < 0).tolist()
    notes = [
        ("nothing for it" if against else "empty map") if empty else ""
        for empty, against in zip(explanation.empty, blue, strict=True)
    ]
    return [
        (name, ", ".join(filter(None, (note, value))))
        for (name, value), note in zip(captions, notes, strict=True)
    ]


def tile_size(width: int, height: int, largest: int = LARGEST_TILE) -> Tuple[int, int]:
    """Return the width and height at which a picture is drawn in a grid."""
    zoom = min(largest / max(width, height), max(1, -(-_MIN_TILE_WIDTH // width)))
    return max(1, round(width * zoom)), max(1, round(height * zoom))


def largest_side(tiles: int) -> int:
    """Return the largest side of each of so many tiles, so that they fit into memory together."""
    return max(_MIN_TILE_WIDTH, min(LARGEST_TILE, int((_MOST_PIXELS / max(tiles, 1)) ** 0.5)))


def draw_tiles(
    lines: Sequence[Sequence[Tile]],
    legends: Sequence[Legend] = (),
    headings: Optional[Mapping[int, str]] = None,
) -> Image.Image:
    """Arrange captioned pictures in lines, and legends below them.

    Args:
        lines: The pictures of each line.
        legends: What the colours mean.
        headings: Texts that stand above lines, by the number of the line.
    """
    above = headings or {}
    cells = [[max(tile.pixels.shape[1], _MIN_TILE_WIDTH) for tile in line] for line in lines]
    zoom = min(max(max(map(max, cells)) / _LARGE_TILE, 1.0), 2.0)
    caption = round(_CAPTION_HEIGHT * zoom)
    heights = [
        max(tile.pixels.shape[0] for tile in line) + caption * (1 + (number in above))
        for number, line in enumerate(lines)
    ]
    right = max(sum(widths) + _GAP * (len(widths) - 1) for widths in cells)
    bottom = sum(heights) + _GAP * (len(heights) - 1)
    rows = [row for legend in legends for row in _rows_of(legend, right, zoom)]
    canvas = Image.new(
        "RGB", (right, bottom + (_GAP + caption * len(rows) if rows else 0)), "white"
    )
    draw = ImageDraw.Draw(canvas)
    top = 0
    for number, (line, widths, height) in enumerate(zip(lines, cells, heights, strict=True)):
        left, bottom = 0, top + height
        if number in above:
            text = fit(above[number], right - 6, zoom, bold=True)
            draw.text((3, top + 2), text, "black", font(zoom, bold=True))
            top += caption
        for tile, width in zip(line, widths, strict=True):
            canvas.paste(Image.fromarray(tile.pixels), (left, top + caption))
            _caption(draw, tile, (left, top, width), zoom)
            left += width + _GAP
        top = bottom + _GAP
    for row in rows:
        for x, item in row:
            if isinstance(item, str):
                draw.text((x, top + 2), item, "black", font(zoom))
            else:
                canvas.paste(Image.fromarray(item), (x, top + round(3 * zoom)))
        top += caption
    return canvas


def _caption(draw: Any, tile: Tile, place: Tuple[int, int, int], zoom: float) -> None:
    """Write a caption: its text at the left, the value at the right end."""
    left, top, width = place
    bold = font(zoom, bold=True)
    taken = bold.getlength(tile.value) + 10 if tile.value else 0
    text = fit(tile.caption, width - taken - 4, zoom)
    draw.text((left + 3, top + 2), text, "black", font(zoom))
    if tile.value:
        draw.text((left + width - taken + 6, top + 2), tile.value, "black", bold)


def fit(text: str, width: float, zoom: float = 1.0, bold: bool = False) -> str:
    """Shorten a text in its middle to a width in pixels: both ends of a file's name tell it.

    Control characters are escaped, and bytes of names that are not UTF-8, which no font can draw.
    """
    text = printable(text)
    if font(zoom, bold).getlength(text) <= width:
        return text
    kept = len(text)
    while kept > 0:
        kept -= 1
        short = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
        if font(zoom, bold).getlength(short) <= width:
            return short
    return ""


def _rows_of(legend: Legend, width: int, zoom: float) -> List[List[Tuple[int, Any]]]:
    """Return texts and the colour bar of a legend in rows, each with its place from the left."""
    notes = (fit(f"·  {note}", width - 3, zoom) for note in legend.notes)
    rows: List[List[Tuple[int, Any]]] = [[]]
    x = 3
    for item in (legend.low, legend.bar(zoom), legend.high, *notes):
        wide = int(font(zoom).getlength(item)) + 1 if isinstance(item, str) else item.shape[1]
        if rows[-1] and x + wide > width:
            rows.append([])
            x = 3
        rows[-1].append((x, item))
        x += wide + round(10 * zoom)
    return rows


def font(zoom: float = 1.0, bold: bool = False) -> Any:
    """Return the font of captions: DejaVu, which comes with matplotlib and has most alphabets."""
    return _font(round(_FONT_SIZE * zoom), bold)


@cache
def _font(size: int, bold: bool) -> Any:
    """Return the font of a size in pixels; zooms are any numbers, and sizes only a few."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(file), size)
