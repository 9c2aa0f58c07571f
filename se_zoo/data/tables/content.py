"""Where the bytes of a sample come from: files in a folder, or rows of a table."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch


class StoredFiles:
    """Samples as files, by their names relative to a folder."""

    def __init__(self, root: Path, names: Sequence[str]):
        self.root = root
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """The file's name, for messages."""
        return self.names[row]

    def read(self, row: int) -> bytes:
        """The sample as it is stored.

        Raises:
            OSError: If the file is missing or cannot be read.
        """
        return (self.root / self.names[row]).read_bytes()

    def source(self, row: int) -> Union[Path, bytes]:
        """The file, for readers that need not have all of it."""
        return self.root / self.names[row]


def read_cell(cell: Optional[Dict[str, Any]]) -> bytes:
    """The encoded sample of a cell of ``Image(decode=False)`` or ``Video(decode=False)``.

    Raises:
        OSError: If it names a file that is missing or cannot be read.
        ValueError: If it holds none.
    """
    if cell is None or (cell["bytes"] is None and not cell["path"]):
        raise ValueError("the row is empty")
    if cell["bytes"] is not None:
        return cell["bytes"]
    if "://" not in cell["path"]:
        return Path(cell["path"]).read_bytes()
    import fsspec  # comes with datasets; a streamed row may name a file on the Hub

    with fsspec.open(cell["path"], "rb") as file:
        data: bytes = file.read()  # type: ignore[union-attr]
    return data


class StoredRows:
    """Samples in a column of a ``datasets.Dataset`` that does not decode them."""

    def __init__(self, rows: Any, column: str):
        self.rows = rows
        self.column = column

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """The file's name as the data set kept it, for messages; often empty."""
        cell = self.rows[row][self.column]
        return (cell or {}).get("path") or ""

    def read(self, row: int) -> bytes:
        """The sample as it is stored.

        Raises:
            OSError: If the row names a file that is missing or cannot be read.
            ValueError: If the row is empty.
        """
        return read_cell(self.rows[row][self.column])

    def source(self, row: int) -> Union[Path, bytes]:
        """A file that the row names, or its bytes.

        Raises:
            OSError: As :meth:`read`.
            ValueError: As :meth:`read`.
        """
        cell = self.rows[row][self.column]
        if cell is not None and cell["bytes"] is None and "://" not in (cell["path"] or "://"):
            return Path(cell["path"])
        return read_cell(cell)


class Content(NamedTuple):
    """One split, as a layout's reader hands it over."""

    stored: Union[StoredFiles, StoredRows]
    labels: Tuple[str, ...]
    """Names of the classes or attributes, in the order of the targets."""
    targets: torch.Tensor
    """long (N,) or float (N, A)"""
    parts: Optional[List[Tuple[float, float]]] = None
    """Start and end, in seconds, of each sample in its file; None: the samples are whole files."""
