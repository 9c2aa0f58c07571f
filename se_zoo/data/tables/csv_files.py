"""A folder of files with a csv of their labels."""

import csv
import re
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import torch

from ...errors import DataError
from ..config import ClipDataConfig, TableConfig
from .content import Content, StoredFiles, leads_out
from .validate import (
    SPLITS_OPTION,
    check_columns,
    class_indices,
    class_names,
    format_names,
    split_name,
)

_SPLIT_COLUMN = "split"
#: Start and end of a row's sample, in seconds of its video.
_PART_COLUMNS = ("start", "end")
#: More columns are no table of labels.
_MAX_COLUMNS = 10_000
#: Spellings of an attribute's values, in lower case.
_ATTRIBUTE_VALUES = {"true": 1, "1": 1, "false": 0, "0": 0}


def read_listing(
    config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None
) -> Content:
    """Read the rows of a split from the csv.

    Without a column "split", every row belongs to the training split. Missing files are not looked
    for here; `check` lists the folder once for all of them.

    Args:
        config: The data set.
        split: Name of the split.
        classes: Classes of the training split; None if this is the training split.

    Raises:
        DataError: If the file is not a csv in UTF-8, or has wrong columns, splits, labels or
            attributes.
    """
    splits: Dict[str, None] = {}  # an ordered set
    names: List[str] = []
    values: List[str] = []
    truth = bytearray()
    parts: List[Tuple[float, float]] = []
    in_parts = isinstance(config, ClipDataConfig) and _PART_COLUMNS[0] not in config.ignore
    # Converted row by row, because the cells of all of CelebA would fill a gigabyte.
    for line, cells in _rows(config):
        split_of_row = cells.get(_SPLIT_COLUMN, config.splits[0])
        splits[split_of_row] = None
        if split_of_row != split:
            continue
        names.append(_inside(config, line, cells[config.column]))
        if config.label is not None:
            values.append(cells[config.label])
        if in_parts and _PART_COLUMNS[0] in cells:
            parts.append(_part(config, line, cells))
        truth.extend(_attribute(config, line, name, cells[name]) for name in config.attributes)
    if split not in splits:
        raise DataError(
            f"{config.csv} has no rows of the split {split}. Needed: "
            f"{format_names(dict.fromkeys(config.splits))}; found: {format_names(splits)}. Name "
            f'the split of every row in a column "{_SPLIT_COLUMN}", or set splits to those found '
            f"({SPLITS_OPTION})."
        )
    files = StoredFiles(Path(config.path), names, config.outside)
    if config.attributes:
        targets = torch.frombuffer(truth, dtype=torch.uint8).float()
        return Content(files, config.attributes, targets.view(len(names), -1), parts or None)
    where = split_name(split, config)
    classes = classes or class_names(values, where)
    return Content(files, classes, class_indices(values, classes, where), parts or None)


def _rows(config: TableConfig) -> Iterator[Tuple[int, Dict[str, str]]]:
    """Return line number and stripped cells of every row of every split."""
    path = config.csv
    assert path is not None
    try:
        # Spreadsheets write a byte order mark, which utf-8-sig skips.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            header = [cell.strip() for cell in next(reader, [])]
            if len(header) > _MAX_COLUMNS:
                raise DataError(
                    f"{path} has {len(header):,} columns; at most {_MAX_COLUMNS:,} are read."
                )
            if len(header) == 1 and (other := re.search(r"[;\t|]", header[0])):
                raise DataError(
                    f"{path} separates its columns by {other[0]!r}; write them with commas."
                )
            check_columns(header, config, str(path), _optional(config, header))
            for row in reader:
                if row:
                    yield reader.line_num, _cells(config, header, row, reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path} as csv in UTF-8: {error}") from error


def _inside(config: TableConfig, line: int, name: str) -> str:
    """Return a file name; refuse one that leads out of the data's folder."""
    if not config.outside and leads_out(Path(config.path), name):
        raise DataError(
            f"{config.csv}, line {line}: {name!r} lies outside {config.path}; correct it, or set "
            "outside (--data.outside, or --outside of se-zoo check) if you trust the table."
        )
    return name


def _optional(config: TableConfig, header: List[str]) -> Tuple[str, ...]:
    """Return the columns of the csv that are optional and used."""
    if not isinstance(config, ClipDataConfig):
        return (_SPLIT_COLUMN,)
    present = [name for name in _PART_COLUMNS if name in header and name not in config.ignore]
    if len(present) == 1:
        lacking = next(name for name in _PART_COLUMNS if name not in present)
        raise DataError(
            f"{config.csv} has a column {present[0]} but no column {lacking}; add it, or put "
            f"{present[0]} into ignore."
        )
    return (_SPLIT_COLUMN, *present)


def _part(config: TableConfig, line: int, cells: Dict[str, str]) -> Tuple[float, float]:
    """Return start and end of a row's sample, in seconds of its video."""
    try:
        start, end = (float(cells[name]) for name in _PART_COLUMNS)
    except ValueError:
        start, end = 0.0, -1.0
    if not 0 <= start < end < float("inf"):
        raise DataError(
            f"{config.csv}, line {line}: start is {cells['start']!r} and end {cells['end']!r}; "
            "write seconds of the video, with the end after the start."
        )
    return start, end


def _cells(config: TableConfig, header: List[str], row: List[str], line: int) -> Dict[str, str]:
    if len(row) != len(header):
        raise DataError(
            f"{config.csv}, line {line}: {len(row)} cells, but the header has {len(header)}; "
            "quote cells that contain a comma."
        )
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    for name in (config.column, config.label, _SPLIT_COLUMN):
        if name in cells and not cells[name]:
            raise DataError(
                f"{config.csv}, line {line}: {name} is empty; fill it in, or leave the row out."
            )
    return cells


def _attribute(config: TableConfig, line: int, name: str, cell: str) -> int:
    if cell.lower() not in _ATTRIBUTE_VALUES:
        raise DataError(
            f"{config.csv}, line {line}: {name} is {cell!r}; write true or 1 for present "
            "and false or 0 for absent (for CelebA's own table: write 0 for -1)."
        )
    return _ATTRIBUTE_VALUES[cell.lower()]
