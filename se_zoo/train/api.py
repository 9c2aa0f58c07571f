"""One call from a configuration to a trained model."""

from pathlib import Path
from typing import Optional, Type

from . import engine
from .classify import ClassifierTrainer
from .config import AnyConfig, SpeakerConfig
from .speaker.trainer import SpeakerTrainer


def train(
    config: AnyConfig,
    tag: str = "",
    trainer_class: Optional[Type[engine.Trainer]] = None,
    last: bool = True,
) -> Path:
    """Train, evaluate and export; go on where the same run was interrupted.

    Args:
        config: The run: a :class:`~se_zoo.train.Config` of images or clips, or a
            :class:`~se_zoo.train.SpeakerConfig`.
        tag: Data set for which the zoo declares own tags (``celeba``), so that the model is made
            as the registry makes it.
        trainer_class: What trains; by default what belongs to the configuration.
        last: Leave the group of processes behind; False if another run follows.

    Returns:
        The run's folder.

    Raises:
        InvalidInputError: For options that cannot work together.
        DataError: For data that lacks columns or splits.
        StateError: If the folder holds another run.
        SystemExit: After SIGTERM or SIGINT, when the state is saved; the message says how to go on.
    """
    own = SpeakerTrainer if isinstance(config, SpeakerConfig) else ClassifierTrainer
    return engine.run(config, tag, trainer_class or own, last)
