"""Weigh the rivals of a class: all other classes, each by its probability.

A class and those like it share most of their evidence, so a contribution map of "whippet" marks
every dog. Less a part of the maps of its rivals, it marks what tells it from them. FinerCAM (arXiv
2501.11309) subtracts the three classes of the nearest logits. Here a class counts by its
probability, so classes that the model does not believe in hardly count.
"""

from typing import NamedTuple

import torch

#: What a rival of probability 1 would count. With more, like classes are told apart better, and
#: maps of a single object that the model is unsure of become worse. Of 1/4, 1/3, 1/2, 3/4 and 1,
#: and of three softer probabilities, it was chosen on photos that no reported figure uses.
_PART = 1 / 3


def shares_of(logits: torch.Tensor) -> torch.Tensor:
    """Return how much of each class's evidence is subtracted where it is a rival, (B, K)."""
    return _PART * logits.softmax(1)


class Rivals(NamedTuple):
    """Rows, and what is subtracted from them.

    Attributes:
        images: Image of each row, (N,).
        targets: Class of each row, (N,).
        shares: :func:`shares_of` of each image, (B, K).
    """

    images: torch.Tensor
    targets: torch.Tensor
    shares: torch.Tensor

    def less(self, own: torch.Tensor, common: torch.Tensor) -> torch.Tensor:
        """Return what rows have of their class, less what they have of its rivals, (N, ...).

        Args:
            own: Values of each row's class, (N, ...).
            common: Sum of the values of all classes, each times its share, (B, ...).
        """
        part = self.shares[self.images, self.targets].view(-1, *[1] * (own.dim() - 1))
        return (1 + part) * own - common[self.images]  # a class is no rival of its own

    def some(self, rows: slice) -> "Rivals":
        """Return some of the rows."""
        return self._replace(images=self.images[rows], targets=self.targets[rows])
