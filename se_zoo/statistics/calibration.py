"""How far probabilities are from the shares that they promise."""

import torch


def calibration_error(
    truth: torch.Tensor, probabilities: torch.Tensor, bins: int = 15
) -> torch.Tensor:
    """Return the expected calibration error of yes/no answers.

    The answers are sorted into bins of equal width by their probability of yes; in every bin the
    mean probability is held against the share of true yes, and the absolute differences are
    averaged, each bin weighing as many answers as it has (Guo et al., arXiv 1706.04599, equation
    5, with the probability of yes in the place of the confidence).

    Args:
        truth: bool (N, ...).
        probabilities: Of yes, (N, ...), in [0, 1].
        bins: How many bins [0, 1] is cut into.

    Returns:
        float64 (...), in [0, 1].
    """
    probabilities = probabilities.double()
    places = (probabilities * bins).long().clamp(max=bins - 1)
    gaps = probabilities - truth.double()
    sums = torch.zeros(bins, *truth.shape[1:], dtype=torch.float64)
    # A bin's share times the gap of its means is the absolute sum of its gaps over N.
    return sums.scatter_add_(0, places, gaps).abs().sum(0) / len(truth)
