"""UCF101 and Kinetics, read by the lists that their authors publish."""

import csv
import os
from pathlib import Path
from typing import Dict, List, Literal, Optional, Tuple

from ...errors import DataError
from ..config import ClipDataConfig, TableConfig
from .content import Content, StoredFiles
from .validate import class_indices, class_names, format_names, split_name

#: Folders of the lists: where the official archives unpack them, and the data's folder.
_LISTS = {"ucf101": ("ucfTrainTestlist", "."), "kinetics": ("annotations", ".")}
_UCF_VIDEOS = "UCF-101"
_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def official_layout(config: ClipDataConfig) -> Optional[Literal["ucf101", "kinetics"]]:
    """Return the declared layout, or the one of the lists that lie in the data's folder.

    Raises:
        DataError: If the lists of a declared layout are missing, or other settings contradict it.
    """
    layout = _official_layout(config)
    if config.fold != 1 and layout != "ucf101":
        raise DataError(f"fold is {config.fold}, but only ucf101 has folds; leave fold out.")
    return layout


def _official_layout(config: ClipDataConfig) -> Optional[Literal["ucf101", "kinetics"]]:
    if config.layout == "auto":
        if config.csv is not None or config.label is not None or config.attributes:
            if config.lists is not None:
                raise DataError(
                    f"lists ({config.lists}) is for the layouts ucf101 and kinetics; leave it out, "
                    "or leave out csv, label and attributes."
                )
            return None
        if _lists_folder(config, "ucf101") is not None:
            return "ucf101"
        return None if _lists_folder(config, "kinetics") is None else "kinetics"
    if config.csv is not None or config.label is not None or config.attributes:
        raise DataError(
            f"layout {config.layout} takes its labels from the official lists; leave out csv, "
            "label and attributes."
        )
    if _lists_folder(config, config.layout) is None:
        wanted = {
            "ucf101": "classInd.txt, trainlist01.txt, testlist01.txt and so on",
            "kinetics": f"{config.splits[0]}.csv with {format_names(_KINETICS_COLUMNS)}",
        }
        where = config.lists or " or ".join(
            str(Path(config.path) / name) for name in _LISTS[config.layout]
        )
        raise DataError(
            f"layout {config.layout}: {where} holds no {wanted[config.layout]}. Set lists to their "
            "folder."
        )
    return config.layout


def _lists_folder(config: ClipDataConfig, layout: str) -> Optional[Path]:
    """Return the folder that holds a layout's lists, or None."""
    inside = [Path(config.path) / name for name in _LISTS[layout]]
    for folder in [config.lists] if config.lists is not None else inside:
        if layout == "ucf101" and (folder / "classInd.txt").is_file():
            return folder
        if layout == "kinetics" and _is_kinetics(folder / f"{config.splits[0]}.csv"):
            return folder
    return None


def _is_kinetics(file: Path) -> bool:
    if not file.is_file():
        return False
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
            header = next(csv.reader(lines), [])
    except (OSError, csv.Error):
        return False
    return set(_KINETICS_COLUMNS) <= {name.strip() for name in header}


def read_ucf101(
    config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None
) -> Content:
    """Read a split of one of UCF101's three folds (Soomro et al., arXiv 1212.0402).

    Args:
        config: The data set.
        split: ``train`` or ``test``.
        classes: Not used; the classes are those of classInd.txt.

    Returns:
        The videos in the order of the official list.

    Raises:
        DataError: For another split, and for lists that are missing or invalid.
    """
    assert isinstance(config, ClipDataConfig)
    folder = _lists_folder(config, "ucf101")
    assert folder is not None
    if split not in ("train", "test"):
        raise DataError(
            f"UCF101 has no split {split}, only train and test; set splits to train test test."
        )
    names = dict(_pair(line, folder / "classInd.txt") for line in _lines(folder / "classInd.txt"))
    classes = tuple(names[n] for n in sorted(names, key=int))
    listing = folder / f"{split}list{config.fold:02}.txt"
    files = [line.rsplit(" ", 1)[0] if split == "train" else line for line in _lines(listing)]
    values = [Path(file).parts[0] for file in files]
    root = Path(config.path)
    root = root / _UCF_VIDEOS if (root / _UCF_VIDEOS).is_dir() else root
    targets = class_indices(values, classes, str(listing))
    return Content(StoredFiles(root, files, config.outside), classes, targets)


def _lines(file: Path) -> List[str]:
    try:
        return [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from error


def _pair(line: str, file: Path) -> Tuple[str, str]:
    number, _, name = line.partition(" ")
    if not number.isdecimal() or not name:
        raise DataError(f"{file}: the line {line!r} must be a number and a class.")
    return number, name


def read_kinetics(
    config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None
) -> Content:
    """Read a split of Kinetics from its official csv.

    A video is a file ``<id>_<start>_<end>`` with any video ending, anywhere below ``<path>``; files
    below ``<path>/<split>`` come first. A missing video is an error when its row is read.

    Args:
        config: The data set.
        split: Name of the split.
        classes: Classes of the training split; None if this is the training split.

    Raises:
        DataError: If the csv is missing or invalid, or has other classes.
    """
    assert isinstance(config, ClipDataConfig)
    folder = _lists_folder(config, "kinetics")
    assert folder is not None
    file, root = folder / f"{split}.csv", Path(config.path)
    if not _is_kinetics(file):
        raise DataError(
            f"{file} does not exist, or lacks some of the columns "
            f"{format_names(_KINETICS_COLUMNS)}. The official test split has no labels; set splits "
            "to train val val."
        )
    found = {**_videos(root, root, config), **_videos(root, root / split, config)}
    names, values = [], []
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for row in csv.DictReader(lines, strict=True, skipinitialspace=True):
                stem = _stem(row)
                if stem is None or not row["label"]:
                    raise DataError(
                        f"{file} has a row without a valid {', '.join(_KINETICS_COLUMNS)}: "
                        f"{list(row.values())}; correct it, or leave it out."
                    )
                names.append(found.get(stem, f"{split}/{stem}.mp4"))
                values.append(row["label"])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {file} as csv in UTF-8: {error}") from error
    where = split_name(split, config)
    if not values:
        raise DataError(f"{file} has no rows; every split needs at least one.")
    classes = classes or class_names(values, where)
    return Content(
        StoredFiles(root, names, config.outside), classes, class_indices(values, classes, where)
    )


def _stem(row: Dict[str, Optional[str]]) -> Optional[str]:
    """Return a video's official file name without its ending, or None for an invalid row."""
    try:
        start, end = (round(float(row[name] or "")) for name in ("time_start", "time_end"))
    except (KeyError, ValueError):
        return None
    return f"{row['youtube_id']}_{start:06}_{end:06}" if row.get("youtube_id") else None


def _videos(root: Path, below: Path, config: ClipDataConfig) -> Dict[str, str]:
    """Return all videos below a folder: paths relative to ``root`` by name without ending."""
    found = {}
    for folder, inside, files in os.walk(below):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for file in sorted(files):
            stem, ending = os.path.splitext(file)
            if ending.lower() in config.suffixes:
                found[stem] = Path(os.path.relpath(os.path.join(folder, file), root)).as_posix()
    return found
