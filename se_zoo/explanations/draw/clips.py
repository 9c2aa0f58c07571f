"""Drawings of explained clips: a strip of frames, a video, and a plot of the frame weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

import numpy as np

from ...errors import InvalidInputError
from .images import draw_tiles, overlay, to_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..explanation import Explanation, Pictures

#: Largest number of frames in a strip; of longer clips, evenly spaced frames are shown.
_SHOWN = 8


def draw_temporal(explanation: "Explanation") -> "Figure":
    """Plot the frame weights over the frames; see :meth:`Explanation.temporal`."""
    from matplotlib.figure import Figure

    weights = explanation.frame_weights.cpu()
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    clips = explanation.image_index.tolist()
    for n, (title, line) in enumerate(zip(explanation.titles(), weights.tolist(), strict=True)):
        name = f"clip {clips[n]}: {title}" if len(explanation) > 1 else title
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
    explanation: "Explanation", pixels: np.ndarray, alpha: float, cmap: Optional[str]
) -> List[List[Tuple[np.ndarray, str]]]:
    """Return the tiles of clips: for each a line of frames, then a line of overlays per map."""
    overlays, titles = overlay(explanation, pixels, alpha, cmap), explanation.titles()
    frames = pixels.shape[1]
    shown = np.unique(np.linspace(0, frames - 1, min(_SHOWN, frames)).round().astype(int))
    lines: List[List[Tuple[np.ndarray, str]]] = []
    for clip in range(len(explanation)):
        lines.append([(pixels[clip, t], f"frame {t}") for t in shown])
        for n in [n for n, c in enumerate(explanation.image_index.tolist()) if c == clip]:
            captions = [titles[n], *("" for _ in shown[1:])]
            drawn = zip(shown, captions, strict=True)
            lines.append([(overlays[n, t], caption) for t, caption in drawn])
    return lines


def side_by_side(
    explanation: "Explanation",
    images: "Optional[Pictures]" = None,
    alpha: float = 0.6,
    cmap: Optional[str] = None,
) -> np.ndarray:
    """Draw the frames of a video, (T, H', W', 3) uint8.

    Each clip stands in a line with its overlays to its right and captions above.
    """
    pixels = to_pixels(explanation, images)
    overlays, titles = overlay(explanation, pixels, alpha, cmap), explanation.titles()
    rows = explanation.image_index.tolist()
    frames = []
    for t in range(pixels.shape[1]):
        lines = [
            [(pixels[c, t], f"frame {t}"),
             *((overlays[n, t], titles[n]) for n, clip in enumerate(rows) if clip == c)]
            for c in range(len(explanation))
        ]  # fmt: skip
        frames.append(np.asarray(draw_tiles(lines)))
    return np.stack(frames)


def write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write frames (T, H, W, 3) uint8 as an H.264 video, which every browser plays.

    Raises:
        InvalidInputError: If PyAV is not installed, or ``fps`` is not between 0 and 1000.
    """
    try:
        import av
    except ImportError as error:
        raise InvalidInputError(
            'Writing a video needs PyAV: pip install "se_zoo[video]", or save as .png.'
        ) from error
    if not 0 < fps < 1000:
        raise InvalidInputError(f"fps must be above 0 and below 1000, not {fps}.")
    from fractions import Fraction

    height, width = (size - size % 2 for size in frames.shape[1:3])  # H.264 needs even sizes
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18"}
        stream.codec_context.thread_count = 1  # the same file on every machine
        for image in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]))
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
