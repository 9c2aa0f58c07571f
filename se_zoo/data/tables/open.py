"""Opening the splits of a data set as tables, in any layout."""

from pathlib import Path
from typing import Optional, Tuple

from ...errors import DataError
from ..config import ClipDataConfig, TableConfig
from ..images import IMAGE_SUFFIXES
from ..video.index import VIDEO_SUFFIXES
from .clip_table import ClipTable
from .csv_files import read_listing
from .folder import folder_classes, is_sample, read_folder
from .layout import layout_of
from .official import read_kinetics, read_ucf101
from .parallel_check import without_broken
from .parquet import read_columns
from .table import ImageTable, Table
from .validate import format_names, split_name

_READERS = {
    "hub": read_columns,
    "parquet": read_columns,
    "folder": read_folder,
    "csv": read_listing,
    "ucf101": read_ucf101,
    "kinetics": read_kinetics,
}


def open_split(config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None) -> Table:
    """Open a whole split, without limits and with broken files.

    Args:
        config: The data set.
        split: Name of the split.
        classes: Classes that the split must have, those of the training split; None if this is the
            training split or the labels are attributes.

    Raises:
        DataError: As :func:`open_table`.
    """
    content = _READERS[layout_of(config)](config, split, classes)
    if not len(content.targets):
        raise DataError(f"{split_name(split, config)} has no {config.noun}s.{_hint(config, split)}")
    if not isinstance(config, ClipDataConfig):
        return ImageTable(split_name(split, config), content)
    return ClipTable(split_name(split, config), content, config)


def _hint(config: TableConfig, split: str) -> str:
    """Return advice if a folder holds other files than samples, or these in further folders."""
    folder = Path(config.path) / split
    if not folder.is_dir():
        return ""
    files = [path for path in folder.glob("*/*") if path.is_file() and path.name[0] != "."]
    endings = {path.suffix.lower() for path in files}
    if isinstance(config, ClipDataConfig) and endings & IMAGE_SUFFIXES:
        return " It has images: use se-zoo check without --videos, and recipes/own_data.py."
    if not isinstance(config, ClipDataConfig) and endings & VIDEO_SUFFIXES:
        return " It has videos: use se-zoo check --videos, and recipes/clips.py."
    if any(is_sample(path.name, config) for path in folder.glob("*/*/*")):
        return (
            f" Its {config.noun}s lie in folders within those of the classes: move them to "
            f"{split}/<class>/<{config.noun}>."
        )
    if others := sorted(endings - {""}):
        return (
            f" Its files end in {' '.join(others[:5])}; {config.noun}s end in "
            f"{' '.join(sorted(config.suffixes))}."
        )
    return ""


def open_table(config: TableConfig, split: str) -> Table:
    """Open a split and check its columns and classes; samples are decoded when they are read.

    The classes are those of a ClassLabel, the sorted names of the class folders, or the values that
    occur in the training split: whole numbers keep their value, other values are sorted. The other
    splits must have the same classes. `limit` applies to the training split, `limit_eval` to the
    others. Broken videos, and broken images of an evaluation split, are skipped after the limit, so
    fewer samples may be left.

    Args:
        config: The data set.
        split: Name of the split, one of ``config.splits``.

    Returns:
        An :class:`~se_zoo.data.ImageTable` or a :class:`~se_zoo.data.ClipTable`.

    Raises:
        DataError: If settings contradict each other, or the split, its columns or its classes are
            not as declared.
    """
    if config.streaming:
        raise DataError(
            "streaming is set, but a table holds all rows; take open_stream, or leave streaming "
            "out."
        )
    if split not in config.splits:
        raise DataError(f"there is no split {split}; splits is {format_names(config.splits)}")
    table = _limited(open_split(config, split, _training_classes(config, split)), config, split)
    return without_broken(table) if _skips(config, split) else table


def _skips(config: TableConfig, split: str) -> bool:
    """Return whether the broken samples of a split are left out.

    A training split of images keeps them: they are replaced when they are read.
    """
    if getattr(config, "broken", "error") != "skip":
        return False
    evaluated = split in config.splits[1:]
    return evaluated or isinstance(config, ClipDataConfig)


def _training_classes(config: TableConfig, split: str) -> Optional[Tuple[str, ...]]:
    """Return the classes of the training split; None for itself and for attributes."""
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
        raise DataError(
            f"limit is {limit}, but {table.name} has {len(table)} {config.noun}s; lower the limit."
        )
    return table.spread(limit)
