"""Confidence intervals by a bootstrap over people, because their images are not independent."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from ..errors import InvalidInputError

#: Smallest number of people for an interval. Resamples of fewer people are too similar.
FEWEST_PEOPLE = 5
_DIGITS = 5


class Estimate(NamedTuple):
    """A figure and its confidence interval; what is undefined is None."""

    value: Optional[float]
    low: Optional[float]
    high: Optional[float]

    def as_json(self, **more: Any) -> Dict[str, Any]:
        """Return the estimate as a mapping.

        Args:
            more: Further entries.

        Returns:
            ``value``, ``low``, ``high`` and the further entries.
        """
        return {**self._asdict(), **more}


class People:
    """Cluster bootstrap: resamples of people, each with all of their images.

    Every figure is computed on the same resamples, so differences of figures are paired.

    Args:
        people: Person on each image, (N,), such as a name or number.
        resamples: Number of resamples, R.
        confidence: Share of the resamples inside of an interval.
        seed: Seed of the resamples.

    Raises:
        InvalidInputError: If there are no images, or an image has no person (None or NaN).
    """

    count: int
    resamples: int
    confidence: float
    seed: int
    person: torch.Tensor
    draws: torch.Tensor

    def __init__(
        self, people: Sequence[Any], resamples: int = 1000, confidence: float = 0.95, seed: int = 0
    ):
        if not len(people) or any(who is None or who != who for who in people):
            raise InvalidInputError("every image needs a person; give a name or number for each.")
        names, person = np.unique(np.asarray(people), return_inverse=True)
        self.count, self.resamples = len(names), resamples
        self.confidence, self.seed = confidence, seed
        self.person = torch.from_numpy(person.reshape(-1))
        chances = np.full(self.count, 1 / self.count)
        drawn = np.random.default_rng(seed).multinomial(self.count, chances, size=resamples)
        #: Count of each person in each resample, (1 + R, people); the first row is the sample.
        self.draws = torch.from_numpy(np.vstack([np.ones((1, self.count)), drawn]))

    def weights(self) -> torch.Tensor:
        """Return the count of each image in each resample.

        Returns:
            float64 (1 + R, N); the first row is the sample itself.
        """
        return self.draws[:, self.person]

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sum the values of images over every resample.

        Args:
            values: (N, ...), on any device.

        Returns:
            float64 (1 + R, ...) on the CPU; the first row is the sum over the sample itself.
        """
        flat = values.cpu().double().reshape(len(values), -1)
        own = torch.zeros(self.count, flat.shape[1], dtype=torch.float64)
        own.index_add_(0, self.person, flat)
        return (self.draws @ own).view(-1, *values.shape[1:])

    def number_of(self, chosen: torch.Tensor) -> int:
        """Return the number of people on some images.

        Args:
            chosen: Images to count, bool (N,).
        """
        return len(self.person[chosen.bool().cpu()].unique())

    def estimate(self, values: torch.Tensor, people: Optional[int] = None) -> Estimate:
        """Return a figure with its percentile interval.

        The interval is None for fewer than :data:`FEWEST_PEOPLE` people. It is also None if all
        resamples have the same value, such as a rate of 0 or 1, which would give an interval of
        width 0.

        Args:
            values: Figure of the sample and of each resample, (1 + R,); NaN where it is undefined.
            people: Number of people that the figure describes; by default all.

        Returns:
            The estimate; all None if the figure of the sample is NaN.
        """
        values = values.cpu()
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

    def estimates(
        self, values: torch.Tensor, people: Optional[Sequence[int]] = None
    ) -> List[Estimate]:
        """Return K figures with their intervals.

        Args:
            values: Figures of the sample and of each resample, (1 + R, K).
            people: Number of people that each of the K figures describes; by default all.

        Returns:
            K estimates, as of :meth:`estimate`.
        """
        columns = values.unbind(1)
        numbers = [self.count] * len(columns) if people is None else people
        return [self.estimate(c, number) for c, number in zip(columns, numbers, strict=True)]
