"""Predict and explain a data set into parquet files, each of which is written whole or not at all.

A file holds a fixed range of one part of the source, and a batch never crosses a file. Any file can
therefore be made again, equal to the bit, by any process, in any sequence; a run that was killed
goes on with the files that are missing, and processes need not talk to each other.
"""

import json
import os
import queue
import threading
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from torch.utils.data import DataLoader, Dataset

from ...errors import InvalidInputError
from ...files import replacing, write_json
from ..batch import BatchExplainer
from ..part_files import MADE_WITH, error_count, intact_rows, length_in, part_file, part_files
from ..prepare import Prepared, Preprocess
from ..rows import schema
from .manifest import begin, made_with
from .sources import Records, Source

schema()  # where pyarrow is missing, say how to get it before it is imported

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

COMPLETE = "complete.json"
#: Columns whose values repeat. Dictionaries of the others, random floats, would only cost space.
_REPEATED: Any = [
    "error", "region.list.element", "top.list.element.class", "top.list.element.label",
    "target.list.element", "label.list.element", "versus.list.element", "grid.list.element",
    "exact", "weights",
]  # fmt: skip


class Summary(NamedTuple):
    """What a folder of predictions holds when all of it is there.

    Attributes:
        rows: Number of photos.
        errors: Number of those that could not be read.
        files: Number of parquet files.
    """

    rows: int
    errors: int
    files: int


class Task(NamedTuple):
    """A batch: photos ``start`` to ``stop`` of a part, in the file of number ``unit``."""

    part: int
    unit: int
    start: int
    stop: int
    ends_unit: bool
    ends_part: bool = False  # set for streamed parts only, whose length is then known
    records: Optional[Records] = None  # of streamed parts, which workers cannot read


class _Batches(Dataset):  # type: ignore[type-arg]
    """Read and prepare batches, in loader processes."""

    def __init__(self, source: Source, preprocess: Preprocess):
        self.source, self.preprocess = source, preprocess

    def __getitem__(self, task: Task) -> Tuple[Task, Prepared]:
        records = task.records
        if records is None:
            records = self.source.read(task.part, task.start, task.stop)
        ids, images = [name for name, _ in records], [image for _, image in records]
        return task._replace(records=None), self.preprocess(ids, images)


class Run:
    """A process's share of predicting a data set.

    Args:
        source: The data set.
        out: Folder of the predictions.
        explainer: The model, and what is asked of it.
        batch_size: Photos that the model gets at a time.
        rows_per_file: Rows of a parquet file.
        process: Number of this process, and number of processes.
    """

    world: int
    source: "Source"
    rows_per_file: int
    rank: int
    out: Path
    finished: dict[str, int]
    explainer: "BatchExplainer"
    counts: list[int | None]
    batch_size: int

    def __init__(
        self,
        source: Source,
        out: Path,
        explainer: BatchExplainer,
        batch_size: int,
        rows_per_file: int,
        process: Tuple[int, int] = (0, 1),
    ):
        self.source, self.out, self.explainer = source, out, explainer
        self.batch_size, self.rows_per_file = batch_size, rows_per_file
        self.rank, self.world = process
        self.counts = list(source.counts)
        for part, count in enumerate(self.counts):
            if count is None:
                self.counts[part] = length_in(self.end_file(part))
        found = {file.name: intact_rows(file) for file in part_files(out)}
        self.finished = {name: rows for name, rows in found.items() if rows}

    def file(self, part: int, unit: int) -> Path:
        """Return the file of a range of a part."""
        return part_file(self.out, part, unit)

    def end_file(self, part: int) -> Path:
        """Return the file that says how many photos a streamed part has."""
        return self.out / f"part-{part:05d}.end"

    def units(self, part: int) -> Iterator[Tuple[int, range]]:
        """Yield number and photos of each file of a part whose length is known."""
        count, step = self.counts[part] or 0, self.rows_per_file
        for unit, first in enumerate(range(0, count, step)):
            yield unit, range(first, min(first + step, count))

    def missing(self) -> Iterator[Tuple[int, int, range]]:
        """Yield part, number and photos of the files that this process has to make."""
        number = 0
        for part in range(len(self.counts)):
            for unit, photos in self.units(part):
                mine = number % self.world == self.rank
                number += 1
                if mine and self.finished.get(self.file(part, unit).name) != len(photos):
                    yield part, unit, photos

    def streamed(self) -> List[int]:
        """Return the parts of unknown length that this process has to read."""
        unknown = [part for part, count in enumerate(self.counts) if count is None]
        return [part for part in unknown if part % self.world == self.rank]

    def tasks(self) -> Iterator[Task]:
        """Yield the batches that this process has to do, file by file."""
        for part, unit, photos in self.missing():
            for start in photos[:: self.batch_size]:
                stop = min(start + self.batch_size, photos.stop)
                yield Task(part, unit, start, stop, stop == photos.stop)
        for part in self.streamed():
            yield from _read_ahead(self._stream(part))

    def _stream(self, part: int) -> Iterator[Task]:
        """Yield the batches of a part of unknown length, behind the files that are there."""
        unit = 0
        while self.finished.get(self.file(part, unit).name) == self.rows_per_file:
            unit += 1
        start = unit * self.rows_per_file
        source: Any = self.source
        records = source.stream(part, start)
        following = next(records, None)
        if following is None:  # killed between the last file and the record of the end
            write_json(self.end_file(part), start)
        while following is not None:
            unit = start // self.rows_per_file
            room = min(self.batch_size, (unit + 1) * self.rows_per_file - start)
            batch = [following, *islice(records, room - 1)]
            following, stop = next(records, None), start + len(batch)
            last = following is None
            ends_unit = last or stop % self.rows_per_file == 0
            yield Task(part, unit, start, stop, ends_unit, last, batch)
            start = stop

    def batches(self, workers: int) -> Iterable[Tuple[Task, Prepared]]:
        """Return a loader of the batches that this process has to do, in their sequence.

        Args:
            workers: Number of loader processes; 0 reads in this one.
        """
        loader: Any = DataLoader(
            _Batches(self.source, self.explainer.preprocess),
            batch_size=None,
            sampler=_Once(self.tasks()),  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=next(self.explainer.model.parameters()).is_cuda,
        )
        return loader

    def work(self, workers: int, bar: Any = None) -> None:
        """Make the files that are missing.

        Args:
            workers: As for :meth:`batches`.
            bar: A tqdm bar that counts photos.

        Raises:
            InvalidInputError: If a loader process was killed, where the message says after which
                photo, or the data set is gone.
        """
        tables: List[Any] = []
        made = made_with(self.explainer.model)
        ahead = max(1, 2 * workers) * self.batch_size
        place = f"the first {ahead} photos of this run"
        try:
            for task, photos in self.batches(workers):
                place = f"the {ahead} photos after {photos.ids[-1]!r}"
                tables.append(self.explainer.explain(photos))
                if task.ends_unit:
                    rows, tables = pa.concat_tables(tables), []
                    self._refuse_gone(rows)
                    write_rows(self.file(task.part, task.unit), rows, made)
                    if task.ends_part:
                        write_json(self.end_file(task.part), task.stop)
                if bar is not None:
                    bar.update(len(photos.ids))
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            # Its photo may be too large for the memory, or break the decoder.
            raise InvalidInputError(
                f"a process that reads photos was killed ({' '.join(str(error).split())}) at one "
                f"of {place}. Where memory is short, give fewer --workers. If it happens there "
                "again, find the photo with a smaller --batch-size, and leave it out; for both, "
                "give --out a new folder."
            ) from error

    def _refuse_gone(self, rows: Any) -> None:
        """Refuse rows with errors if the data set is gone, as a disk of the network may be.

        Their file would be finished, so that their photos would never be read again.
        """
        errors = len(rows) - rows["error"].null_count
        if errors and self.source.first is not None and not os.path.lexists(self.source.first):
            raise InvalidInputError(
                f"{self.source.first} is gone, and {errors} of the last {len(rows)} photos cannot "
                "be read: where a disk was lost, bring it back. The same command then goes on."
            )

    def finish(self) -> Optional[Summary]:
        """Write the record that all is there, if it is, whichever process made it.

        Returns:
            What is there; None if files of other processes are missing.

        Raises:
            InvalidInputError: If a file is damaged, or there is one too many.
        """
        done = Run(self.source, self.out, self.explainer, self.batch_size, self.rows_per_file)
        if None in done.counts or next(done.missing(), None):
            return None
        files = sorted(self.out / name for name in done.finished)
        own = {done.file(part, unit) for part in range(len(done.counts))
               for unit, _ in done.units(part)}  # fmt: skip
        if strange := [file for file in files if file not in own]:
            raise InvalidInputError(f"{strange[0]} is of other predictions; remove it.")
        errors = sum(map(error_count, files))
        summary = Summary(sum(done.finished.values()), errors, len(files))
        for left in self.out.glob("*.tmp"):  # of killed processes; none is at work any more
            # But another process that ends now may be writing this record.
            if not left.name.startswith(COMPLETE):
                left.unlink(missing_ok=True)
        write_json(self.out / COMPLETE, summary._asdict())
        return summary


def predict(
    source: Source,
    out: Path,
    explainer: BatchExplainer,
    *,
    batch_size: int = 64,
    rows_per_file: int = 1024,
    workers: int = 0,
    process: Tuple[int, int] = (0, 1),
    info: Optional[Dict[str, Any]] = None,
    progress: bool = False,
) -> Optional[Summary]:
    """Predict and explain a data set into parquet files; go on if some of them are there.

    Args:
        source: The data set, see :func:`open_source`.
        out: Folder of the predictions.
        explainer: The model, and what is asked of it.
        batch_size: Photos that the model gets at a time.
        rows_per_file: Rows of a parquet file.
        workers: Loader processes.
        process: Number of this process, and number of processes.
        info: Further entries of the manifest.
        progress: Whether to show a bar on standard error.

    Returns:
        What the folder holds when all is there; None if files of other processes are missing.

    Raises:
        InvalidInputError: If the folder holds something else or cannot be written, a file in it is
            damaged, the data set is gone, or the options are no numbers above zero.
    """
    for name, value in (("batch size", batch_size), ("rows of a file", rows_per_file)):
        if value < 1:
            raise InvalidInputError(f"the {name} must be at least 1, not {value}.")
    facts = {
        "model": explainer.facts(),
        "source": source.facts(),
        "rows": {"batch_size": batch_size, "rows_per_file": rows_per_file},
    }
    try:
        begin(out, facts, info or {}, made_with(explainer.model))
        run = Run(source, out, explainer, batch_size, rows_per_file, process)
        if next(run.missing(), None) or run.streamed():  # a record would be of rows removed since
            (out / COMPLETE).unlink(missing_ok=True)
        with _bar(run, progress) as bar:
            run.work(workers, bar)
        return run.finish()
    except OSError as error:
        raise InvalidInputError(f"{out} cannot be written: {error}") from error


def write_rows(file: Path, table: Any, made: Mapping[str, str]) -> None:
    """Write a table of rows as a parquet file, whole or not at all.

    Args:
        file: The file.
        table: A ``pyarrow.Table`` in the columns of :func:`se_zoo.inference.rows.schema`.
        made: Result of :func:`.manifest.made_with`, which is kept in the file's metadata.
    """
    table = table.replace_schema_metadata({MADE_WITH: json.dumps(made)})
    with replacing(file) as temporary:
        pq.write_table(
            table, temporary, compression="zstd", use_dictionary=_REPEATED,
            write_page_checksum=True,
        )  # fmt: skip


def _bar(run: Run, progress: bool) -> Any:
    """Return a progress bar of the photos that this process has to do."""
    from tqdm import tqdm

    total = None if run.streamed() else sum(len(photos) for _, _, photos in run.missing())
    return tqdm(total=total, unit=" photos", disable=not progress or total == 0, smoothing=0.05)


class _Once:
    """An iterable that is read once; the loader wants no bare iterator."""

    def __init__(self, tasks: Iterator[Task]):
        self.tasks = tasks

    def __iter__(self) -> Iterator[Task]:
        return self.tasks


def _as_it_is(item: Any) -> Any:
    return item


def _read_ahead(items: Iterator[Task], depth: int = 2) -> Iterator[Task]:
    """Read an iterator in a thread, so that a network does not hold up the model."""
    ready: queue.Queue[Any] = queue.Queue(depth)

    def read() -> None:
        try:
            for item in items:
                ready.put(item)
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=read, daemon=True).start()
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item
