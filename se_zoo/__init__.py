"""se_zoo: timm classifiers with an SE head that explain every prediction.

``import se_zoo`` registers the models with timm::

    model = timm.create_model("se_zoo/resnet18_slim_celeba", pretrained=True).eval()
    explanation = model.explain(images, target="Smiling")
"""

from .errors import (
    InvalidInputError,
    SEZooError,
    UnknownLabelError,
    UnknownModelError,
    UnsupportedBackboneError,
    WeightsNotFoundError,
)
from .explain import ExplainedModel, Explanation, SpeakerExplanation, channel_logits, explain
from .layers import SqueezeExcite
from .models import (
    ClipConfig,
    SEHeadMixin,
    create_model,
    create_speaker_model,
    list_models,
    load_clip,
    resolve_clip_config,
    squeeze,
    unsqueeze,
)
from .version import __version__

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
    "resolve_clip_config",
    "squeeze",
    "unsqueeze",
]
