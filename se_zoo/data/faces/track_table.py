"""Faces over time with their sound: the layout of AVA-ActiveSpeaker and WASD.

A sample is a :class:`FaceTrack`, nothing of which is decoded yet: which of its frames are looked at
is settled in training by random numbers, and in evaluation it is all of them.
"""

import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image

from ...errors import DataError
from ..config import TrackDataConfig
from ..tables.content import Content, StoredFiles
from ..tables.decode import without_broken
from ..tables.table import Finding, Table
from ..video.sampling import at_rate
from .ava import AVA_COLUMNS, SPEAKING, check_label, check_name, each_row, seconds_of
from .crops import CROP, as_crop
from .mfcc import RATE, WINDOWS, mfcc, window_step
from .sound import read_sound

#: Frames a second of a track of a single row, of which there is none.
_USUAL_FPS = 25.0
#: Seconds by which the sound of a track may be shorter or longer than its pictures: published
#: preparations cut it at the time of the last row.
SLACK = 1.0
#: Seconds between two rows of a track, at most.
LONGEST_GAP = 0.5


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face over time, on disk.

    Attributes:
        name: What messages call it.
        stamps: Seconds of the crops, ascending, (rows,).
        speaking: Whether it speaks then, and is heard, (rows,) bool.
        places: Which crop every frame is, (T,); at the track's own rate each is one.
        fps: Frames a second.
        own_rate: Whether every row is a frame.
        faces: Folder of the crops, <stamp>.jpg.
        bodies: Likewise of bodies; None of data without.
        sound: The wav.
    """

    name: str
    stamps: np.ndarray
    speaking: np.ndarray
    places: np.ndarray
    fps: float
    own_rate: bool
    faces: Path
    bodies: Optional[Path]
    sound: Path

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.places)

    @property
    def labels(self) -> torch.Tensor:
        """Whether it speaks in each frame, float (T,) of 0 and 1."""
        return torch.from_numpy(self.speaking[self.places].astype(np.float32))

    @property
    def frame_of_row(self) -> np.ndarray:
        """The frame nearest in time to each row, (rows,)."""
        if self.own_rate:
            return np.arange(len(self.stamps))
        frames = np.rint((self.stamps - self.stamps[0]) * self.fps).astype(np.int64)
        return frames.clip(max=len(self) - 1)

    def pictures(self, first: int, count: int, bodies: bool = False) -> torch.Tensor:
        """Grey crops of some frames, (count, 112, 112) uint8.

        Raises:
            DataError: If one is missing or no picture.
        """
        folder = self.bodies if bodies else self.faces
        assert folder is not None
        wanted = self.places[first : first + count]
        read = {p: self._crop(folder, float(self.stamps[p])) for p in sorted(set(wanted.tolist()))}
        return torch.from_numpy(np.stack([read[place] for place in wanted.tolist()]))

    def _crop(self, folder: Path, stamp: float) -> np.ndarray:
        file = folder / crop_name(stamp)
        try:
            with Image.open(file) as image:
                return as_crop(image)
        except FileNotFoundError:
            raise DataError(f"{self.name}: no such file: {file}") from None
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{self.name}: {file} is no picture: {error}") from error

    def wave(self, first: int, count: int) -> torch.Tensor:
        """The sound of some frames, and a window more: samples at 16 kHz in the range of 16-bit
        integers, float32; silence where it ends earlier.

        Raises:
            DataError: If it is missing, empty, unreadable, or not as long as the pictures.
        """
        samples = read_sound(self.sound, f"{self.name}: {self.sound}")
        self._check_length(len(samples) / RATE)
        length, step = window_step(self.fps)
        begin, needed = first * WINDOWS * step, (count * WINDOWS - 1) * step + length
        part = torch.from_numpy(samples[begin : begin + needed].astype(np.float32))
        return torch.nn.functional.pad(part, (0, needed - len(part)))

    def _check_length(self, seconds: float) -> None:
        shown = len(self) / self.fps
        if abs(seconds - shown) > SLACK:
            raise DataError(
                f"{self.name}: {self.sound} has {seconds:.2f} seconds, the track {shown:.2f}; the "
                "sound of a track goes from its first to its last row."
            )

    def features(self, wave: torch.Tensor) -> torch.Tensor:
        """MFCCs of :meth:`wave`'s samples, four windows a frame, (4 count, 13)."""
        return mfcc(wave, self.fps)

    def gap(self) -> str:
        """Where it is interrupted for long: pictures would stand still there, or lose the sound."""
        steps = np.diff(self.stamps)
        if not len(steps) or steps.max() <= LONGEST_GAP:
            return ""
        place = int(steps.argmax())
        return (
            f"{self.name} has no row between second {self.stamps[place]:.2f} and "
            f"{self.stamps[place + 1]:.2f}; an entity is one uninterrupted appearance of a face"
        )

    def problem(self) -> str:
        """What is wrong with it, or missing of its files, without decoding the pictures; empty if
        nothing is."""
        if gap := self.gap():
            return gap
        needed = {crop_name(stamp) for stamp in self.stamps}
        for folder in (self.faces, *([] if self.bodies is None else [self.bodies])):
            if not folder.is_dir():
                return f"{self.name}: no such folder: {folder}"
            lacking = sorted(needed.difference(os.listdir(folder)))
            if lacking:
                return f"{self.name}: {folder} lacks {len(lacking)} crops, such as {lacking[0]}"
        try:
            self.wave(0, 1)
        except DataError as error:
            return str(error)
        return ""


def crop_name(stamp: float) -> str:
    """File of a crop by its time, as in AVA's published preparations."""
    return f"{stamp:.2f}.jpg"


class TrackTable(Table):
    """A split of tracks; ``table[i]`` is a :class:`FaceTrack`, and whether it ever speaks.

    Attributes:
        tracks: All that are stored, by video and entity in the order of the table's rows.
        csv_rows: Of each, which rows of the csv are its crops.
        lengths: Frames of the tracks of the table.
    """

    noun = "track"

    def __init__(
        self,
        name: str,
        tracks: Sequence[FaceTrack],
        csv_rows: Sequence[np.ndarray],
        rows: Optional[Sequence[int]] = None,
    ):
        chosen = range(len(tracks)) if rows is None else rows
        speaks = torch.tensor([[float(tracks[i].speaking.any())] for i in chosen])
        stored = StoredFiles(Path(), [track.name for track in tracks])
        super().__init__(name, Content(stored, ("speaking",), speaks), rows)
        self.tracks, self.csv_rows = tracks, csv_rows
        self.lengths = [len(tracks[i]) for i in chosen]

    def with_content(self, content: Content, rows: Sequence[int]) -> "TrackTable":
        return TrackTable(self.name, self.tracks, self.csv_rows, rows)

    def sample(self, row: int) -> FaceTrack:
        """A track, nothing of which is decoded yet."""
        return self.tracks[self._stored(row)]

    def where(self, row: int) -> str:
        return self.sample(row).name

    @property
    def speaking(self) -> np.ndarray:
        """Whether it speaks in each row of all tracks, one track behind the other, bool."""
        return np.concatenate([self.sample(i).speaking for i in range(len(self))])

    def rows_of(self, row: int) -> np.ndarray:
        """Which rows of the csv are the crops of a track."""
        return self.csv_rows[self._stored(row)]

    def inspect(self, row: int) -> Finding:
        """Decode all of a track."""
        track = self.sample(row)
        try:
            if problem := track.problem():
                raise DataError(problem)
            track.pictures(0, len(track))
            if track.bodies is not None:
                track.pictures(0, len(track), bodies=True)
        except DataError as error:
            return Finding(row, error=str(error))
        return Finding(row, size=(CROP, CROP), frames=len(track))

    def glance(self, row: int) -> Finding:
        """Look for a track's files, and open its sound."""
        return Finding(row, error=self.sample(row).problem(), frames=len(self.sample(row)))


def open_tracks(config: TrackDataConfig, split: str, first: bool = True) -> TrackTable:
    """A split of face tracks, its tables checked, its crops and sound not yet.

    Rows may stand in any order. `limit` holds for the training split, `limit_eval` for the others.

    Args:
        config: The data.
        split: Name of the split.
        first: Look for tracks that cannot be used; of several processes one does.

    Raises:
        DataError: If there is no such split or table, a label is none of AVA's, a row stands twice,
            or nothing, or everything, is speech.
    """
    table = read_tracks(config, split)
    limit = config.limit_of(split)
    if limit is not None and limit > len(table) and split == config.splits[0]:
        raise DataError(f"limit is {limit}, but {table.name} has {len(table)} tracks.")
    if limit is not None and limit < len(table):
        table = table.spread(limit)
    if not first:
        return table
    if config.broken == "skip":
        table = without_broken(table)
    elif problem := next(filter(None, (track.gap() for track in table.tracks)), ""):
        raise DataError(f"{problem}; --data.broken skip leaves such tracks out.")
    speaking = table.speaking
    if speaking.all() or not speaking.any():
        how = "all" if speaking.all() else "none"
        raise DataError(f"{table.name}: {how} of its {len(speaking)} rows are {SPEAKING}.")
    return table


def read_tracks(config: TrackDataConfig, split: str) -> TrackTable:
    """All tracks of a split's table, gaps and all.

    Raises:
        DataError: If there is no such split or table, a label is none of AVA's, or a row stands
            twice.
    """
    _check(config, split)
    tracks, places = _tracks(config, split, csv_of(config, split))
    return TrackTable(f"the {split} split of {config.path}", tracks, places)


def csv_of(config: TrackDataConfig, split: str) -> Path:
    """The table of a split.

    Raises:
        DataError: If there is none.
    """
    folder = Path(config.path) / config.csv
    names = [f"{split}_orig.csv", f"{split}.csv"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"{folder} has no {' and no '.join(names)}; name the splits that are there (of a recipe "
        "--data.splits, of se-zoo check --splits), e.g. train test test."
    )


def _check(config: TrackDataConfig, split: str) -> None:
    if not Path(config.path).is_dir():
        raise DataError(f"{config.path} is no folder; give the folder that holds the tracks.")
    if split not in config.splits:
        raise DataError(f"no split {split} is declared: splits is {', '.join(config.splits)}")
    if config.fps is not None and not config.fps > 0:
        raise DataError(f"fps is {config.fps}; it must be positive.")
    if min(config.limit or 1, config.limit_eval or 1) < 1 or 0 in (config.limit, config.limit_eval):
        raise DataError("limit and limit_eval must be 1 or more.")


class _Rows(NamedTuple):
    """The rows of one entity, in compact form: tables have millions."""

    stamps: "array[float]"
    speaking: "array[int]"
    numbers: "array[int]"
    """Places in the table."""


def _tracks(
    config: TrackDataConfig, split: str, file: Path
) -> Tuple[List[FaceTrack], List[np.ndarray]]:
    """Every entity's track, and which rows of the table are its crops."""
    groups: Dict[Tuple[str, str], _Rows] = {}
    for number, (video, text, _, _, _, _, label, entity) in each_row(file, AVA_COLUMNS):
        rows = groups.get((video, entity))
        if rows is None:
            check_name(file, number, video)
            check_name(file, number, entity)
            rows = groups[video, entity] = _Rows(array("d"), array("b"), array("q"))
        check_label(file, number, label)
        rows.stamps.append(seconds_of(file, number, text))
        rows.speaking.append(label == SPEAKING)
        rows.numbers.append(number - 1)
    tracks, places = [], []
    for (video, entity), rows in sorted(groups.items()):
        stamps = np.array(rows.stamps)
        order = np.argsort(stamps, kind="stable")
        stamps = stamps[order]
        if len(stamps) > 1 and np.diff(stamps).min() <= 0:
            twice = stamps[int(np.diff(stamps).argmin())]
            raise DataError(f"{file}: {entity} has the time stamp {twice} twice.")
        speaking = np.array(rows.speaking, dtype=bool)[order]
        tracks.append(_track(config, split, video, entity, stamps, speaking))
        places.append(np.array(rows.numbers)[order])
    return tracks, places


def _track(
    config: TrackDataConfig, split: str, video: str, entity: str, stamps: np.ndarray,
    speaking: np.ndarray,
) -> FaceTrack:  # fmt: skip
    own = (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 else _USUAL_FPS
    root = Path(config.path)
    where = Path(split) / video / _folder_name(root / config.faces / split / video, entity)
    return FaceTrack(
        name=f"{split}: {entity}",
        stamps=stamps,
        speaking=speaking,
        places=np.array(at_rate(stamps, config.fps)),
        fps=config.fps or own,
        own_rate=config.fps is None,
        faces=root / config.faces / where,
        bodies=None if config.bodies is None else _bodies(root / config.bodies, where),
        sound=(root / config.sounds / where).with_name(f"{where.name}.wav"),
    )


def _bodies(folder: Path, where: Path) -> Path:
    """A track's body crops: beside its face's, or, as WASD names the videos of bodies, under the
    entity's name less its last two parts."""
    other = where.parent.with_name(where.name.rsplit("_", 2)[0]) / where.name
    return folder / (where if (folder / where).is_dir() else other)


def _folder_name(folder: Path, entity: str) -> str:
    """AVA's entities have a colon, which some preparations write as an underscore."""
    plain = entity.replace(":", "_")
    return plain if plain != entity and not (folder / entity).is_dir() else entity
