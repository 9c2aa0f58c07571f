"""Write the figures of ``test.json`` as tables with intervals, and check them.

`tools/score_celeba.py` writes that file: the result of :func:`se_zoo.statistics.describe`, with its
command, data and weights.
"""

from typing import Any, Callable, Dict, List, Mapping

from ..errors import InvalidInputError
from .formatting import escape_markdown, title_of

#: Allowed difference between a figure of ``training.json`` and the same figure of ``test.json``:
#: other kernels round differently, which changes a few answers in thousands.
TOLERANCE = 0.002
_RATES = {"true_positive_rate": "True-positive rate", "false_positive_rate": "False-positive rate"}


def means_of(test: Mapping[str, Any]) -> Dict[str, float]:
    """Return the means over the labels by metric, each label answered above one half.

    Args:
        test: The content of ``test.json``.

    Raises:
        InvalidInputError: If accuracy or balanced accuracy is missing or not in [0, 1].
    """
    figures: Any = test.get("figures")
    rows = figures if isinstance(figures, dict) else {}
    values = {m: row.get("value") for m, row in rows.items() if isinstance(row, dict)}
    for metric in ("accuracy", "balanced_accuracy"):
        value = values.get(metric)
        if not isinstance(value, float) or not 0 <= value <= 1:
            raise InvalidInputError(
                f"test.json says {metric} = {value}, which must be a number from 0 to 1. Write "
                "the file with tools/score_celeba.py; rename it if it holds other figures."
            )
    return {m: v for m, v in values.items() if v is not None}


def check_agreement(
    training: Mapping[str, Any], split: str, test: Mapping[str, Any], name: str
) -> None:
    """Refuse figures of training.json and test.json that cannot be of the same weights.

    Args:
        training: The recipe's summary.
        split: Name of its test split. If it has another number of samples than the test split of
            ``test.json``, the data are not the same and nothing is compared.
        test: The content of ``test.json``.
        name: Name of the model, for the error.

    Raises:
        InvalidInputError: Naming the figure, if two differ by more than :data:`TOLERANCE`.
    """
    if training["samples"][split] != test["samples"]["test"]:
        return
    for metric, value in means_of(test).items():
        other = training[split].get(metric)
        if other is not None and abs(other - value) > TOLERANCE:
            raise InvalidInputError(
                f"{name}: on the split {split}, training.json says {metric} = {other} and "
                f"test.json {value}; they are not of the same weights. Score again."
            )


def estimate(row: Mapping[str, Any]) -> str:
    """Write a figure with its interval, in %: "88.9 [88.4, 89.4]"."""
    if row["value"] is None:
        return "no case"
    value = f"{100 * row['value']:.1f}"
    if row["low"] is None:
        return value
    return f"{value} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def label_table(test: Mapping[str, Any]) -> str:
    """Write every label's figures as a Markdown table.

    Args:
        test: The content of ``test.json``.
    """
    metrics = ("accuracy", "balanced_accuracy", "average_precision")
    titles = ["label", "positives", *map(title_of, metrics), "threshold", "F1 at it",
              "calibration error"]  # fmt: skip
    lines = _head(titles)
    for label, row in test["labels"].items():
        cells = [
            escape_markdown(label),
            f"{100 * row['prevalence']:.1f}",
            *(estimate(row[metric]) for metric in metrics),
            f"{row['threshold']:.3f}",
            estimate(row["f1"]),
            f"{100 * row['calibration_error']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def group_table(test: Mapping[str, Any], rate: str) -> str:
    """Write a rate of every group and label as a Markdown table.

    Args:
        test: The content of ``test.json``.
        rate: ``true_positive_rate`` or ``false_positive_rate``.
    """
    lines = _head([_RATES[rate], "images in the group", "other images", "difference"])
    for row in test["groups"]["rows"]:
        found = row[rate]
        sides = (_side(found[side]) for side in ("yes", "no"))
        name = f"{escape_markdown(row['label'])}, by {escape_markdown(row['group'])}"
        lines.append(f"| {name} | {' | '.join(sides)} | {_difference(found['difference'])} |")
    return "\n".join(lines)


def _head(titles: List[str]) -> List[str]:
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]


def _side(row: Mapping[str, Any]) -> str:
    """Write a group's rate with its number of cases, or that these are too few."""
    if row["value"] is None:
        return f"too few ({row['cases']})"
    return f"{estimate(row)} of {row['cases']:,}"


def _difference(row: Mapping[str, Any]) -> str:
    """Write a difference with its sign, bold where its interval excludes zero."""
    if row["value"] is None:
        return "not known"
    low, high = row["low"], row["high"]
    if low is None:
        return f"{100 * row['value']:+.1f}"
    text = f"{100 * row['value']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


TABLES: Dict[str, Callable[..., str]] = {
    f.__name__: f for f in (estimate, label_table, group_table)
}
