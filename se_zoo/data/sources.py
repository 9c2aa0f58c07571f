"""Where the bytes of an image come from: files in a folder, or rows of a table."""

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import torch


class FileImages:
    """Images as files, by their names relative to a folder."""

    def __init__(self, root: Path, names: Sequence[str]):
        self.root = root
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """The file's name, for messages."""
        return self.names[row]

    def read(self, row: int) -> bytes:
        """The encoded image.

        Raises:
            OSError: If the file is missing or cannot be read.
        """
        return (self.root / self.names[row]).read_bytes()


def read_cell(cell: Optional[Dict[str, Any]]) -> bytes:
    """The encoded image of a cell of ``Image(decode=False)``.

    Raises:
        OSError: If it names a file that is missing or cannot be read.
        ValueError: If it holds no image.
    """
    if cell is None or (cell["bytes"] is None and not cell["path"]):
        raise ValueError("the row holds no image")
    if cell["bytes"] is not None:
        return cell["bytes"]
    if "://" not in cell["path"]:
        return Path(cell["path"]).read_bytes()
    import fsspec  # comes with datasets; a streamed row may name a file on the Hub

    with fsspec.open(cell["path"], "rb") as file:
        data: bytes = file.read()  # type: ignore[union-attr]
    return data


class RowImages:
    """Images in a column of a ``datasets.Dataset``, cast to ``Image(decode=False)``."""

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
        """The encoded image.

        Raises:
            OSError: If the row names a file that is missing or cannot be read.
            ValueError: If the row holds no image.
        """
        return read_cell(self.rows[row][self.column])


class Content(NamedTuple):
    """One split, as a layout's reader hands it over."""

    images: Union[FileImages, RowImages]
    labels: Tuple[str, ...]
    """Names of the classes or attributes, in the order of the targets."""
    targets: torch.Tensor
    """long (N,) or float (N, A)"""
