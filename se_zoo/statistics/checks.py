"""What all statistics of scores refuse."""

import torch

from ..errors import InvalidInputError


def check_scores(scores: torch.Tensor) -> None:
    """Refuse scores of which one is NaN: it has no rank, no bin and no answer.

    Args:
        scores: Scores, probabilities or logits, any shape.

    Raises:
        InvalidInputError: If a score is NaN.
    """
    if scores.isnan().any():
        raise InvalidInputError("a score is NaN; give a number for every sample.")
