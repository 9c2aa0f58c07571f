"""What every recipe has in common: its command line."""

import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Callable, Iterator, Optional, Type, TypeVar, Union

import tyro

from ..data import DataConfig, open_stream, open_table
from ..errors import SEZooError
from .api import train
from .config import AnyConfig, ClipModelConfig, Config
from .engine import Trainer


@dataclass(frozen=True)
class Options(Config):
    """Every option of a recipe."""

    debug: bool = False
    """Does everything run? In the place of the model, its weights, the epochs, the batch size and
    the precision: one epoch of a tiny model, at 32 px, on 64 samples. In a folder of its own unless
    --run.output is given."""

    def config(self, default: Config) -> Config:
        """The run that is asked for.

        Args:
            default: The recipe's.

        Raises:
            DataError: If ``debug`` has to look at data that cannot be opened.
        """
        config = Config(self.data, self.model, self.augment, self.optim, self.run)
        if not self.debug:
            return config
        made = debugged(apart(config, default))
        print(f"debug: {made.model.backbone} at 32 px in the place of the model", file=sys.stderr)
        return made


AnyOptions = TypeVar("AnyOptions")
AnyKind = TypeVar("AnyKind", bound=AnyConfig)


def apart(config: AnyKind, default: AnyConfig) -> AnyKind:
    """The same run, in a folder of its own unless it has one: not in that of the real run."""
    output = config.run.output
    if output == default.run.output:
        output = output.with_name(f"{output.name}-debug")
    return replace(config, run=replace(config.run, output=output))


def debugged(config: Config) -> Config:
    """A configuration that runs in seconds on a CPU: test_resnet at 32 px on 64 samples."""
    clips = isinstance(config.model, ClipModelConfig)
    model = replace(
        config.model, name="framewise_sehead" if clips else "timm_sehead", backbone="test_resnet",
        input_size=(32, 32), pretrained=False, args=(),
    )  # fmt: skip
    if isinstance(model, ClipModelConfig):
        model = replace(model, num_frames=4)
    optim = replace(config.optim, epochs=1, batch_size=16, warmup_epochs=0.25, ema_decay=0.5)
    data, train_split = replace(config.data, limit=None), config.data.splits[0]
    if isinstance(data, DataConfig) and data.streaming:
        samples = len(open_stream(data, train_split))
    else:
        samples = len(open_table(data, train_split))
    return replace(
        config,
        data=replace(config.data, limit=min(samples, 64), limit_eval=64),
        model=model,
        optim=optim,
        run=replace(config.run, log_every=1, mixed_precision="no", compile=False, init=None),
    )


def read_options(default: AnyOptions, description: str) -> AnyOptions:
    """The command line; an option that does not exist is an error with the closest names.

    Args:
        default: The recipe's configuration; every field is an option.
        description: The recipe's docstring.
    """
    return tyro.cli(type(default), default=default, description=description)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Errors that a user can mend take one line and exit status 1, without a traceback."""
    try:
        yield
    except SEZooError as error:
        sys.exit(f"{sys.argv[0]}: {' '.join(str(error).split())}")


def run_recipe(
    default: Config,
    description: str,
    tag: Union[str, Callable[[Config], str]] = "",
    trainer_class: Optional[Type[Trainer]] = None,
) -> None:
    """Read the command line and train.

    Args:
        default: The recipe's configuration; every field is an option.
        description: The recipe's docstring.
        tag: Data set for which the zoo declares own tags, see :func:`se_zoo.train.train`; or what
            finds it out from the configuration.
        trainer_class: What trains, likewise.
    """
    options = Options(default.data, default.model, default.augment, default.optim, default.run)
    given = read_options(options, description)
    with one_line_errors():
        config = given.config(default)
        train(config, tag if isinstance(tag, str) else tag(config), trainer_class)
