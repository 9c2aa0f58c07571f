"""Face tracks from videos and a table of face boxes: crops and sound as AVA's tools lay them."""

import glob
import wave
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from ..errors import DataError
from .ava import AVA_COLUMNS, Row, read_ava, write_rows
from .config import TrackDataConfig
from .crops import cut_face
from .frames import each_frame
from .mfcc import RATE
from .sound import video_sound
from .tracks import crop_name
from .videos import VIDEO_SUFFIXES, Video, open_video

#: Of crops; the face is what is looked at, so little of it may be lost.
_QUALITY = 95


def build_tracks(
    videos: Path,
    boxes: Path,
    out: Path,
    split: str = "train",
    bodies: Optional[Path] = None,
    seen: Callable[[], Any] = lambda: None,
) -> Path:
    """Cut faces and sound out of videos, as :func:`~se_zoo.data.open_tracks` reads them.

    Args:
        videos: Folder of the videos, <video id> with any ending.
        boxes: AVA's table: video id, seconds, box in fractions of the picture, label, entity. A
            crop is of the frame nearest in time; a box that reaches outside is filled with the
            picture's edge.
        out: Folder that gets csv/, clips_videos/ and clips_audios/; other splits in it stay.
        split: What the split is called.
        bodies: Table of body boxes, one for every row of ``boxes``; they go to clips_bodies/.
        seen: Called after every video.

    Returns:
        The split's table, which is written last: without it the split is not there.

    Raises:
        DataError: If the split is there already, a video is missing, unreadable or without sound, a
            row stands twice or lies outside of its video.
    """
    table = out / "csv" / f"{split}.csv"
    if table.exists() or table.with_name(f"{split}_orig.csv").exists():
        raise DataError(f"{out} has a split {split} already; name another folder or split.")
    rows = read_ava(boxes, "label", boxes=True)
    if not rows:
        raise DataError(f"{boxes} has no rows.")
    body_boxes = None if bodies is None else _body_boxes(bodies, rows)
    by_video: Dict[str, List[Row]] = {}
    for row in rows:
        by_video.setdefault(row.video, []).append(row)
    files = {name: _file_of(videos, name) for name in by_video}
    config = TrackDataConfig(str(out))
    for name, found in sorted(by_video.items()):
        video = open_video(files[name])
        frames = _frames(boxes, video, found)
        _write_crops(video, frames, found, out / config.faces / split, [row.box for row in found])
        if body_boxes is not None:
            places = [body_boxes[row.key] for row in found]
            _write_crops(video, frames, found, out / "clips_bodies" / split, places)
        _write_sounds(video, found, out / config.sounds / split)
        seen()
    _write_table(table, rows)
    return table


def _body_boxes(file: Path, rows: Sequence[Row]) -> Dict[Tuple[str, str], Any]:
    """Boxes by entity and time; in WASD's table of bodies the video ids are others."""
    found = {row.key: row.box for row in read_ava(file, boxes=True)}
    lacking = [row.key for row in rows if row.key not in found]
    if lacking:
        raise DataError(
            f"{file} lacks {len(lacking)} rows, the first is {lacking[0][0]} at {lacking[0][1]}."
        )
    return found


def _file_of(videos: Path, name: str) -> Path:
    found = [p for p in sorted(videos.glob(f"{glob.escape(name)}.*"))
             if p.suffix.lower() in VIDEO_SUFFIXES and p.stem == name]  # fmt: skip
    if len(found) != 1:
        what = f"{len(found)} videos {name}.*" if found else f"no video {name}.*"
        raise DataError(f"{videos} has {what}; it needs one.")
    return found[0]


def _frames(file: Path, video: Video, rows: Sequence[Row]) -> List[int]:
    """The frame that is nearest in time to each row."""
    seconds, twice = video.seconds, set()
    step = 1 / video.fps
    found = []
    for row in rows:
        entity, stamp = row.key
        try:
            time = float(stamp)
        except ValueError:
            raise DataError(f"{file}: {entity}: {stamp!r} is no time in seconds.") from None
        if (entity, crop_name(time)) in twice:
            raise DataError(f"{file} has {entity} at {time:.2f} twice (two decimals tell crops).")
        twice.add((entity, crop_name(time)))
        if not 0 <= time < seconds[-1] + step + 0.005:
            raise DataError(
                f"{file}: {entity} at {stamp}: {video.name} has {seconds[-1] + step:.2f} seconds."
            )
        after = min(int(np.searchsorted(seconds, time)), len(seconds) - 1)
        before = max(0, after - 1)
        found.append(before if time - seconds[before] <= seconds[after] - time else after)
    return found


def _write_crops(
    video: Video, frames: Sequence[int], rows: Sequence[Row], folder: Path, boxes: Sequence[Any]
) -> None:
    """One JPEG a row; every frame is decoded once."""
    at: Dict[int, List[int]] = {}
    for place, number in enumerate(frames):
        at.setdefault(number, []).append(place)
    for number, picture in zip(sorted(at), each_frame(video, sorted(at)), strict=True):
        height, width = picture.shape[:2]
        for place in at[number]:
            box = np.array(boxes[place]) * [width, height, width, height]
            to = folder / rows[place].video / rows[place].key[0]
            to.mkdir(parents=True, exist_ok=True)
            file = to / crop_name(float(rows[place].key[1]))
            Image.fromarray(cut_face(picture, box.tolist())).save(file, quality=_QUALITY)


def _write_sounds(video: Video, rows: Sequence[Row], folder: Path) -> None:
    """The sound of every entity, from its first row to the end of its last."""
    assert isinstance(video.source, Path)
    begins = float(video.times[0] * video.time_base)
    samples = video_sound(video.source, video.name, begins)
    for entity, first, last in _spans(rows):
        begin, end = (round(t * RATE) for t in (first, last + 1 / video.fps))
        part = samples[begin:end]
        if not len(part):
            raise DataError(f"{video.name}: its sound ends before {entity} is seen.")
        part = np.pad(part, (0, end - begin - len(part)))
        to = folder / rows[0].video
        to.mkdir(parents=True, exist_ok=True)
        with wave.open(str(to / f"{entity}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(part.astype("<i2").tobytes())


def _spans(rows: Sequence[Row]) -> Iterator[Tuple[str, float, float]]:
    """First and last time of every entity."""
    times: Dict[str, List[float]] = {}
    for row in rows:
        times.setdefault(row.key[0], []).append(float(row.key[1]))
    for entity, stamps in times.items():
        yield entity, min(stamps), max(stamps)


def _write_table(file: Path, rows: Sequence[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = [[row.video, row.key[1], *row.box, row.value, row.key[0]] for row in rows]
    write_rows(file, [AVA_COLUMNS, *cells])
