"""Explain any number of photos or videos in constant memory: a picture and a row for each."""

import json
import sys
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import InvalidInputError, SEZooError
from ..text import printable
from .explained import Explained, Question, explain_read, read, write_picture
from .printed import error_row, row_of
from .tables import writing_table

#: A batch is explained early when its photos have so many pixels: large photos take much memory.
_BATCH_PIXELS = 64_000_000
#: Broken files that are named at the end; the table names all.
_NAMED = 20


class Job(NamedTuple):
    """A file to explain, and its picture: where it goes, and its name in the table."""

    file: Path
    picture: Path
    name: str


class Settings(NamedTuple):
    """How files are read, explained and drawn; see the options of ``se-zoo explain``."""

    model: Any
    question: Question
    clip_config: Any
    batch_size: int
    workers: int
    top: Optional[int]
    alpha: float
    cmap: Optional[str]
    as_json: bool
    quiet: bool


class _Opened(NamedTuple):
    """A file as it was read: a photo or clip, or the error."""

    job: Job
    content: Any
    error: str


class Done(NamedTuple):
    """What became of the files.

    Attributes:
        failed: The files that could not be read, each with the reason.
        with_empty: Number of files with an empty map.
        empty: Number of empty maps of each label.
    """

    failed: List[Tuple[Path, str]]
    with_empty: int
    empty: Dict[str, int]


def explain_many(jobs: Sequence[Job], table: Path, settings: Settings) -> Done:
    """Explain files batch by batch, and write pictures and rows as they come.

    Files are read, and pictures drawn, in threads. At most two batches are in memory, and two files
    for each thread.

    Args:
        jobs: The files.
        table: The table; its folder is made.
        settings: How.

    Returns:
        Which files could not be read, and how many maps are empty.

    Raises:
        InvalidInputError: If a picture cannot be written. The rows so far stay in the table's part.
    """
    from tqdm import tqdm

    failed: List[Tuple[Path, str]] = []
    with_empty, labels = 0, Counter[str]()
    waiting: Deque[Tuple[List[_Opened], List[Dict[str, Any]], List[Future[None]]]] = deque()
    table.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        write_row = stack.enter_context(writing_table(table))
        hidden = True if settings.quiet else None  # None: hidden where stderr is no terminal
        unit = "photo" if settings.clip_config is None else "video"
        bar: Any = stack.enter_context(tqdm(total=len(jobs), unit=f" {unit}s", disable=hidden))
        pool = stack.enter_context(ThreadPoolExecutor(settings.workers))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)

        def settle() -> None:
            nonlocal with_empty
            batch, rows, drawn = waiting.popleft()
            for future in drawn:
                future.result()
            for opened, row in zip(batch, rows, strict=True):
                if opened.error:
                    failed.append((opened.job.file, opened.error))
                with_empty += any(row["empty"])
                # Maps that know no label have none in their row.
                labels.update(n for n, e in zip(row["label"], row["empty"], strict=False) if e)
                write_row(row)
                if settings.as_json:
                    tqdm.write(json.dumps(row), file=sys.stdout)
                bar.update()

        for opened in _batches(_read_ahead(jobs, settings, pool), settings.batch_size):
            batch, rows, drawn = _explain_batch(opened, settings, pool)
            waiting.append(([one._replace(content=None) for one in batch], rows, drawn))
            if len(waiting) > 1:
                settle()
        while waiting:
            settle()
    return Done(failed, with_empty, dict(labels))


def _read_ahead(
    jobs: Sequence[Job], settings: Settings, pool: ThreadPoolExecutor
) -> Iterator[_Opened]:
    """Read files in threads, in order, two for each thread ahead of their use."""

    def open_one(job: Job) -> _Opened:
        try:
            return _Opened(job, read(job.file, settings.question, settings.clip_config), "")
        except (SEZooError, OSError) as error:
            return _Opened(job, None, _reason(error, job.file))

    ahead: Deque[Future[_Opened]] = deque()
    for job in jobs:
        ahead.append(pool.submit(open_one, job))
        if len(ahead) > 2 * settings.workers:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _reason(error: Exception, file: Path) -> str:
    """Return an error as one line without the file's name, which stands beside it."""
    text = " ".join(str(error).split())
    return text.removeprefix(f"{file}: ")


def _batches(opened: Iterator[_Opened], size: int) -> Iterator[List[_Opened]]:
    """Put files into batches of a size, or fewer where they are large."""
    batch: List[_Opened] = []
    pixels = 0
    for one in opened:
        batch.append(one)
        if one.content is not None:
            pixels += one.content.pixels
        if len(batch) == size or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _explain_batch(
    given: Sequence[_Opened], settings: Settings, pool: ThreadPoolExecutor
) -> Tuple[List[_Opened], List[Dict[str, Any]], List["Future[None]"]]:
    """Explain a batch; return it, a row for each file, and the drawings that threads work on."""
    batch, found = _explained(given, settings)
    explained = iter(found)
    rows, drawn = [], []
    for opened in batch:
        file = str(opened.job.file)
        if opened.error:
            rows.append(error_row(file, opened.error))
            continue
        one: Explained = next(explained)
        rows.append(row_of(one.explanation, file, opened.job.name, one.region, settings.top))
        drawn.append(
            pool.submit(write_picture, opened.job.picture, one, settings.alpha, settings.cmap)
        )
    return batch, rows, drawn


def _explained(
    batch: Sequence[_Opened], settings: Settings
) -> Tuple[List[_Opened], List[Explained]]:
    """Explain a batch; a photo whose prediction is the class to compare with gets an error."""
    contents = [opened.content for opened in batch if not opened.error]
    question = settings.question
    try:
        return list(batch), explain_read(settings.model, contents, question)
    except InvalidInputError as error:
        if question.versus is None or question.targets is not None:
            raise
        if len(batch) == 1:
            return [batch[0]._replace(error=_reason(error, batch[0].job.file))], []
    parts = [_explained([opened], settings) for opened in batch]
    return [one for (one,), _ in parts], [found for _, some in parts for found in some]


def name_failures(failed: Sequence[Tuple[Path, str]]) -> None:
    """Print the files that could not be read to stderr, each with the reason."""
    if not failed:
        return
    lines = [f"{len(failed):,} {'file' if len(failed) == 1 else 'files'} could not be explained:"]
    lines += [f"  {printable(str(file))}: {printable(reason)}" for file, reason in failed[:_NAMED]]
    if len(failed) > _NAMED:
        lines.append(f"  and {len(failed) - _NAMED:,} more")
    print("\n".join(lines), file=sys.stderr)
