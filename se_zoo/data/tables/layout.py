"""How a data set lies on the disk or on the Hub, by what is declared and what is there."""

import re
from pathlib import Path
from typing import Literal

from ...errors import DataError
from ..config import ClipDataConfig, DataConfig, TableConfig
from .official import official_layout
from .validate import listed

Layout = Literal["hub", "parquet", "folder", "csv", "ucf101", "kinetics"]


def layout_of(config: TableConfig) -> Layout:
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
            f"label and attributes name columns, but {folder} holds no parquet files and no csv "
            "was given; for a folder per class leave both out."
        )
    if layout == "hub" and not columns:
        raise DataError(
            f"there is no folder {config.path} here. If it is a Hub id, set label (one class a "
            f"{config.noun}) or attributes (several yes-or-no columns)."
        )
    if layout != "folder" and not columns:
        raise DataError(
            f"{config.csv or config.path} is a table: set label (one class a {config.noun}) or "
            "attributes (several yes-or-no columns)."
        )
    return layout


def _check_fields(config: TableConfig) -> None:
    if not config.path:
        raise DataError("path is empty; give a folder or a Hub id.")
    if config.label is not None and config.attributes:
        raise DataError(
            f"label ({config.label}) and attributes ({listed(config.attributes)}) exclude each "
            "other: one is for one class a sample, the other for several labels."
        )
    columns = [config.column, *config.attributes, *([config.label] if config.label else [])]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DataError(f"columns declared more than once: {listed(repeated)}")
    for name, limit in (("limit", config.limit), ("limit_eval", config.limit_eval)):
        if limit is not None and limit < 1:
            raise DataError(f"{name} is {limit}; it must be 1 or more.")
    if isinstance(config, DataConfig) and config.shuffle_buffer < 1:
        raise DataError(f"shuffle_buffer is {config.shuffle_buffer}; it must be 1 or more.")
    if isinstance(config, ClipDataConfig):
        _check_clip_fields(config)
    if not all(config.splits):
        raise DataError(f"splits {config.splits} has an empty name.")


def _check_clip_fields(config: ClipDataConfig) -> None:
    if min(config.clips, config.min_frames) < 1:
        raise DataError("clips and min_frames must be 1 or more.")
    if config.crop is not None:
        x0, y0, x1, y1 = config.crop
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise DataError(
                f"crop is {' '.join(map(str, config.crop))}; give x0 y0 x1 y1 in pixels with "
                "x0 < x1 and y0 < y1."
            )
