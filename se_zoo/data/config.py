"""Settings of a data set: where it is, its splits, columns and labels."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, FrozenSet, Literal, Optional, Tuple

from ..ranges import COUNT, Range
from .images import IMAGE_SUFFIXES
from .video.index import VIDEO_SUFFIXES


@dataclass(frozen=True)
class SplitsConfig:
    """A data set in three splits."""

    path: str
    """Folder of the data."""
    splits: Tuple[str, str, str] = field(default=("train", "valid", "test"), kw_only=True)
    """Names of the splits for training, validation and test. A name may occur twice, for example
    train test test for a data set without a validation split."""
    limit: Annotated[Optional[int], COUNT] = field(default=None, kw_only=True)
    """Train on this many samples, evenly spaced over the split."""
    limit_eval: Annotated[Optional[int], COUNT] = field(default=None, kw_only=True)
    """Validate and test on at most this many samples, evenly spaced over the split."""
    outside: bool = field(default=False, kw_only=True)
    """Read files outside the data's folder, where a table or a link names some, and addresses such
    as s3://. Set it only for data that you trust: a row can name any file that you may read."""

    #: What messages call a sample.
    noun: ClassVar[str] = "sample"

    def limit_of(self, split: str) -> Optional[int]:
        """Return the limit of a split: ``limit`` for training, ``limit_eval`` for the others.

        Args:
            split: Name of the split.

        Returns:
            A number of samples, or None for all.
        """
        return self.limit if split == self.splits[0] else self.limit_eval


@dataclass(frozen=True)
class TableConfig(SplitsConfig):
    """A data set on the Hub or on disk.

    Set ``label`` for one class per sample, ``attributes`` for several yes-or-no answers per sample,
    and neither for a folder per class. Nothing is guessed: a column that is missing or not declared
    is an error.
    """

    path: str
    """Hub id, or a folder: with <split>.parquet, with <split>/<class>/*, or with the files that
    --csv lists."""
    name: Optional[str] = None
    """Configuration (subset) of a Hub data set that has several."""
    csv: Optional[Path] = None
    """Table of the files in the folder. Columns: the file names (see image or video), the label or
    the attributes (true/false or 1/0), and "split" if there is more than one. The path of the csv
    is relative to the current directory."""
    label: Optional[str] = None
    """Column of the class, for one class per sample."""
    attributes: Tuple[str, ...] = ()
    """Boolean columns, for several labels per sample."""
    ignore: Tuple[str, ...] = ()
    """Columns that may exist and are not used; any other column is an error."""

    #: File name endings of the samples.
    suffixes: ClassVar[FrozenSet[str]] = frozenset()
    streaming: ClassVar[bool] = False

    @property
    def column(self) -> str:
        """Return the column of the samples."""
        raise NotImplementedError


@dataclass(frozen=True)
class DataConfig(TableConfig):
    """Images with labels, on the Hub or on disk."""

    image: str = "image"
    """Column of the images; in a csv, of their file names relative to the folder."""
    streaming: bool = False  # type: ignore[misc]
    """Read Hub data and parquet files during training instead of fetching them before. Limits then
    take the first images of a split."""
    shuffle_buffer: Annotated[int, Range(1, 100_000_000)] = 2000
    """Images among which a streamed training split is shuffled. For a split that is sorted by class
    set it to the size of the split, or do not stream."""

    broken: Literal["error", "skip"] = "error"
    """What to do with missing and corrupt images. error: stop at the first. skip: name them and go
    on. Of the training split the next readable image takes their place, so the number of updates
    stays the same; of validation and test they are left out, for which every image of these is
    decoded before training."""

    noun = "image"
    suffixes: ClassVar[FrozenSet[str]] = IMAGE_SUFFIXES

    @property
    def column(self) -> str:
        """Return the column of the images."""
        return self.image


@dataclass(frozen=True)
class ClipDataConfig(TableConfig):
    """Videos with labels, on the Hub or on disk, and the clips to take from them."""

    video: str = "video"
    """Column of the videos; in a csv, of their file names relative to the folder. A csv may have
    columns "start" and "end", in seconds, if a sample is a part of a video."""
    layout: Literal["auto", "ucf101", "kinetics"] = "auto"
    """ucf101: <path>/<class>/*.avi and the official lists. kinetics: the videos and the official
    csv of every split. auto: found from the other settings and the files."""
    lists: Optional[Path] = None
    """Folder of the official lists (trainlist01.txt, ... or train.csv, ...); by default
    ucfTrainTestlist or annotations in the data's folder, or that folder itself."""
    fold: Literal[1, 2, 3] = 1
    """Which of ucf101's three divisions into training and test to use."""
    crop: Annotated[Optional[Tuple[int, int, int, int]], Range(0, 1_000_000)] = None
    """x0 y0 x1 y1 in pixels, cut out of every frame before any other step."""
    clips: Annotated[int, Range(1, 10_000)] = 1
    """Validate and test on this many clips per video, evenly spaced, and average their
    probabilities."""
    crops: Literal[1, 3] = 1
    """3: validate and test on the two ends and the middle of the longer side of every clip, and
    average their probabilities."""
    min_frames: Annotated[int, COUNT] = 1
    """Refuse or skip samples with fewer frames. Frames of other short samples are repeated to fill
    the clip."""
    broken: Literal["error", "skip"] = "error"
    """What to do with missing, unreadable and too short videos. error: stop at the first. skip:
    name them and go on without them; before training, every file is opened and its first and last
    frames are decoded. Only `se-zoo check --videos` finds damage in between."""
    decoder: Literal["pyav", "torchcodec"] = "pyav"
    """Decoding library. torchcodec needs its package and FFmpeg's libraries."""

    noun = "video"
    suffixes: ClassVar[FrozenSet[str]] = VIDEO_SUFFIXES

    @property
    def column(self) -> str:
        """Return the column of the videos."""
        return self.video


@dataclass(frozen=True)
class TrackDataConfig(SplitsConfig):
    """Face tracks with sound, in the usual layout of prepared AVA-ActiveSpeaker and WASD data.

    `se-zoo tracks` prepares other videos in this layout:

    <csv>/<split>_orig.csv or <csv>/<split>.csv: AVA's columns, with or without a header.
    <faces>/<split>/<video>/<entity>/<time stamp>.jpg: the content of each box; the time stamp in
    seconds has two decimals.
    <sounds>/<split>/<video>/<entity>.wav: the sound from the first to the last row of an entity.
    """

    csv: str = "csv"
    """Folder of the tables, in the data's folder."""
    faces: str = "clips_videos"
    """Folder of the face crops."""
    sounds: str = "clips_audios"
    """Folder of the sound."""
    bodies: Optional[str] = None
    """Folder of the body crops, laid out as the faces, for models with a body stream."""
    fps: Annotated[Optional[float], Range(0, 1000, above=True)] = 25.0
    """Frames per second of all tracks: a frame shows the crop nearest in time, and a row gets the
    score of the frame nearest to it. None: every row is a frame, and the windows of the sound are
    scaled to the track's own rate, as for AVA's published figures."""
    broken: Literal["error", "skip"] = "error"
    """What to do with tracks that lack crops or sound, or have gaps. error: before training, check
    the tables and some tracks of every split; a later broken track stops the run. skip: name them
    and go on without them; before training, the files of all tracks are looked for and all sound is
    read, but no crop is decoded. `se-zoo check --tracks` checks everything."""

    noun = "track"
