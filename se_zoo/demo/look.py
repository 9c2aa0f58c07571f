"""Measure how the library draws maps, so that the page draws them in the same way."""

import inspect
import math
from dataclasses import replace
from typing import Any, Dict, List

import numpy as np
import torch
from PIL import Image

from ..explanations import Explanation
from ..explanations.draw.colours import LUMA

#: Steps of the evidence from -1 to 1; an odd number, so that 0 is one of them.
STEPS = 255


def look(model: Any) -> Dict[str, Any]:
    """Return colours and geometry of a model's pictures.

    Args:
        model: An image model with an SE head and exact contribution maps, in eval mode.

    Returns:
        ``black`` and ``white``: red, green and blue of each of :data:`STEPS` values of the evidence
        from -1 to 1, drawn on black and on white at full strength. A pixel of brightness ``p`` in
        [0, 255] becomes ``black + (white - black) * p / 255``. ``luma``: shares of red, green and
        blue in the brightness. ``strength``: the default opacity of the strongest spots. ``rows``
        (H, grid rows) and ``columns`` (W, grid columns): a raw map ``m`` becomes
        ``rows @ m @ columns.T`` at the size of the input.
    """
    image = torch.zeros(1, *model.input_shape())
    found: Explanation = model.explain(image, target=0, method="contribution")
    return {**_colours(found), **_geometry(found)}


def _colours(found: Explanation) -> Dict[str, Any]:
    """Draw a map that holds all values from -1 to 1, and look its colours up."""
    ramp = torch.linspace(-1, 1, math.prod(found.native_grid)).view(1, *found.native_grid)
    drawn = replace(found, raw=ramp)
    values = drawn.evidence[0].flatten().numpy()
    steps = np.linspace(-1, 1, STEPS)
    nearest = [int(np.abs(values - step).argmin()) for step in steps]
    height, width = drawn.heatmap.shape[1:]
    colours: Dict[str, Any] = {}
    for name in ("black", "white"):
        overlay = np.asarray(drawn.overlay([Image.new("RGB", (width, height), name)], alpha=1.0)[0])
        rows: List[List[int]] = overlay.reshape(-1, 3)[nearest].tolist()
        colours[name] = rows
    colours["luma"] = [round(float(share), 6) for share in LUMA]
    colours["strength"] = inspect.signature(Explanation.overlay).parameters["alpha"].default
    return colours


def _geometry(found: Explanation) -> Dict[str, Any]:
    """Resize a map for each row and each column of the grid, in which it alone is not zero."""
    height, width = found.native_grid

    def evidence(maps: torch.Tensor) -> torch.Tensor:
        # Halved, because evidence is clipped at 1, and the interpolation overshoots.
        return 2 * replace(found, raw=maps / 2, normalize=1.0).evidence

    rows = evidence(torch.eye(height)[:, :, None].expand(-1, -1, width))[:, :, 0]
    columns = evidence(torch.eye(width)[:, None, :].expand(-1, height, -1))[:, 0]
    return {"rows": _rounded(rows.T), "columns": _rounded(columns.T)}


def _rounded(weights: torch.Tensor) -> List[List[float]]:
    return [[round(value, 6) for value in line] for line in weights.tolist()]
