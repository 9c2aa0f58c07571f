"""Weigh the rivals of a class: the other classes, each by how far the model believes in it.

A class and those like it share most of their evidence, so a contribution map of "whippet" marks
every dog. Less the maps of its rivals, it marks what tells it from them. FinerCAM (arXiv
2501.11309) subtracts the three classes of the nearest logits. Here every class counts by its
probability, so classes that the model does not believe in count for nothing.
"""

import torch

#: Temperature of the softmax. At 1, maps of a single object that the model is unsure of became
#: worse; at 3, rivals hardly counted. It was chosen on photos that no reported figure uses.
_TEMPERATURE = 2.0


def rival_shares(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return how much of the evidence for each class a rival map subtracts.

    Args:
        logits: (N, K).
        targets: Class of each row, (N,).

    Returns:
        Softened probabilities, (N, K); 0 for the row's own class.
    """
    return (logits / _TEMPERATURE).softmax(1).scatter(1, targets[:, None], 0.0)
