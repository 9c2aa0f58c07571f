"""Control maps, which every method must beat."""

from typing import Tuple

import torch
import torch.nn.functional as F
from torchvision.transforms.functional import gaussian_blur


def centre_gaussian(size: Tuple[int, int], share: float = 0.25) -> torch.Tensor:
    """Return a Gaussian at the centre of the image, which uses neither image nor model.

    Args:
        size: Height and width in pixels.
        share: Standard deviation, as a share of each side.

    Returns:
        (H, W), with a maximum of about 1.
    """
    y, x = (torch.linspace(-0.5, 0.5, n) / share for n in size)
    return torch.exp(-0.5 * (y[:, None].square() + x.square()))


def squared(heatmaps: torch.Tensor) -> torch.Tensor:
    """Square heatmaps: a control for measures that favour sharp maps, such as the energy.

    The order of the pixels stays, so a measure that only sees the order does not change.

    Args:
        heatmaps: In [0, 1], any shape.

    Returns:
        The same shape.
    """
    return heatmaps.square()


def blurred(heatmaps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur each heatmap, as a control for measures that favour smooth maps, such as ROAD.

    Args:
        heatmaps: (B, H, W).
        sigma: Standard deviation of the Gaussian in pixels.

    Returns:
        (B, H, W).
    """
    radius = max(1, round(3 * sigma))
    padded = F.pad(heatmaps[:, None], (radius,) * 4, mode="replicate")
    smooth = gaussian_blur(padded, [2 * radius + 1] * 2, [sigma] * 2)
    return smooth[:, 0, radius:-radius, radius:-radius]
