"""Failed downloads and unreadable weights, as one error that names the cause and the next step."""

import errno
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Type

import torch
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError

from ...errors import WeightsNotFoundError
from .fetch import WEIGHTS_NAME, source_name

#: What the client raises when a connection breaks: its HTTP library's own, which changed its name.
CONNECTION_ERROR: Type[Exception] = HfHubHTTPError.__mro__[1]


@contextmanager
def clear_errors(variant: str, cfg: Dict[str, Any], cache_dir: Any = None) -> Iterator[None]:
    """Turn a failed download, or a file that cannot be read or does not fit, into one error that
    says what was asked and what to do.

    Args:
        variant: Registry name of the architecture.
        cfg: The pretrained cfg whose weights are being loaded.
        cache_dir: Where downloads are kept; huggingface_hub's own place by default.

    Raises:
        WeightsNotFoundError: From the client's own error, whose cause it quotes.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, WeightsNotFoundError) or "loading state_dict" not in str(error):
            raise
        first = next(line.strip() for line in str(error).splitlines()[1:])
        raise WeightsNotFoundError(
            f"The weights from {source_name(cfg)} do not fit the model that their config.json, or "
            f"you, describe ({variant}). {first}"
        ) from error
    except (OSError, HFValidationError, SafetensorError, CONNECTION_ERROR) as error:
        tag = cfg.get("tag") or ""
        name = f"{variant}.{tag}" if tag else variant
        url = str(cfg.get("url") or "")
        if url.endswith(".pth") and url in source_name(cfg):  # torchvision's
            raise WeightsNotFoundError(
                f"The weights of {name} could not be had from {url}. {type(error).__name__}: "
                f"{as_sentence(error)} Fetch that file yourself and put it into "
                f"{cache_dir or Path(torch.hub.get_dir()) / 'checkpoints'}."
            ) from error
        raise WeightsNotFoundError(
            f"The weights of {name} could not be had from {source_name(cfg)}."
            f" {type(error).__name__}: {as_sentence(error)}"
            f" {next_step(error, source_name(cfg), cache_dir)}"
            f"Only {WEIGHTS_NAME} is ever asked for."
            " Use pretrained=False for random weights."
        ) from error


def as_sentence(error: BaseException) -> str:
    """An error's text on one line, with an end."""
    text = " ".join(str(error).split())
    return text if text.endswith((".", "!", "?")) else f"{text}."


def next_step(error: BaseException, place: str, folder: Any = None) -> str:
    """What to do about an error of the Hub's client, as a sentence and a space; the kinds that
    explain themselves give nothing.

    Args:
        error: What the client raised.
        place: Repository that was asked, with ``@revision`` or without.
        folder: Where files were being written; the Hub's cache by default.
    """
    repo = place.partition("@")[0]
    page, login = f"{constants.ENDPOINT}/{repo}", "log in (`hf auth login`, or set HF_TOKEN)"
    if isinstance(error, GatedRepoError):
        return f"The repository is gated: accept its terms at {page} and {login}. "
    if isinstance(error, RevisionNotFoundError):
        return f"The repository no longer has that revision; see {page} for those it has. "
    if isinstance(error, RepositoryNotFoundError) or _status(error) in (401, 403):
        return f"Either there is no such repository, or it is private: then {login}. "
    if isinstance(error, LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            return (
                "Offline mode is on and the cache does not have it: unset HF_HUB_OFFLINE, or run "
                "once with a network. "
            )
        return (
            f"The Hub at {constants.ENDPOINT} did not answer as it should"
            f"{_behind(error)}: check the network, the proxy and HF_ENDPOINT, then run again. "
        )
    if isinstance(error, EntryNotFoundError):
        return "The repository has no such file; a pickle is not loaded. "
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"Free some space on the disk of {folder or constants.HF_HUB_CACHE}, or use another. "
        )
    broken = isinstance(error, (CONNECTION_ERROR, ConnectionError))
    if broken or "Consistency check" in str(error):
        return "The download broke off and nothing of it was kept for later; run again. "
    return ""


def _status(error: BaseException) -> Any:
    return getattr(getattr(error, "response", None), "status_code", None)


def _behind(error: BaseException) -> str:
    cause = error.__cause__
    return "" if cause is None else f" ({type(cause).__name__}: {' '.join(str(cause).split())})"
