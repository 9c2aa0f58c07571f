"""A folder of files and a csv that says what is on them."""

import csv
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import torch

from ...errors import DataError
from ..config import ClipDataConfig, TableConfig
from .content import Content, StoredFiles
from .validate import check_columns, class_indices, class_names, described, listed

SPLIT_COLUMN = "split"
#: Seconds of a video that a row is about.
PART_COLUMNS = ("start", "end")
#: A csv has no types; these are the ways to write an attribute.
TRUTH = {"true": 1, "1": 1, "false": 0, "0": 0}


def read_listing(
    config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None
) -> Content:
    """The rows of a split; without a column "split", every row belongs to the training split.

    That the files exist is not looked at here (`check` does, in one listing of the folder).

    Raises:
        DataError: For a csv that is none, and wrong columns, splits, labels or attributes.
    """
    found: Dict[str, None] = {}  # a set that keeps the order
    names: List[str] = []
    values: List[str] = []
    truth = bytearray()
    parts: List[Tuple[float, float]] = []
    # Converted row by row: the cells of all of CelebA would fill a gigabyte.
    for line, cells in _rows(config):
        own = cells.get(SPLIT_COLUMN, config.splits[0])
        found[own] = None
        if own != split:
            continue
        names.append(cells[config.column])
        if config.label is not None:
            values.append(cells[config.label])
        if PART_COLUMNS[0] in cells:
            parts.append(_part(config, line, cells))
        truth.extend(_truth(config, line, name, cells[name]) for name in config.attributes)
    if split not in found:
        raise DataError(
            f"{config.csv} has no rows of the split {split}. Needed: "
            f"{listed(dict.fromkeys(config.splits))}; found: {listed(found)}. Name the split of "
            f'every row in a column "{SPLIT_COLUMN}", or set splits to the names that are there.'
        )
    files = StoredFiles(Path(config.path), names)
    if config.attributes:
        targets = torch.frombuffer(truth, dtype=torch.uint8).float()
        return Content(files, config.attributes, targets.view(len(names), -1), parts or None)
    where = described(split, config)
    classes = classes or class_names(values, where)
    return Content(files, classes, class_indices(values, classes, where), parts or None)


def _rows(config: TableConfig) -> Iterator[Tuple[int, Dict[str, str]]]:
    """Line number and cells, stripped, of every row of every split."""
    path = config.csv
    assert path is not None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write the mark
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            check_columns(header, config, str(path), _optional(config, header))
            for row in reader:
                if row:
                    yield reader.line_num, _cells(config, header, row, reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path} as csv in UTF-8: {error}") from error


def _optional(config: TableConfig, header: List[str]) -> Tuple[str, ...]:
    """Columns that have a meaning of their own where they are there."""
    if not isinstance(config, ClipDataConfig):
        return (SPLIT_COLUMN,)
    present = [name for name in PART_COLUMNS if name in header and name not in config.ignore]
    if len(present) == 1:
        raise DataError(f"{config.csv} has a column {present[0]}, but start and end go together.")
    return (SPLIT_COLUMN, *present)


def _part(config: TableConfig, line: int, cells: Dict[str, str]) -> Tuple[float, float]:
    """Start and end of a row's sample, in seconds of its video."""
    try:
        start, end = (float(cells[name]) for name in PART_COLUMNS)
    except ValueError:
        start, end = 0.0, -1.0
    if not 0 <= start < end < float("inf"):
        raise DataError(
            f"{config.csv}, line {line}: start is {cells['start']!r} and end {cells['end']!r}; "
            "both are seconds of the video, and the end comes after the start."
        )
    return start, end


def _cells(config: TableConfig, header: List[str], row: List[str], line: int) -> Dict[str, str]:
    if len(row) != len(header):
        raise DataError(
            f"{config.csv}, line {line}: {len(row)} cells, but the header has {len(header)}."
        )
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    for name in (config.column, config.label, SPLIT_COLUMN):
        if name in cells and not cells[name]:
            raise DataError(f"{config.csv}, line {line}: {name} is empty.")
    return cells


def _truth(config: TableConfig, line: int, name: str, cell: str) -> int:
    if cell.lower() not in TRUTH:
        raise DataError(
            f"{config.csv}, line {line}: {name} is {cell!r}; attributes are true or 1 for present "
            "and false or 0 for absent (in CelebA's own table: write 0 for -1)."
        )
    return TRUTH[cell.lower()]
