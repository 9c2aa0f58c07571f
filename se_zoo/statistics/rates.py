"""Rates from counts of predictions.

Counts have a last dimension of 4: true positives, false positives, true negatives, false negatives.
"""

import torch


def confusion(truth: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Mark every prediction as one of the four kinds.

    Args:
        truth: True labels, bool, any shape.
        answers: Predicted labels, bool, the same shape.

    Returns:
        float64 (..., 4) of 0 and 1; sums of it are counts.
    """
    truth, answers = truth.bool(), answers.bool()  # `~` of integers flips all bits
    kinds = (truth & answers, ~truth & answers, ~truth & ~answers, truth & ~answers)
    return torch.stack(kinds, -1).double()


def accuracy_of(counts: torch.Tensor) -> torch.Tensor:
    """Return the share of correct predictions.

    Args:
        counts: (..., 4).

    Returns:
        float64 (...), in [0, 1]; NaN without predictions.
    """
    tp, fp, tn, fn = counts.double().unbind(-1)
    return (tp + tn) / (tp + fp + tn + fn)


def balanced_accuracy_of(counts: torch.Tensor) -> torch.Tensor:
    """Return the mean of the true-positive and the true-negative rate.

    If all labels are yes, or all are no, it is the one rate that is defined.

    Args:
        counts: (..., 4).

    Returns:
        float64 (...), in [0, 1]; NaN without predictions.
    """
    tp, fp, tn, fn = counts.double().unbind(-1)
    return torch.stack([tp / (tp + fn), tn / (tn + fp)]).nanmean(0)


def f1_of(counts: torch.Tensor) -> torch.Tensor:
    """Return the harmonic mean of precision and recall.

    Args:
        counts: (..., 4).

    Returns:
        float64 (...), in [0, 1]; NaN if no label is yes, because recall is then undefined.
    """
    tp, fp, _, fn = counts.double().unbind(-1)
    return torch.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), torch.nan)
