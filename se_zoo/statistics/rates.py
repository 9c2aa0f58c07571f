"""Rates from counts of answers: true positives, false positives, true negatives, false negatives,
in this order in the last dimension."""

import torch


def confusion(truth: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Mark every answer as one of the four kinds.

    Args:
        truth: bool, any shape.
        answers: bool, the same shape.

    Returns:
        float64, one more dimension of size 4; sums of it are counts.
    """
    kinds = (truth & answers, ~truth & answers, ~truth & ~answers, truth & ~answers)
    return torch.stack(kinds, -1).double()


def accuracy_of(counts: torch.Tensor) -> torch.Tensor:
    """Return the share of right answers, (...,) of counts (..., 4); NaN without any answer."""
    tp, fp, tn, fn = counts.double().unbind(-1)
    return (tp + tn) / (tp + fp + tn + fn)


def balanced_accuracy_of(counts: torch.Tensor) -> torch.Tensor:
    """Return the mean of the true-positive and the true-negative rate, (...,) of counts (..., 4).

    Where all answers should be yes, or all no, it is the one rate that exists.
    """
    tp, fp, tn, fn = counts.double().unbind(-1)
    return torch.stack([tp / (tp + fn), tn / (tn + fp)]).nanmean(0)


def f1_of(counts: torch.Tensor) -> torch.Tensor:
    """Return the harmonic mean of precision and recall, (...,) of counts (..., 4).

    NaN where no answer should be yes: the label has no recall.
    """
    tp, fp, _, fn = counts.double().unbind(-1)
    return torch.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), torch.nan)
