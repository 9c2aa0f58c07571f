"""Say what to do about errors of the Hub's client."""

import errno
from typing import Any, Optional, Type

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

#: Error of the client's HTTP library for broken connections; the library differs by version.
CONNECTION_ERROR: Type[Exception] = HfHubHTTPError.__mro__[1]


def as_sentence(error: BaseException) -> str:
    """Return an error's text on one line that ends like a sentence."""
    text = " ".join(str(error).split())
    return text if text.endswith((".", "!", "?")) else f"{text}."


def next_step(error: BaseException, place: str, folder: Any = None) -> str:
    """Return what to do about an error of the Hub's client.

    Args:
        error: What the client raised.
        place: Repository that was asked, with or without ``@revision``.
        folder: Where files were being written; the Hub's cache by default.

    Returns:
        A sentence and a space, or an empty text if the error explains itself.
    """
    repo = place.partition("@")[0]
    page, login = f"{constants.ENDPOINT}/{repo}", "log in (`hf auth login`, or set HF_TOKEN)"
    if isinstance(error, GatedRepoError):
        return f"The repository is gated: accept its terms at {page} and {login}. "
    if isinstance(error, RevisionNotFoundError):
        return f"The repository does not have that revision; {page} lists those it has. "
    if isinstance(error, RepositoryNotFoundError) or _status(error) in (401, 403):
        return f"The repository does not exist, or it is private; if it is private, {login}. "
    if isinstance(error, LocalEntryNotFoundError):
        return f"{unreachable(error)} "
    if isinstance(error, EntryNotFoundError):
        return "The repository has no such file; se_zoo does not load a pickle instead. "
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"Free some space on the disk of {folder or constants.HF_HUB_CACHE}, or use another "
            "disk. "
        )
    broken = isinstance(error, (CONNECTION_ERROR, ConnectionError))
    if broken or "Consistency check" in str(error):
        return "The download broke off and nothing was kept; run again. "
    return ""


def unreachable(error: BaseException) -> str:
    """Return that the Hub cannot be reached, and what to do.

    Args:
        error: What the Hub's client raised.

    Returns:
        A sentence, or an empty text if the error is another one.
    """
    cause: Optional[BaseException] = error
    if isinstance(error, LocalEntryNotFoundError):
        cause = error.__cause__
    elif not isinstance(error, (CONNECTION_ERROR, ConnectionError)) or _status(error) is not None:
        return ""
    if constants.HF_HUB_OFFLINE:
        return (
            "Offline mode is on and the cache does not hold the file: unset HF_HUB_OFFLINE, or "
            "run once with a network."
        )
    return (
        f"The Hub at {constants.ENDPOINT} gave no valid answer{_in_parentheses(cause)}: check the "
        "network, the proxy and HF_ENDPOINT, then run again."
    )


def _status(error: BaseException) -> Any:
    """Return the HTTP status of an error, or None."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _in_parentheses(cause: Optional[BaseException]) -> str:
    """Return kind and text of an error in parentheses; an empty text for None."""
    return "" if cause is None else f" ({type(cause).__name__}: {' '.join(str(cause).split())})"
