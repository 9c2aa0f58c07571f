"""Decode the samples of a table in parallel; errors are returned, not raised."""

import os
from typing import Iterator, List, Sequence, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from ...errors import DataError
from .table import Finding, Table

#: Rows that a process decodes before it returns their findings.
_CHUNK = 16
#: Most loader processes for each CPU.
_PROCESSES_A_CPU = 16


_TableKind = TypeVar("_TableKind", bound=Table)


class _Probe(Dataset[Finding]):
    """Map-style data set of the findings of some rows of a table."""

    def __init__(self, table: Table, rows: Sequence[int], quick: bool):
        self.table = table
        self.rows = rows
        self.quick = quick

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Finding:
        row = self.rows[index]
        return self.table.inspect_quickly(row) if self.quick else self.table.inspect(row)


def _as_list(findings: List[Finding]) -> List[Finding]:
    return findings


def available_processes() -> int:
    """Return the number of CPUs that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # on Linux
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def most_processes() -> int:
    """Return the most loader processes that this machine takes; more would only take memory."""
    return _PROCESSES_A_CPU * available_processes()


def decode(
    table: Table, rows: Sequence[int], workers: int, quick: bool = False
) -> Iterator[List[Finding]]:
    """Decode rows and return their findings, in order, a chunk at a time.

    Args:
        table: The table.
        rows: Rows to decode.
        workers: Number of loader processes, which read the data as training does; 0 decodes in
            this process.
        quick: Call ``inspect_quickly``, which decodes only a part of each sample.

    Yields:
        The findings of some rows.

    Raises:
        DataError: If a process dies.
    """
    loader = DataLoader(
        _Probe(table, rows, quick),
        batch_size=_CHUNK,
        num_workers=min(workers, -(-len(rows) // _CHUNK)),
        collate_fn=_as_list,
        generator=torch.Generator(),  # else the loader draws from torch's default generator
    )
    done = 0
    try:
        for chunk in loader:
            done += len(chunk)
            yield chunk
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a process that decoded {table.name} died after about {done} of {len(rows)} "
            "samples (out of memory, or a file that crashes the decoder). Set workers to 0 to "
            "decode in one process."
        ) from error


def without_broken(table: _TableKind) -> _TableKind:
    """Return the table without the samples that cannot be used.

    Its ``skipped`` has their errors, and ``lost`` the classes without a sample left.

    Raises:
        DataError: If no sample is left.
    """
    workers = 0 if len(table) < 4 * _CHUNK else available_processes()
    findings = [f for chunk in decode(table, range(len(table)), workers, True) for f in chunk]
    kept = [finding.row for finding in findings if not finding.error]
    if not kept:
        raise DataError(
            f"{table.name} has no usable {table.noun}s; the first error: {findings[0].error}"
        )
    usable = table.of_rows(kept)
    usable.unskipped = table
    usable.skipped = tuple(finding.error for finding in findings if finding.error)
    if not table.multi_label:
        gone = set(table.targets.tolist()) - set(usable.targets.tolist())
        usable.lost = tuple(table.labels[place] for place in sorted(gone))
    return usable
