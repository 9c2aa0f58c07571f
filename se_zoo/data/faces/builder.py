"""Face tracks from videos and a table of face boxes: crops and sound as AVA's tools lay them."""

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
from .mfcc import RATE
from .sound import check_sound, read_sound
from .track_table import crop_name

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
    if not videos.is_dir():
        raise DataError(f"{videos} is no folder; name the one that holds the videos.")
    table_file = out / "csv" / f"{split}.csv"
    if table_file.exists() or table_file.with_name(f"{split}_orig.csv").exists():
        raise DataError(f"{out} has a split {split} already; name another folder or split.")
    rows = read_ava(boxes, "label", boxes=True)
    if not rows:
        raise DataError(f"{boxes} has no rows.")
    tables = {"clips_videos": rows}
    if bodies is not None:
        tables["clips_bodies"] = _body_rows(bodies, rows)
    by_video: Dict[str, List[int]] = {}
    for number, row in enumerate(rows):
        for name in (row.video, row.key[0]):
            check_name(boxes, number + 1, name)
        check_label(boxes, number + 1, row.value)
        by_video.setdefault(row.video, []).append(number)
    # All that can be wrong is found before hours are spent on cutting.
    opened = {name: open_video(_file_of(videos, name)) for name in sorted(by_video)}
    frames = {n: _frames(boxes, v, [rows[i] for i in by_video[n]]) for n, v in opened.items()}
    for video in opened.values():
        check_sound(video.source, video.name)
    for name, video in opened.items():
        cuts = [
            (number, out / kind / split / name / table[i].key[0], table[i])
            for kind, table in tables.items()
            for number, i in zip(frames[name], by_video[name], strict=True)
        ]
        _write_crops(video, cuts)
        own = [rows[i] for i in by_video[name]]
        _write_sounds(video, own, out / "clips_audios" / split / name)
        seen()
    table_file.parent.mkdir(parents=True, exist_ok=True)
    write_ava(table_file, rows)
    return table_file


def _body_rows(file: Path, rows: Sequence[Row]) -> List[Row]:
    """The body of every row, by entity and time; in WASD's table of bodies the video ids are
    others."""
    found: Dict[Tuple[str, str], Row] = {}
    for number, row in enumerate(read_ava(file, boxes=True), 1):
        if row.key in found:
            raise DataError(f"{file}, row {number}: {row.key[0]} at {row.key[1]} stands twice.")
        found[row.key] = row
    lacking = [row.key for row in rows if row.key not in found]
    if lacking:
        raise DataError(
            f"{file} lacks {len(lacking)} rows, the first is {lacking[0][0]} at {lacking[0][1]}."
        )
    return [found[row.key] for row in rows]


def _file_of(videos: Path, name: str) -> Path:
    found = [p for p in sorted(videos.glob(f"{glob.escape(name)}.*"))
             if p.suffix.lower() in VIDEO_SUFFIXES and p.stem == name]  # fmt: skip
    if len(found) != 1:
        what = f"{len(found)} videos {name}.*" if found else f"no video {name}.*"
        raise DataError(f"{videos} has {what}; it needs one.")
    return found[0]


def _frames(file: Path, video: Video, rows: Sequence[Row]) -> List[int]:
    """The frame that is nearest in time to each row."""
    seconds, cut = video.seconds, set()
    step = 1 / video.fps
    found = []
    for row in rows:
        entity, stamp = row.key
        try:
            time = float(stamp)
        except ValueError:
            raise DataError(f"{file}: {entity}: {stamp!r} is no time in seconds.") from None
        if not 0 <= time < seconds[-1] + step + 0.005:
            raise DataError(
                f"{file}: {entity} at {stamp}: {video.name} has {seconds[-1] + step:.2f} seconds."
            )
        if (entity, crop_name(time)) in cut:
            raise DataError(f"{file} has {entity} at {time:.2f} twice (two decimals tell crops).")
        cut.add((entity, crop_name(time)))
        after = min(int(np.searchsorted(seconds, time)), len(seconds) - 1)
        before = max(0, after - 1)
        found.append(before if time - seconds[before] <= seconds[after] - time else after)
    return found


def _write_crops(video: Video, cuts: Sequence[Tuple[int, Path, Row]]) -> None:
    """One JPEG for each frame, folder and row; every frame is decoded once."""
    at: Dict[int, List[Tuple[Path, Row]]] = {}
    for number, folder, row in cuts:
        at.setdefault(number, []).append((folder, row))
        folder.mkdir(parents=True, exist_ok=True)
    for number, picture in zip(sorted(at), each_frame(video, sorted(at)), strict=True):
        height, width = picture.shape[:2]
        for folder, row in at[number]:
            box = np.array(row.box) * [width, height, width, height]
            crop = Image.fromarray(cut_face(picture, box.tolist()))
            crop.save(folder / crop_name(float(row.key[1])), quality=_QUALITY)


def _write_sounds(video: Video, rows: Sequence[Row], folder: Path) -> None:
    """The sound of every entity of a video, from its first row to the end of its last."""
    assert isinstance(video.source, Path)
    begins = float(video.times[0] * video.time_base)
    samples = read_sound(video.source, video.name, begins)
    folder.mkdir(parents=True, exist_ok=True)
    for entity, first, last in _spans(rows):
        begin, end = (round(t * RATE) for t in (first, last + 1 / video.fps))
        part = samples[begin:end]
        if not len(part):
            raise DataError(f"{video.name}: its sound ends before {entity} is seen.")
        part = np.pad(part, (0, end - begin - len(part)))
        with wave.open(str(folder / f"{entity}.wav"), "wb") as file:
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
