"""Provide timm classifiers with an SE head that explain every prediction.

``import se_zoo`` registers the models with timm::

    model = timm.create_model("se_zoo/resnet18_slim_celeba", pretrained=True).eval()
    explanation = model.explain(images, target="Smiling")
"""

from typing import TYPE_CHECKING, Any

from .errors import (
    InvalidInputError,
    SEZooError,
    UnknownLabelError,
    UnknownModelError,
    UnsupportedBackboneError,
    WeightsNotFoundError,
)
from .explanations import ExplainedModel, Explanation, SpeakerExplanation, channel_logits, explain
from .inference.clips import load_clip
from .inference.offset import measure_offset
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
from .version import __version__

if TYPE_CHECKING:
    from .hub import push_to_hub

__all__ = [
    "ClipConfig",
    "ExplainedModel",
    "Explanation",
    "InvalidInputError",
    "SEHeadMixin",
    "SEZooError",
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
    "measure_offset",
    "push_to_hub",
    "resolve_clip_config",
    "save",
    "squeeze",
    "unsqueeze",
]


def __getattr__(name: str) -> Any:
    """Import ``push_to_hub`` on first use: it needs jinja2 and yaml, which import slowly."""
    if name == "push_to_hub":
        from .hub import push_to_hub

        return push_to_hub
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
