"""Training: the engine behind the recipes."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .api import train

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


def __getattr__(name: str) -> Any:
    """Import :func:`train` when it is asked for, because it needs the extra ``train``."""
    if name == "train":
        from .api import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
