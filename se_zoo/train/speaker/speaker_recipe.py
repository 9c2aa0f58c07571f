"""The command line of the speaker recipes."""

from dataclasses import dataclass, replace

from ..api import train
from ..config import SpeakerConfig
from ..recipe import apart, one_line_errors, read_options


@dataclass(frozen=True)
class SpeakerOptions(SpeakerConfig):
    """Every option of a speaker recipe."""

    debug: bool = False
    """Does everything run? One epoch of asd_tiny_sehead on 16 tracks of each split, in a folder of
    its own unless --run.output is given."""

    def config(self, default: SpeakerConfig) -> SpeakerConfig:
        """The run that is asked for; ``default`` is the recipe's."""
        config = SpeakerConfig(self.data, self.model, self.augment, self.optim, self.run)
        if not self.debug:
            return config
        return debugged(apart(config, default))


def debugged(config: SpeakerConfig) -> SpeakerConfig:
    """A configuration that runs in seconds on a CPU."""
    from ...data import open_tracks

    table = open_tracks(replace(config.data, limit=None), config.data.splits[0])
    return replace(
        config,
        data=replace(config.data, limit=min(len(table), 16), limit_eval=16),
        model=replace(config.model, name="asd_tiny_sehead", pretrained=False),
        optim=replace(config.optim, epochs=1, batch_size=100, warmup_epochs=0.25, ema_decay=0.5),
        run=replace(config.run, log_every=1, mixed_precision="no", compile=False, init=None),
    )


def run_speaker_recipe(default: SpeakerOptions, description: str) -> None:
    """Read the command line and train.

    Args:
        default: The recipe's configuration; every field is an option.
        description: The recipe's docstring.
    """
    given = read_options(default, description)
    with one_line_errors():
        train(given.config(default))
