"""Turn failed downloads and unreadable weights into one error with the cause and the next step."""

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

from ...errors import SEZooError, UnknownModelError, WeightsNotFoundError
from .fetch import WEIGHTS_NAME, source_name
from .fit_check import is_described

#: Error of the client's HTTP library for broken connections; the library differs by version.
CONNECTION_ERROR: Type[Exception] = HfHubHTTPError.__mro__[1]


@contextmanager
def clear_errors(variant: str, cfg: Dict[str, Any], cache_dir: Any = None) -> Iterator[None]:
    """Turn errors of downloading and loading weights into one error that says what to do.

    Args:
        variant: Registry name of the architecture.
        cfg: The pretrained config whose weights are being loaded.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.

    Yields:
        Nothing.

    Raises:
        WeightsNotFoundError: If a download fails, or a file cannot be read or does not fit; it
            quotes the original error.
        UnknownModelError: If a config.json describes no model that can be built.
    """
    try:
        yield
    except (SEZooError, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            if not is_described(cfg):
                raise
            raise _not_described(cfg, error) from error
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        first = next((line for line in lines if "size mismatch" in line), lines[0])
        first = first if len(first) <= 300 else f"{first[:297]}..."
        raise WeightsNotFoundError(
            f"The weights from {source_name(cfg)} do not fit {variant} as it is described by their "
            f"config.json or by the arguments given. {first}"
        ) from error
    except (OSError, HFValidationError, SafetensorError, CONNECTION_ERROR) as error:
        tag = cfg.get("tag") or ""
        name = f"{variant}.{tag}" if tag else variant
        url = str(cfg.get("url") or "")
        if url.endswith(".pth") and url in source_name(cfg):  # torchvision's
            raise WeightsNotFoundError(
                f"The weights of {name} could not be loaded from {url}. {type(error).__name__}: "
                f"{as_sentence(error)} Download that file and put it into "
                f"{cache_dir or Path(torch.hub.get_dir()) / 'checkpoints'}."
            ) from error
        raise WeightsNotFoundError(
            f"The weights of {name} could not be loaded from {source_name(cfg)}."
            f" {type(error).__name__}: {as_sentence(error)}"
            f" {next_step(error, source_name(cfg), cache_dir)}"
            f"se_zoo loads {WEIGHTS_NAME} only."
            " Use pretrained=False for random weights."
        ) from error
    except Exception as error:  # a builder of timm raises anything for arguments out of a file
        if not is_described(cfg):
            raise
        raise _not_described(cfg, error) from error


def _not_described(cfg: Dict[str, Any], error: Exception) -> UnknownModelError:
    """Return the error for a config.json of which no model can be built."""
    return UnknownModelError(
        f"The config.json of {source_name(cfg)}, or an argument given, describes no model that "
        f"can be built. {type(error).__name__}: {as_sentence(error)}"
    )


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
        if constants.HF_HUB_OFFLINE:
            return (
                "Offline mode is on and the cache does not hold the file: unset HF_HUB_OFFLINE, or "
                "run once with a network. "
            )
        return (
            f"The Hub at {constants.ENDPOINT} gave no valid answer"
            f"{_cause(error)}: check the network, the proxy and HF_ENDPOINT, then run again. "
        )
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


def _status(error: BaseException) -> Any:
    """Return the HTTP status of an error, or None."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _cause(error: BaseException) -> str:
    """Return the error that caused another one, in parentheses."""
    cause = error.__cause__
    return "" if cause is None else f" ({type(cause).__name__}: {' '.join(str(cause).split())})"
