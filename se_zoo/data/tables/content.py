"""Sources of encoded samples: files in a folder, or rows of a ``datasets`` table.

A table may come from anyone, and names files. So they are read from the data's folder alone, unless
``outside`` is set (:class:`Reach`), and only if they are regular files.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch

from ...files import check_regular, read_regular
from ..config import TableConfig
from .fingerprint import digest_of, files_digest

#: Largest encoded sample that is read into memory, in bytes.
_MAX_BYTES = 2**31
#: Parts of the addresses under which ``datasets`` names files inside archives.
_ARCHIVES = ("zip://", "tar://", "gzip://", "bz2://", "xz://", "zstd://", "lz4://")
_ALLOW = "set outside (--data.outside, or --outside of se-zoo check) if you trust the data"


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


@lru_cache(maxsize=64)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def leads_out(folder: Path, name: str) -> bool:
    """Return whether a name leads out of a folder, by ``..`` or as an absolute path.

    Links inside the folder are not followed here, but when the file is read.
    """
    base = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(base, name))
    return not (_is_below(path, base) or _is_below(os.path.realpath(path), os.path.realpath(base)))


@dataclass(frozen=True)
class Reach:
    """The files that the rows of a table may name.

    Attributes:
        folders: Folders in which they lie; relative names are relative to the first.
        address: Beginning of the addresses that are read too; "" if there are none.
        outside: Read any other file and address as well.
    """

    folders: Tuple[Path, ...]
    address: str = ""
    outside: bool = False

    def file(self, name: str) -> Path:
        """Return the file that a row names.

        Raises:
            OSError: If it is missing, is no regular file, or lies outside the folders.
            ValueError: If no file can have the name.
        """
        path = self.folders[0] / name
        check_regular(path)
        if not self.outside:
            real = os.path.realpath(path)
            if not any(
                _is_below(real, _real_folder(os.path.abspath(folder))) for folder in self.folders
            ):
                raise PermissionError(f"{name!r} lies outside {self.folders[0]}; {_ALLOW}")
        return path

    def open(self, address: str) -> bytes:
        """Read what a row names by an address, such as a file on the Hub.

        Raises:
            OSError: If the address is of another place, or cannot be read.
        """
        parts = address.split("::")
        own = self.address and parts[-1].startswith(self.address)
        own = own and all(part.startswith(_ARCHIVES) for part in parts[:-1])
        if not (own or self.outside):
            raise PermissionError(f"the row names the address {address!r}; {_ALLOW}")
        import fsspec  # a dependency of datasets

        with fsspec.open(address, "rb") as file:
            data: bytes = file.read(_MAX_BYTES)  # type: ignore[union-attr]
        return data


def reach_of(config: TableConfig) -> Reach:
    """Return which files the rows of a data set may name."""
    if Path(config.path).is_dir():
        return Reach((Path(config.path),), outside=config.outside)
    return hub_reach(config.path, config.outside)


def hub_reach(name: str, outside: bool = False) -> Reach:
    """Return which files the rows of a data set of the Hub may name."""
    from datasets import config as cache
    from huggingface_hub import constants

    # What datasets fetched from the Hub lies in these.
    caches = (Path(constants.HF_HUB_CACHE), Path(cache.HF_DATASETS_CACHE))
    return Reach(caches, f"hf://datasets/{name}@", outside)


class StoredFiles:
    """Samples that are files.

    Args:
        root: Folder of the files.
        names: File of each sample, relative to ``root``.
        outside: Read files outside ``root``, too.
    """

    root: Path
    reach: "Reach"
    names: "Sequence[str]"

    def __init__(self, root: Path, names: Sequence[str], outside: bool = False):
        self.root, self.names = root, names
        self.reach = Reach((root,), outside=outside)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """Return a sample's file name, for messages."""
        return self.names[row]

    def read(self, row: int) -> bytes:
        """Return an encoded sample.

        Raises:
            OSError: If the file is missing, cannot be read, or lies outside the folder.
        """
        return read_regular(self.reach.file(self.names[row]), _MAX_BYTES)

    def source(self, row: int) -> Union[Path, bytes]:
        """Return a sample's file, for readers that need only a part of it."""
        return self.reach.file(self.names[row])

    def files(self, rows: Sequence[int]) -> Iterator[Tuple[str, Path]]:
        """Yield name and place of the files of some rows."""
        return ((self.names[row], self.root / self.names[row]) for row in rows)

    def fingerprint(self, rows: Sequence[int]) -> str:
        """Return a digest of the files of some rows."""
        return files_digest(self.files(rows))


def read_cell(cell: Optional[Dict[str, Any]], reach: Reach) -> bytes:
    """Return the encoded sample of a cell of ``Image(decode=False)`` or ``Video(decode=False)``.

    Args:
        cell: The cell.
        reach: Which files it may name.

    Raises:
        OSError: If the cell names a file that is missing or cannot be read, or must not be.
        ValueError: If the cell is empty.
    """
    if cell is None or (cell["bytes"] is None and not cell["path"]):
        raise ValueError("the row is empty")
    if cell["bytes"] is not None:
        return cell["bytes"]
    if _is_address(cell["path"]):
        return reach.open(cell["path"])
    return read_regular(reach.file(cell["path"]), _MAX_BYTES)


def _is_address(path: str) -> bool:
    return "://" in path or "::" in path


class StoredRows:
    """Samples in a column of a ``datasets.Dataset`` that does not decode them.

    Args:
        rows: The data set.
        column: Name of the column.
        reach: Which files its cells may name.
        file: The parquet file of the rows; None for Hub data.
    """

    rows: "Any"
    reach: "Reach"
    file: Path | None
    column: str

    def __init__(self, rows: Any, column: str, reach: Reach, file: Optional[Path] = None):
        self.rows, self.column = rows, column
        self.reach, self.file = reach, file

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """Return the file name that the data set stores, for messages; often empty."""
        cell = self.rows[row][self.column]
        return (cell or {}).get("path") or ""

    def read(self, row: int) -> bytes:
        """Return an encoded sample.

        Raises:
            OSError: If the row names a file that is missing or cannot be read, or must not be.
            ValueError: If the row is empty.
        """
        return read_cell(self.rows[row][self.column], self.reach)

    def source(self, row: int) -> Union[Path, bytes]:
        """Return the file that a row names, or else the encoded sample.

        Raises:
            OSError: If the row names a file that is missing or cannot be read, or must not be.
            ValueError: If the row is empty.
        """
        cell = self.rows[row][self.column]
        if cell is not None and cell["bytes"] is None:
            path = cell["path"] or ""
            if path and not _is_address(path):
                return self.reach.file(path)
        return read_cell(cell, self.reach)

    def fingerprint(self, rows: Sequence[int]) -> str:
        """Return a digest of the rows' file, and of the files that some rows name."""
        if self.file is None:
            return digest_of(*(_cache_name(Path(f["filename"])) for f in self.rows.cache_files))
        named = [(name, self.reach.folders[0] / name) for name in self._named(rows)]
        return files_digest([(self.file.name, self.file), *named])

    def _named(self, rows: Sequence[int]) -> List[str]:
        """Return the files that some rows name instead of holding the sample."""
        import pyarrow.compute as compute

        field: Any = compute.struct_field  # type: ignore[attr-defined]
        column = self.rows.with_format("arrow")[:].column(self.column)
        if not field(column, "bytes").null_count:
            return []
        paths = field(column, "path").to_pylist()
        return [paths[row] for row in rows if paths[row] and not _is_address(paths[row])]


def _cache_name(file: Path) -> str:
    """Return what names a file of datasets' cache: its folder is a hash of commit and options."""
    return f"{file.parent.name}/{file.name}"


class Content(NamedTuple):
    """The content of one split, independent of its layout."""

    stored: Union[StoredFiles, StoredRows]
    labels: Tuple[str, ...]
    """Names of the classes or attributes, in the order of the targets."""
    targets: torch.Tensor
    """Class indices, int64 (N,), or attributes of 0 and 1, float32 (N, A)."""
    parts: Optional[List[Tuple[float, float]]] = None
    """Start and end of each sample in its file, in seconds; None if samples are whole files."""
