"""Detecting the layout of a data set from its settings and its files."""

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from ...errors import DataError
from ..config import ClipDataConfig, DataConfig, TableConfig
from .official import official_layout
from .validate import format_names

Layout = Literal["hub", "parquet", "folder", "csv", "ucf101", "kinetics"]
#: How the settings of an error are called on the command line.
_OPTIONS = (
    "On the command line: --data.label or --data.attributes; of se-zoo check, --label or "
    "--attributes."
)


def layout_of(config: TableConfig) -> Layout:
    """Return the layout of a data set.

    Raises:
        DataError: If the path does not exist, or settings contradict each other or the layout.
    """
    _check_fields(config)
    folder, columns = Path(config.path), config.label is not None or config.attributes
    if folder.exists() or config.csv is not None:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give the folder that holds the data.")
        if config.name is not None:
            raise DataError(
                f"name ({config.name}) is for Hub data, but {folder} is a folder; leave name out "
                "(--data.name None)."
            )
    elif not re.fullmatch(r"([\w.-]+/)?[\w.-]+", config.path):
        raise DataError(
            f"no such folder: {config.path}. It cannot be a Hub id (owner/name) either."
        )
    official = official_layout(config) if isinstance(config, ClipDataConfig) else None
    if official is not None:
        return official
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
            f"label and attributes name columns, but {folder} holds no parquet files and csv is "
            "not set. Set csv, or leave label and attributes out for a folder per class."
        )
    if layout == "hub" and not columns:
        raise DataError(
            f"there is no folder {config.path} here. If it is a Hub id, set label (one class per "
            f"{config.noun}) or attributes (several yes-or-no columns). {_OPTIONS}"
        )
    if layout != "folder" and not columns:
        raise DataError(
            f"{config.csv or config.path} is a table: set label (one class per {config.noun}) or "
            f"attributes (several yes-or-no columns). {_OPTIONS}"
        )
    return layout


def _check_fields(config: TableConfig) -> None:
    if not config.path:
        raise DataError("path is empty; give a folder or a Hub id.")
    if config.label is not None and config.attributes:
        raise DataError(
            f"label ({config.label}) and attributes ({format_names(config.attributes)}) exclude "
            f"each other; set label for one class per {config.noun}, attributes for several "
            "yes-or-no columns."
        )
    columns = [config.column, *config.attributes, *([config.label] if config.label else [])]
    repeated = sorted(name for name, count in Counter(columns).items() if count > 1)
    if repeated:
        raise DataError(
            f"the settings name columns more than once: {format_names(repeated)}; give every "
            "column one purpose."
        )
    for name, limit in (("limit", config.limit), ("limit_eval", config.limit_eval)):
        if limit is not None and limit < 1:
            raise DataError(f"{name} is {limit}; it must be 1 or more.")
    if isinstance(config, DataConfig) and config.shuffle_buffer < 1:
        raise DataError(f"shuffle_buffer is {config.shuffle_buffer}; it must be 1 or more.")
    if isinstance(config, ClipDataConfig):
        _check_clip_fields(config)
    if not all(config.splits):
        raise DataError(f"splits {config.splits} has an empty name; name three splits.")


def _check_clip_fields(config: ClipDataConfig) -> None:
    if min(config.clips, config.min_frames) < 1:
        raise DataError(
            f"clips and min_frames must be 1 or more; they are {config.clips} and "
            f"{config.min_frames}."
        )
    if config.crop is not None:
        x0, y0, x1, y1 = config.crop
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise DataError(
                f"crop is {' '.join(map(str, config.crop))}; give x0 y0 x1 y1 in pixels with "
                "x0 < x1 and y0 < y1."
            )
