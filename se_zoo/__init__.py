"""Provide timm classifiers with an SE head that explain every prediction.

``import se_zoo`` registers the models with timm::

    model = timm.create_model("se_zoo/resnet18_slim_celeba", pretrained=True).eval()
    explanation = model.explain("face.jpg", target="Smiling")
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import (
    InvalidInputError,
    SEZooError,
    SEZooWarning,
    UnknownLabelError,
    UnknownModelError,
    UnsupportedBackboneError,
    WeightsNotFoundError,
)
from .version import __version__


def _is_command_line() -> bool:
    """Return whether this process is ``se-zoo``, whose help needs neither torch nor timm.

    Its commands import what they need. Elsewhere an import of the package registers the models.
    """
    if "timm" in sys.modules:
        return False
    program = Path(sys.argv[0]).name if sys.argv else ""
    as_module = program == "-m" and "se_zoo.cli" in sys.orig_argv
    return as_module or program in ("se-zoo", "se-zoo.exe")


if TYPE_CHECKING or not _is_command_line():
    try:
        from .explanations import (
            ExplainedModel,
            Explanation,
            SpeakerExplanation,
            channel_logits,
            explain,
        )
        from .inference.clips import load_clip
        from .layers import SqueezeExcite
        from .models import (
            ClipConfig,
            SEHeadMixin,
            create_model,
            create_speaker_model,
            list_models,
            resolve_clip_config,
            save,
            squeeze,
            unsqueeze,
        )
    except ImportError as error:
        from .errors import other_version

        if moved := other_version(error):
            raise ImportError(moved, name=error.name) from error
        raise

if TYPE_CHECKING:
    from .data.faces.find import FaceFinder
    from .explanations.explained_speaker import ExplainedSpeaker
    from .hub import push_to_hub
    from .inference.batch import BatchExplainer
    from .inference.offset import measure_offset
    from .inference.predictions import load_predictions

__all__ = [
    "BatchExplainer",
    "ClipConfig",
    "ExplainedModel",
    "ExplainedSpeaker",
    "Explanation",
    "FaceFinder",
    "InvalidInputError",
    "SEHeadMixin",
    "SEZooError",
    "SEZooWarning",
    "SpeakerExplanation",
    "SqueezeExcite",
    "UnknownLabelError",
    "UnknownModelError",
    "UnsupportedBackboneError",
    "WeightsNotFoundError",
    "__version__",
    "channel_logits",
    "create_model",
    "create_speaker_model",
    "explain",
    "list_models",
    "load_clip",
    "load_predictions",
    "measure_offset",
    "push_to_hub",
    "resolve_clip_config",
    "save",
    "squeeze",
    "unsqueeze",
]


#: Modules of the names that need packages which import slowly (jinja2, yaml and Pillow) or define
#: operations of torch.
_LATE = {
    "BatchExplainer": "inference.batch",
    "ExplainedSpeaker": "explanations.explained_speaker",
    "FaceFinder": "data.faces.find",
    "load_predictions": "inference.predictions",
    "measure_offset": "inference.offset",
    "push_to_hub": "hub",
}
#: Rooms of the names that the command line does not import at once.
_ROOMS = ("explanations", "inference.clips", "layers", "models")


def __getattr__(name: str) -> Any:
    """Import a name on first use.

    Those of ``_LATE`` need packages that import slowly. The others are imported late in the command
    line alone.
    """
    if name in _LATE:
        return getattr(import_module(f".{_LATE[name]}", __name__), name)
    if name in __all__:
        for room in (import_module(f".{room}", __name__) for room in _ROOMS):
            if hasattr(room, name):
                return getattr(room, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
