"""Average precision of weighted samples, for many weights or labels at once."""

import torch

from .checks import check_scores


def weighted_average_precision(
    truth: torch.Tensor, scores: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the average precision under each set of weights.

    It is the sum of the precisions at every distinct score, weighted by the growth of recall,
    without interpolation. scikit-learn and torchmetrics define it so, AVA does not
    (:func:`se_zoo.metrics.average_precision`).

    Args:
        truth: bool (N,).
        scores: (N,), larger for more certain samples.
        weights: Count of each sample in each set, float64 (R, N).

    Returns:
        float64 (R,), in [0, 1]; NaN where no positive sample counts.

    Raises:
        InvalidInputError: If a score is NaN.
    """
    check_scores(scores)
    if not len(scores):
        return weights.new_full((len(weights),), torch.nan)
    order = scores.argsort(descending=True, stable=True)
    ranked = scores[order]
    # The last place of every distinct score: samples of equal score count together.
    last = torch.ones(1, dtype=torch.bool, device=scores.device)
    ends = torch.cat([ranked[1:] != ranked[:-1], last]).nonzero()[:, 0]
    weights = weights.to(scores.device)[:, order]
    total = weights.cumsum(1)[:, ends]
    hits = (weights * truth[order]).cumsum(1)[:, ends]
    # Before the first sample with a weight, precision is undefined and recall does not grow.
    precision = torch.where(total > 0, hits / total, 0.0)
    growth = hits.diff(dim=1, prepend=torch.zeros_like(hits[:, :1]))
    return (precision * growth).sum(1) / hits[:, -1]


def average_precisions(
    truth: torch.Tensor, scores: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the average precision of every label; see :func:`weighted_average_precision`.

    Args:
        truth: bool (N, K).
        scores: (N, K).
        weights: Count of each sample in each set, float64 (R, N).

    Returns:
        float64 (R, K).

    Raises:
        InvalidInputError: If a score is NaN.
    """
    found = [
        weighted_average_precision(truth[:, k], scores[:, k], weights)
        for k in range(truth.shape[1])
    ]
    return torch.stack(found, 1)
