"""Text from files and data sets, made safe for a terminal."""

import unicodedata

#: Formatting characters that names in Persian, Hindi and emoji need.
_JOINERS = "\u200c\u200d"


def printable(text: object) -> str:
    """Return a text with its control characters escaped, as Python writes them.

    Names of files and labels may hold line breaks, which would forge lines of a report, and codes
    that terminals obey. Bytes that are not UTF-8 are escaped too, so that printing cannot fail.

    Args:
        text: Anything; it is converted by ``str``.

    Returns:
        The text in one line.
    """
    return "".join(_escaped(c) if _is_unsafe(c) else c for c in str(text))


def one_line(text: object) -> str:
    """Return a text of several lines as a printable single one.

    Args:
        text: Anything; it is converted by ``str``.
    """
    return printable(" ".join(str(text).split()))


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 photo``, ``2,000 photos``.

    Args:
        count: The number.
        noun: Its singular; the plural must have a further ``s``.
    """
    return f"{count:,} {noun}{'s'[: count != 1]}"


def _is_unsafe(character: str) -> bool:
    """Return whether a character is a control or a lone surrogate, or changes the direction."""
    if character in _JOINERS:
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
