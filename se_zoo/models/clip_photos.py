"""Frames of a video for a clip model: cut and normalised as its config says, and explained."""

from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from ..explain import Explanation
from .clip_config import resolve_clip_config
from .clip_transforms import Views, as_frames
from .photos import DRAWN_WIDTH, visible_region


def explain_frames(
    model: Any,
    frames: np.ndarray,
    targets: Optional[Sequence[Union[int, str]]] = None,
    method: Optional[str] = None,
    versus: Union[int, str, None] = None,
) -> Tuple[Explanation, np.ndarray]:
    """Explain one clip.

    Args:
        model: A clip model in eval mode.
        frames: (T, H, W, 3) uint8, of any size.
        targets: Labels or class indices; by default what the model predicts.
        method: Which map; see :func:`se_zoo.explain`.
        versus: The other class of a difference map.

    Returns:
        The explanation, and what the model saw, (1, T, H', W', 3) uint8, large enough to draw on.

    Raises:
        InvalidInputError: If it is no clip model, or does not take such a clip.
    """
    config = resolve_clip_config(model)
    cut = [visible_region(Image.fromarray(f), config.size, config.crop_pct, "center")
           for f in frames]  # fmt: skip
    height, width = config.size
    clip = Views(config)(as_frames(frames))  # as recipes score it
    explanation = model.explain(
        clip, None if targets is None else list(targets), method, versus=versus
    )
    zoom = max(1, -(-DRAWN_WIDTH // width))
    size = (width * zoom, height * zoom)
    drawn: List[np.ndarray] = [np.asarray(f.resize(size, Image.Resampling.LANCZOS)) for f in cut]
    return explanation, np.stack(drawn)[None]
