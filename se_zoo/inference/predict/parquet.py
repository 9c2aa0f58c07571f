"""Photos in parquet files."""

import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import InvalidInputError
from .sources import Records, SourceOptions, readable

#: Rows that are held at a time.
_ROWS = 64
#: Rows of the first file that are looked at when it is opened.
_FIRST_ROWS = 8


class ParquetSource:
    """The rows of parquet files, in their order.

    An id is the file's relative path and the row's number, ``a.parquet#17``, or the value of a
    column. Files may come from anyone, and name photos instead of holding them; only photos below
    the root are read, unless the options allow others.

    Args:
        root: Folder that ids are relative to.
        files: The files.
        digest: SHA-256 of their names and sizes.
        options: Which columns are read.

    Raises:
        InvalidInputError: If a file is damaged, or has not the columns, or its first rows all name
            photos outside the root and the options do not allow it.
    """

    prefixes: list[str]
    image: str
    id: str | None
    bounds: Tuple[str, ...] | None
    files: "List[Path]"
    digest: str

    def __init__(self, root: Path, files: List[Path], digest: str, options: SourceOptions):
        self.files, self.digest = files, digest
        self.prefixes = [readable(os.fsencode(file.relative_to(root).as_posix())) for file in files]
        self.counts: List[Optional[int]] = []
        self.left_out: Dict[str, int] = {}
        self.first: Optional[Path] = files[0]
        schemas = []
        for file in files:
            try:
                footer = pq.read_metadata(file)
                schemas.append(footer.schema.to_arrow_schema())
            except (OSError, pa.ArrowException) as error:
                raise InvalidInputError(f"{file} is not a parquet file: {error}") from error
            self.counts.append(footer.num_rows)
        self.image = image_column(schemas[0], options.image, str(files[0]))
        self.id = options.id
        self.bounds = None if options.outside else _beginnings(root)
        for file, schema in zip(files, schemas, strict=True):
            for name in (self.image, self.id):
                if name is not None and name not in schema.names:
                    raise InvalidInputError(
                        f"{file} has no column {name!r}; it has {', '.join(schema.names)}."
                    )
        if self.bounds is not None:
            _refuse_outside(files[0], self.image, self.bounds)
        self._open: Optional[_Rows] = None

    def __getstate__(self) -> Dict[str, Any]:
        """Leave out the open file."""
        return {**self.__dict__, "_open": None}

    def read(self, part: int, start: int, stop: int) -> Records:
        """Return ids and encoded images; see :class:`Source`.

        Rows that cannot be read come with the error in place of the image.
        """
        file = self.files[part]
        columns = [self.image] if self.id is None else [self.image, self.id]
        names = [f"{self.prefixes[part]}#{row}" for row in range(start, stop)]
        try:
            if self._open is None or self._open.path != file:
                self._open = _Rows(file, columns)
            rows = self._open.read(start, stop)
        except (OSError, pa.ArrowException) as error:
            self._open = None
            # Without the file's name, which is no fact of the row.
            reason = ValueError(f"rows {start} to {stop} of the file are damaged: {error}")
            return [(name, reason) for name in names]
        stored = rows.column(self.image).to_pylist()
        cells = [_located(cell, file.parent, self.bounds) for cell in stored]
        if self.id is not None:
            found = rows.column(self.id).to_pylist()
            names = [n if v is None else str(v) for n, v in zip(names, found, strict=True)]
        return list(zip(names, cells, strict=True))

    def facts(self) -> Dict[str, Any]:
        """Return files, rows and columns; see :class:`Source`."""
        rows = sum(count or 0 for count in self.counts)
        columns = {"image": self.image, "id": self.id}
        facts = {"kind": "parquet", "files": len(self.files), "rows": rows, **columns,
                 "sha256": self.digest}  # fmt: skip
        # Photos outside are rows with an error otherwise.
        return {**facts, "outside": True} if self.bounds is None else facts


def image_column(schema: Any, given: Optional[str], where: str) -> str:
    """Return the name of the column with the images.

    Args:
        schema: A ``pyarrow.Schema``.
        given: The column that was asked for.
        where: Name of the data, for messages.

    Raises:
        InvalidInputError: If there is no such column, or none or several hold bytes.
    """

    def holds_bytes(kind: Any) -> bool:
        inner = [field.type for field in kind] if pa.types.is_struct(kind) else [kind]
        return any(pa.types.is_binary(k) or pa.types.is_large_binary(k) for k in inner)

    found = [field.name for field in schema if holds_bytes(field.type)]
    name = given or ("image" if "image" in schema.names else found[0] if len(found) == 1 else None)
    if name is None or name not in schema.names:
        raise InvalidInputError(
            f"{where} has no column {given or 'image'!r}; name the images' with --image. It has "
            f"{', '.join(schema.names)}."
        )
    return name


def _refuse_outside(file: Path, image: str, bounds: Tuple[str, ...]) -> None:
    """Refuse data whose first rows all name photos outside the folder.

    Args:
        file: The first file.
        image: Its column of the images.
        bounds: What the paths of the folder's photos begin with.

    Raises:
        InvalidInputError: If they do; all that would come of them is errors.
    """
    try:
        batches = pq.ParquetFile(file).iter_batches(_FIRST_ROWS, columns=[image], use_threads=False)
        batch = next(batches, None)
    except (OSError, pa.ArrowException):  # its rows will say so
        return
    cells = [] if batch is None else [_without_bytes(c) for c in batch.column(0).to_pylist()]
    if cells and all(isinstance(c, str) and c and _leads_out(file.parent / c, bounds)
                     for c in cells):  # fmt: skip
        raise InvalidInputError(
            f"{file} names photos outside the data's folder, such as {cells[0]!s:.80}; add "
            "--outside if you trust the data."
        )


def _without_bytes(cell: Any) -> Any:
    """Return an image's cell, of one that has a path and no bytes the path."""
    if isinstance(cell, dict) and not cell.get("bytes") and cell.get("path"):
        return cell["path"]
    return cell


def _located(cell: Any, folder: Path, bounds: Optional[Tuple[str, ...]]) -> Any:
    """Return an image's cell; a path without bytes is relative to the file's folder.

    A path that does not begin with one of ``bounds`` becomes an error.
    """
    cell = _without_bytes(cell)
    if cell is None or cell == "":
        return ValueError("the row has no image")
    if not isinstance(cell, str):
        return cell
    if bounds is not None and _leads_out(folder / cell, bounds):
        return ValueError(
            "the row names a photo outside the data's folder; add --outside if you trust the data"
        )
    return folder / cell


def _beginnings(root: Path) -> Tuple[str, ...]:
    """Return what the absolute paths of all that is in a folder begin with."""
    folders = {os.path.abspath(root), os.path.realpath(root)}
    return tuple(os.path.join(folder, "") for folder in sorted(folders))


def _leads_out(path: Path, bounds: Tuple[str, ...]) -> bool:
    """Return whether a path lies outside a folder, by its name alone.

    The path itself is not looked at: on Windows, that of another machine would be sent a login.

    Args:
        path: The path.
        bounds: Result of :func:`_beginnings` of the folder.
    """
    return not os.path.abspath(path).startswith(bounds)


class _Rows:
    """A parquet file that is read forwards, a few rows at a time, whatever its row groups."""

    def __init__(self, path: Path, columns: List[str]):
        self.path, self.columns = path, columns
        self.file = pq.ParquetFile(path, buffer_size=1 << 20)
        groups = range(self.file.metadata.num_row_groups)
        sizes = [self.file.metadata.row_group(group).num_rows for group in groups]
        self.first = np.concatenate([[0], np.cumsum(sizes)])  # row that each group begins with
        self.group, self.at = -1, 0
        self.held: Any = None
        self.batches: Any = None

    def read(self, start: int, stop: int) -> Any:
        """Return rows as a table."""
        pieces = []
        while start < stop:
            group = int(np.searchsorted(self.first, start, side="right")) - 1
            if group != self.group or start < self.at:
                self.batches = self.file.iter_batches(
                    _ROWS, row_groups=[group], columns=self.columns, use_threads=False
                )
                self.group, self.at, self.held = group, int(self.first[group]), None
            while self.held is None or self.at + len(self.held) <= start:
                self.at += 0 if self.held is None else len(self.held)
                batch = next(self.batches, None)
                if batch is None:
                    raise pa.ArrowInvalid(f"row group {group} has fewer rows than it says")
                self.held = pa.Table.from_batches([batch])
            pieces.append(self.held.slice(start - self.at, stop - start))
            start += len(pieces[-1])
        return pa.concat_tables(pieces)
