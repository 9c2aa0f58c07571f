"""Write model cards, publish models on the Hugging Face Hub, and verify them."""

from .publish import Publication, publish
from .publish_errors import PublishError
from .publish_zoo import Outcome, publish_zoo
from .push_model import push_to_hub
from .read_run import Run, read_run
from .stage import Staged, stage
from .verify import VerifyError, verify

__all__ = [
    "Outcome",
    "Publication",
    "PublishError",
    "Run",
    "Staged",
    "VerifyError",
    "publish",
    "publish_zoo",
    "push_to_hub",
    "read_run",
    "stage",
    "verify",
]
