"""The same training over several seeds: what is finished is not trained again."""

import json
import os
import statistics
from dataclasses import asdict
from typing import Any, Dict, List, Optional, Sequence

from ..errors import InvalidInputError
from .api import train
from .config import AnyConfig, RunConfig
from .engine import FREE, computed
from .run_folder import difference, plain


def check_seeds(seeds: Sequence[int], run: RunConfig, seed: int) -> None:
    """Refuse options that are for a single run.

    Args:
        seeds: Those that are asked for.
        run: The options of each run.
        seed: The recipe's own ``--run.seed``.

    Raises:
        InvalidInputError: Naming them.
    """
    if len(set(seeds)) != len(seeds) or min(seeds, default=-1) < 0:
        raise InvalidInputError("--seeds must name at least one seed, none twice and none below 0.")
    if run.resume is not None or run.overwrite:
        raise InvalidInputError(
            "--run.resume and --run.overwrite are for a single run; delete the folders of the runs "
            f"in {run.output} that are to be trained again."
        )
    if run.seed != seed:
        raise InvalidInputError("--run.seed is for a single run; give --seeds.")


def decides(config: Dict[str, Any], processes: int) -> Dict[str, Any]:
    """What decides the result of a run, the weights that it starts from too."""
    return computed(config, processes, FREE - {"init"})


def summary_of(config: AnyConfig, tag: str = "") -> Dict[str, Any]:
    """The summary of a run, which is trained unless it is finished; nothing of a dry run.

    Args:
        config: The run.
        tag: See :func:`~se_zoo.train.train`.

    Raises:
        InvalidInputError: If the folder holds a finished run with other options.
    """
    file = config.run.output / "summary.json"
    if not file.is_file():
        train(config, tag, last=False)
        if config.run.dry_run:
            return {}
    summary: Dict[str, Any] = json.loads(file.read_text("utf-8"))
    before = decides(summary["config"], summary["environment"]["processes"])
    now = decides(plain(asdict(config)), int(os.environ.get("WORLD_SIZE", "1")))
    if before != now:
        raise InvalidInputError(
            f"{config.run.output} holds a finished run with other options: "
            f"{difference(before, now)}. Give the same, or another --run.output."
        )
    return summary


def spread(values: List[float]) -> Optional[float]:
    """Standard deviation of the runs (n - 1); None of a single one, of which it is not known."""
    return statistics.stdev(values) if len(values) > 1 else None


def shown(mean: float, deviation: Optional[float], sign: str = "") -> str:
    """Mean and deviation for a table."""
    return f"{mean:{sign}.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")
