"""Batches of streamed data: the same batches for any number of processes and workers."""

from itertools import islice
from typing import Any, Iterator, List, Tuple

import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from ..data import ImageStream
from ..data.tables.stream import Row
from .config import Config
from .resume.order import Plan, mixed_seed, seed_cpu
from .workers import loader_options

Batch = Tuple[torch.Tensor, torch.Tensor]


class _StreamedBatches(IterableDataset[Batch]):
    """Batches of one process, in the order of the stream.

    Every worker of every process reads the whole stream, but decodes only every n-th batch, where n
    is the number of workers. The loader takes a batch from one worker after the other.

    The price of that order: reading is no faster than one reader, and the data are read once per
    worker. Data that fit on the disk are faster without streaming.
    """

    def groups(self) -> Iterator[List[Tuple[Tuple[int, int], Row]]]:
        """Yield the rows of each batch of this process, with (epoch, place)."""
        raise NotImplementedError

    def sample(self, key: Tuple[int, int], row: Row) -> Tuple[torch.Tensor, Any]:
        """Return the model's input and the target of a row."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index, group in enumerate(self.groups()):
            if index % workers == number:
                yield default_collate([self.sample(key, row) for key, row in group])


class _Training(_StreamedBatches):
    """Batches of the training split, shuffled and augmented."""

    def __init__(self, stream: ImageStream, transform: Any, plan: Plan, process: int, start: int):
        self.stream, self.transform = stream, transform
        self.plan, self.process, self.start = plan, process, start

    def groups(self) -> Iterator[List[Tuple[Tuple[int, int], Row]]]:
        """Yield the rows of each batch of this process, with (epoch, place)."""
        plan, size = self.plan, self.plan.batch_size
        first, within = divmod(self.start, plan.updates)
        for epoch in range(first, plan.epochs):
            rows = self.stream.shuffled(mixed_seed(plan.seed, epoch) % 2**32)
            for number in range(plan.passes):
                everyone = list(islice(rows, size * plan.processes))
                if epoch > first or number >= within * plan.accumulate:
                    own = everyone[self.process * size : (self.process + 1) * size]
                    yield [((epoch, row.place), row) for row in own]

    def sample(self, key: Tuple[int, int], row: Row) -> Tuple[torch.Tensor, Any]:
        """Return the augmented image and the target of a row."""
        image = self.stream.decode(row)
        seed_cpu(self.plan.seed, *key)
        return self.transform(image), row.target


class _Evaluation(_StreamedBatches):
    """Batches of one process's share of a split."""

    def __init__(
        self, stream: ImageStream, transform: Any, size: int, process: int, processes: int
    ):
        self.stream, self.transform, self.size = stream, transform, size
        self.process, self.processes = process, processes

    def groups(self) -> Iterator[List[Tuple[Tuple[int, int], Row]]]:
        """Yield the rows of each batch of this process, with (0, place)."""
        rows = islice(self.stream, self.process, None, self.processes)
        while group := list(islice(rows, self.size)):
            yield [((0, row.place), row) for row in group]

    def sample(self, key: Tuple[int, int], row: Row) -> Tuple[torch.Tensor, Any]:
        """Return the image and the target of a row."""
        return self.transform(self.stream.decode(row)), row.target


def _loader(batches: _StreamedBatches, config: Config) -> "DataLoader[Any]":
    """Return a loader of what are batches already."""
    return DataLoader(
        batches,
        batch_size=None,
        **loader_options(config.run),
    )


def streamed_training(
    stream: ImageStream, transform: Any, config: Config, plan: Plan, process: int, start: int
) -> "DataLoader[Any]":
    """Return the batches of one process from update ``start`` to the end of the run.

    The rows before are read again, but not decoded.
    """
    return _loader(_Training(stream, transform, plan, process, start), config)


def streamed_evaluation(
    stream: ImageStream, transform: Any, config: Config, process: int, processes: int
) -> "DataLoader[Any]":
    """Return the batches of one process's share of a split: every ``processes``-th image."""
    size = config.optim.batch_size
    return _loader(_Evaluation(stream, transform, size, process, processes), config)
