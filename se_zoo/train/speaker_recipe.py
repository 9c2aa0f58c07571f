"""The command line of the speaker recipes."""

from dataclasses import dataclass, replace

from ..data import open_tracks
from .config import SpeakerConfig
from .recipe import debug_config, in_debug_folder, one_line_errors, read_options


@dataclass(frozen=True)
class SpeakerOptions(SpeakerConfig):
    """Every option of a speaker recipe."""

    debug: bool = False
    """Check that everything runs: train asd_tiny_sehead for one epoch on 16 tracks of each split,
    in another folder unless --run.output is given."""

    def config(self, default: SpeakerConfig) -> SpeakerConfig:
        """Return the configuration of the run.

        Args:
            default: The recipe's configuration, before the command line changed it.
        """
        config = SpeakerConfig(self.data, self.model, self.augment, self.optim, self.run)
        if not self.debug:
            return config
        tracks = len(open_tracks(replace(config.data, limit=None), config.data.splits[0]))
        return debug_config(in_debug_folder(config, default), min(tracks, 16), 16, 100)


def run_speaker_recipe(default: SpeakerOptions, description: str) -> None:
    """Read the command line and train.

    Args:
        default: The recipe's configuration; every field is an option.
        description: The recipe's docstring, for ``--help``.
    """
    given = read_options(default, description)
    with one_line_errors():
        from .api import train

        train(given.config(default))
