"""Words of the command line, put right before they are parsed."""

from typing import List, Sequence, Tuple

from ..errors import InvalidInputError

#: Options that take several values, by command; those of ``explain`` are put right with its files.
_SEVERAL = {
    "predict": ("--target",),
    "export": ("--target",),
    "check": ("--attributes", "--ignore"),
}


def is_option(word: str) -> bool:
    """Return whether a word is an option, and not a file or a negative number."""
    return word.startswith("-") and not word[1:2].isdigit() and word != "-"


def refuse_empty(words: Sequence[str]) -> None:
    """Refuse empty arguments: as a path they would mean the folder that the shell is in.

    Args:
        words: Words of the command line.

    Raises:
        InvalidInputError: If a word, or what follows the ``=`` of an option, is empty.
    """
    before = "se-zoo"
    for word in words:
        name, equals, value = word.partition("=")
        if not word or (is_option(word) and equals and not value):
            place = name if word else f"the argument after {before}"
            raise InvalidInputError(f"{place} is empty: is a variable of the shell not set?")
        before = word


def repeats_joined(words: Sequence[str]) -> List[str]:
    """Join the values of an option that is given several times, of which tyro keeps the last.

    Args:
        words: Words of the command line, from the command on.

    Returns:
        The words; ``--target A --target B`` has become ``--target A B``.
    """
    found = list(words)
    for option in _SEVERAL.get(found[0], ()):
        found = _joined(found, option)
    return found


def _joined(words: List[str], option: str) -> List[str]:
    """Move the values of an option behind its last occurrence."""
    end = words.index("--") if "--" in words else len(words)
    places = [n for n, word in enumerate(words[:end]) if word.partition("=")[0] == option]
    if len(places) < 2:
        return words
    values: List[str] = []
    rest: List[str] = []
    begin = 0
    for place in places:
        rest += words[begin:place]
        given, begin = _values(words[:end], place)
        values += given
    return [*rest, option, *values, *words[begin:]]


def _values(words: Sequence[str], place: int) -> Tuple[List[str], int]:
    """Return the values of the option at a place, and the place after them."""
    _, equals, value = words[place].partition("=")
    values, after = [value] if equals else [], place + 1
    while after < len(words) and not is_option(words[after]):
        values.append(words[after])
        after += 1
    return values, after
