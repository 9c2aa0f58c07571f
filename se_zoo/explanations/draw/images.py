"""Overlays: maps drawn over the pictures that they explain."""

from typing import TYPE_CHECKING, List, Optional, Tuple, Union

import numpy as np

from ...errors import InvalidInputError
from ..maps import upsample
from .canvases import Canvas, canvases, to_pixels
from .colours import ALPHA, paint

if TYPE_CHECKING:
    from ..explanation import Explanation, Pictures


def overlay(
    explanation: "Explanation",
    images: "Optional[Pictures]" = None,
    alpha: float = ALPHA,
    cmap: Optional[str] = None,
) -> Union[np.ndarray, List[np.ndarray]]:
    """Draw maps over their images; see :meth:`Explanation.overlay`."""
    check_alpha(alpha)
    if explanation.is_clip:
        return clip_overlay(explanation, to_pixels(explanation, images), alpha, cmap)
    places = canvases(explanation, images)
    evidence = explanation.evidence.cpu().numpy()
    drawn = [
        paint_on(places[image], evidence[n], alpha, cmap, explanation.signed)
        for n, image in enumerate(explanation.image_index.tolist())
    ]
    return np.stack(drawn) if len({one.shape for one in drawn}) == 1 else drawn


def paint_on(
    canvas: Canvas, evidence: np.ndarray, alpha: float, cmap: Optional[str], signed: bool
) -> np.ndarray:
    """Draw one map (h, w) on a canvas, (H, W, 3) uint8."""
    placed, seen = canvas.place(evidence)
    return paint(canvas.pixels, placed, alpha, cmap, signed, seen)


def clip_overlay(
    explanation: "Explanation", pixels: np.ndarray, alpha: float, cmap: Optional[str]
) -> np.ndarray:
    """Draw the maps of clips over frames (B, T, H, W, 3), (N, T, H, W, 3) uint8."""
    heat, size = explanation.evidence, tuple(pixels.shape[1:-1])
    if tuple(heat.shape[1:]) != size:
        _check_frames(explanation, size)
        heat = upsample(heat, size).clamp(float(heat.min()), float(heat.max()))
    evidence, rows = heat.cpu().numpy(), explanation.image_index.tolist()
    drawn = [
        paint(pixels[clip], evidence[n], alpha, cmap, explanation.signed)
        for n, clip in enumerate(rows)
    ]
    return np.stack(drawn)


def _check_frames(explanation: "Explanation", size: Tuple[int, ...]) -> None:
    frames, height, width = explanation.heatmap.shape[-3:]
    if size[0] != frames:  # stretched over time, a map would lie on frames that it is not of
        raise InvalidInputError(
            f"Clips to draw on must have the frames that the model saw, {frames}; they have "
            f"{size[0]}."
        )
    if abs(size[-1] / size[-2] / (width / height) - 1) > 0.02 + 1 / min(size[-2:]):
        raise InvalidInputError(
            f"Images to draw on must show what the model saw, {width} x {height} pixels or larger "
            f"with the same aspect; the frames are {size[-1]} x {size[-2]}."
        )


def check_alpha(alpha: float) -> None:
    """Refuse an opacity outside of [0, 1]."""
    if not 0 <= alpha <= 1:
        raise InvalidInputError(f"alpha must be in [0, 1], not {alpha}.")
