"""Decode the images of a table in parallel; what is wrong with one is a finding, not an end."""

import hashlib
import io
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError
from .images import read_rgb
from .tables import ImageTable

#: Rows that a process decodes between two messages.
CHUNK = 16


class Finding(NamedTuple):
    """What came of decoding one image."""

    row: int
    digest: bytes = b""
    size: Optional[Tuple[int, int]] = None
    """Width and height of the upright image."""
    error: str = ""


class _Probe(Dataset[Finding]):
    """Decodes rows of a table; an error is a finding."""

    def __init__(self, table: ImageTable, rows: Sequence[int]):
        self.table = table
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Finding:
        row = self.rows[index]
        try:
            data = self.table.encoded(row)
        except DataError as error:
            return Finding(row, error=str(error))
        try:
            size = read_rgb(io.BytesIO(data)).size
        except ValueError as error:
            return Finding(row, error=f"{self.table.where(row)}: {error}")
        return Finding(row, hashlib.blake2b(data, digest_size=16).digest(), size)


def _chunk(findings: List[Finding]) -> List[Finding]:
    return findings


def decode(table: ImageTable, rows: Sequence[int], workers: int) -> Iterator[List[Finding]]:
    """Findings in the order of the rows, some at a time.

    By loader processes, so that the data is read as training will read it; 0: in this process.

    Raises:
        DataError: If a process dies.
    """
    loader = DataLoader(
        _Probe(table, rows),
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
            f"a process that decoded {table.name} died after about {done} of {len(rows)} images "
            "(out of memory, or an image that crashes Pillow); workers 0 decodes in one process."
        ) from error
