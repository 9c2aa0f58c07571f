"""Intervals by a bootstrap over people: images of one person are not independent."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

#: Of fewer people no interval is given: resamples of them are too much alike.
FEWEST_PEOPLE = 5
_DIGITS = 5


class Estimate(NamedTuple):
    """A figure and its interval, each None where it cannot be had."""

    value: Optional[float]
    low: Optional[float]
    high: Optional[float]

    def as_json(self, **more: Any) -> Dict[str, Any]:
        """Return it as a mapping, with further keys."""
        return {**self._asdict(), **more}


class People:
    """Resampling of people, each drawn with all of their images (a cluster bootstrap).

    Every figure is computed on the same resamples, so that differences are paired.

    Args:
        people: Who is on each image, (N,).
        resamples: Number of draws.
        confidence: Share of the resamples that an interval holds.
        seed: Of the draws.
    """

    def __init__(
        self, people: Sequence[Any], resamples: int = 1000, confidence: float = 0.95, seed: int = 0
    ):
        names, person = np.unique(np.asarray(people), return_inverse=True)
        self.count, self.resamples = len(names), resamples
        self.confidence, self.seed = confidence, seed
        self.person = torch.from_numpy(person.reshape(-1))
        chances = np.full(self.count, 1 / self.count)
        drawn = np.random.default_rng(seed).multinomial(self.count, chances, size=resamples)
        #: How often each person counts, (1 + R, people); the first row is the sample itself.
        self.draws = torch.from_numpy(np.vstack([np.ones((1, self.count)), drawn]))

    def weights(self) -> torch.Tensor:
        """Return how often each image counts, float64 (1 + R, N)."""
        return self.draws[:, self.person]

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sum values of images over every resample.

        Args:
            values: (N, ...).

        Returns:
            float64 (1 + R, ...).
        """
        flat = values.double().flatten(1)
        own = torch.zeros(self.count, flat.shape[1], dtype=torch.float64)
        own.index_add_(0, self.person, flat)
        return (self.draws @ own).view(-1, *values.shape[1:])

    def number_of(self, chosen: torch.Tensor) -> int:
        """Return of how many people the chosen images are, bool (N,)."""
        return len(self.person[chosen].unique())

    def estimate(self, values: torch.Tensor, people: Optional[int] = None) -> Estimate:
        """Return a figure with its percentile interval.

        Args:
            values: (1 + R,), of the sample and of the resamples; NaN in resamples that lack a case.
            people: How many people the figure is of; by default all. Below :data:`FEWEST_PEOPLE`
                the interval is None; so it is where no resample differs from the sample, as of a
                rate of 0 or 1: that nothing was seen to vary does not make it certain.
        """
        value = values[0].item()
        if value != value:
            return Estimate(None, None, None)
        known = values[~values.isnan()]
        if (self.count if people is None else people) < FEWEST_PEOPLE or (known == value).all():
            return Estimate(round(value, _DIGITS), None, None)
        side = (1 - self.confidence) / 2
        ends = torch.tensor([side, 1 - side], dtype=torch.float64)
        low, high = known[1:].quantile(ends).tolist()
        return Estimate(*(round(v, _DIGITS) for v in (value, low, high)))

    def estimates(self, values: torch.Tensor) -> List[Estimate]:
        """Return K figures with their intervals, of values (1 + R, K)."""
        return [self.estimate(column) for column in values.unbind(1)]
