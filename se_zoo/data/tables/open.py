"""A data set's splits, opened as tables by the layout that they have."""

from pathlib import Path
from typing import Optional, Tuple

from ...errors import DataError
from ..config import ClipDataConfig, TableConfig
from ..images import IMAGE_SUFFIXES
from ..video.clip_table import ClipTable
from ..video.index import VIDEO_SUFFIXES
from .csv_files import read_listing
from .decode import without_broken
from .folder import folder_classes, read_folder
from .layout import layout_of
from .official import read_kinetics, read_ucf101
from .parquet import read_columns
from .table import ImageTable, Table
from .validate import described, listed

READERS = {
    "hub": read_columns,
    "parquet": read_columns,
    "folder": read_folder,
    "csv": read_listing,
    "ucf101": read_ucf101,
    "kinetics": read_kinetics,
}


def open_split(config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None) -> Table:
    """A whole split, broken files and all; classes: those of the training split, which it must
    share.

    Raises:
        DataError: As `open_table`.
    """
    content = READERS[layout_of(config)](config, split, classes)
    if not len(content.targets):
        raise DataError(f"{described(split, config)} has no {config.noun}s.{_hint(config, split)}")
    if not isinstance(config, ClipDataConfig):
        return ImageTable(described(split, config), content)
    return ClipTable(described(split, config), content, config)


def _hint(config: TableConfig, split: str) -> str:
    """What a folder holds instead."""
    folder = Path(config.path) / split
    endings = {path.suffix.lower() for path in folder.glob("*/*")} if folder.is_dir() else set()
    if isinstance(config, ClipDataConfig) and endings & IMAGE_SUFFIXES:
        return " It has images: se-zoo check without --videos, recipes/own_data.py."
    if not isinstance(config, ClipDataConfig) and endings & VIDEO_SUFFIXES:
        return " It has videos: se-zoo check --videos, recipes/clips.py."
    return ""


def open_table(config: TableConfig, split: str) -> Table:
    """A split of the data set, its columns and classes checked, its samples not yet.

    Classes are a ClassLabel's, the class folders' sorted names, or those that occur in the
    training split: whole numbers as they are, other values sorted. The other splits must agree.
    `limit` holds for the training split, `limit_eval` for the others; what is skipped is skipped of
    these.

    Raises:
        DataError: For bad settings, and for splits, columns or classes that are not as declared,
            with what is needed and what was found.
    """
    if config.streaming:
        raise DataError("streaming is set, but a table holds all rows; take open_stream.")
    if split not in config.splits:
        raise DataError(f"no split {split} is declared: splits is {listed(config.splits)}")
    table = _limited(open_split(config, split, _training_classes(config, split)), config, split)
    skips = isinstance(config, ClipDataConfig) and config.broken == "skip"
    return without_broken(table) if skips else table


def _training_classes(config: TableConfig, split: str) -> Optional[Tuple[str, ...]]:
    """The classes that a split has to share; None of the training split, and of attributes."""
    layout, train = layout_of(config), config.splits[0]
    if split == train or (config.attributes and layout != "folder"):
        return None
    return folder_classes(config, train) if layout == "folder" else open_split(config, train).labels


def _limited(table: Table, config: TableConfig, split: str) -> Table:
    limit = config.limit_of(split)
    if limit is None:
        return table
    if split != config.splits[0]:
        return table.spread(limit) if limit < len(table) else table
    if limit > len(table):
        raise DataError(f"limit is {limit}, but {table.name} has {len(table)} {config.noun}s.")
    return table.spread(limit)
