"""AVA-ActiveSpeaker's tables: a face at one moment a row (Roth et al., arXiv 1901.01342)."""

import csv
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...errors import DataError
from ...files import replacing

SPEAKING = "SPEAKING_AUDIBLE"
#: All labels; the second is a mouth that speaks without being heard.
LABELS = (SPEAKING, "SPEAKING_NOT_AUDIBLE", "NOT_SPEAKING")
#: Columns of the files, whose official ones have no header; predictions have ``score`` more.
AVA_COLUMNS = (
    "video_id", "frame_timestamp", "entity_box_x1", "entity_box_y1", "entity_box_x2",
    "entity_box_y2", "label", "entity_id",
)  # fmt: skip
_BOX = AVA_COLUMNS[2:6]


class Row(NamedTuple):
    """A face at one moment."""

    key: Tuple[str, str]
    """Entity and time stamp: what identifies it."""
    video: str
    value: str
    """Its label, or its score; empty where none was asked for."""
    box: Tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """x0, y0, x1, y1 in fractions of width and height, where boxes were asked for."""


def read_ava(file: Path, value: Optional[str] = None, boxes: bool = False) -> List[Row]:
    """Rows of a file in AVA's layout, with or without a header.

    Args:
        file: csv; predictions have a column ``score`` more.
        value: Column that is wanted, ``label`` or ``score``.
        boxes: Read the boxes too.

    Raises:
        DataError: If it is no such file, has no such column, or a box is none.
    """
    names = ["video_id", "frame_timestamp", "entity_id", *([value] if value else [])]
    found = []
    for number, cells in each_row(file, [*names, *(_BOX if boxes else ())]):
        video, stamp, entity, *rest = cells
        one = Row((entity, _stamp(stamp)), video, rest[0] if value else "")
        if boxes:
            one = one._replace(box=_box(file, number, rest[-4:]))
        found.append(one)
    return found


def each_row(file: Path, names: Sequence[str]) -> Iterator[Tuple[int, List[str]]]:
    """Rows of a file with or without a header, one at a time, as official files have millions.

    Args:
        file: csv.
        names: Columns that are wanted.

    Yields:
        The number of the row, from 1, and its cells in the order of the names.

    Raises:
        DataError: If it is no csv in UTF-8, has no rows, or lacks a column or a cell.
    """
    columns: List[str] = []
    place: List[int] = []
    number = 0
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            for row in csv.reader(opened, strict=True):
                cells = [cell.strip() for cell in row]
                if not cells:
                    continue
                if not columns:
                    header = AVA_COLUMNS[0] in cells
                    columns = cells if header else [*AVA_COLUMNS, "score"][: len(cells)]
                    place = _places(file, columns, names)
                    if header:
                        continue
                number += 1
                if len(cells) != len(columns):
                    raise DataError(
                        f"{file}, row {number}: {len(cells)} cells instead of {len(columns)}."
                    )
                yield number, [cells[p] for p in place]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {file} as csv in UTF-8: {error}") from error
    if not columns:
        raise DataError(f"{file} has no rows.")


def _places(file: Path, columns: List[str], names: Sequence[str]) -> List[int]:
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(f"{file} has no column {', '.join(missing)}; found: {', '.join(columns)}.")
    return [columns.index(name) for name in names]


def seconds_of(file: Path, number: int, text: str) -> float:
    """A time stamp as a number.

    Raises:
        DataError: If it is none, or negative.
    """
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not 0 <= found < float("inf"):
        raise DataError(f"{file}, row {number}: {text!r} is no time in seconds.")
    return found


def check_label(file: Path, number: int, label: str) -> None:
    """Refuse what is none of AVA's labels.

    Raises:
        DataError: Naming it.
    """
    if label not in LABELS:
        raise DataError(
            f"{file}, row {number}: the label is {label!r}; it is one of {', '.join(LABELS)}."
        )


def check_name(file: Path, number: int, name: str) -> None:
    """Refuse ids that cannot be the name of a folder, or would lead elsewhere.

    Raises:
        DataError: Naming it.
    """
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise DataError(
            f"{file}, row {number}: {name!r} cannot be the name of a video or entity, as folders "
            "are called so; leave out / and \\."
        )


def _box(file: Path, number: int, cells: List[str]) -> Tuple[float, float, float, float]:
    """A box that has an area inside the picture, in fractions; it may reach outside."""
    try:
        x0, y0, x1, y1 = (float(cell) for cell in cells)
    except ValueError:
        x0, y0, x1, y1 = (float("nan"),) * 4
    text = ", ".join(cells)
    if not (x0 < x1 and y0 < y1):
        raise DataError(f"{file}, row {number}: {text} is no box x1, y1, x2, y2.")
    if x1 - x0 > 2 or y1 - y0 > 2:
        raise DataError(
            f"{file}, row {number}: the box {text} is not in fractions of width and height; divide "
            "pixels by them."
        )
    if not (min(x1, y1) > 0 and max(x0, y0) < 1):
        raise DataError(f"{file}, row {number}: the box {text} lies outside of the picture.")
    return x0, y0, x1, y1


def _stamp(text: str) -> str:
    """A time stamp that is the same number however it is written (900.00 and 900.0)."""
    try:
        return repr(float(text))
    except ValueError:
        return text


def write_predictions(file: Path, truth: Path, scores: Mapping[int, float]) -> None:
    """Scores as AVA's own script takes them: no header, the truth's columns and the score, and the
    label of every row that for which the score stands, SPEAKING_AUDIBLE.

    Args:
        file: The csv.
        truth: The table with the labels.
        scores: By the number of the row in it, from 0; other rows are left out.

    Raises:
        DataError: If the truth cannot be read.
    """
    label = AVA_COLUMNS.index("label")
    write_rows(
        file,
        (
            [*cells[:label], SPEAKING, *cells[label + 1 :], repr(scores[number - 1])]
            for number, cells in each_row(truth, AVA_COLUMNS)
            if number - 1 in scores
        ),
    )


def write_ava(file: Path, rows: Iterable[Row]) -> None:
    """Write rows with their boxes and labels, under a header."""
    cells = ((row.video, row.key[1], *row.box, row.value, row.key[0]) for row in rows)
    write_rows(file, [AVA_COLUMNS, *cells])


def write_rows(file: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a csv whole or not at all."""
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows(rows)
