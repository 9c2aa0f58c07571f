"""The same training with several seeds; a run that is finished is not repeated."""

import json
import os
import statistics
from dataclasses import asdict
from typing import Any, Dict, List, Optional, Sequence

from ..errors import InvalidInputError
from .config import AnyConfig, RunConfig
from .options import FREE_OPTIONS, option_differences, plain, result_options


def check_seeds(seeds: Sequence[int], run: RunConfig, seed: int) -> None:
    """Refuse options that are for a single run.

    Args:
        seeds: The seeds of the runs.
        run: The options of each run.
        seed: The recipe's default ``--run.seed``.

    Raises:
        InvalidInputError: If there are such options; the message names them.
    """
    if len(set(seeds)) != len(seeds) or min(seeds, default=-1) < 0:
        raise InvalidInputError("--seeds must name at least one seed, none twice and none below 0.")
    if run.resume is not None or run.overwrite:
        raise InvalidInputError(
            "--run.resume and --run.overwrite are for a single run; to train runs again, delete "
            f"their folders in {run.output}."
        )
    if run.seed != seed:
        raise InvalidInputError("--run.seed is for a single run; give --seeds.")


def compared_options(config: Dict[str, Any], processes: int) -> Dict[str, Any]:
    """Return the options in which a finished run must agree with the one asked for.

    They are those that change its result, and the weights that it starts from.
    """
    return result_options(config, processes, FREE_OPTIONS - {"init"})


def summary_of(config: AnyConfig, tag: str = "") -> Dict[str, Any]:
    """Return the summary of a run; train it first if it is not finished.

    Args:
        config: The run.
        tag: See :func:`~se_zoo.train.train`.

    Returns:
        The content of ``summary.json``; nothing for a dry run.

    Raises:
        InvalidInputError: If the folder holds a finished run with other options.
    """
    file = config.run.output / "summary.json"
    if not file.is_file():
        from .api import train

        train(config, tag, last=False)
        if config.run.dry_run:
            return {}
    summary: Dict[str, Any] = json.loads(file.read_text("utf-8"))
    before = compared_options(summary["config"], summary["environment"]["processes"])
    now = compared_options(plain(asdict(config)), int(os.environ.get("WORLD_SIZE", "1")))
    if before != now:
        raise InvalidInputError(
            f"{config.run.output} holds a finished run with other options: "
            f"{option_differences(before, now)}. Give the same options, or another --run.output."
        )
    return summary


def check_same_data(summaries: Sequence[Dict[str, Any]]) -> None:
    """Refuse to compare runs whose data differ, because they were changed between the runs.

    Args:
        summaries: What :func:`summary_of` returned; runs of older versions do not name their data.

    Raises:
        InvalidInputError: If the data of two runs differ.
    """
    known = [(s["config"]["run"]["output"], s["data"]) for s in summaries if s.get("data")]
    for output, data in known[1:]:
        if data != known[0][1]:
            raise InvalidInputError(
                f"the data were changed between the runs {known[0][0]} and {output}; delete the "
                "older run's folder to train it again."
            )


def spread(values: List[float]) -> Optional[float]:
    """Return the standard deviation (n - 1) of the runs' values; None for a single run."""
    return statistics.stdev(values) if len(values) > 1 else None


def shown(mean: float, deviation: Optional[float], sign: str = "") -> str:
    """Return mean and standard deviation as text, with two decimals.

    Args:
        mean: The mean.
        deviation: The standard deviation, or None.
        sign: "+" to give the mean a sign in any case.
    """
    return f"{mean:{sign}.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")
