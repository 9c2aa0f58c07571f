"""Training: the engine behind the recipes."""

from .api import train
from .config import (
    AugmentConfig,
    ClipModelConfig,
    Config,
    ModelConfig,
    OptimConfig,
    RunConfig,
    SpeakerAugmentConfig,
    SpeakerConfig,
    SpeakerModelConfig,
)

__all__ = [
    "AugmentConfig",
    "ClipModelConfig",
    "Config",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "SpeakerAugmentConfig",
    "SpeakerConfig",
    "SpeakerModelConfig",
    "train",
]
