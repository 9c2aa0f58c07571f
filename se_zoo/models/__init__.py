"""Provide the SE head, ``squeeze``, and the architectures registered with timm."""

from . import timm_registry, zoo_image, zoo_speaker, zoo_video
from .clip.config import ClipConfig, resolve_clip_config
from .names import create_model, install_alias, list_models
from .save_model import save
from .sehead import SEHeadMixin
from .speaker.model import SpeakerModel
from .speaker.tensors import SpeakerOutput
from .squeeze import squeeze, unsqueeze
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
    "resolve_clip_config",
    "save",
    "squeeze",
    "timm_registry",
    "unsqueeze",
    "zoo_image",
    "zoo_speaker",
    "zoo_video",
]
