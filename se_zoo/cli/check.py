"""Check a data set before training on it: ``se-zoo check``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Literal, Optional, Sequence, Tuple

import tyro

from ..errors import DataError

if TYPE_CHECKING:
    from ..data.config import TableConfig


@dataclass(frozen=True)
class Check:
    """Decode every image or video of a data set and report what would harm training.

    Errors give exit status 1: corrupt or missing files, and splits, columns or classes that differ
    from the declared ones. A folder for each class needs no option; tables need --label,
    --attributes or --celeba.
    """

    data: tyro.conf.Positional[str]
    """Hub id; or a folder with <split>.parquet, with <split>/<class>/*, or with the files that
    --csv lists."""
    videos: bool = False
    """The samples are videos, not images. --video, --layout, --lists, --fold, --crop and
    --min-frames apply to videos only."""
    tracks: bool = False
    """The samples are face tracks with sound, in AVA-ActiveSpeaker's layout. Of the other options,
    --splits, --bodies, --workers, --fast and --every apply."""
    bodies: Optional[str] = None
    """Folder of the tracks' body crops, inside the folder of the data."""
    celeba: bool = False
    """The 40 attributes of CelebA, by the names and types of flwrlabs/celeba; the columns celeb_id
    and image_id are ignored."""
    name: Optional[str] = None
    """Configuration (subset) of a Hub data set that has several."""
    csv: Optional[Path] = None
    """Table of the files in the folder. Columns: the file name (--image or --video), the label or
    the attributes (true/false or 1/0), and "split" if there are several splits; for parts of videos
    also "start" and "end", in seconds."""
    splits: Tuple[str, str, str] = ("train", "valid", "test")
    """Names of the splits to train, validate and test on; a name may appear twice."""
    image: str = "image"
    """Column of the images; in a csv, of their file names relative to the folder."""
    video: str = "video"
    """Column of the videos; in a csv, of their file names relative to the folder."""
    label: Optional[str] = None
    """Column of the class, if each sample has one class."""
    attributes: Tuple[str, ...] = ()
    """Boolean columns, if each sample has several labels."""
    ignore: Tuple[str, ...] = ()
    """Columns that may exist and are not used; any other column is an error."""
    layout: Literal["auto", "ucf101", "kinetics"] = "auto"
    """ucf101 or kinetics: read videos by the official lists. auto finds the lists in the folder of
    the data."""
    lists: Optional[Path] = None
    """Folder of the official lists, if it is not the folder of the data."""
    fold: Literal[1, 2, 3] = 1
    """Number of ucf101's split into training and test."""
    crop: Optional[Tuple[int, int, int, int]] = None
    """x0 y0 x1 y1 in pixels, cut out of every frame."""
    min_frames: int = 1
    """Videos with fewer frames are errors."""
    workers: Optional[int] = None
    """Number of processes that decode; by default one for each CPU."""
    outside: bool = False
    """Read files outside the folder of the data, where a table or a link names some, and addresses
    such as s3://. Give it only for data that you trust."""
    fast: bool = False
    """Decode 64 samples of every split instead of all."""
    every: bool = False
    """Print every error and warning, not the first 20."""


def data_config(args: Check) -> "TableConfig":
    """Return the configuration of the data that the options describe.

    Args:
        args: The options.

    Raises:
        DataError: If options contradict each other.
    """
    from ..data.celeba import CELEBA_HUB, CELEBA_HUB_CONFIG, CELEBA_IGNORE
    from ..data.config import ClipDataConfig, DataConfig

    names = ("name", "csv", "splits", "label", "attributes", "ignore", "outside")
    given: Dict[str, Any] = {"path": args.data, **{n: getattr(args, n) for n in names}}
    if args.videos:
        if args.celeba:
            raise DataError("--celeba applies to images; leave out --videos.")
        return ClipDataConfig(
            **given, video=args.video, layout=args.layout, lists=args.lists, fold=args.fold,
            crop=args.crop, min_frames=args.min_frames,
        )  # fmt: skip
    video_options = (args.layout, args.lists, args.fold, args.crop, args.min_frames)
    if video_options != ("auto", None, 1, None, 1):
        raise DataError("--layout, --lists, --fold, --crop and --min-frames need --videos.")
    config = DataConfig(**given, image=args.image)
    if not args.celeba:
        return config
    from ..models.label_lists import CELEBA_ATTRIBUTES

    if args.label is not None or args.attributes:
        raise DataError("--celeba names the attributes; leave out --label and --attributes.")
    name = CELEBA_HUB_CONFIG if args.data == CELEBA_HUB and args.name is None else args.name
    ignore = (*args.ignore, *CELEBA_IGNORE)
    return replace(config, name=name, attributes=CELEBA_ATTRIBUTES, ignore=ignore)


def run_check(args: Check) -> None:
    """Run ``se-zoo check``: print the report.

    Args:
        args: The options.

    Raises:
        DataError: If the report has errors.
    """
    from ..data import check

    if args.tracks:
        errors = _check_tracks(args)
    else:
        report = check(data_config(args), args.workers, args.fast)
        print(report.text(None) if args.every else report)
        errors = report.errors
    if errors:
        count = len(errors)
        raise DataError(f"{count:,} error{'' if count == 1 else 's'} in {args.data}; see above.")


def _check_tracks(args: Check) -> Sequence[str]:
    """Check face tracks, print the report and return the errors."""
    from ..data.checks.report import format_problems
    from ..data.checks.track_check import check_tracks
    from ..data.config import TrackDataConfig

    config = TrackDataConfig(args.data, splits=args.splits, bodies=args.bodies)
    text, errors = check_tracks(config, args.workers, args.fast)
    print(f"{text}\n\n{format_problems('error', errors, None if args.every else 20)}")
    return errors
