"""Sanity checks: whether maps depend on the model's weights, and move with the image."""

from copy import deepcopy
from typing import Any, Callable, Iterator, List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import InvalidInputError
from ..se_model import check_model


def rank_correlation(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return Spearman's rank correlation of each pair of maps; ties get their mean rank.

    Args:
        left: (B, *grid).
        right: Maps of the same shape.

    Returns:
        float64 (B,), on the CPU; NaN where a map is constant.

    Raises:
        InvalidInputError: If the shapes differ.
    """
    if left.shape != right.shape:
        raise InvalidInputError(
            f"The shapes of the maps are {tuple(left.shape)} and {tuple(right.shape)}; they must "
            "be equal."
        )
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
    """Yield copies of a model with more and more random parts, from the classifier down.

    Adebayo et al., arXiv 1810.03292, section 3.1 (cascading randomisation): the maps of a random
    model should differ from those of the trained one. New weights are normal with mean 0 and the
    standard deviation of the trained tensor. The values of one-dimensional parameters (scales and
    biases) are shuffled, which keeps the size of the signals. Batch statistics are kept.

    Args:
        model: SE model; it is not changed.
        seed: Seed of the random weights.

    Yields:
        The part that became random last, and a copy of the model in eval mode. The parts are
        ``"classifier"``, ``"se"``, the backbone's children from the last to the first, and
        ``"rest"`` for parameters outside of them (class tokens, positions).

    Raises:
        InvalidInputError: If the model has no SE head.
    """
    check_model(model)
    copy: Any = deepcopy(model).eval()
    generator = torch.Generator().manual_seed(seed)
    last = copy.get_classifier()
    # Distilled models have two classifiers.
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
    # Constant weights, such as the zeros of an identity gate, get the deviation of a usual start.
    deviation = float(values.std(correction=0)) or values[0].numel() ** -0.5
    return torch.randn(values.shape, generator=generator).to(values) * deviation


def shift_stability(
    maps_of: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    shifts: Sequence[Tuple[int, int]] = ((4, 0), (-4, 0), (0, 4), (0, -4)),
) -> torch.Tensor:
    """Measure whether the map moves with the image; 1 if it does and is otherwise unchanged.

    The image is shifted (edge pixels are repeated) and explained, and the map is shifted back. The
    score is the mean rank correlation with the map of the unshifted image, over the pixels that
    both maps have. It is related to the local Lipschitz estimates of Alvarez-Melis and Jaakkola,
    arXiv 1806.08049.

    Args:
        maps_of: Returns the heatmaps (B, H, W) of images.
        images: (B, C, H, W).
        shifts: Shifts down and to the right, in pixels.

    Returns:
        float64 (B,), at most 1; NaN where a map is constant.
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
