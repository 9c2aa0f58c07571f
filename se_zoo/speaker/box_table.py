"""Tables of face boxes that users have already: a row for each face and frame."""

import csv
import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..data.faces.detect import Box
from ..errors import DataError
from .face_filter import FPS, Track
from .tracker import Tracker

#: Columns of a table, in this order if it has no header; the last one may be missing.
COLUMNS = ("frame", "x0", "y0", "x1", "y1", "track")


class BoxRow(NamedTuple):
    """A face in a frame."""

    frame: int
    """Number of the frame in the file, from 0."""
    box: Box
    track: str
    """Name of the track; empty if the table has no such column."""


def read_boxes(file: Path) -> List[BoxRow]:
    """Read a table of face boxes.

    Args:
        file: A csv with the columns frame, x0, y0, x1, y1 and, optionally, track. Frames are those
            of the video file, from 0, boxes are in pixels. The header may be missing; further
            columns are ignored if there is one.

    Returns:
        The rows in the order of the file.

    Raises:
        DataError: If the file cannot be read, a row is invalid, or the boxes are not in pixels; the
            message names it.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            lines = [
                (number, [cell.strip() for cell in row])
                for number, row in enumerate(csv.reader(opened, strict=True), 1)
                if row
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {file} as csv in UTF-8: {error}") from error
    names = list(COLUMNS[: len(lines[0][1])]) if lines else []
    if lines and "frame" in lines[0][1]:
        names = lines.pop(0)[1]
    missing = [name for name in COLUMNS[:5] if name not in names]
    if missing or not lines:
        lacks = f"lacks the columns {', '.join(missing)}" if names and missing else "has no rows"
        raise DataError(f"{file} {lacks}; write frame, x0, y0, x1, y1 and, if you have it, track.")
    # A row may lack cells, which is refused, or have more than a table without header needs.
    rows = [
        _row(f"{file}, line {number}", dict(zip(names, row, strict=False))) for number, row in lines
    ]
    if all(x1 - x0 < 1 and y1 - y0 < 1 for _, (x0, y0, x1, y1), _ in rows):
        raise DataError(
            f"{file}: every box is smaller than a pixel. Write pixels: multiply fractions by the "
            "picture's width and height."
        )
    return rows


def _row(where: str, cells: Dict[str, str]) -> BoxRow:
    try:
        values = [float(cells[name]) for name in COLUMNS[:5]]
    except (KeyError, ValueError):
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise DataError(f"{where}: frame, x0, y0, x1 and y1 must be numbers, not {cells}.")
    frame, x0, y0, x1, y1 = values
    if frame < 0 or frame != int(frame):
        raise DataError(f"{where}: the frame is {cells['frame']}; frames are numbered from 0.")
    if not (x0 < x1 and y0 < y1):
        raise DataError(
            f"{where}: the box is {x0:g}, {y0:g}, {x1:g}, {y1:g}; write pixels with x0 < x1 and "
            "y0 < y1."
        )
    return BoxRow(int(frame), (x0, y0, x1, y1), cells.get("track", ""))


def tracks_of_boxes(
    rows: Sequence[BoxRow],
    numbers: Sequence[int],
    size: Tuple[int, int],
    name: str,
    frames: Optional[int] = None,
) -> List[Track]:
    """Make tracks of a user's boxes.

    Rows of one track are joined, and boxes between them are interpolated; where a track has no row
    for a second, another one begins. Without names, boxes that overlap from row to row are joined.

    Args:
        rows: The boxes, in frames of the file.
        numbers: Frame of the file that each frame at 25 per second shows.
        size: Width and height of the picture.
        name: Name of the table, for messages.
        frames: Number of frames of the file; by default the last of ``numbers`` is its last.

    Returns:
        Tracks in frames at 25 per second, sorted by their first frame.

    Raises:
        DataError: If a box lies outside the video, or a track has two boxes in a frame.
    """
    last = numbers[-1] if frames is None else frames - 1
    named: Dict[str, Dict[int, Box]] = {}
    unnamed: Dict[int, List[Box]] = {}
    for row in rows:
        x0, y0, x1, y1 = row.box
        if row.frame > last or not (min(x1, y1) > 0 and x0 < size[0] and y0 < size[1]):
            raise DataError(
                f"{name}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} of frame {row.frame} lies outside "
                f"the video, which has frames 0 to {last} of {size[0]} x {size[1]} pixels."
            )
        if not row.track:
            unnamed.setdefault(row.frame, []).append(row.box)
        elif row.frame in named.setdefault(row.track, {}):
            raise DataError(f"{name}: track {row.track} has two boxes in frame {row.frame}.")
        else:
            named[row.track][row.frame] = row.box
    second = round(FPS * (numbers[-1] + 1) / len(numbers))  # in frames of the file
    boxes = [*named.values(), *_joined(unnamed, second)]
    tracks = [track for one in boxes for track in _resampled(one, np.asarray(numbers), second)]
    return sorted(tracks, key=lambda track: (track.first, float(track.boxes[0, 0])))


def _joined(boxes: Dict[int, List[Box]], gap: int) -> List[Dict[int, Box]]:
    """Join boxes without names that overlap; a box ends a track if none follows within a gap."""
    tracker = Tracker(gap=gap, shortest=1, smooth=1)
    tracks = [track for frame in sorted(boxes) for track in tracker.add(frame, boxes[frame])]
    return [
        {track.first + n: tuple(box) for n, box in enumerate(track.boxes.tolist())}
        for track in tracks + tracker.end()
    ]


def _resampled(boxes: Dict[int, Box], shown: np.ndarray, gap: int) -> List[Track]:
    """Return the tracks that the boxes of one face make in the frames that are shown."""
    rows = np.array(sorted(boxes))
    tracks = []
    for part in np.split(rows, np.flatnonzero(np.diff(rows) > gap) + 1):
        places = np.flatnonzero((shown >= part[0]) & (shown <= part[-1]))
        known = np.array([boxes[row] for row in part.tolist()])
        if len(places):
            between = [np.interp(shown[places], part, known[:, i]) for i in range(4)]
            tracks.append(Track(int(places[0]), np.stack(between, 1)))
    return tracks
