"""Compare a model with the SE block and the same model without it, over several seeds.

    SE_ZOO_DATA=/path/to/data python recipes/parity.py
    python recipes/parity.py --seeds 0 1 2 3 4 --model.name resnet50_sehead --model.pretrained
    python recipes/parity.py --debug            # seconds on a CPU

Run time: that of six runs of recipes/celeba.py with 8 epochs each, for the default three seeds.
Score to expect: docs/train.md has figures of runs with 3 epochs. No model's card has any.
Result: parity.json and parity.md in --run.output.
Data: as in `recipes/celeba.py`, which this recipe runs with fewer epochs; it has the same options.
Each run has a folder of its own (runs/parity/with-0, without-0, ...). Finished runs are not trained
again: give the same command after an interruption, or name more seeds. The table covers all seeds
that are named.
"""

import os
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from celeba import DEFAULT

from se_zoo.errors import InvalidInputError
from se_zoo.files import write_json, write_text
from se_zoo.provenance import command_words
from se_zoo.train import Config
from se_zoo.train.recipe import Options, one_line_errors, read_options
from se_zoo.train.repeat import check_same_data, check_seeds, shown, spread, summary_of

FIGURES = ("accuracy", "balanced_accuracy", "average_precision")


@dataclass(frozen=True)
class ParityOptions(Options):
    """Options of the comparison."""

    seeds: Tuple[int, ...] = (0, 1, 2)
    """Seeds; each is trained with the block and without it."""


DEFAULT_OPTIONS = ParityOptions(
    DEFAULT.data,
    DEFAULT.model,
    DEFAULT.augment,
    replace(DEFAULT.optim, epochs=8),
    replace(DEFAULT.run, output=Path("runs/parity")),
)


def check(given: ParityOptions) -> None:
    """Refuse options that are for a single run."""
    check_seeds(given.seeds, given.run, DEFAULT.run.seed)
    if not given.model.se:
        raise InvalidInputError(
            "--model.no-se: remove it; the recipe trains with the block and without it."
        )


def _test_figures(config: Config, summary: Dict[str, Any]) -> Dict[str, Any]:
    """Return the test figures of a finished run; nothing for a dry run."""
    if not summary:
        return {}
    origin = {"commit": summary["commit"], "environment": summary["environment"]}
    return {**summary[config.data.splits[2]], **origin}


def compare(runs: Dict[str, List[Dict[str, Any]]]) -> Dict[str, Dict[str, Any]]:
    """Compare the runs with and without the block, in percent.

    Args:
        runs: Test figures of every seed, under ``"with"`` and ``"without"``.

    Returns:
        For each figure, mean and standard deviation of both sides and of the differences at equal
        seeds; ``deviation`` is pooled over both sides.
    """
    table = {}
    for name in FIGURES:
        ours, plains = ([100 * run[name] for run in runs[side]] for side in ("with", "without"))
        differences = [a - b for a, b in zip(ours, plains, strict=True)]
        of_ours, of_plains = spread(ours), spread(plains)
        pooled = None
        if of_ours is not None and of_plains is not None:
            pooled = statistics.fmean([of_ours**2, of_plains**2]) ** 0.5
        table[name] = {
            "with": statistics.fmean(ours),
            "with_deviation": of_ours,
            "without": statistics.fmean(plains),
            "without_deviation": of_plains,
            "difference": statistics.fmean(differences),
            "difference_deviation": spread(differences),
            "deviation": pooled,
        }
    return table


def to_markdown(table: Dict[str, Dict[str, Any]], seeds: int) -> str:
    """Return the comparison as a Markdown table.

    Args:
        table: What :func:`compare` returns.
        seeds: Number of seeds.
    """
    lines = [
        f"| test figures, % (mean ± deviation, n = {seeds}) | with the SE block | without "
        "| difference, seed by seed | within one deviation of the runs? |",
        "|---|---|---|---|---|",
    ]
    for name, row in table.items():
        within = "not known from one seed"
        if row["deviation"] is not None:
            inside = abs(row["difference"]) <= row["deviation"]
            within = f"{'yes' if inside else 'no'} ({row['deviation']:.2f})"
        lines.append(
            f"| {name.replace('_', ' ')} | {shown(row['with'], row['with_deviation'])} "
            f"| {shown(row['without'], row['without_deviation'])} "
            f"| {shown(row['difference'], row['difference_deviation'], '+')} | {within} |"
        )
    return "\n".join(lines)


def main(given: ParityOptions) -> None:
    """Train all runs that are not finished, and compare them."""
    check(given)
    config = given.config(DEFAULT_OPTIONS)
    runs: Dict[str, List[Dict[str, Any]]] = {"with": [], "without": []}
    summaries: List[Dict[str, Any]] = []
    for seed in given.seeds:
        for side, found in runs.items():
            run = replace(config.run, seed=seed, output=config.run.output / f"{side}-{seed}")
            model = replace(config.model, se=side == "with")
            summaries.append(summary_of(replace(config, run=run, model=model), "celeba"))
            found.append(_test_figures(config, summaries[-1]))
    check_same_data(summaries)
    if os.environ.get("RANK", "0") == "0" and not config.run.dry_run:
        _report(given, config.run.output, runs)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _report(given: ParityOptions, output: Path, runs: Dict[str, List[Dict[str, Any]]]) -> None:
    """Write parity.json and parity.md, and print the table."""
    table = compare(runs)
    every = [run for side in runs.values() for run in side]
    content = {
        "command": command_words(),
        "commit": " ".join(dict.fromkeys(run["commit"] for run in every)),
        "environment": every[0]["environment"],
        "seeds": given.seeds,
        "figures": table,
        "runs": runs,
    }
    write_json(output / "parity.json", content)
    text = to_markdown(table, len(given.seeds))
    write_text(output / "parity.md", text + "\n")
    print(f"\n{text}\n\nwritten to {output / 'parity.md'}")


if __name__ == "__main__":
    options = read_options(DEFAULT_OPTIONS, __doc__ or "")
    with one_line_errors():
        main(options)
