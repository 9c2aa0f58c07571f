"""A split as a map-style data set of (image, target), whatever its layout on disk."""

import io
import re
from pathlib import Path
from typing import Literal, Optional, Sequence, Tuple, Union

import torch
from PIL import Image
from torch.utils.data import Dataset

from ..errors import DataError
from .columns import read_columns
from .config import DataConfig
from .declared import described, listed
from .folders import folder_classes, read_folder
from .images import read_rgb
from .listing import read_listing
from .sources import Content

Layout = Literal["hub", "parquet", "folder", "csv"]
Target = Union[int, torch.Tensor]

READERS = {
    "hub": read_columns,
    "parquet": read_columns,
    "folder": read_folder,
    "csv": read_listing,
}


class ImageTable(Dataset[Tuple[Image.Image, Target]]):
    """Images with targets; may be pickled, so that loader processes of any kind can have it.

    Attributes:
        name: What messages call it.
        labels: Names of the classes or attributes, in the order of the targets.
        multi_label: Whether a target is several yes-or-no answers.
        targets: All of them, long (N,) or float (N, A) of 0 and 1.
        images: Where the encoded images are read from.
        rows: Their places in ``images``; None: all of them.
    """

    def __init__(self, name: str, content: Content, rows: Optional[Sequence[int]] = None):
        self.name, self.rows = name, rows
        self.images, self.labels, self.targets = content
        self.multi_label = self.targets.ndim == 2
        self.size = len(self.targets)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tuple[Image.Image, Target]:
        """An upright RGB image and its class, or float (A,).

        Raises:
            IndexError: Outside of the table.
            DataError: For a missing or corrupt image, with split, row and file.
        """
        row = self._row(index)
        data = self.encoded(row)
        try:
            image = read_rgb(io.BytesIO(data))
        except ValueError as error:
            raise DataError(f"{self.where(row)}: {error}") from error
        # A clone, so that what a caller does to its target stays out of the table.
        return image, self.targets[row].clone() if self.multi_label else int(self.targets[row])

    def encoded(self, index: int) -> bytes:
        """The image as it is stored.

        Raises:
            IndexError: Outside of the table.
            DataError: If it is missing, with split, row and file.
        """
        row = self._row(index)
        try:
            return self.images.read(self._stored(row))
        except FileNotFoundError as error:
            raise DataError(f"{self.where(row)}: no such file") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{self.where(row)}: {error}") from error

    def where(self, row: int) -> str:
        """Split, row and file, for messages."""
        stored = self._stored(row)
        file = self.images.name(stored)
        return f"{self.name}, row {stored}{f' ({file})' if file else ''}"

    def spread(self, count: int) -> "ImageTable":
        """The table of so many rows, evenly spaced: the first ones may be all of one class."""
        chosen = [i * self.size // count for i in range(count)]
        content = Content(self.images, self.labels, self.targets[chosen])
        return ImageTable(self.name, content, [self._stored(row) for row in chosen])

    def _stored(self, row: int) -> int:
        return row if self.rows is None else self.rows[row]

    def _row(self, index: int) -> int:
        if not -self.size <= index < self.size:
            raise IndexError(f"{self.name} has {self.size} rows, there is no row {index}")
        return index % self.size


def layout_of(config: DataConfig) -> Layout:
    """How the data lies there, by what is declared and what the path is.

    Raises:
        DataError: If the path is nothing, or the fields contradict each other or the layout.
    """
    _check_fields(config)
    folder, columns = Path(config.path), config.label is not None or config.attributes
    if folder.exists() or config.csv is not None:
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder; give the folder that holds the data.")
        if config.name is not None:
            raise DataError(
                f"name ({config.name}) is for Hub data, but {folder} is a folder; leave it out "
                "(--data.name None)."
            )
    elif not re.fullmatch(r"([\w.-]+/)?[\w.-]+", config.path):
        raise DataError(f"no such folder, and no Hub id (owner/name): {config.path}")
    layout: Layout = "hub"
    if config.csv is not None:
        if not config.csv.is_file():
            inside = folder / config.csv
            hint = f"; did you mean {inside}?" if inside.is_file() else ""
            raise DataError(f"no such file: {config.csv}{hint}")
        layout = "csv"
    elif folder.is_dir():
        layout = "parquet" if any(folder.glob("*.parquet")) else "folder"
    if layout == "folder" and columns:
        raise DataError(
            f"label and attributes name columns, but {folder} holds no parquet files and no csv "
            "was given; for a folder per class leave both out."
        )
    if layout == "hub" and not columns:
        raise DataError(
            f"there is no folder {config.path} here. If it is a Hub id, set label (one class an "
            "image) or attributes (several yes-or-no columns)."
        )
    if layout != "folder" and not columns:
        raise DataError(
            f"{config.csv or config.path} is a table: set label (one class an image) or attributes "
            "(several yes-or-no columns)."
        )
    return layout


def _check_fields(config: DataConfig) -> None:
    if not config.path:
        raise DataError("path is empty; give a folder or a Hub id.")
    if config.label is not None and config.attributes:
        raise DataError(
            f"label ({config.label}) and attributes ({listed(config.attributes)}) exclude each "
            "other: one is for one class an image, the other for several labels."
        )
    columns = [config.image, *config.attributes, *([config.label] if config.label else [])]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DataError(f"columns declared more than once: {listed(repeated)}")
    for name, limit in (("limit", config.limit), ("limit_eval", config.limit_eval)):
        if limit is not None and limit < 1:
            raise DataError(f"{name} is {limit}; it must be 1 or more.")
    if config.shuffle_buffer < 1:
        raise DataError(f"shuffle_buffer is {config.shuffle_buffer}; it must be 1 or more.")
    if not all(config.splits):
        raise DataError(f"splits {config.splits} has an empty name.")


def open_split(
    config: DataConfig, split: str, classes: Optional[Tuple[str, ...]] = None
) -> ImageTable:
    """A whole split; classes: those of the training split, which it must share.

    Raises:
        DataError: As `open_table`.
    """
    content = READERS[layout_of(config)](config, split, classes)
    if not len(content.targets):
        raise DataError(f"{described(split, config)} is empty.")
    return ImageTable(described(split, config), content)


def open_table(config: DataConfig, split: str) -> ImageTable:
    """A split of the data set, its columns and classes checked, its images not yet.

    Classes are a ClassLabel's, the class folders' sorted names, or those that occur in the
    training split: whole numbers as they are, other values sorted. The other splits must agree.
    `limit` holds for the training split, `limit_eval` for the others.

    Raises:
        DataError: For bad settings, and for splits, columns or classes that are not as declared,
            with what is needed and what was found.
    """
    layout = layout_of(config)
    if config.streaming:
        raise DataError("streaming is set, but a table holds all rows; take open_stream.")
    if split not in config.splits:
        raise DataError(f"no split {split} is declared: splits is {listed(config.splits)}")
    train = config.splits[0]
    if split != train:
        classes: Optional[Tuple[str, ...]] = None
        if layout == "folder":
            classes = folder_classes(config, train)
        elif not config.attributes:
            classes = open_split(config, train).labels
        table = open_split(config, split, classes)
        few = config.limit_eval is not None and config.limit_eval < len(table)
        return table.spread(config.limit_eval or 1) if few else table
    table = open_split(config, train)
    if config.limit is None:
        return table
    if config.limit > len(table):
        raise DataError(f"limit is {config.limit}, but {table.name} has {len(table)} images.")
    return table.spread(config.limit)
