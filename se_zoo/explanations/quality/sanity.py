"""Whether maps depend on what they claim to explain, and only on that."""

from copy import deepcopy
from typing import Any, Callable, Iterator, List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import InvalidInputError
from ..explainer import check_model


def rank_correlation(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Spearman's rank correlation of the maps of each pair, ties by their mean rank.

    Args:
        left: (B, *grid).
        right: Of the same shape.

    Returns:
        (B,); NaN where a map is constant.

    Raises:
        InvalidInputError: If the shapes differ.
    """
    if left.shape != right.shape:
        raise InvalidInputError(f"maps are {tuple(left.shape)} and {tuple(right.shape)}.")
    # On the CPU, because not every device has double.
    both = [maps.detach().cpu().flatten(1) for maps in (left, right)]
    ranks = [torch.stack([_mean_ranks(row) for row in rows]) for rows in both]
    one, other = (r - r.mean(1, keepdim=True) for r in ranks)
    return (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))


def _mean_ranks(values: torch.Tensor) -> torch.Tensor:
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[group]


def randomised(model: nn.Module, seed: int = 0) -> Iterator[Tuple[str, nn.Module]]:
    """Copies of a model in which ever more is random, from the classifier down.

    Adebayo et al., arXiv 1810.03292, section 3.1 (cascading randomisation): an explanation of the
    model should lose its likeness to that of the trained one. Weights are drawn anew from a normal
    distribution around 0 with the deviation that the trained tensor has; the scales and biases of
    norms and layers change places, so that signals keep their size. Batch statistics stay.

    Args:
        model: SE model; it is not changed.
        seed: Of what is drawn.

    Yields:
        What became random last, and a copy of its own, in eval mode: ``"classifier"``, ``"se"``,
        then the backbone's children from the last to the first, and at the end parameters of its
        own (class tokens, positions) as ``"rest"``.

    Raises:
        InvalidInputError: If the model has no SE head.
    """
    check_model(model)
    copy: Any = deepcopy(model).eval()
    generator = torch.Generator().manual_seed(seed)
    last = copy.get_classifier()
    # Distilled models have a pair of classifiers.
    last = nn.ModuleList(last) if isinstance(last, (tuple, list)) else last
    parts: List[Tuple[str, nn.Module]] = [("classifier", last), ("se", copy.se)]
    parts += [(name, part) for name, part in reversed(list(copy.named_children())) if name != "se"]
    parts += [("rest", copy)]
    done = set()
    for name, part in parts:
        fresh = [p for p in part.parameters() if id(p) not in done]
        for parameter in fresh:
            parameter.data = _random_like(parameter.data, generator)
            done.add(id(parameter))
        if fresh:
            yield name, deepcopy(copy)


def _random_like(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if values.dim() < 2:
        order = torch.randperm(values.numel(), generator=generator).to(values.device)
        return values.flatten()[order].view_as(values)
    # Weights without a deviation, such as the zeros of an identity gate, get a usual one.
    deviation = float(values.std(correction=0)) or values[0].numel() ** -0.5
    return torch.randn(values.shape, generator=generator).to(values) * deviation


def shift_stability(
    maps_of: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    shifts: Sequence[Tuple[int, int]] = ((4, 0), (-4, 0), (0, 4), (0, -4)),
) -> torch.Tensor:
    """Whether the map moves with the image, and does nothing else: 1 if so.

    The image is shifted (its edge goes on), explained, and the map shifted back: the mean rank
    correlation with the map of the unshifted image, over the pixels that both have. A relative of
    the local Lipschitz estimates of Alvarez-Melis and Jaakkola, arXiv 1806.08049.

    Args:
        maps_of: Gives the heatmaps (B, H, W) of images.
        images: (B, C, H, W).
        shifts: Down and right, in pixels.

    Returns:
        (B,); NaN where a map is constant.
    """
    plain = maps_of(images)
    height, width = images.shape[2:]
    found = []
    for down, right in shifts:
        pad = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
        wide = F.pad(images, pad, mode="replicate")
        top, left = max(-down, 0), max(-right, 0)
        moved = maps_of(wide[:, :, top : top + height, left : left + width])
        kept = plain[:, max(-down, 0) : height - max(down, 0)]
        kept = kept[:, :, max(-right, 0) : width - max(right, 0)]
        back = moved[:, max(down, 0) : height - max(-down, 0)]
        back = back[:, :, max(right, 0) : width - max(-right, 0)]
        found.append(rank_correlation(kept, back))
    return torch.stack(found).mean(0)
