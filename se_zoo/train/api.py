"""The function that trains a model from a configuration."""

from pathlib import Path
from typing import Optional, Type

from . import engine
from .classify import ClassifierTrainer, ClipTrainer
from .config import AnyConfig, ClipModelConfig, SpeakerConfig
from .speaker.trainer import SpeakerTrainer
from .trainer import Trainer


def train(
    config: AnyConfig,
    tag: str = "",
    trainer_class: Optional[Type[Trainer]] = None,
    last: bool = True,
) -> Path:
    """Train, evaluate and export a model; continue the run if it was interrupted.

    Args:
        config: The run: a :class:`~se_zoo.train.Config` for images or clips, or a
            :class:`~se_zoo.train.SpeakerConfig`.
        tag: The zoo's tag of the data set, such as ``celeba``; it is stored in the export if the
            labels are those of that data set.
        trainer_class: The class that trains; by default the one for the kind of configuration.
        last: Whether this is the last run of the process. If not, the group of processes is kept
            for the next run.

    Returns:
        The run's folder.

    Raises:
        InvalidInputError: If options cannot work together.
        DataError: If the data lack columns or splits.
        StateError: If the folder holds another run.
        SystemExit: After SIGTERM or SIGINT, when a checkpoint is saved; the message says how to
            continue.
    """
    return engine.run(config, tag, trainer_class or _trainer_class(config), last)


def _trainer_class(config: AnyConfig) -> Type[Trainer]:
    """Return the class that trains a kind of configuration."""
    if isinstance(config, SpeakerConfig):
        return SpeakerTrainer
    return ClipTrainer if isinstance(config.model, ClipModelConfig) else ClassifierTrainer
