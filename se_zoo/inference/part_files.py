"""The parquet files of predictions: their names, and reading them or saying which is damaged."""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..errors import InvalidInputError
from ..files import check_regular, read_json
from .rows import schema

#: Key of a file's metadata, see :func:`made_with`.
MADE_WITH = "made_with"
_NAME = re.compile(r"part-(\d{5,9})-(\d{6,9})\.parquet", re.ASCII)


def part_file(folder: Path, part: int, unit: int) -> Path:
    """Return the file of a range of a part.

    Args:
        folder: Folder of the predictions.
        part: Number of the part.
        unit: Number of the range in it.
    """
    return folder / f"part-{part:05d}-{unit:06d}.parquet"


def part_files(folder: Path) -> List[Path]:
    """Return the files of a folder of predictions, in the order of the data set.

    Args:
        folder: The folder.
    """
    return sorted(file for file in folder.glob("part-*.parquet") if _NAME.fullmatch(file.name))


def place_of(file: Path) -> Tuple[int, int]:
    """Return part and range of a file of :func:`part_files`."""
    part, unit = file.stem.split("-")[1:]
    return int(part), int(unit)


def row_count(file: Path) -> int:
    """Return the number of rows of a file, without reading them.

    Args:
        file: One of :func:`part_files`.

    Raises:
        InvalidInputError: If it is damaged, or has not the columns of predictions.
    """
    return _open(file).metadata.num_rows


def intact_rows(file: Path) -> int:
    """Return the number of rows of a file; 0 if it is damaged.

    Args:
        file: One of :func:`part_files`.
    """
    try:
        return row_count(file)
    except InvalidInputError:
        return 0


def error_count(file: Path) -> int:
    """Return the number of a file's rows with an error.

    Args:
        file: One of :func:`part_files`.

    Raises:
        InvalidInputError: If it is damaged.
    """
    column = read_rows(file, "error").column(0)
    return len(column) - column.null_count


def length_in(end: Path) -> Optional[int]:
    """Return how many photos a streamed part has; None if that is not known yet.

    Args:
        end: The file that says so. A damaged one is as good as none.
    """
    try:
        length = read_json(end)
    except (OSError, ValueError):
        return None
    return length if isinstance(length, int) and length >= 0 else None


def made_with(file: Path) -> Dict[str, str]:
    """Return the versions and the device that made a file; none of a file of earlier versions.

    Args:
        file: One of :func:`part_files`.

    Raises:
        InvalidInputError: If it is damaged.
    """
    stored = (_open(file).schema_arrow.metadata or {}).get(MADE_WITH.encode(), b"{}")
    try:
        found = json.loads(stored)
    except ValueError as error:
        raise _damaged(file, error) from error
    return found if isinstance(found, dict) else {}


def read_rows(file: Path, *columns: str) -> Any:
    """Read the rows of a file, and compare them with its checksums.

    Args:
        file: One of :func:`part_files`.
        columns: The columns; all by default.

    Returns:
        A ``pyarrow.Table``.

    Raises:
        InvalidInputError: If it is damaged, or has not the columns of predictions.
    """
    import pyarrow as pa

    try:
        return _open(file).read(list(columns) or None)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error


def _open(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        check_regular(file)
        opened = pq.ParquetFile(file, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error
    if not opened.schema_arrow.equals(schema()):
        raise _damaged(file, f"it has other columns ({', '.join(opened.schema_arrow.names)})")
    return opened


def _damaged(file: Path, why: object) -> InvalidInputError:
    return InvalidInputError(
        f"{file} is damaged: {' '.join(str(why).split())}. Remove it, then give the command that "
        "made it again."
    )
