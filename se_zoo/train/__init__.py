"""Training: the engine behind the recipes."""

from .config import AugmentConfig, Config, ModelConfig, OptimConfig, RunConfig
from .engine import train

__all__ = ["AugmentConfig", "Config", "ModelConfig", "OptimConfig", "RunConfig", "train"]
