"""Errors of publishing: which step failed, why, and what to do."""

import errno
import tempfile
from contextlib import contextmanager
from typing import Iterator

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from ..errors import SEZooError
from ..models.pretrained.errors import CONNECTION_ERROR, as_sentence


class PublishError(SEZooError, RuntimeError):
    """A publication that did not happen, or is not what was trained."""


@contextmanager
def naming_the_step(step: str, repo: str) -> Iterator[None]:
    """Turn an error of the Hub's client, of the disk or of a pulled model into one that says which
    step failed and what to do.

    Args:
        step: What was being done.
        repo: Repository that is published to.

    Raises:
        PublishError: From the error.
    """
    try:
        yield
    except PublishError as error:
        raise PublishError(f"{repo}, {step}: {error}") from error
    except (OSError, ValueError, RuntimeError, CONNECTION_ERROR) as error:
        if type(error) is RuntimeError and isinstance(error.__cause__, Exception):
            error = error.__cause__  # a failed upload, which the client wraps
        cause = as_sentence(error)
        if isinstance(error, SEZooError):  # says itself what to do
            raise PublishError(f"{repo}, {step}: {cause}") from error
        raise PublishError(
            f"{repo}, {step}: {type(error).__name__}: {cause} {next_step(error, repo)}"
        ) from error


def next_step(error: BaseException, repo: str) -> str:
    """What to do about an error, as a sentence."""
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
    return "Mend that, then publish again."


def _of_status(status: int, url: str, repo: str) -> str:
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
        return "The Hub asks for fewer requests; publish again later."
    if status >= 500:
        return "The Hub has trouble; publish again later."
    return "Mend that, then publish again."
