"""Control maps, which every method must beat."""

from typing import Sequence, Tuple

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


def smooth_noise(size: Tuple[int, int], seeds: Sequence[int], cells: int = 7) -> torch.Tensor:
    """Return smooth random maps, which use neither image nor model.

    Args:
        size: Height and width in pixels.
        seeds: Seed of each map.
        cells: Number of random values along each side; between them the maps are interpolated.

    Returns:
        (B, H, W) in [0, 1].
    """
    seeded = [torch.Generator().manual_seed(seed) for seed in seeds]
    grids = torch.stack([torch.rand(1, cells, cells, generator=given) for given in seeded])
    return F.interpolate(grids, size, mode="bilinear")[:, 0]


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
