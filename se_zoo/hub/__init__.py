"""The Hugging Face Hub: model cards, publishing, verifying."""

from .publish import Publication, publish
from .publish_errors import PublishError
from .run import Run, read_run
from .stage import Staged, stage
from .verify import VerifyError, verify

__all__ = [
    "Publication",
    "PublishError",
    "Run",
    "Staged",
    "VerifyError",
    "publish",
    "read_run",
    "stage",
    "verify",
]
