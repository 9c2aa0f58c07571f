"""Batches of tracks of similar length.

Tracks are cut to the shortest of their batch, not padded, because padding would enter the
statistics of the BatchNorms.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Iterator, List, NamedTuple, Tuple

import numpy as np

from ..resume.order import Plan


class Cut(NamedTuple):
    """A track in an epoch, cut to some of its frames."""

    epoch: int
    index: int
    frames: int


#: A group with less than this share of a batch's frames is left out: it would disturb BatchNorm.
_FILLED = 0.25


@dataclass(frozen=True)
class LengthPlan(Plan):
    """How tracks are divided into updates: sorted by length, in groups of so many frames.

    Every epoch sorts them a little differently, so groups and cuts change. The number of tracks in
    each group does not, so all epochs have the same size. The groups depend on the number of
    processes.

    Attributes:
        batch_size: Largest number of frames per process and forward pass.
        lengths: Frames of every track.
    """

    lengths: Tuple[int, ...] = ()

    @property
    def passes(self) -> int:
        """Forward passes of an epoch."""
        return len(self.sizes)

    @cached_property
    def sizes(self) -> Tuple[int, ...]:
        """Tracks per process of every group, from the shortest tracks to the longest.

        The shortest tracks are left out if they do not fill a group.
        """
        rest, found = sorted(self.lengths, reverse=True), []
        while len(rest) >= self.processes:
            # As many as fit if all are as long as the longest of them.
            count = max(1, self.batch_size // rest[0])
            count = min(count, len(rest) // self.processes)
            if found and count * rest[0] < _FILLED * self.batch_size:
                break
            found.append(count)
            rest = rest[count * self.processes :]
        return tuple(found[::-1])

    @property
    def used(self) -> int:
        """Number of tracks that an epoch uses."""
        return sum(self.sizes) * self.processes

    def groups(self, epoch: int) -> List[Tuple[List[int], int]]:
        """Return the tracks of every forward pass of all processes, and their frames after cutting.

        They are in random order.
        """
        random = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        lengths = np.array(self.lengths)
        order = random.permutation(self.samples)  # epochs leave out others of the same length
        order = order[np.argsort(-lengths[order], kind="stable")][: self.used]
        order = order[np.argsort(lengths[order] * random.uniform(0.9, 1.1, len(order)))]
        found, begin = [], 0
        for size in self.sizes:
            group = order[begin : begin + size * self.processes]
            begin += len(group)
            frames = min(int(lengths[group].min()), max(1, self.batch_size // size))
            found.append((random.permutation(group).tolist(), frames))
        return [found[i] for i in random.permutation(len(found))]

    def batches(self, epoch: int, process: int, skipped: int = 0) -> Iterator[List[Cut]]:
        """Yield the batches of one process in an epoch, without the first ``skipped``."""
        for group, frames in self.groups(epoch)[skipped:]:
            size = len(group) // self.processes
            own = group[process * size : (process + 1) * size]
            yield [Cut(epoch, index, frames) for index in own]
