"""Tables of face tracks with their sound, in the layout of AVA-ActiveSpeaker and WASD."""

from array import array
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from ...errors import DataError
from ..config import TrackDataConfig
from ..tables.content import Content, StoredFiles
from ..tables.fingerprint import digest_of, files_digest
from ..tables.parallel_check import without_broken
from ..tables.table import Finding, Table
from ..video.sampling import at_rate
from .ava import AVA_COLUMNS, SPEAKING, check_label, check_name, iter_rows, parse_seconds
from .crops import CROP
from .face_track import FaceTrack

#: Frames per second of a track with a single row, which has no rate of its own.
_DEFAULT_FPS = 25.0


class TrackTable(Table):
    """A split of face tracks; ``table[i]`` is a :class:`FaceTrack` and whether it ever speaks.

    Attributes:
        tracks: All tracks of the split, sorted by video and entity.
        csv_rows: For each of ``tracks``, the numbers of its rows in the csv, from 0.
        lengths: Number of frames of each track of this table.
    """

    noun = "track"

    tracks: Sequence[FaceTrack]
    csv_rows: Sequence[np.ndarray]
    lengths: List[int]

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
        """Return a table of other rows of the same tracks."""
        return TrackTable(self.name, self.tracks, self.csv_rows, rows)

    def sample(self, row: int) -> FaceTrack:
        """Return a track, without reading its crops or its sound."""
        return self.tracks[self._stored(row)]

    def where(self, row: int) -> str:
        """Return split and entity, for messages."""
        return self.sample(row).name

    @property
    def speaking(self) -> np.ndarray:
        """Return whether the person speaks in each row, all tracks one after the other, bool."""
        return np.concatenate([self.sample(i).speaking for i in range(len(self))])

    def rows_of(self, row: int) -> np.ndarray:
        """Return the numbers of a track's rows in the csv, from 0."""
        return self.csv_rows[self._stored(row)]

    def fingerprint(self, split: str) -> Dict[str, str]:
        """Return digests by which a change of the data is noticed; see Table.fingerprint."""
        if self.unskipped is not None:
            return self.unskipped.fingerprint(split)
        tracks = [self.sample(row) for row in range(len(self))]
        # By their places in the table: a run goes on with data that were moved.
        files = ((f"{row} {n}", f) for row, t in enumerate(tracks) for n, f in enumerate(t.files()))
        return {**self.declared(), "files": files_digest(files)}

    def declared(self) -> Dict[str, str]:
        """Return a digest of the tracks, their time stamps and labels; see Table.declared."""
        tracks = (self.sample(row) for row in range(len(self)))
        labels = (v for t in tracks for v in (t.name, t.stamps.tobytes(), t.speaking.tobytes()))
        return {"labels": digest_of(*labels)}

    def inspect(self, row: int) -> Finding:
        """Decode all crops and the sound of a track."""
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

    def inspect_quickly(self, row: int) -> Finding:
        """Look for a track's files and read its sound; no crop is decoded."""
        return Finding(row, error=self.sample(row).problem(), frames=len(self.sample(row)))


def open_tracks(config: TrackDataConfig, split: str, first: bool = True) -> TrackTable:
    """Open a split of face tracks and check its csv; crops and sound are read later.

    The rows of the csv may be in any order. ``limit`` applies to the training split,
    ``limit_eval`` to the others.

    Args:
        config: The data set.
        split: Name of the split.
        first: Look for tracks that cannot be used. Set it in one of several processes.

    Returns:
        The table, without the unusable tracks if ``broken`` is "skip".

    Raises:
        DataError: If the split or its csv does not exist, a label is not one of AVA's, a row occurs
            twice, a track has a gap, or all or none of the rows are speech.
    """
    table = read_tracks(config, split)
    limit = config.limit_of(split)
    if limit is not None and limit > len(table) and split == config.splits[0]:
        raise DataError(f"limit is {limit}, but {table.name} has {len(table)} tracks; lower it.")
    if limit is not None and limit < len(table):
        table = table.spread(limit)
    if not first:
        return table
    if config.broken == "skip":
        table = without_broken(table)
    elif problem := next(filter(None, (track.gap() for track in table.tracks)), ""):
        raise DataError(f"{problem}, or skip such tracks with --data.broken skip.")
    speaking = table.speaking
    if speaking.all() or not speaking.any():
        how = "all" if speaking.all() else "none"
        raise DataError(
            f"{table.name}: {how} of its {len(speaking)} rows are {SPEAKING}. Set the labels: "
            "training needs rows with and without speech."
        )
    return table


def read_tracks(config: TrackDataConfig, split: str) -> TrackTable:
    """Read all tracks of a split's csv, also those with gaps.

    Raises:
        DataError: If the split or its csv does not exist, a label is not one of AVA's, or a row
            occurs twice.
    """
    _check_config(config, split)
    tracks, csv_rows = _read_csv(config, split, csv_of(config, split))
    return TrackTable(f"the {split} split of {config.path}", tracks, csv_rows)


def csv_of(config: TrackDataConfig, split: str) -> Path:
    """Return the csv of a split.

    Raises:
        DataError: If there is none.
    """
    folder = Path(config.path) / config.csv
    names = [f"{split}_orig.csv", f"{split}.csv"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"{folder} has no {' and no '.join(names)}. Name the splits that exist, for example train "
        "test test: --data.splits of a recipe, --splits of se-zoo check."
    )


def _check_config(config: TrackDataConfig, split: str) -> None:
    if not Path(config.path).is_dir():
        raise DataError(f"{config.path} is not a folder; give the folder that holds the tracks.")
    if split not in config.splits:
        raise DataError(f"there is no split {split}; splits is {', '.join(config.splits)}")
    if config.fps is not None and not config.fps > 0:
        raise DataError(f"fps is {config.fps}; it must be positive.")
    if min(config.limit or 1, config.limit_eval or 1) < 1 or 0 in (config.limit, config.limit_eval):
        raise DataError(
            f"limit and limit_eval must be 1 or more; they are {config.limit} and "
            f"{config.limit_eval}."
        )


class _Rows(NamedTuple):
    """The rows of one entity, in compact form: tables have millions."""

    stamps: "array[float]"
    speaking: "array[int]"
    numbers: "array[int]"
    """Row numbers in the csv, from 0."""


def _read_csv(
    config: TrackDataConfig, split: str, file: Path
) -> Tuple[List[FaceTrack], List[np.ndarray]]:
    """Return the track of every entity, and the numbers of its rows in the csv."""
    groups: Dict[Tuple[str, str], _Rows] = {}
    for number, (video, text, _, _, _, _, label, entity) in iter_rows(file, AVA_COLUMNS):
        rows = groups.get((video, entity))
        if rows is None:
            check_name(file, number, video)
            check_name(file, number, entity)
            rows = groups[video, entity] = _Rows(array("d"), array("b"), array("q"))
        check_label(file, number, label)
        rows.stamps.append(parse_seconds(file, number, text))
        rows.speaking.append(label == SPEAKING)
        rows.numbers.append(number - 1)
    tracks, csv_rows = [], []
    for (video, entity), rows in sorted(groups.items()):
        stamps = np.array(rows.stamps)
        order = np.argsort(stamps, kind="stable")
        stamps = stamps[order]
        if len(stamps) > 1 and np.diff(stamps).min() <= 0:
            twice = stamps[int(np.diff(stamps).argmin())]
            raise DataError(
                f"{file}: {entity} has the time stamp {twice} twice; leave one of the rows out."
            )
        speaking = np.array(rows.speaking, dtype=bool)[order]
        tracks.append(_make_track(config, split, video, entity, stamps, speaking))
        csv_rows.append(np.array(rows.numbers)[order])
    return tracks, csv_rows


def _make_track(
    config: TrackDataConfig, split: str, video: str, entity: str, stamps: np.ndarray,
    speaking: np.ndarray,
) -> FaceTrack:  # fmt: skip
    own_fps = (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 else _DEFAULT_FPS
    root = Path(config.path)
    where = Path(split) / video / _folder_name(root / config.faces / split / video, entity)
    name = f"{split}: {entity}"
    return FaceTrack(
        name=name,
        stamps=stamps,
        speaking=speaking,
        row_of_frame=np.array(at_rate(stamps, config.fps, name)),
        fps=config.fps or own_fps,
        own_rate=config.fps is None,
        faces=root / config.faces / where,
        bodies=None if config.bodies is None else _body_folder(root / config.bodies, where),
        sound=(root / config.sounds / where).with_name(f"{where.name}.wav"),
    )


def _body_folder(folder: Path, where: Path) -> Path:
    """Return the folder of a track's body crops.

    Usually it has the same place as the folder of the face crops. WASD names the videos of bodies
    otherwise: the entity's name without its last two parts.
    """
    other = where.parent.with_name(where.name.rsplit("_", 2)[0]) / where.name
    return folder / (where if (folder / where).is_dir() else other)


def _folder_name(folder: Path, entity: str) -> str:
    """Return the entity's folder name; some preparations write AVA's colon as an underscore."""
    plain = entity.replace(":", "_")
    return plain if plain != entity and not (folder / entity).is_dir() else entity
