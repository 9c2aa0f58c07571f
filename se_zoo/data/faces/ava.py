"""Tables in AVA-ActiveSpeaker's layout: one row per face and moment (arXiv 1901.01342)."""

import csv
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...errors import DataError
from ...files import replacing

SPEAKING = "SPEAKING_AUDIBLE"
#: All labels. SPEAKING_NOT_AUDIBLE: the mouth speaks, but is not heard.
LABELS = (SPEAKING, "SPEAKING_NOT_AUDIBLE", "NOT_SPEAKING")
#: Columns of the tables. Official files have no header; predictions also have ``score``.
AVA_COLUMNS = (
    "video_id", "frame_timestamp", "entity_box_x1", "entity_box_y1", "entity_box_x2",
    "entity_box_y2", "label", "entity_id",
)  # fmt: skip
_BOX = AVA_COLUMNS[2:6]


class Row(NamedTuple):
    """A face at one moment: one row of a table."""

    key: Tuple[str, str]
    """Entity and time stamp, which identify the row."""
    video: str
    value: str
    """The label or the score; empty if :func:`read_ava` was asked for neither."""
    box: Tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """x0, y0, x1, y1 in fractions of width and height; the whole picture if not read."""


def read_ava(file: Path, value: Optional[str] = None, boxes: bool = False) -> List[Row]:
    """Read the rows of a csv in AVA's layout, with or without a header.

    Args:
        file: The csv.
        value: Column to read into ``Row.value``: ``label`` or ``score``.
        boxes: Read the boxes too.

    Returns:
        The rows in the order of the file.

    Raises:
        DataError: If the file cannot be read, lacks a column, or has an invalid box.
    """
    names = ["video_id", "frame_timestamp", "entity_id", *([value] if value else [])]
    found = []
    for number, cells in iter_rows(file, [*names, *(_BOX if boxes else ())]):
        video, stamp, entity, *rest = cells
        one = Row((entity, _stamp(stamp)), video, rest[0] if value else "")
        if boxes:
            one = one._replace(box=_box(file, number, rest[-4:]))
        found.append(one)
    return found


def iter_rows(file: Path, names: Sequence[str]) -> Iterator[Tuple[int, List[str]]]:
    """Read a csv row by row, with or without a header; official files have millions of rows.

    Args:
        file: The csv.
        names: Columns to read.

    Yields:
        The number of the row, from 1, and its cells in the order of ``names``.

    Raises:
        DataError: If the file cannot be read as csv in UTF-8, has no rows, or lacks a column or a
            cell.
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
                        f"{file}, row {number}: it has {len(cells)} cells; the table has "
                        f"{len(columns)} columns."
                    )
                yield number, [cells[p] for p in place]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {file} as csv in UTF-8: {error}") from error
    if not columns:
        raise DataError(f"{file} has no rows.")


def _places(file: Path, columns: List[str], names: Sequence[str]) -> List[int]:
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(
            f"{file} has no column {', '.join(missing)}. Found: {', '.join(columns)}. Name the "
            "columns as in AVA-ActiveSpeaker."
        )
    return [columns.index(name) for name in names]


def parse_seconds(file: Path, number: int, text: str) -> float:
    """Return a time stamp as a number of seconds.

    Raises:
        DataError: If it is not a number, or negative.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise DataError(
            f"{file}, row {number}: the time stamp is {text!r}; write seconds, 0 or more."
        )
    return seconds


def check_label(file: Path, number: int, label: str) -> None:
    """Check that a label is one of AVA's.

    Raises:
        DataError: If it is not.
    """
    if label not in LABELS:
        raise DataError(
            f"{file}, row {number}: the label is {label!r}; write one of {', '.join(LABELS)}."
        )


def check_name(file: Path, number: int, name: str) -> None:
    """Check that a video or entity id can be the name of a folder.

    Raises:
        DataError: If it is empty, or names another folder, as ``..`` and ids with a slash do.
    """
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise DataError(
            f"{file}, row {number}: {name!r} cannot be the name of a video or entity, because a "
            "folder gets this name; leave out / and \\."
        )


def _box(file: Path, number: int, cells: List[str]) -> Tuple[float, float, float, float]:
    """Return a box in fractions of width and height; part of it must lie inside the picture."""
    try:
        x0, y0, x1, y1 = (float(cell) for cell in cells)
    except ValueError:
        x0, y0, x1, y1 = (float("nan"),) * 4
    text = ", ".join(cells)
    if not (x0 < x1 and y0 < y1):
        raise DataError(
            f"{file}, row {number}: the box is {text}; write numbers x1, y1, x2, y2 with x1 < x2 "
            "and y1 < y2."
        )
    if x1 - x0 > 2 or y1 - y0 > 2:
        raise DataError(
            f"{file}, row {number}: the box {text} is not in fractions of width and height; divide "
            "pixels by the picture's width and height."
        )
    if not (min(x1, y1) > 0 and max(x0, y0) < 1):
        raise DataError(f"{file}, row {number}: the box {text} lies outside the picture.")
    return x0, y0, x1, y1


def _stamp(text: str) -> str:
    """Return one spelling for equal time stamps, such as 900.00 and 900.0."""
    try:
        return repr(float(text))
    except ValueError:
        return text


def write_predictions(file: Path, truth: Path, scores: Mapping[int, float]) -> None:
    """Write scores in the layout that AVA's evaluation script reads.

    The csv has no header. Each row has the cells of ``truth`` and the score; its label is
    SPEAKING_AUDIBLE, the class that the score is for.

    Args:
        file: The csv to write.
        truth: The table with the labels.
        scores: Scores by row number in ``truth``, from 0; rows without a score are left out.

    Raises:
        DataError: If ``truth`` cannot be read.
    """
    label = AVA_COLUMNS.index("label")
    write_rows(
        file,
        (
            [*cells[:label], SPEAKING, *cells[label + 1 :], repr(scores[number - 1])]
            for number, cells in iter_rows(truth, AVA_COLUMNS)
            if number - 1 in scores
        ),
    )


def write_ava(file: Path, rows: Iterable[Row]) -> None:
    """Write rows with their boxes and labels to a csv with a header."""
    cells = ((row.video, row.key[1], *row.box, row.value, row.key[0]) for row in rows)
    write_rows(file, [AVA_COLUMNS, *cells])


def write_rows(file: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a csv file, whole or not at all."""
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        # csv's own \r\n would be a part of the last column, the score, for cut and awk.
        csv.writer(opened, lineterminator="\n").writerows(rows)
