"""Drawings of explained clips: a strip of frames, a video, and a plot of the frame weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Sequence

import numpy as np
from PIL import Image

from ...errors import InvalidInputError
from .canvases import to_pixels
from .colours import ALPHA
from .images import clip_overlay
from .tiles import Tile, draw_tiles, legend_of, tile_captions, tile_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..explanation import Explanation, Pictures

#: Largest number of frames in a strip; of longer clips, evenly spaced frames are shown.
_SHOWN = 8
#: Lowest rate of a video, in frames a second: an mp4 cannot have much longer frames.
SLOWEST = 1e-4


def draw_temporal(explanation: "Explanation") -> "Figure":
    """Plot the frame weights over the frames; see :meth:`Explanation.temporal`."""
    from matplotlib.figure import Figure

    weights = explanation.frame_weights.cpu()
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    clips = explanation.image_index.tolist()
    for n, (title, line) in enumerate(zip(explanation.titles(), weights.tolist(), strict=True)):
        name = f"clip {clips[n]}, {title}" if len(explanation) > 1 else title
        axes.plot(range(len(line)), line, "o-", ms=3, label=name)
    steps = explanation.native_grid[0]
    axes.axhline(0, color="grey", lw=0.5)
    axes.set(
        xlabel="frame", ylabel="mean of the raw map",
        title=f"{explanation.method} map, {steps} time step{'' if steps == 1 else 's'}",
    )  # fmt: skip
    axes.legend(fontsize="small")
    return figure


def strip_lines(
    explanation: "Explanation",
    pixels: np.ndarray,
    alpha: float,
    cmap: Optional[str],
    names: Optional[Sequence[str]] = None,
) -> List[List[Tile]]:
    """Return the tiles of clips: for each a line of frames, then a line of overlays per map.

    A name stands above the first frame of its clip.
    """
    pixels = _enlarged(pixels)
    overlays, captions = clip_overlay(explanation, pixels, alpha, cmap), tile_captions(explanation)
    frames = pixels.shape[1]
    shown = np.unique(np.linspace(0, frames - 1, min(_SHOWN, frames)).round().astype(int))
    lines: List[List[Tile]] = []
    for clip in range(len(explanation)):
        above = [f"frame {t}" for t in shown]
        above[0] = above[0] if names is None else names[clip]
        lines.append([Tile(pixels[clip, t], text) for t, text in zip(shown, above, strict=True)])
        for n in [n for n, c in enumerate(explanation.image_index.tolist()) if c == clip]:
            first = Tile(overlays[n, shown[0]], *captions[n])
            lines.append([first, *(Tile(overlays[n, t]) for t in shown[1:])])
    return lines


def side_by_side(
    explanation: "Explanation",
    images: "Optional[Pictures]" = None,
    alpha: float = ALPHA,
    cmap: Optional[str] = None,
) -> np.ndarray:
    """Draw the frames of a video, (T, H', W', 3) uint8.

    Each clip stands in a line with its overlays to its right and captions above.
    """
    pixels = _enlarged(to_pixels(explanation, images))
    overlays, captions = clip_overlay(explanation, pixels, alpha, cmap), tile_captions(explanation)
    rows = explanation.image_index.tolist()
    legends = [legend_of(explanation, alpha, cmap)]
    frames = []
    for t in range(pixels.shape[1]):
        lines = [
            [Tile(pixels[c, t], f"frame {t}"),
             *(Tile(overlays[n, t], *captions[n]) for n, clip in enumerate(rows) if clip == c)]
            for c in range(len(explanation))
        ]  # fmt: skip
        frames.append(np.asarray(draw_tiles(lines, legends)))
    return np.stack(frames)


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """Return frames (B, T, H, W, 3) large enough for captions."""
    height, width = pixels.shape[2:4]
    size = tile_size(width, height)
    if size == (width, height):
        return pixels
    drawn = [[np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
              for frame in clip] for clip in pixels]  # fmt: skip
    return np.array(drawn)


def write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write frames (T, H, W, 3) uint8 as an H.264 video, which every browser plays.

    Raises:
        InvalidInputError: If PyAV is not installed, or ``fps`` is below SLOWEST, or 1000 or more.
    """
    try:
        import av
    except ImportError as error:
        raise InvalidInputError(
            'Writing a video needs PyAV: pip install "se_zoo[video]", or save as .png.'
        ) from error
    if not SLOWEST <= fps < 1000:
        raise InvalidInputError(f"fps must be {SLOWEST} or more, and below 1000, not {fps}.")
    from fractions import Fraction

    # A few frames spread over hours: no fraction of a small denominator is near such a rate.
    slow = fps < 1
    rate = Fraction(1 / fps if slow else fps).limit_denominator(1001)
    height, width = (size - size % 2 for size in frames.shape[1:3])  # H.264 needs even sizes
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", 1 / rate if slow else rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18"}
        stream.codec_context.thread_count = 1  # the same file on every machine
        for image in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]))
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
