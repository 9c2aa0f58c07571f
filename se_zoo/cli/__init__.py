"""Run the command line ``se-zoo``."""

import sys
from typing import Annotated, Any, Callable, Dict, Optional, Sequence, Union

import tyro

from ..console import one_line_errors, silent_without_reader, without_debug
from ..version import __version__
from .check import Check, run_check
from .convert import Convert, run_convert
from .demo import Demo, run_demo
from .explain import Explain, sources_first
from .export import Export, run_export
from .notes import errors_with_options, warnings_as_notes
from .plan import make_plan
from .predict import Predict, run_predict
from .report import Report, run_report
from .space import Space, run_space
from .speaker import Speaker, run_speaker
from .tracks import Tracks, run_tracks
from .words import refuse_empty, repeats_joined
from .zoo import Card, ListModels, Publish, Verify, run_card, run_list, run_publish, run_verify


def run_explain(args: Explain) -> None:
    """Run ``se-zoo explain``; exits with status 2 if some of the files cannot be read.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If options, files and model do not fit together.
        UnknownModelError: With the closest names.
    """
    plan = make_plan(args)
    from .forms import explain_plan  # it imports torch

    explain_plan(args, plan)


COMMANDS: Dict[type, Callable[[Any], None]] = {
    Explain: run_explain,
    Predict: run_predict,
    Report: run_report,
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

    Errors of options are printed by tyro, in a box, with exit status 2.

    Help and version import neither torch nor timm: a command's function imports what it needs.

    Args:
        argv: Arguments of the command line; by default those of the process.
    """
    words, debug = without_debug(sys.argv[1:] if argv is None else argv)
    words = words or ["--help"]
    if words == ["--version"]:
        print(f"se_zoo {__version__}")
        return
    with one_line_errors("se-zoo", debug):
        refuse_empty(words)
        words = repeats_joined(words)
        if words[0] == "explain":
            words = ["explain", *sources_first(words[1:])]
    with silent_without_reader():
        command = tyro.cli(
            Union[  # type: ignore[arg-type]
                Annotated[Explain, tyro.conf.subcommand("explain")],
                Annotated[Predict, tyro.conf.subcommand("predict")],
                Annotated[Report, tyro.conf.subcommand("report")],
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
            description="Classifiers with a Squeeze-and-Excitation head that explain themselves. "
            "An error prints one line; one of options, a box. --debug-errors shows where an error "
            "occurred. se-zoo --version prints the version.",
            args=words,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
    with one_line_errors("se-zoo", debug), warnings_as_notes(), errors_with_options():
        COMMANDS[type(command)](command)
