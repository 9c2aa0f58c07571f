"""Calibration of probabilities."""

import torch

from .checks import check_scores


def calibration_error(
    truth: torch.Tensor, probabilities: torch.Tensor, bins: int = 15
) -> torch.Tensor:
    """Return the expected calibration error of yes/no predictions.

    Predictions are sorted into bins of equal width by their probability of yes. The error is the
    absolute difference of the mean probability and the share of true yes in each bin, averaged over
    the bins, weighted by their number of predictions (Guo et al., arXiv 1706.04599, equation 5,
    with the probability of yes as the confidence).

    Args:
        truth: bool (N, ...).
        probabilities: Probability of yes, (N, ...), in [0, 1].
        bins: Number of bins.

    Returns:
        float64 (...), in [0, 1]; NaN without predictions.

    Raises:
        InvalidInputError: If a probability is NaN.
    """
    check_scores(probabilities)
    probabilities = probabilities.double()
    places = (probabilities * bins).long().clamp(max=bins - 1)
    gaps = probabilities - truth.double()
    sums = torch.zeros(bins, *truth.shape[1:], dtype=torch.float64, device=gaps.device)
    # A bin's share times the difference of its means is the absolute sum of its gaps over N.
    return sums.scatter_add_(0, places, gaps).abs().sum(0) / len(truth)
