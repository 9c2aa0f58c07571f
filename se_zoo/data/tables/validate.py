"""What was declared against what is there: columns and classes."""

import re
from typing import Collection, Optional, Sequence, Tuple

import torch

from ...errors import DataError
from ..config import TableConfig

#: A class index beyond this is an identity or a time stamp, not a class.
MAX_CLASSES = 1_000_000


def described(split: str, config: TableConfig) -> str:
    """How messages call a split."""
    return f"the {split} split of {config.path}"


def listed(names: Collection[object], most: int = 60) -> str:
    """Names for a message, in their order, the end of long lists left out."""
    shown = [str(name) for name in names][:most]
    rest = len(names) - len(shown)
    return f"[{', '.join(shown)}{f', ... and {rest} more' if rest else ''}]"


def check_columns(
    found: Sequence[str], config: TableConfig, where: str, optional: Tuple[str, ...] = ()
) -> None:
    """Every declared column is there, and no other but the ignored ones.

    Raises:
        DataError: With the columns that are needed and those that were found.
    """
    task = config.attributes or (() if config.label is None else (config.label,))
    needed = [config.column, *task]
    missing = [name for name in needed if name not in found]
    allowed = {*needed, *config.ignore, *optional}
    unexpected = [name for name in found if name not in allowed]
    repeated = sorted({name for name in found if found.count(name) > 1})
    if not missing and not unexpected and not repeated:
        return
    said = {"missing": missing, "unexpected": unexpected, "repeated": repeated}
    differences = "; ".join(f"{word}: {listed(names)}" for word, names in said.items() if names)
    raise DataError(
        f"wrong columns in {where}. {differences}. Needed: {listed(needed)}; found: "
        f"{listed(found)}. Set {config.noun}, label or attributes to the columns' names; what is "
        "not needed goes into ignore."
    )


def class_names(values: Collection[str], where: str) -> Tuple[str, ...]:
    """Classes that are not declared anywhere, from the values that occur.

    Whole numbers are class indices and keep their value: "0" to the highest. Anything else is a
    name; names are sorted.

    Raises:
        DataError: For numbers that are no class indices.
    """
    distinct = set(values)
    if not all(re.fullmatch(r"-?(0|[1-9][0-9]*)", value) for value in distinct):
        return tuple(sorted(distinct))
    lowest, highest = min(map(int, distinct)), max(map(int, distinct))
    if lowest < 0 or highest >= MAX_CLASSES:
        raise DataError(
            f"the classes of {where} are numbers from {lowest} to {highest}; class indices count "
            f"from 0 and stay below {MAX_CLASSES:,} (-1 usually marks a sample without a label)."
        )
    return tuple(str(index) for index in range(highest + 1))


def class_indices(values: Sequence[str], classes: Tuple[str, ...], where: str) -> torch.Tensor:
    """The place of every value among the classes, long (N,).

    Raises:
        DataError: For values that are no class, with both lists.
    """
    places = {name: place for place, name in enumerate(classes)}
    unknown = sorted(set(values) - set(places))
    if unknown:
        raise DataError(
            f"{where} has classes that the training split lacks: {listed(unknown)}; the training "
            f"split has {listed(classes)}."
        )
    return torch.tensor([places[value] for value in values], dtype=torch.long)


def check_same_classes(
    found: Sequence[str], classes: Optional[Sequence[str]], where: str, fix: str
) -> None:
    """The classes are those of the training split (None: this is the training split).

    Raises:
        DataError: With what is missing, what is new, and both lists.
    """
    if classes is None or list(found) == list(classes):
        return
    missing = [name for name in classes if name not in set(found)]
    new = [name for name in found if name not in set(classes)]
    difference = f"missing: {listed(missing)}; new: {listed(new)}"
    if not missing and not new:
        difference = "the same names in another order"
    raise DataError(
        f"{where} has other classes than the training split. {difference}. Training split: "
        f"{listed(classes)}; found: {listed(found)}. {fix}"
    )
