"""A threshold a label: the one that answers a split best, by F1.

A split is read once, in any number of parts: what is kept of it is a tally, from which the answers
at every threshold can be counted.
"""

from typing import Sequence, Tuple

import torch

#: Thresholds that are tried, probabilities: 0.010, 0.011, and so on to 0.990.
_MILLE = range(10, 991)
THRESHOLDS = tuple(n / 1000 for n in _MILLE)


def tally(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Count the logits of every label by how many thresholds they exceed.

    Args:
        logits: (N, K).
        targets: (N, K) of 0 and 1.

    Returns:
        long (2, K, T + 1): at [1, k, i] the samples that have label k and exceed i thresholds, at
        [0, k, i] those that lack it. Tallies of the parts of a split add up to that of the whole.
    """
    # In logits and in float32, as a model with thresholds answers (`above_threshold`).
    cuts = torch.tensor(THRESHOLDS, dtype=torch.float32).logit().to(logits.device)
    places = torch.bucketize(logits.float().contiguous(), cuts)
    labels, size = logits.shape[1], len(THRESHOLDS) + 1
    rows = targets.long() * labels + torch.arange(labels, device=logits.device)
    flat = (rows * size + places).flatten()
    return flat.bincount(minlength=2 * labels * size).view(2, labels, size)


def _above(counts: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """False and true positives at every threshold, each (K, T), of a tally."""
    above = counts.sum(-1, keepdim=True) - counts.cumsum(-1)[..., :-1]
    return above[0], above[1]


def best_thresholds(counts: torch.Tensor) -> Tuple[float, ...]:
    """Return the threshold of every label with the largest F1.

    Of several the nearest to one half is taken. A label that no sample has keeps one half.

    Args:
        counts: The :func:`tally` of a split.

    Returns:
        K of :data:`THRESHOLDS`.
    """
    counts = counts.cpu()
    false, true = _above(counts)
    positives = counts[1].sum(-1, keepdim=True)
    f1 = torch.where(positives > 0, 2 * true.double() / (true + false + positives), 0.0)
    distance = (torch.tensor(list(_MILLE)) - 500).abs()
    tied = f1 == f1.amax(1, keepdim=True)
    best = torch.where(tied, distance, len(THRESHOLDS)).argmin(1)
    return tuple(THRESHOLDS[place] for place in best.tolist())


def counts_at(counts: torch.Tensor, thresholds: Sequence[float]) -> torch.Tensor:
    """Count the answers of every label at its threshold.

    Args:
        counts: The :func:`tally` of a split.
        thresholds: K of :data:`THRESHOLDS`.

    Returns:
        long (K, 4): true positives, false positives, true negatives, false negatives.
    """
    counts = counts.cpu()
    places = torch.tensor([THRESHOLDS.index(t) for t in thresholds])[:, None]
    fp, tp = (side.gather(1, places)[:, 0] for side in _above(counts))
    absent, present = counts.sum(-1)
    return torch.stack([tp, fp, absent - fp, present - tp], -1)
