"""Training: the engine behind the recipes."""

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
from .run import train

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
