"""Thresholds of the labels, chosen by F1 on a split.

A split is read once, in any number of parts. Only a tally of it is kept, from which the predictions
at every threshold can be counted.
"""

from typing import Sequence, Tuple

import torch

from .checks import check_scores

_THOUSANDTHS = range(10, 991)
#: Candidate thresholds, as probabilities: 0.010, 0.011, and so on to 0.990.
THRESHOLDS = tuple(n / 1000 for n in _THOUSANDTHS)


def tally(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Count the logits of every label by how many thresholds they exceed.

    Args:
        logits: (N, K).
        targets: (N, K) of 0 and 1.

    Returns:
        long (2, K, T + 1). [1, k, i] is the number of samples that have label k and exceed i
        thresholds, [0, k, i] that of samples without label k. The tally of a split is the sum of
        the tallies of its parts.

    Raises:
        InvalidInputError: If a logit is NaN.
    """
    check_scores(logits)
    # In logits and in float32, like the predictions of a model (`targets.above_threshold`).
    cuts = torch.tensor(THRESHOLDS, dtype=torch.float32).logit().to(logits.device)
    places = torch.bucketize(logits.float().contiguous(), cuts)
    labels, size = logits.shape[1], len(THRESHOLDS) + 1
    rows = targets.long() * labels + torch.arange(labels, device=logits.device)
    flat = (rows * size + places).flatten()
    return flat.bincount(minlength=2 * labels * size).view(2, labels, size)


def _above(counts: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the false and the true positives of a tally at every threshold, (K, T) each."""
    above = counts.sum(-1, keepdim=True) - counts.cumsum(-1)[..., :-1]
    return above[0], above[1]


def best_thresholds(counts: torch.Tensor) -> Tuple[float, ...]:
    """Return the threshold of every label with the largest F1.

    Of several best thresholds, the one nearest to one half is returned. For a label that no sample
    has, it is one half.

    Args:
        counts: The :func:`tally` of a split.

    Returns:
        K values from :data:`THRESHOLDS`.
    """
    counts = counts.cpu()
    false, true = _above(counts)
    positives = counts[1].sum(-1, keepdim=True)
    f1 = torch.where(positives > 0, 2 * true.double() / (true + false + positives), 0.0)
    distance = (torch.tensor(list(_THOUSANDTHS)) - 500).abs()
    tied = f1 == f1.amax(1, keepdim=True)
    best = torch.where(tied, distance, len(THRESHOLDS)).argmin(1)
    return tuple(THRESHOLDS[place] for place in best.tolist())


def counts_at(counts: torch.Tensor, thresholds: Sequence[float]) -> torch.Tensor:
    """Count the predictions of every label at its threshold.

    Args:
        counts: The :func:`tally` of a split.
        thresholds: K values from :data:`THRESHOLDS`.

    Returns:
        long (K, 4): true positives, false positives, true negatives, false negatives.
    """
    counts = counts.cpu()
    places = torch.tensor([THRESHOLDS.index(t) for t in thresholds])[:, None]
    fp, tp = (side.gather(1, places)[:, 0] for side in _above(counts))
    absent, present = counts.sum(-1)
    return torch.stack([tp, fp, absent - fp, present - tp], -1)
