"""The command line that all recipes have in common."""

import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Type, TypeVar, Union

import tyro

from .. import console
from .config import AnyConfig, Config

if TYPE_CHECKING:  # what needs se_zoo[train] is imported where its absence is one line
    from .trainer import Trainer


@dataclass(frozen=True)
class Options(Config):
    """Every option of a recipe."""

    debug: bool = False
    """Check that everything runs: train a tiny model for one epoch on 64 samples at 32 px. It
    replaces the model, its weights, the epochs, the batch size and the precision, and uses another
    folder unless --run.output is given."""

    def config(self, default: Config) -> Config:
        """Return the configuration of the run.

        Args:
            default: The recipe's configuration, before the command line changed it.

        Raises:
            DataError: If ``debug`` is set and the data cannot be opened.
        """
        config = Config(self.data, self.model, self.augment, self.optim, self.run)
        if not self.debug:
            return config
        from .preflight import open_split

        samples = len(open_split(replace(config.data, limit=None), config.data.splits[0]))
        batch = max(2, min(16, samples // 2 * 2))  # mixup takes an even number
        debug = debug_config(in_debug_folder(config, default), min(samples, 64), 64, batch)
        half = min(1, debug.augment.half_size_epochs)  # of the one epoch
        debug = replace(debug, augment=replace(debug.augment, half_size_epochs=half))
        print(f"debug: {debug.model.backbone} at 32 px instead of the model", file=sys.stderr)
        return debug


AnyOptions = TypeVar("AnyOptions")
AnyKind = TypeVar("AnyKind", bound=AnyConfig)


def in_debug_folder(config: AnyKind, default: AnyConfig) -> AnyKind:
    """Return the run with another folder, unless its folder is not the default one."""
    output = config.run.output
    if output == default.run.output:
        output = output.with_name(f"{output.name}-debug")
    return replace(config, run=replace(config.run, output=output))


def debug_config(config: AnyKind, limit: int, limit_eval: int, batch_size: int) -> AnyKind:
    """Return a configuration that runs in seconds on a CPU.

    Args:
        config: The run's configuration.
        limit: Number of samples to train on.
        limit_eval: Most samples of the other splits.
        batch_size: Samples, or for speakers frames, of an update.
    """
    return replace(
        config,
        data=replace(config.data, limit=limit, limit_eval=limit_eval),
        model=config.model.debug_variant(),
        optim=replace(
            config.optim, epochs=1, batch_size=batch_size, warmup_epochs=0.25, ema_decay=0.5
        ),
        run=replace(config.run, log_every=1, mixed_precision="no", compile=False, init=None),
    )


def read_options(default: AnyOptions, description: str) -> AnyOptions:
    """Return the options of the command line; an unknown option ends the program with an error.

    Args:
        default: The recipe's configuration; every field is an option.
        description: The recipe's docstring, for ``--help``.
    """
    words, _ = console.without_debug(sys.argv[1:])
    about = (
        f"{description}\nAn error prints one line; one of options, a box. --debug-errors shows "
        "where an error occurred."
    )
    with console.silent_without_reader():
        return tyro.cli(type(default), default=default, description=about, args=words)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program after any error, with one line; see :mod:`se_zoo.console`."""
    with console.one_line_errors(sys.argv[0]):
        yield


def run_recipe(
    default: Config,
    description: str,
    tag: Union[str, Callable[[Config], str]] = "",
    trainer_class: Optional[Type["Trainer"]] = None,
) -> None:
    """Read the command line and train.

    Args:
        default: The recipe's configuration; every field is an option.
        description: The recipe's docstring, for ``--help``.
        tag: The zoo's tag of the data set, see :func:`se_zoo.train.train`; or a function that
            returns it for a configuration.
        trainer_class: The class that trains, see :func:`se_zoo.train.train`.
    """
    options = Options(default.data, default.model, default.augment, default.optim, default.run)
    given = read_options(options, description)
    with one_line_errors():
        from .api import train

        config = given.config(default)
        train(config, tag if isinstance(tag, str) else tag(config), trainer_class)
