"""Checks of the columns and classes that are found against those that are declared."""

import re
from collections import Counter
from itertools import islice
from typing import Collection, Optional, Sequence, Tuple

import torch

from ...errors import DataError
from ..config import TableConfig

#: How the setting ``splits`` is called on the command line, for messages.
SPLITS_OPTION = "--data.splits, or --splits of se-zoo check"
#: Most characters of a name in a list of names.
_LONGEST = 200
#: Larger numbers are identities or time stamps, not class indices.
_MAX_CLASSES = 1_000_000


def split_name(split: str, config: TableConfig) -> str:
    """Return the name of a split in messages."""
    return f"the {split} split of {config.path}"


def format_names(names: Collection[object], most: int = 60) -> str:
    """Return a list of names for a message, cut after ``most`` names."""
    shown = [str(name)[:_LONGEST] for name in islice(names, most)]
    rest = len(names) - len(shown)
    return f"[{', '.join(shown)}{f', ... and {rest} more' if rest else ''}]"


def check_columns(
    found: Sequence[str], config: TableConfig, where: str, optional: Tuple[str, ...] = ()
) -> None:
    """Check that all declared columns are there, and no others but ignored and optional ones.

    Raises:
        DataError: If columns are missing, unexpected or repeated.
    """
    task = config.attributes or (() if config.label is None else (config.label,))
    needed = [config.column, *task]
    counts = Counter(found)
    missing = [name for name in needed if name not in counts]
    allowed = {*needed, *config.ignore, *optional}
    unexpected = [name for name in found if name not in allowed]
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if not missing and not unexpected and not repeated:
        return
    problems = {"missing": missing, "unexpected": unexpected, "repeated": repeated}
    differences = "; ".join(
        f"{word}: {format_names(names)}" for word, names in problems.items() if names
    )
    raise DataError(
        f"wrong columns in {where}. {differences}. Needed: {format_names(needed)}; found: "
        f"{format_names(found)}. Set {config.noun}, label or attributes to the columns' names, and "
        "ignore to the columns that are not needed."
    )


def class_names(values: Collection[str], where: str) -> Tuple[str, ...]:
    """Return the classes of labels without declared classes.

    Whole numbers are class indices: the classes are "0" to the highest number. Other values are
    names, which are sorted.

    Raises:
        DataError: If numbers are negative or too large for class indices.
    """
    distinct = set(values)
    if not all(re.fullmatch(r"-?(0|[1-9][0-9]*)", value) for value in distinct):
        return tuple(sorted(distinct))
    lowest, highest = min(map(int, distinct)), max(map(int, distinct))
    if lowest < 0 or highest >= _MAX_CLASSES:
        raise DataError(
            f"the classes of {where} are numbers from {lowest} to {highest}; class indices start "
            f"at 0 and stay below {_MAX_CLASSES:,}. -1 usually marks a sample without a label; "
            "leave such rows out."
        )
    return tuple(str(index) for index in range(highest + 1))


def class_indices(values: Sequence[str], classes: Tuple[str, ...], where: str) -> torch.Tensor:
    """Return the class index of every value, int64 (N,).

    Raises:
        DataError: If a value is not one of the classes.
    """
    places = {name: place for place, name in enumerate(classes)}
    unknown = sorted(set(values) - set(places))
    if unknown:
        raise DataError(
            f"{where} has classes that the training split lacks: {format_names(unknown)}. The "
            f"training split has {format_names(classes)}. Leave these rows out, or correct their "
            "labels."
        )
    return torch.tensor([places[value] for value in values], dtype=torch.long)


def check_same_classes(
    found: Sequence[str], classes: Optional[Sequence[str]], where: str, fix: str
) -> None:
    """Check that a split has the classes of the training split.

    Args:
        found: Classes of the split.
        classes: Classes of the training split; None if this is the training split.
        where: Name of the split, for the message.
        fix: Advice, for the message.

    Raises:
        DataError: If the classes or their order differ.
    """
    if classes is None or list(found) == list(classes):
        return
    missing = [name for name in classes if name not in set(found)]
    new = [name for name in found if name not in set(classes)]
    difference = f"missing: {format_names(missing)}; new: {format_names(new)}"
    if not missing and not new:
        difference = "the same names in another order"
    raise DataError(
        f"{where} has other classes than the training split. {difference}. Training split: "
        f"{format_names(classes)}; found: {format_names(found)}. {fix}"
    )
