"""Decode the samples of a table in parallel; what is wrong with one is a finding, not an end."""

import os
from typing import Iterator, List, Sequence, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from ...errors import DataError
from .table import Finding, Table

#: Rows that a process decodes between two messages.
CHUNK = 16


TableKind = TypeVar("TableKind", bound=Table)


class _Probe(Dataset[Finding]):
    """Decodes rows of a table; an error is a finding."""

    def __init__(self, table: Table, rows: Sequence[int], glance: bool):
        self.table = table
        self.rows = rows
        self.glance = glance

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Finding:
        row = self.rows[index]
        return self.table.glance(row) if self.glance else self.table.inspect(row)


def _chunk(findings: List[Finding]) -> List[Finding]:
    return findings


def available_processes() -> int:
    """The CPUs that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # on Linux
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def decode(
    table: Table, rows: Sequence[int], workers: int, glance: bool = False
) -> Iterator[List[Finding]]:
    """Findings in the order of the rows, some at a time.

    By loader processes, so that the data is read as training will read it; 0: in this process.
    ``glance`` looks at as little of each as tells whether it can be used.

    Raises:
        DataError: If a process dies.
    """
    loader = DataLoader(
        _Probe(table, rows, glance),
        batch_size=CHUNK,
        num_workers=min(workers, -(-len(rows) // CHUNK)),
        collate_fn=_chunk,
        generator=torch.Generator(),  # or the loader would draw from the caller's random numbers
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
            "samples (out of memory, or a file that crashes the decoder); workers 0 decodes in one "
            "process."
        ) from error


def without_broken(table: TableKind) -> TableKind:
    """The table of the samples that can be used; its ``skipped`` says what the others lack.

    Raises:
        DataError: If none can be.
    """
    workers = 0 if len(table) < 4 * CHUNK else available_processes()
    findings = [f for chunk in decode(table, range(len(table)), workers, True) for f in chunk]
    kept = [finding.row for finding in findings if not finding.error]
    if not kept:
        raise DataError(f"{table.name} has nothing that can be used: {findings[0].error}")
    found = table.of_rows(kept)
    found.skipped = tuple(finding.error for finding in findings if finding.error)
    if not table.multi_label:
        gone = set(table.targets.tolist()) - set(found.targets.tolist())
        found.lost = tuple(table.labels[place] for place in sorted(gone))
    return found
