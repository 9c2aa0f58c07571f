"""Training: the engine behind the recipes."""

from .config import AugmentConfig, ClipModelConfig, Config, ModelConfig, OptimConfig, RunConfig
from .engine import train

__all__ = [
    "AugmentConfig",
    "ClipModelConfig",
    "Config",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "train",
]
