"""Models: the SE head, ``squeeze``, and the architectures registered with timm."""

from . import zoo_image, zoo_names, zoo_speaker, zoo_video
from .clip_config import ClipConfig, resolve_clip_config
from .clip_photos import load_clip
from .create import create_model
from .export import save
from .names import install_alias, list_models
from .sehead import SEHeadMixin, squeeze, unsqueeze
from .speaker import SpeakerModel, SpeakerOutput
from .zoo_speaker import create_speaker_model

install_alias()

__all__ = [
    "ClipConfig",
    "SEHeadMixin",
    "SpeakerModel",
    "SpeakerOutput",
    "create_model",
    "create_speaker_model",
    "list_models",
    "load_clip",
    "resolve_clip_config",
    "save",
    "squeeze",
    "unsqueeze",
    "zoo_image",
    "zoo_names",
    "zoo_speaker",
    "zoo_video",
]
