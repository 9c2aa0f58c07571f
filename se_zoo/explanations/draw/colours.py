"""Colours of maps: one look for all methods, legible on any photo.

A photo may have any colour, so it is drawn in grey wherever a map is drawn on it. Then colour means
evidence and nothing else. Red speaks for the label, blue against it; they differ for colour-blind
people too. Around zero nothing is drawn, so that a map that crosses zero shows no line there.
"""

from typing import Optional, Tuple

import numpy as np

#: Opacity of the strongest spots, unless another is asked for.
ALPHA = 0.75
#: Colours of weak and of strong evidence, sRGB.
FOR = (250, 140, 80), (214, 40, 25)
AGAINST = (90, 170, 250), (25, 85, 220)
#: Absolute evidence below which nothing is drawn. Maps cross zero on flat areas such as a sky.
DEAD_ZONE = 0.06
#: Darkest and brightest grey of the drawn photo, and of what the model did not see.
_GREYS = (36, 226)
_UNSEEN_GREYS = (150, 246)
#: Shares of red, green and blue in the brightness of a pixel (ITU-R BT.601).
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


def paint(
    pixels: np.ndarray,
    evidence: np.ndarray,
    alpha: float,
    cmap: Optional[str] = None,
    signed: bool = True,
    seen: Optional[np.ndarray] = None,
) -> np.ndarray:
    """Draw a map over a picture.

    Args:
        pixels: The picture, (H, W, 3) uint8.
        evidence: The map, (H, W), in [-1, 1], or in [0, 1] if it is not signed.
        alpha: Opacity of the strongest spots, in [0, 1]; 0 leaves the picture as it is.
        cmap: Name of a matplotlib colour map to use instead of red and blue.
        signed: Whether zero is the middle of that colour map.
        seen: What the model saw of the picture, (H, W) bool; the rest is drawn pale. By default
            all of it.

    Returns:
        (H, W, 3) uint8.
    """
    if alpha == 0:
        return pixels.copy()
    grey = (pixels.astype(np.float32) @ LUMA)[..., None] / 255
    base = np.broadcast_to(_between(_GREYS, grey), pixels.shape)
    if seen is not None:
        base = np.where(seen[..., None], base, _between(_UNSEEN_GREYS, grey))
    opacity = (alpha * strength(evidence))[..., None]
    drawn = base + opacity * (colours(evidence, cmap, signed) - base)
    return drawn.round().clip(0, 255).astype(np.uint8)


def strength(evidence: np.ndarray) -> np.ndarray:
    """Return the opacity of evidence as a share of the strongest: 0 around zero, then rising."""
    beyond = ((np.abs(evidence) - DEAD_ZONE) / (1 - DEAD_ZONE)).clip(0, 1)
    return beyond * (2 - beyond)  # steep at first, because most evidence is weak


def colours(evidence: np.ndarray, cmap: Optional[str] = None, signed: bool = True) -> np.ndarray:
    """Return the colour of every value of a map, (..., 3) float32 in [0, 255]."""
    if cmap is not None:
        import matplotlib

        values = (evidence + 1) / 2 if signed else evidence
        return matplotlib.colormaps[cmap](values)[..., :3].astype(np.float32) * 255
    amount = np.abs(evidence).clip(0, 1)[..., None].astype(np.float32)
    return np.where(evidence[..., None] > 0, _between(FOR, amount), _between(AGAINST, amount))


def _between(ends: Tuple, amount: np.ndarray) -> np.ndarray:
    """Return the value between two ends, numbers or colours."""
    low, high = (np.asarray(end, np.float32) for end in ends)
    return low + amount * (high - low)
