"""Turn errors of publishing into one that says which step failed, why, and what to do."""

import errno
import tempfile
from contextlib import contextmanager
from typing import Iterator

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from ..errors import SEZooError
from ..models.pretrained.hub_errors import CONNECTION_ERROR, as_sentence


class PublishError(SEZooError, RuntimeError):
    """A publication failed, or what came back from the Hub is not the local model."""


@contextmanager
def naming_the_step(step: str, repo: str) -> Iterator[None]:
    """Turn errors of the Hub's client, the disk or a pulled model into a :class:`PublishError`.

    Args:
        step: The step inside the block, for the message.
        repo: Repository that is published to.

    Raises:
        PublishError: Naming the step, its cause and what to do.
    """
    try:
        yield
    except PublishError as error:
        raise PublishError(f"{repo}, {step}: {error}") from error
    except (OSError, ValueError, RuntimeError, CONNECTION_ERROR) as error:
        if type(error) is RuntimeError and isinstance(error.__cause__, Exception):
            error = error.__cause__  # a failed upload, which the client wraps
        cause = as_sentence(error)
        if isinstance(error, SEZooError):  # its message says what to do
            raise PublishError(f"{repo}, {step}: {cause}") from error
        raise PublishError(
            f"{repo}, {step}: {type(error).__name__}: {cause} {_what_to_do(error, repo)}"
        ) from error


def _what_to_do(error: BaseException, repo: str) -> str:
    """Return a sentence that says what to do about an error."""
    if isinstance(error, OfflineModeIsEnabled):
        return "Offline mode is on: unset HF_HUB_OFFLINE."
    if isinstance(error, LocalTokenNotFoundError):
        return "Log in first: `hf auth login`, or set HF_TOKEN to a token that may write."
    if isinstance(error, HfHubHTTPError):
        return _of_status(error.response.status_code, str(error.response.url), repo)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"Free some space in {tempfile.gettempdir()}, or set TMPDIR to another disk."
    if isinstance(error, (ConnectionError, CONNECTION_ERROR)):
        return f"Check the network and HF_ENDPOINT ({constants.ENDPOINT}), then publish again."
    return "Correct that, then publish again."


def _of_status(status: int, url: str, repo: str) -> str:
    """Return what to do about an HTTP status of the Hub, or of the storage behind it."""
    if status in (401, 403) and not url.startswith(constants.ENDPOINT):
        return "The Hub's storage refused the upload: its link may be too old; publish again."
    if status == 401:
        return "The token is not valid: `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return (
            f"You may not write to {repo}: use a token with write access, ask its owner, name "
            "another --repo, or, if it exists, open a pull request with --pr."
        )
    if status in (409, 412):
        return "The repository was changed by someone else at the same time; publish again."
    if status == 429:
        return "The Hub limits the rate of requests; publish again later."
    if status >= 500:
        return "The Hub has trouble; publish again later."
    return "Correct that, then publish again."
