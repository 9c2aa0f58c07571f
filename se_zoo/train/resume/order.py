"""Which samples an update sees, and with which random numbers: functions of the seed alone.

Nothing here has a state. The order of an epoch, the augmentation of a sample and the dropout of an
update are computed from (seed, epoch, index) or (seed, update), never from what a generator drew
before. So the number of updates made is all that an interrupted run needs to continue exactly.
"""

import random
from dataclasses import dataclass
from typing import Any, Iterator, List, Tuple

import numpy as np
import torch
from torch.utils.data import Sampler

#: (epoch, index) of a sample.
Key = Tuple[int, int]


def mixed_seed(*numbers: int) -> int:
    """Return a seed of 63 bits that depends on all the numbers."""
    numbers = (len(numbers), *numbers)  # (0, 1) and (0, 1, 0) would give the same
    return int(np.random.SeedSequence(numbers).generate_state(2, np.uint32).view(np.uint64)[0] >> 1)


def seed_cpu(*numbers: int) -> int:
    """Seed Python's, numpy's and torch's CPU generators from the numbers; return the seed."""
    seed = mixed_seed(*numbers)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # It takes a tenth of the time of torch.manual_seed, and is called for every sample.
    torch.default_generator.manual_seed(seed)
    return seed


def seed_all(*numbers: int) -> None:
    """Seed as :func:`seed_cpu` does, and the generators of all other devices."""
    torch.manual_seed(seed_cpu(*numbers))


@dataclass(frozen=True)
class Plan:
    """How a split is divided into updates.

    Attributes:
        samples: Number of samples N.
        batch_size: Samples per process and forward pass.
        processes: Number of processes.
        accumulate: Forward passes per update.
        epochs: Number of epochs.
        seed: Seed of the order.
    """

    samples: int
    batch_size: int
    processes: int
    accumulate: int
    epochs: int
    seed: int

    @property
    def passes(self) -> int:
        """Forward passes of an epoch.

        Samples that do not fill a pass of all processes are left out, because a batch of a few
        images would disturb BatchNorm. Every epoch leaves out others.
        """
        return self.samples // (self.batch_size * self.processes)

    @property
    def updates(self) -> int:
        """Updates of an epoch; the last may have fewer forward passes than the others."""
        return -(-self.passes // self.accumulate)

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        return self.updates * self.epochs

    def passes_of(self, update: int) -> int:
        """Return the forward passes of an update, which is counted from the start of the run."""
        within = update % self.updates
        return min(self.accumulate, self.passes - within * self.accumulate)

    def order(self, epoch: int) -> List[int]:
        """Return all sample indices in the order of an epoch."""
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        return generator.permutation(self.samples).tolist()

    def batches(self, epoch: int, process: int, skipped: int = 0) -> Iterator[List[Any]]:
        """Yield the batches of one process in an epoch, without the first ``skipped``.

        A forward pass of all processes together takes the next ``batch_size * processes`` samples
        of the epoch's order, whatever the number of processes.
        """
        order = self.order(epoch)
        for number in range(skipped, self.passes):
            begin = (number * self.processes + process) * self.batch_size
            yield [(epoch, index) for index in order[begin : begin + self.batch_size]]


class Batches(Sampler[List[Any]]):
    """The batches of one process, from update ``start`` to the end of the run."""

    plan: Plan
    process: int
    start: int

    def __init__(self, plan: Plan, process: int, start: int = 0):
        self.plan, self.process, self.start = plan, process, start

    def __len__(self) -> int:
        done, within = divmod(self.start, self.plan.updates)
        return self.plan.passes * (self.plan.epochs - done) - within * self.plan.accumulate

    def __iter__(self) -> Iterator[List[Any]]:
        first, within = divmod(self.start, self.plan.updates)
        for epoch in range(first, self.plan.epochs):
            skipped = within * self.plan.accumulate if epoch == first else 0
            yield from self.plan.batches(epoch, self.process, skipped)
