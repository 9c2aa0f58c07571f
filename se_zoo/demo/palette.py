"""Measure the colours of the library's pictures, so that the page draws with the same ones."""

import inspect
from dataclasses import replace
from typing import Any, Dict, List

import numpy as np
import torch
from PIL import Image

from ..explanations import Explanation

#: Steps of the evidence from -1 to 1; an odd number, so that 0 is one of them.
STEPS = 255


def palette(model: Any) -> Dict[str, Any]:
    """Return what :meth:`Explanation.overlay` makes of each value of the evidence.

    The values are drawn on black and on white. A pixel between them, ``p`` in [0, 255], becomes
    ``black + (white - black) * p / 255``.

    Args:
        model: An image model with an SE head, in eval mode.

    Returns:
        ``black`` and ``white``, each with the red, green and blue of every step from -1 to 1 at
        full strength, and ``strength``, the default opacity of the strongest spots.
    """
    image = torch.zeros(1, *model.input_shape())
    found: Explanation = model.explain(image, target=0, method="contribution")
    ramp = torch.linspace(-1, 1, STEPS).view(1, 1, -1)
    scale = replace(found, raw=ramp, heatmap=ramp.clamp(min=0))
    colours = {}
    for name in ("black", "white"):
        drawn: np.ndarray = scale.overlay([Image.new("RGB", (STEPS, 1), name)], alpha=1.0)
        rows: List[List[int]] = drawn[0, 0].tolist()
        colours[name] = rows
    strength = inspect.signature(Explanation.overlay).parameters["alpha"].default
    return {**colours, "strength": strength}
