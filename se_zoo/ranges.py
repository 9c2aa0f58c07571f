"""Ranges of options: written beside each field, checked in one place before anything starts."""

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Iterator, Optional, Tuple, get_type_hints

from .errors import InvalidInputError


@dataclass(frozen=True)
class Range:
    """The values that a number may have; NaN and infinity are never among them.

    Put it beside the type of a dataclass's field: ``Annotated[float, Range(0, 1)]``. Of a tuple
    every number must lie in it; None is not looked at.

    Attributes:
        least: The smallest value.
        most: The largest value.
        above: Exclude ``least`` itself.
        below: Exclude ``most`` itself.
        ascending: The numbers of a tuple must not decrease.
    """

    least: float
    most: float
    above: bool = False
    below: bool = False
    ascending: bool = False

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value, or "" if it is in the range."""
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        if not all(map(self._holds, numbers)):
            return f"it must be {self}"
        if self.ascending and list(numbers) != sorted(numbers):
            return "the first number must not be above the second"
        return ""

    def _holds(self, number: Any) -> bool:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return False
        if not math.isfinite(number):
            return False
        low = number > self.least if self.above else number >= self.least
        high = number < self.most if self.below else number <= self.most
        return low and high

    def __str__(self) -> str:
        """Return the range in words."""
        low = f"above {self.least:,.15g}" if self.above else f"{self.least:,.15g} or more"
        high = f"below {self.most:,.15g}" if self.below else f"at most {self.most:,.15g}"
        return f"a number, {low} and {high}"


#: Ranges that many options share.
SHARE = Range(0, 1)
POSITIVE_SHARE = Range(0, 1, above=True)
COUNT = Range(1, 1_000_000_000)
#: Height or width of an input in pixels.
PIXELS = Range(1, 16_384)


def ranges_of(cls: Any) -> Iterator[Tuple[str, Optional[Range], Any]]:
    """Yield the name, the range (None without one) and the type of each field of a dataclass."""
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        hint = hints[field.name]
        found = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Range)]
        yield field.name, found[0] if found else None, hint


def check_ranges(config: Any, prefix: str = "--") -> None:
    """Refuse values outside their ranges, in a dataclass and in those that it holds.

    Args:
        config: The dataclass.
        prefix: Beginning of the names of its options, for the message.

    Raises:
        InvalidInputError: Naming the first such option, its value and its range.
    """
    for name, allowed, _ in ranges_of(type(config)):
        value, option = getattr(config, name), prefix + name.replace("_", "-")
        if is_dataclass(value):
            check_ranges(value, f"{option}.")
        elif allowed is not None and value is not None and (problem := allowed.problem(value)):
            given = " ".join(map(str, value)) if isinstance(value, (tuple, list)) else value
            raise InvalidInputError(f"{option} is {given}; {problem}.")
