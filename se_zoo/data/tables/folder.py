"""A folder per class: ``<path>/<split>/<class>/<file>``."""

from pathlib import Path
from typing import List, Optional, Tuple

import torch

from ...errors import DataError
from ..config import TableConfig
from .content import Content, StoredFiles
from .validate import check_same_classes, described, listed


def subfolders(folder: Path) -> List[str]:
    """Names of the folders inside, sorted, hidden ones left out."""
    return sorted(e.name for e in folder.iterdir() if e.is_dir() and not e.name.startswith("."))


def is_sample(name: str, config: TableConfig) -> bool:
    """Whether a file counts as an image, or as a video, by its ending."""
    return not name.startswith(".") and Path(name).suffix.lower() in config.suffixes


def folder_classes(config: TableConfig, split: str) -> Tuple[str, ...]:
    """The classes of a split: the names of its folders, sorted; empty folders count.

    Raises:
        DataError: If the split or its class folders are missing, with what was found.
    """
    root = Path(config.path)
    if not (root / split).is_dir():
        raise DataError(
            f"{root} has no folder {split}. Needed: {listed(dict.fromkeys(config.splits))}; found: "
            f"{listed(subfolders(root))}. Rename the folders, or set splits to their names."
        )
    classes = tuple(subfolders(root / split))
    if not classes:
        raise DataError(
            f"{root / split} holds no folders. Needed: {split}/<class>/<{config.noun}>, a folder "
            "per class."
        )
    return classes


def read_folder(
    config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None
) -> Content:
    """A split's files by class, then by name; classes: those of the training split.

    Raises:
        DataError: If the split is missing or has other classes.
    """
    found = folder_classes(config, split)
    fix = "Every split needs the same class folders; one without files stays empty."
    check_same_classes(found, classes, described(split, config), fix)
    root, names, targets = Path(config.path), [], []
    for place, label in enumerate(found):
        inside = (root / split / label).iterdir()
        files = sorted(e.name for e in inside if is_sample(e.name, config))
        names += [f"{split}/{label}/{file}" for file in files]
        targets += [place] * len(files)
    return Content(StoredFiles(root, names), found, torch.tensor(targets, dtype=torch.long))
