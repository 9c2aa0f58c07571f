"""Sources of encoded samples: files in a folder, or rows of a ``datasets`` table."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch


class StoredFiles:
    """Samples that are files.

    Args:
        root: Folder of the files.
        names: File of each sample, relative to ``root``.
    """

    def __init__(self, root: Path, names: Sequence[str]):
        self.root = root
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """Return a sample's file name, for messages."""
        return self.names[row]

    def read(self, row: int) -> bytes:
        """Return an encoded sample.

        Raises:
            OSError: If the file is missing or cannot be read.
        """
        return (self.root / self.names[row]).read_bytes()

    def source(self, row: int) -> Union[Path, bytes]:
        """Return a sample's file, for readers that need only a part of it."""
        return self.root / self.names[row]


def read_cell(cell: Optional[Dict[str, Any]]) -> bytes:
    """Return the encoded sample of a cell of ``Image(decode=False)`` or ``Video(decode=False)``.

    Raises:
        OSError: If the cell names a file that is missing or cannot be read.
        ValueError: If the cell is empty.
    """
    if cell is None or (cell["bytes"] is None and not cell["path"]):
        raise ValueError("the row is empty")
    if cell["bytes"] is not None:
        return cell["bytes"]
    if "://" not in cell["path"]:
        return Path(cell["path"]).read_bytes()
    import fsspec  # a dependency of datasets; a streamed row may name a file on the Hub

    with fsspec.open(cell["path"], "rb") as file:
        data: bytes = file.read()  # type: ignore[union-attr]
    return data


class StoredRows:
    """Samples in a column of a ``datasets.Dataset`` that does not decode them.

    Args:
        rows: The data set.
        column: Name of the column.
    """

    def __init__(self, rows: Any, column: str):
        self.rows = rows
        self.column = column

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """Return the file name that the data set stores, for messages; often empty."""
        cell = self.rows[row][self.column]
        return (cell or {}).get("path") or ""

    def read(self, row: int) -> bytes:
        """Return an encoded sample.

        Raises:
            OSError: If the row names a file that is missing or cannot be read.
            ValueError: If the row is empty.
        """
        return read_cell(self.rows[row][self.column])

    def source(self, row: int) -> Union[Path, bytes]:
        """Return the file that a row names, or else the encoded sample.

        Raises:
            OSError: If the row names a file that is missing or cannot be read.
            ValueError: If the row is empty.
        """
        cell = self.rows[row][self.column]
        if cell is not None and cell["bytes"] is None and "://" not in (cell["path"] or "://"):
            return Path(cell["path"])
        return read_cell(cell)


class Content(NamedTuple):
    """The content of one split, independent of its layout."""

    stored: Union[StoredFiles, StoredRows]
    labels: Tuple[str, ...]
    """Names of the classes or attributes, in the order of the targets."""
    targets: torch.Tensor
    """Class indices, int64 (N,), or attributes of 0 and 1, float32 (N, A)."""
    parts: Optional[List[Tuple[float, float]]] = None
    """Start and end of each sample in its file, in seconds; None if samples are whole files."""
