"""Which images, which labels: what a user declares about a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple


@dataclass(frozen=True)
class DataConfig:
    """A data set on the Hub or on disk; what it does not hold is an error, not a guess.

    The task follows from what is given: `label` is one class an image, `attributes` are several
    yes-or-no answers an image, and neither of the two is a folder per class.
    """

    path: str
    """Hub id; or a folder: with <split>.parquet, with <split>/<class>/*.jpg, or with the images
    that --csv lists."""
    name: Optional[str] = None
    """Configuration (subset) of a Hub data set that has several."""
    csv: Optional[Path] = None
    """Table of the images in the folder: file names in the column --image, the label or the
    attributes (true/false or 1/0), and, for more than one split, a column "split". Its own path is
    relative to where the command is given."""
    splits: Tuple[str, str, str] = ("train", "valid", "test")
    """What the splits to train on, to validate on and to test on are called. A name may stand
    twice, e.g. train test test for a set without a validation split."""
    image: str = "image"
    """Column of the images; in a csv, of their file names relative to the folder."""
    label: Optional[str] = None
    """Column of the class, for one class an image."""
    attributes: Tuple[str, ...] = ()
    """Boolean columns, for several labels an image."""
    ignore: Tuple[str, ...] = ()
    """Columns that may be there and are not used; any other column is an error."""
    streaming: bool = False
    """Read Hub data and parquet files while training on them, instead of fetching all of them
    before; limits are then of the first images."""
    shuffle_buffer: int = 2000
    """Images among which a streamed training split is shuffled; a split that is sorted by class
    needs one as large as itself, or no streaming."""
    limit: Optional[int] = None
    """Train on so many images, evenly spaced over the split."""
    limit_eval: Optional[int] = None
    """Validate and test on so many images at most, likewise."""

    def limit_of(self, split: str) -> Optional[int]:
        """The limit that holds for a split."""
        return self.limit if split == self.splits[0] else self.limit_eval
