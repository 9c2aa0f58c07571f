"""Which samples, which labels: what a user declares about a data set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, FrozenSet, Literal, Optional, Tuple

from .images import IMAGE_SUFFIXES
from .video.index import VIDEO_SUFFIXES


@dataclass(frozen=True)
class SplitsConfig:
    """A data set in three splits."""

    path: str
    """Folder that holds the data."""
    splits: Tuple[str, str, str] = field(default=("train", "valid", "test"), kw_only=True)
    """What the splits to train on, to validate on and to test on are called. A name may stand
    twice, e.g. train test test for a set without a validation split."""
    limit: Optional[int] = field(default=None, kw_only=True)
    """Train on so many samples, evenly spaced over the split."""
    limit_eval: Optional[int] = field(default=None, kw_only=True)
    """Validate and test on so many samples at most, likewise."""

    #: What messages call a sample.
    noun: ClassVar[str] = "sample"

    def limit_of(self, split: str) -> Optional[int]:
        """The limit that holds for a split."""
        return self.limit if split == self.splits[0] else self.limit_eval


@dataclass(frozen=True)
class TableConfig(SplitsConfig):
    """A data set on the Hub or on disk; what it does not hold is an error, not a guess.

    The task follows from what is given: `label` is one class a sample, `attributes` are several
    yes-or-no answers a sample, and neither of the two is a folder per class.
    """

    path: str
    """Hub id; or a folder: with <split>.parquet, with <split>/<class>/*, or with the files that
    --csv lists."""
    name: Optional[str] = None
    """Configuration (subset) of a Hub data set that has several."""
    csv: Optional[Path] = None
    """Table of the files in the folder: their names in the column that the data's own option
    names (image or video), the label or the attributes (true/false or 1/0), and, for more than one
    split, a column "split". Its own path is relative to where the command is given."""
    label: Optional[str] = None
    """Column of the class, for one class a sample."""
    attributes: Tuple[str, ...] = ()
    """Boolean columns, for several labels a sample."""
    ignore: Tuple[str, ...] = ()
    """Columns that may be there and are not used; any other column is an error."""

    #: The endings of a sample's files.
    suffixes: ClassVar[FrozenSet[str]] = frozenset()
    streaming: ClassVar[bool] = False

    @property
    def column(self) -> str:
        """Column of the samples themselves."""
        raise NotImplementedError


@dataclass(frozen=True)
class DataConfig(TableConfig):
    """Images with labels, on the Hub or on disk."""

    image: str = "image"
    """Column of the images; in a csv, of their file names relative to the folder."""
    streaming: bool = False  # type: ignore[misc]
    """Read Hub data and parquet files while training on them, instead of fetching all of them
    before; limits are then of the first images."""
    shuffle_buffer: int = 2000
    """Images among which a streamed training split is shuffled; a split that is sorted by class
    needs one as large as itself, or no streaming."""

    noun = "image"
    suffixes = IMAGE_SUFFIXES

    @property
    def column(self) -> str:
        return self.image


@dataclass(frozen=True)
class ClipDataConfig(TableConfig):
    """Videos with labels, on the Hub or on disk, and which clips are taken of them."""

    video: str = "video"
    """Column of the videos; in a csv, of their file names relative to the folder. The csv may have
    columns "start" and "end", in seconds: the sample is then that part of the video."""
    layout: Literal["auto", "ucf101", "kinetics"] = "auto"
    """ucf101: <path>/<class>/*.avi and the official lists. kinetics: the videos and the official
    csv of every split. auto: what the path and the other options say."""
    lists: Optional[Path] = None
    """Folder of the official lists: trainlist01.txt and so on, or train.csv and so on; by default
    ucfTrainTestlist or annotations in the data's folder."""
    fold: Literal[1, 2, 3] = 1
    """Which of ucf101's three splits into training and test."""
    crop: Optional[Tuple[int, int, int, int]] = None
    """x0 y0 x1 y1 in pixels, cut out of every frame before anything else."""
    clips: int = 1
    """Validate and test on so many clips a video, evenly spaced; their probabilities are averaged.
    """
    crops: Literal[1, 3] = 1
    """3: the two ends and the middle of the longer side of every clip, averaged likewise."""
    min_frames: int = 1
    """Samples with fewer frames are refused or skipped. Without it they serve: their frames are
    spread over the clip and, where they are fewer than it needs, repeated."""
    broken: Literal["error", "skip"] = "error"
    """Missing, unreadable and too short videos: error stops at the first, skip names them and goes
    on without them, for which all files are opened, and their first and last frames decoded, before
    the training starts. Damage in between is found by `se-zoo check --videos`."""
    decoder: Literal["pyav", "torchcodec"] = "pyav"
    """torchcodec needs its package and FFmpeg's libraries."""

    noun = "video"
    suffixes = VIDEO_SUFFIXES

    @property
    def column(self) -> str:
        return self.video


@dataclass(frozen=True)
class TrackDataConfig(SplitsConfig):
    """Face tracks with their sound, as AVA-ActiveSpeaker and WASD lie on disk once they are
    prepared; `se-zoo tracks` prepares other videos so.

    <csv>/<split>_orig.csv or <csv>/<split>.csv: AVA's columns, with or without a header.
    <faces>/<split>/<video>/<entity>/<time stamp>.jpg: what is in each box, the stamp with two
    decimals. <sounds>/<split>/<video>/<entity>.wav: the sound from the first to the last row of an
    entity.
    """

    csv: str = "csv"
    """Folder of the tables, in the data's folder."""
    faces: str = "clips_videos"
    """Folder of the face crops."""
    sounds: str = "clips_audios"
    """Folder of the sound."""
    bodies: Optional[str] = None
    """Folder of the crops of bodies, in the layout of the faces, for models with a body stream."""
    fps: Optional[float] = 25.0
    """Frames a second that tracks are brought to: the crops nearest in time, and a row has the
    score of the frame nearest to it. None: every row is a frame, and the windows of the sound are
    scaled to the track's own rate; AVA's published figures are made so."""
    broken: Literal["error", "skip"] = "error"
    """Tracks that lack crops or sound, or have gaps. error: the tables are checked, and some tracks
    of every split in whole, before the training starts; others stop it where they are met. skip
    names them and goes on without them: the files of all tracks are looked for, and all sound is
    opened, before the training starts, but no picture decoded. `se-zoo check --tracks` does all."""

    noun = "track"
