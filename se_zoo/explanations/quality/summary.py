"""Summarise average drop, coherency and complexity of heatmaps."""

from typing import Callable

import torch

from ..channel_selection import in_double
from .pixels import check_inputs


@torch.no_grad()
def adcc(
    explain: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    targets: torch.Tensor,
    heatmaps: torch.Tensor,
    drop: torch.Tensor,
) -> torch.Tensor:
    """Return the harmonic mean of what average drop, coherency and complexity say (ADCC).

    It is that of ``1 - drop``, of coherency, and of ``1 - complexity``. Coherency is the
    correlation of a heatmap with that of the image times the heatmap, from 0 (opposite) to 1.
    Complexity is the heatmap's mean. A heatmap of zeros has a drop near 1, a heatmap of ones a
    complexity of 1. One that depends on nothing, such as a spot in the middle, is coherent with
    itself: compare with such a control. Poppi et al., arXiv 2104.10252, section 3.

    Args:
        explain: Returns heatmaps (B, H, W) in [0, 1] of images (B, C, H, W) for the same targets.
        images: Normalised images, (B, C, H, W).
        targets: Class of each image, (B,).
        heatmaps: In [0, 1], (B, H, W).
        drop: Result of :func:`drop_increase_gain`, (B,).

    Returns:
        From 0 to 1, (B,); larger is better.

    Raises:
        InvalidInputError: If the shapes do not fit each other.
    """
    check_inputs(images, targets, heatmaps)
    again = explain(images * heatmaps[:, None].to(images.dtype))
    heatmaps, again = in_double(heatmaps.flatten(1)), in_double(again.flatten(1))
    pairs = zip(heatmaps, again, strict=True)
    coherency = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])
    kept = 1 - drop.to(coherency)
    plain = 1 - heatmaps.mean(1)
    # A constant map has no correlation: it says nothing, so it has no coherency.
    parts = torch.stack([kept, (coherency.nan_to_num(-1.0) + 1) / 2, plain]).clamp(0, 1)
    return 3 / (1 / parts).sum(0)
