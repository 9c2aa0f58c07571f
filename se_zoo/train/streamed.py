"""Batches of data that streams: any number of processes and workers, the same batches."""

from itertools import islice
from typing import Any, Iterator, List, Tuple

import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from ..data import ImageStream
from ..data.tables.stream import Row
from .config import Config
from .resume.order import Plan, mixed, seed_cpu
from .workers import loader_options

Batch = Tuple[torch.Tensor, torch.Tensor]


class _InTurn(IterableDataset[Batch]):
    """Every worker of every process reads the whole stream, but decodes only the batches whose turn
    is its own; the loader then takes from one worker after the other, so that the batches come in
    the order of the stream.

    The price of that order: the job is no faster than one reader, and reads the data once per
    worker. Data that fits on the disk is faster without streaming.
    """

    def groups(self) -> Iterator[List[Tuple[Tuple[int, int], Row]]]:
        """The rows of each batch of this process, with (epoch, place)."""
        raise NotImplementedError

    def sample(self, key: Tuple[int, int], row: Row) -> Tuple[torch.Tensor, Any]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for turn, group in enumerate(self.groups()):
            if turn % workers == number:
                yield default_collate([self.sample(key, row) for key, row in group])


class _Training(_InTurn):
    def __init__(self, stream: ImageStream, transform: Any, plan: Plan, process: int, start: int):
        self.stream, self.transform = stream, transform
        self.plan, self.process, self.start = plan, process, start

    def groups(self) -> Iterator[List[Tuple[Tuple[int, int], Row]]]:
        plan, size = self.plan, self.plan.batch_size
        first, within = divmod(self.start, plan.updates)
        for epoch in range(first, plan.epochs):
            rows = self.stream.shuffled(mixed(plan.seed, epoch) % 2**32)
            for number in range(plan.passes):
                everyone = list(islice(rows, size * plan.processes))
                if epoch > first or number >= within * plan.accumulate:
                    own = everyone[self.process * size : (self.process + 1) * size]
                    yield [((epoch, row.place), row) for row in own]

    def sample(self, key: Tuple[int, int], row: Row) -> Tuple[torch.Tensor, Any]:
        image = self.stream.decode(row)
        seed_cpu(self.plan.seed, *key)
        return self.transform(image), row.target


class _Evaluation(_InTurn):
    def __init__(
        self, stream: ImageStream, transform: Any, size: int, process: int, processes: int
    ):
        self.stream, self.transform, self.size = stream, transform, size
        self.process, self.processes = process, processes

    def groups(self) -> Iterator[List[Tuple[Tuple[int, int], Row]]]:
        rows = islice(self.stream, self.process, None, self.processes)
        while group := list(islice(rows, self.size)):
            yield [((0, row.place), row) for row in group]

    def sample(self, key: Tuple[int, int], row: Row) -> Tuple[torch.Tensor, Any]:
        return self.transform(self.stream.decode(row)), row.target


def _loader(batches: _InTurn, config: Config) -> DataLoader:
    return DataLoader(
        batches,
        batch_size=None,  # they are batches already
        **loader_options(config.run),
    )


def streamed_training(
    stream: ImageStream, transform: Any, config: Config, plan: Plan, process: int, start: int
) -> DataLoader:
    """Batches of one process from update ``start`` to the end of the run.

    The rows before it are read again, though not decoded.
    """
    return _loader(_Training(stream, transform, plan, process, start), config)


def streamed_evaluation(
    stream: ImageStream, transform: Any, config: Config, process: int, processes: int
) -> DataLoader:
    """Batches of one process's share of a split: every ``processes``-th image."""
    size = config.optim.batch_size
    return _loader(_Evaluation(stream, transform, size, process, processes), config)
