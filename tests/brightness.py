"""A model whose contribution map is the brightness of what it sees, for tests of where maps lie."""

from functools import cache
from typing import Any, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import se_zoo

from .copies import Mould

#: Side of a cell of the model's map, in pixels of its input.
CELL = 8


def brightness_model(
    size: Tuple[int, int] = (64, 64), crop_pct: float = 1.0, crop_mode: str = "center"
) -> Any:
    """Class 0 is bright, class 1 is dark; the input has this height and width."""
    model: Any = _untrained().cast()
    channels = model.num_features

    def forward_features(x: torch.Tensor) -> torch.Tensor:
        light = F.avg_pool2d(x.mean(1, keepdim=True).relu(), CELL)
        return light.expand(-1, channels, -1, -1)

    model.forward_features = forward_features
    with torch.no_grad():
        model.fc.weight.copy_(torch.tensor([1.0, -1.0])[:, None].expand(-1, channels))
        model.fc.bias.zero_()
    # At a mean of 0.5 a dark pixel is negative, which the model does not see.
    model.pretrained_cfg = {
        **model.pretrained_cfg, "input_size": (3, *size), "crop_pct": crop_pct,
        "crop_mode": crop_mode, "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear",
    }  # fmt: skip
    return model


@cache
def _untrained() -> Mould:
    return Mould(se_zoo.squeeze("resnet10t", num_classes=2).eval())


def spotted(width: int, height: int, x: float, y: float, share: float = 0.12) -> Image.Image:
    """A dark photo with a bright square centred at these shares of width and height."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    half = share * min(width, height) / 2
    top, left = round(y * height - half), round(x * width - half)
    pixels[top : round(y * height + half), left : round(x * width + half)] = 240
    return Image.fromarray(pixels)


def red_centre(drawn: np.ndarray) -> Tuple[float, float]:
    """Centre of the strongest red of an overlay, as shares of its width and height."""
    red = drawn[..., 0].astype(float) - drawn[..., 2]
    assert red.max() > 80, "nothing red is drawn"
    rows, columns = np.nonzero(red > 0.8 * red.max())
    height, width = red.shape
    return (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height
