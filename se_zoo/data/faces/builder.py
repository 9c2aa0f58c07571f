"""Building face tracks: crops and sound, cut out of videos by a table of face boxes."""

import glob
import wave
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from ...errors import DataError
from ..video.frames import each_frame
from ..video.index import VIDEO_SUFFIXES, Video, open_video
from .ava import Row, check_label, check_name, read_ava, write_ava
from .crops import cut_face
from .face_track import crop_name, folder_name
from .mfcc import RATE
from .sound import check_sound, read_sound

#: JPEG quality of the crops: high, because models are trained on them.
_QUALITY = 95


def build_tracks(
    videos: Path,
    boxes: Path,
    out: Path,
    split: str = "train",
    bodies: Optional[Path] = None,
    seen: Callable[[], Any] = lambda: None,
    audio: int = 0,
) -> Path:
    """Cut faces and their sound out of videos, for :func:`~se_zoo.data.open_tracks` to read.

    All tables and videos are checked before anything is written.

    Args:
        videos: Folder of the videos, <video id> with any ending.
        boxes: Table in AVA's layout: video id, seconds, box in fractions of the picture, label,
            entity. A crop is cut from the frame nearest in time; where its box reaches outside the
            picture, edge pixels are repeated.
        out: Folder to write csv/, clips_videos/ and clips_audios/ to; other splits in it stay.
        split: Name of the split.
        bodies: Table of body boxes, one for every row of ``boxes``; their crops go to
            clips_bodies/.
        seen: Called after every video.
        audio: Number of the videos' sound track, from 0.

    Returns:
        The split's table. It is written last, so an interrupted build leaves no split behind.

    Raises:
        DataError: If the split exists already, a video is missing, unreadable or without sound, or
            a row occurs twice or lies outside its video.
    """
    if not videos.is_dir():
        raise DataError(f"{videos} is not a folder; name the one that holds the videos.")
    table_file = out / "csv" / f"{split}.csv"
    if table_file.exists() or table_file.with_name(f"{split}_orig.csv").exists():
        raise DataError(f"{out} has a split {split} already; name another folder or split.")
    rows = read_ava(boxes, "label", boxes=True)
    if not rows:
        raise DataError(f"{boxes} has no rows; write one for each face and moment.")
    tables = {"clips_videos": rows}
    if bodies is not None:
        tables["clips_bodies"] = _body_rows(bodies, rows)
    by_video = _rows_by_video(boxes, rows)
    opened = {name: open_video(_find_video(videos, name)) for name in sorted(by_video)}
    frames = {n: _nearest_frames(boxes, v, [rows[i] for i in by_video[n]])
              for n, v in opened.items()}  # fmt: skip
    for video in opened.values():
        check_sound(video.source, video.name, audio)
    for name, video in opened.items():
        cuts = [
            (number, out / kind / split / name / folder_name(table[i].key[0]), table[i])
            for kind, table in tables.items()
            for number, i in zip(frames[name], by_video[name], strict=True)
        ]
        _write_crops(video, cuts)
        rows_of_video = [rows[i] for i in by_video[name]]
        _write_sounds(video, rows_of_video, out / "clips_audios" / split / name, audio)
        seen()
    table_file.parent.mkdir(parents=True, exist_ok=True)
    write_ava(table_file, rows)
    return table_file


def _rows_by_video(file: Path, rows: Sequence[Row]) -> Dict[str, List[int]]:
    """Check names and labels; return the places of each video's rows."""
    by_video: Dict[str, List[int]] = {}
    for place, row in enumerate(rows):
        for name in (row.video, row.key[0]):
            check_name(file, place + 1, name)
        check_label(file, place + 1, row.value)
        by_video.setdefault(row.video, []).append(place)
    return by_video


def _body_rows(file: Path, rows: Sequence[Row]) -> List[Row]:
    """Return the body box of every row, matched by entity and time.

    The video ids are not compared: in WASD's table of bodies they differ.
    """
    found: Dict[Tuple[str, str], Row] = {}
    for number, row in enumerate(read_ava(file, boxes=True), 1):
        if row.key in found:
            raise DataError(
                f"{file}, row {number}: {row.key[0]} at {row.key[1]} occurs twice; leave one out."
            )
        found[row.key] = row
    missing = [row.key for row in rows if row.key not in found]
    if missing:
        raise DataError(
            f"{file} lacks {len(missing)} rows, the first is {missing[0][0]} at {missing[0][1]}. "
            "Every row of the face boxes needs a body box."
        )
    return [found[row.key] for row in rows]


def _find_video(videos: Path, name: str) -> Path:
    found = [p for p in sorted(videos.glob(f"{glob.escape(name)}.*"))
             if p.suffix.lower() in VIDEO_SUFFIXES and p.stem == name]  # fmt: skip
    if len(found) != 1:
        what = f"{len(found)} videos {name}.*" if found else f"no video {name}.*"
        raise DataError(f"{videos} has {what}; it needs one.")
    return found[0]


def _nearest_frames(file: Path, video: Video, rows: Sequence[Row]) -> List[int]:
    """Return the frame nearest in time to each row."""
    seconds, crops = video.seconds, set()
    step = 1 / video.fps
    frames = []
    for row in rows:
        entity, stamp = row.key
        try:
            time = float(stamp)
        except ValueError:
            raise DataError(
                f"{file}: the time stamp of {entity} is {stamp!r}; write seconds, 0 or more."
            ) from None
        if not 0 <= time < seconds[-1] + step + 0.005:
            raise DataError(
                f"{file}: {entity} at {stamp} is outside the video: {video.name} is "
                f"{seconds[-1] + step:.2f} seconds long."
            )
        if (entity, crop_name(time)) in crops:
            raise DataError(
                f"{file} has {entity} at {time:.2f} twice; the time stamps of a face must differ "
                "in their first two decimals."
            )
        crops.add((entity, crop_name(time)))
        after = min(int(np.searchsorted(seconds, time)), len(seconds) - 1)
        before = max(0, after - 1)
        frames.append(before if time - seconds[before] <= seconds[after] - time else after)
    return frames


def _write_crops(video: Video, cuts: Sequence[Tuple[int, Path, Row]]) -> None:
    """Write a JPEG for each frame, folder and row; every frame is decoded once."""
    by_frame: Dict[int, List[Tuple[Path, Row]]] = {}
    for number, folder, row in cuts:
        by_frame.setdefault(number, []).append((folder, row))
        folder.mkdir(parents=True, exist_ok=True)
    numbers = sorted(by_frame)
    for number, picture in zip(numbers, each_frame(video, numbers), strict=True):
        height, width = picture.shape[:2]
        for folder, row in by_frame[number]:
            box = np.array(row.box) * [width, height, width, height]
            crop = Image.fromarray(cut_face(picture, box.tolist()))
            crop.save(folder / crop_name(float(row.key[1])), quality=_QUALITY)


def _write_sounds(video: Video, rows: Sequence[Row], folder: Path, audio: int) -> None:
    """Write the sound of each entity of a video, from its first row to the end of its last."""
    assert isinstance(video.source, Path)
    begins = float(video.times[0] * video.time_base)
    samples = read_sound(video.source, video.name, begins, audio)
    folder.mkdir(parents=True, exist_ok=True)
    for entity, first, last in _spans(rows):
        begin, end = (round(t * RATE) for t in (first, last + 1 / video.fps))
        part = samples[begin:end]
        if not len(part):
            raise DataError(
                f"{video.name}: its sound ends after {len(samples) / RATE:.2f} seconds, before "
                f"{entity} appears; leave the rows of {entity} out."
            )
        part = np.pad(part, (0, end - begin - len(part)))
        with wave.open(str(folder / f"{folder_name(entity)}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(part.astype("<i2").tobytes())


def _spans(rows: Sequence[Row]) -> Iterator[Tuple[str, float, float]]:
    """Return each entity with the times of its first and last row, in seconds."""
    times: Dict[str, List[float]] = {}
    for row in rows:
        times.setdefault(row.key[0], []).append(float(row.key[1]))
    for entity, stamps in times.items():
        yield entity, min(stamps), max(stamps)
