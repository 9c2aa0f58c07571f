"""Data with a folder per class: ``<path>/<split>/<class>/<file>``."""

from pathlib import Path
from typing import List, Optional, Tuple

import torch

from ...errors import DataError
from ..config import TableConfig
from .content import Content, StoredFiles
from .validate import SPLITS_OPTION, check_same_classes, format_names, split_name


def _subfolders(folder: Path) -> List[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    return sorted(e.name for e in folder.iterdir() if e.is_dir() and not e.name.startswith("."))


def is_sample(name: str, config: TableConfig) -> bool:
    """Return whether a file is a sample of the data set, by its ending."""
    return not name.startswith(".") and Path(name).suffix.lower() in config.suffixes


def folder_classes(config: TableConfig, split: str) -> Tuple[str, ...]:
    """Return the classes of a split: the sorted names of its folders, including empty ones.

    Raises:
        DataError: If the split has no folder or no class folders.
    """
    root = Path(config.path)
    if not (root / split).is_dir():
        raise DataError(
            f"{root} has no folder {split}. Needed: {format_names(dict.fromkeys(config.splits))}; "
            f"found: {format_names(_subfolders(root))}. Rename the folders, or set splits to their "
            f"names ({SPLITS_OPTION})."
        )
    classes = tuple(_subfolders(root / split))
    if not classes:
        raise DataError(
            f"{root / split} holds no folders; make a folder per class: "
            f"{split}/<class>/<{config.noun}>."
        )
    return classes


def read_folder(
    config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None
) -> Content:
    """Read a split's files, sorted by class and name.

    Args:
        config: The data set.
        split: Name of the split.
        classes: Classes of the training split; None if this is the training split.

    Raises:
        DataError: If the split is missing or has other classes.
    """
    found = folder_classes(config, split)
    fix = "Give every split the same class folders; a folder may be empty."
    check_same_classes(found, classes, split_name(split, config), fix)
    root, names, targets = Path(config.path), [], []
    for place, label in enumerate(found):
        inside = (root / split / label).iterdir()
        files = sorted(e.name for e in inside if is_sample(e.name, config))
        names += [f"{split}/{label}/{file}" for file in files]
        targets += [place] * len(files)
    files = StoredFiles(root, names, config.outside)
    return Content(files, found, torch.tensor(targets, dtype=torch.long))
