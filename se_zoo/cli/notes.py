"""Warnings and errors of the library in the words of the command line."""

import re
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

from ..errors import SEZooError, SEZooWarning
from ..text import one_line

_PACKAGE = str(Path(__file__).parent.parent)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print warnings of se_zoo as one line each, ``note: ...``; others are shown as Python does.

    Python's own form begins with a file and ends with a line of its code, which say nothing to
    users of a command.
    """
    before = warnings.showwarning

    def show(message: Any, category: Any, filename: str, *rest: Any, **named: Any) -> None:
        ours = category is UserWarning and filename.startswith(_PACKAGE)
        if ours or issubclass(category, SEZooWarning):
            from tqdm import tqdm  # it keeps the progress bar below the note

            tqdm.write(f"note: {one_line(as_options(str(message)))}", file=sys.stderr)
        else:
            before(message, category, filename, *rest, **named)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


@contextmanager
def errors_with_options() -> Iterator[None]:
    """Name options instead of arguments in the messages of errors; see :func:`as_options`."""
    try:
        yield
    except SEZooError as error:
        if (text := as_options(str(error))) != str(error):
            error.args = (text,)
        raise


def as_options(text: str) -> str:
    """Return a message with ``--method gate`` for ``method="gate"``, and so for ``versus``.

    Args:
        text: A message of the library.
    """
    text = re.sub(r'\bmethod=("\w+"(?: or "\w+")*)', _option, text)
    return re.sub(r"^versus (?=is |names )|(?<= with )versus\b", lambda m: f"--{m[0]}", text)


def _option(found: "re.Match[str]") -> str:
    return f"--method {found[1]}".replace('"', "")
