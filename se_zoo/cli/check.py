"""``se-zoo check``: look at a data set before training on it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Tuple

import tyro

from ..data.config import DataConfig
from ..errors import DataError

#: CelebA on the Hub: the configuration that has the attributes.
CELEBA_HUB, CELEBA_CONFIG = "flwrlabs/celeba", "img_align+identity+attr"


@dataclass(frozen=True)
class Check:
    """Decode a data set's every image and report what would fail or mislead in training.

    Exit status 1 on errors: corrupt or missing files, splits, columns and classes that are not as
    declared. A folder per class needs no option, tables need --label, --attributes or --celeba.
    """

    data: tyro.conf.Positional[str]
    """Hub id; or a folder: with <split>.parquet, with <split>/<class>/*.jpg, or with the images
    that --csv lists."""
    celeba: bool = False
    """The 40 attributes of CelebA, by the names and types of flwrlabs/celeba."""
    name: Optional[str] = None
    """Configuration (subset) of a Hub data set that has several."""
    csv: Optional[Path] = None
    """Table of the images in the folder: file names in the column --image, the label or the
    attributes (true/false or 1/0), and, for more than one split, a column "split"."""
    splits: Tuple[str, str, str] = ("train", "valid", "test")
    """Names of the splits to train, validate and test on; one may stand twice."""
    image: str = "image"
    """Column of the images; in a csv, of their file names relative to the folder."""
    label: Optional[str] = None
    """Column of the class, for one class an image."""
    attributes: Tuple[str, ...] = ()
    """Boolean columns, for several labels an image."""
    ignore: Tuple[str, ...] = ()
    """Columns that may be there and are not used; any other column is an error."""
    workers: Optional[int] = None
    """Processes that decode; by default one a CPU."""
    fast: bool = False
    """Decode 64 images of every split instead of all."""
    every: bool = False
    """Print every error and warning, not the first 20."""


def data_config(args: Check) -> DataConfig:
    """The declaration that the options amount to.

    Raises:
        DataError: If --celeba meets an option that says otherwise.
    """
    config = DataConfig(
        args.data, args.name, args.csv, args.splits, args.image, args.label, args.attributes,
        args.ignore,
    )  # fmt: skip
    if not args.celeba:
        return config
    from ..models.labels import CELEBA_ATTRIBUTES

    if args.label is not None or args.attributes:
        raise DataError("--celeba names the attributes; leave out --label and --attributes.")
    name = CELEBA_CONFIG if args.data == CELEBA_HUB and args.name is None else args.name
    # The Hub's table has the person as well.
    ignore = (*args.ignore, "celeb_id")
    return replace(config, name=name, attributes=CELEBA_ATTRIBUTES, ignore=ignore)


def run_check(args: Check) -> None:
    """Run ``se-zoo check``.

    Raises:
        DataError: If the report has errors, after it was printed.
    """
    from ..data.check import check

    report = check(data_config(args), args.workers, args.fast)
    print(report.text(None) if args.every else report)
    if not report.ok:
        count = len(report.errors)
        raise DataError(f"{count:,} error{'' if count == 1 else 's'} in {args.data}")
