"""Share the evidence of a map among the cells whose features are alike.

A classifier often finds its evidence in a part of an object, and its map is strong there alone.
Cells of the same object have like features, so each cell's evidence is shared among them. Weakly
supervised segmentation refines class activation maps in this way: SEAM's pixel correlation module
by the cosine of features that it learns (arXiv 2004.04581, section 3.3), CLIP-ES by attention that
Sinkhorn's algorithm normalises (arXiv 2212.09506). Here the features are the backbone's last ones:
nothing is trained, and no other layer is read here.
"""

from typing import NamedTuple, Sequence

import torch

#: Steps of Sinkhorn's normalisation. After three, a cell gets what it gives within some 7 %.
_STEPS = 3
#: Cells whose scaled features are shorter than this count as having no direction.
_SHORTEST = 1e-3
#: Most numbers of the matrices of a batch that are held at a time.
_MOST = 2**24


class Affinity(NamedTuple):
    """How alike cells are, and what each gives and gets.

    Of what a cell p shares, it gives the part ``alike[p, q] * gets[q] / gives[p]`` to the cell q.
    These parts add up to 1.

    Attributes:
        alike: (B, P, P), symmetric, from 0 to 1.
        gets: (B, 1, P).
        gives: (B, 1, P).
    """

    alike: torch.Tensor
    gets: torch.Tensor
    gives: torch.Tensor

    def share(self, rows: torch.Tensor, part: float) -> torch.Tensor:
        """Return N maps of each image, (B, N, P), with a part of their evidence shared."""
        shared = torch.bmm(rows / self.gives, self.alike) * self.gets
        return shared if part == 1 else torch.lerp(rows, shared, part)


def affinity(features: torch.Tensor) -> Affinity:
    """Return how alike the cells of each image are.

    A channel is divided by its largest value in the image, so that all channels count alike, and
    its mean is subtracted. Cells are alike by the cosine of what is left; below 0 it counts as 0.
    Sinkhorn's algorithm then balances what cells give and get. The matrix has P * P numbers for an
    image of P cells.

    Args:
        features: (B, C, P).
    """
    largest = features.abs().amax(2, keepdim=True).clamp(min=1e-6)
    scaled = (features - features.mean(2, keepdim=True)) / largest
    unit = scaled / scaled.norm(dim=1, keepdim=True).clamp(min=_SHORTEST)
    alike = torch.bmm(unit.transpose(1, 2), unit).clamp_(min=0)
    # A cell without a direction is like itself, so it keeps its evidence.
    alike = torch.maximum(alike, torch.eye(alike.shape[1], device=alike.device, dtype=alike.dtype))
    gets = alike.sum(2, keepdim=True).rsqrt()
    for _ in range(_STEPS - 1):
        gets = (gets / torch.bmm(alike, gets)).sqrt()
    return Affinity(alike, gets.transpose(1, 2), torch.bmm(alike, gets).transpose(1, 2))


def share_each(maps: torch.Tensor, features: torch.Tensor, part: float = 1.0) -> torch.Tensor:
    """Share the evidence of maps among like cells; of clips, within each frame.

    Args:
        maps: N maps of each image, (B, N, *grid).
        features: (B, C, *grid).
        part: What each cell shares, from 0 to 1; it keeps the rest.

    Returns:
        (B, N, *grid). Each map, and each frame of it, adds up to what it did before.
    """
    given = features.to(maps.dtype)
    if given.dim() == 4:
        shared = affinity(given.flatten(2)).share(maps.flatten(2), part)
    else:
        frames, rows = given.transpose(1, 2), maps.transpose(1, 2)  # (B, T, C or N, H, W)
        shared = affinity(frames.flatten(0, 1).flatten(2)).share(
            rows.flatten(0, 1).flatten(2), part
        )
        shared = shared.unflatten(0, (-1, frames.shape[1])).transpose(1, 2)
    return shared.unflatten(-1, maps.shape[-2:])


def share(
    maps: torch.Tensor, features: torch.Tensor, counts: Sequence[int], part: float = 1.0
) -> torch.Tensor:
    """Share the evidence of rows among like cells, as :func:`share_each` does.

    Args:
        maps: (N, *grid).
        features: (B, C, *grid).
        counts: Number of rows of each image, B numbers; the rows of an image follow each other.
        part: What each cell shares.

    Returns:
        (N, *grid).
    """
    if len(set(counts)) > 1:
        images = zip(maps.split(list(counts)), features.split(1), strict=True)
        return torch.cat([share_each(rows[None], image, part)[0] for rows, image in images])
    cells = features.shape[-2] * features.shape[-1]
    at_once = max(1, _MOST // (features.shape[2:].numel() * cells))
    parts = zip(
        maps.unflatten(0, (len(counts), -1)).split(at_once), features.split(at_once), strict=True
    )
    return torch.cat([share_each(*some, part) for some in parts]).flatten(0, 1)
