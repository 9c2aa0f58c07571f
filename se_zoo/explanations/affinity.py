"""Share the evidence of a map among the cells whose features are alike.

A classifier often finds its evidence in a part of an object, and its map is strong there alone.
Cells of the same object have like features, so each cell's evidence is shared among them. Weakly
supervised segmentation refines class activation maps in this way: by the cosine of features in SEAM
(arXiv 2004.04581, section 3.4), by Sinkhorn's normalisation in CLIP-ES (arXiv 2212.09506,
section 3.3). Here the features are the backbone's last ones, so nothing has to be trained and no
other layer is read.
"""

from typing import List, Sequence

import torch

#: Steps of Sinkhorn's normalisation. After three, a cell gets what it gives within some per cent.
_STEPS = 3
#: Shortest length of a cell's features that has a direction; channels have largest values of 1.
_SHORTEST = 1e-3
#: Most numbers of the matrices that are held at a time.
_MOST = 2**24


def shares(features: torch.Tensor) -> torch.Tensor:
    """Return which share of its evidence each cell gives to every cell.

    A channel is divided by its largest value in the image, so that all channels count alike, and
    its mean is subtracted. Cells are alike by the cosine of what is left; below 0 it counts as 0.
    The matrix is then scaled so that each row adds up to 1, and each column nearly so.

    Args:
        features: (B, C, P), of P cells.

    Returns:
        (B, P, P): the row is the cell that gives, the column the one that gets.
    """
    largest = features.abs().amax(2, keepdim=True).clamp(min=1e-6)
    scaled = (features - features.mean(2, keepdim=True)) / largest
    unit = scaled / scaled.norm(dim=1, keepdim=True).clamp(min=_SHORTEST)
    alike = torch.bmm(unit.transpose(1, 2), unit).clamp(min=0)
    # A cell without a direction keeps its evidence.
    alike = torch.maximum(alike, torch.eye(alike.shape[1], device=alike.device, dtype=alike.dtype))
    factor = alike.sum(2, keepdim=True).rsqrt()
    for _ in range(_STEPS - 1):
        factor = (factor / torch.bmm(alike, factor)).sqrt()
    return alike * factor.transpose(1, 2) / torch.bmm(alike, factor)


def share_all(maps: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Share the evidence of maps among like cells; of clips, within each frame.

    Args:
        maps: N maps of each image, (B, N, *grid).
        features: (B, C, *grid).

    Returns:
        (B, N, *grid). Each map, and each frame of it, adds up to what it did before.
    """
    frames = maps[:, :, None] if maps.dim() == 4 else maps  # (B, N, T, H, W)
    rows = frames.transpose(1, 2).flatten(3)  # (B, T, N, P)
    shared = (rows @ _shares_of_frames(features.to(maps.dtype))).transpose(1, 2)
    return (shared[:, :, 0] if maps.dim() == 4 else shared).unflatten(-1, maps.shape[-2:])


def share(maps: torch.Tensor, features: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Share the evidence of rows among like cells, as :func:`share_all` does.

    Args:
        maps: (N, *grid).
        features: (B, C, *grid).
        counts: Number of rows of each image, B numbers; the rows of an image follow each other.

    Returns:
        (N, *grid).
    """
    cells = features.shape[-2] * features.shape[-1]
    at_once = max(1, _MOST // (features[0, 0].numel() * cells))
    parts = iter(maps.flatten(-2).split(list(counts)))
    found: List[torch.Tensor] = []
    for images in features.to(maps.dtype).split(at_once):
        for given in _shares_of_frames(images):
            rows = next(parts)  # (N, P), of clips (N, T, P)
            if rows.dim() == 2:
                found.append(rows @ given[0])
            else:
                found.append((rows.transpose(0, 1) @ given).transpose(0, 1))
    return torch.cat(found).unflatten(-1, maps.shape[-2:])


def _shares_of_frames(features: torch.Tensor) -> torch.Tensor:
    """Return the shares of the cells of each frame, (B, T, P, P); T is 1 for images."""
    if features.dim() == 4:
        return shares(features.flatten(2))[:, None]
    frames = features.transpose(1, 2)
    return shares(frames.flatten(0, 1).flatten(2)).unflatten(0, frames.shape[:2])
