"""What does the SE block cost or bring? The same recipe with and without it, over several seeds.

    SE_ZOO_DATA=/path/to/data python recipes/parity.py
    python recipes/parity.py --seeds 0 1 2 3 4 --model.name resnet50_sehead --model.pretrained
    python recipes/parity.py --seeds 2        # one of them, on another machine with the same folder
    python recipes/parity.py --debug --run.output runs/debug            # seconds on a CPU

It is `recipes/celeba.py`, shorter; every option of it is one here too. Each run has a folder of its
own (runs/parity/with-0, without-0, ...), and finished ones are not trained again: give the same
command after an interruption, or name more seeds.
Run time and result: not measured yet.
"""

import json
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

from celeba import DEFAULT

from se_zoo.errors import InvalidInputError
from se_zoo.train import Config, train
from se_zoo.train.engine import FREE
from se_zoo.train.output import difference, plain
from se_zoo.train.recipe import Options, one_line_errors, read_options
from se_zoo.train.state import write_json

FIGURES = ("accuracy", "balanced_accuracy", "average_precision")


@dataclass(frozen=True)
class ParityOptions(Options):
    """Every option of the comparison."""

    seeds: Tuple[int, ...] = (0, 1, 2)
    """Each is trained with the block and without it."""


def check(given: ParityOptions) -> None:
    if len(set(given.seeds)) != len(given.seeds) or not given.seeds:
        raise InvalidInputError("--seeds must name at least one seed, and none twice.")
    if given.run.resume is not None or given.run.overwrite:
        raise InvalidInputError(
            "--run.resume and --run.overwrite are for a single run; delete the folders of the runs "
            f"in {given.run.output} that are to be trained again."
        )
    if not given.model.se or given.run.seed != DEFAULT.run.seed:
        raise InvalidInputError("both --model.se and --model.no-se are trained, with --seeds.")


def figures_of(config: Config) -> Dict[str, Any]:
    """The test figures of a run, which is trained unless it is finished."""
    file = config.run.output / "summary.json"
    if not file.is_file():
        train(config, "celeba", last=False)
        if config.run.dry_run:
            return {}
    summary = json.loads(file.read_text("utf-8"))
    before, now = summary["config"], plain(asdict(config))
    for name in FREE:
        before["run"].pop(name, None)
        now["run"].pop(name, None)
    if before != now:
        raise InvalidInputError(
            f"{config.run.output} holds a finished run with other options: "
            f"{difference(before, now)}. Give the same, or another --run.output."
        )
    return summary[config.data.splits[2]]


def spread(values: List[float]) -> float:
    """Standard deviation of the runs; 0 for a single one, of which nothing is known."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def compare(runs: Dict[str, List[Dict[str, Any]]]) -> Dict[str, Dict[str, float]]:
    """Mean and deviation of each figure with and without the block, in percent."""
    table = {}
    for name in FIGURES:
        ours, plains = ([100 * run[name] for run in runs[side]] for side in ("with", "without"))
        deviation = statistics.fmean([spread(ours) ** 2, spread(plains) ** 2]) ** 0.5
        table[name] = {
            "with": statistics.fmean(ours),
            "with_deviation": spread(ours),
            "without": statistics.fmean(plains),
            "without_deviation": spread(plains),
            "difference": statistics.fmean(ours) - statistics.fmean(plains),
            "deviation": deviation,
        }
    return table


def to_markdown(table: Dict[str, Dict[str, float]], seeds: int) -> str:
    lines = [
        f"| test figures, % ({seeds} seeds) | with the SE block | without | difference "
        "| in standard deviations |",
        "|---|---|---|---|---|",
    ]
    for name, row in table.items():
        deviations = f"{row['difference'] / row['deviation']:+.2f}" if row["deviation"] else "-"
        lines.append(
            f"| {name.replace('_', ' ')} | {row['with']:.2f} ± {row['with_deviation']:.2f} "
            f"| {row['without']:.2f} ± {row['without_deviation']:.2f} "
            f"| {row['difference']:+.2f} | {deviations} |"
        )
    return "\n".join(lines)


def main(given: ParityOptions) -> None:
    check(given)
    config = given.config()
    runs: Dict[str, List[Dict[str, Any]]] = {"with": [], "without": []}
    for seed in given.seeds:
        for side, found in runs.items():
            run = replace(config.run, seed=seed, output=config.run.output / f"{side}-{seed}")
            model = replace(config.model, se=side == "with")
            found.append(figures_of(replace(config, run=run, model=model)))
    if config.run.dry_run:
        return
    table = compare(runs)
    content = {"command": sys.argv, "seeds": given.seeds, "figures": table, "runs": runs}
    write_json(config.run.output / "parity.json", content)
    text = to_markdown(table, len(given.seeds))
    (config.run.output / "parity.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\nwritten to {config.run.output / 'parity.md'}")


if __name__ == "__main__":
    default = ParityOptions(
        DEFAULT.data,
        DEFAULT.model,
        DEFAULT.augment,
        replace(DEFAULT.optim, epochs=8),
        replace(DEFAULT.run, output=Path("runs/parity")),
    )
    options = read_options(default, __doc__ or "")
    with one_line_errors():
        main(options)
