"""Run the command line ``se-zoo``."""

import sys
from typing import Annotated, Any, Callable, Dict, Optional, Sequence, Union

import tyro

from ..errors import SEZooError
from .check import Check, run_check
from .convert import Convert, run_convert
from .demo import Demo, run_demo
from .explain import Explain, run_explain
from .export import Export, run_export
from .space import Space, run_space
from .speaker import Speaker, run_speaker
from .tracks import Tracks, run_tracks
from .zoo import Card, ListModels, Publish, Verify, run_card, run_list, run_publish, run_verify

COMMANDS: Dict[type, Callable[[Any], None]] = {
    Explain: run_explain,
    Check: run_check,
    Card: run_card,
    Publish: run_publish,
    Verify: run_verify,
    ListModels: run_list,
    Convert: run_convert,
    Speaker: run_speaker,
    Tracks: run_tracks,
    Export: run_export,
    Space: run_space,
    Demo: run_demo,
}


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run a command of ``se-zoo``; an error prints one line and gives exit status 1.

    Args:
        argv: Arguments of the command line; by default those of the process.
    """
    command = tyro.cli(
        Union[  # type: ignore[arg-type]
            Annotated[Explain, tyro.conf.subcommand("explain")],
            Annotated[Check, tyro.conf.subcommand("check")],
            Annotated[Card, tyro.conf.subcommand("card")],
            Annotated[Publish, tyro.conf.subcommand("publish")],
            Annotated[Verify, tyro.conf.subcommand("verify")],
            Annotated[ListModels, tyro.conf.subcommand("list")],
            Annotated[Convert, tyro.conf.subcommand("convert")],
            Annotated[Speaker, tyro.conf.subcommand("speaker")],
            Annotated[Tracks, tyro.conf.subcommand("tracks")],
            Annotated[Export, tyro.conf.subcommand("export")],
            Annotated[Space, tyro.conf.subcommand("space")],
            Annotated[Demo, tyro.conf.subcommand("demo")],
        ],
        prog="se-zoo",
        description="Classifiers with a Squeeze-and-Excitation head that explain themselves.",
        args=argv,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        COMMANDS[type(command)](command)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (SEZooError, OSError) as error:
        sys.exit(f"se-zoo: {' '.join(str(error).split())}")
