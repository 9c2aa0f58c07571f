"""Write figures and facts as text: the filters of the card's template."""

import re
import shlex
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Union

from .facts import License

#: More labels than this are counted, not listed.
_LISTED = 50


def percent(value: float, digits: int = 1) -> str:
    """Write a share in percent: 0.88845 as "88.8 %"."""
    return f"{100 * value:.{digits}f} %"


def fixed(value: float, digits: int) -> str:
    """Write a number with a fixed number of decimals."""
    return f"{value:.{digits}f}"


def signed(value: float, digits: int) -> str:
    """Write a number with its sign and a fixed number of decimals."""
    return f"{value:+.{digits}f}"


def count(value: int) -> str:
    """Write a whole number with commas: 8000 as "8,000"."""
    return f"{value:,}"


def millions(value: int) -> str:
    """Write a number in millions: 1948200 as "1.95"."""
    return f"{value / 1e6:.2f}"


def megabytes(size: int) -> str:
    """Write the size of a file, given in bytes, in MB (10^6 bytes)."""
    return f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Write a duration: 1908.3 as "32 minutes"."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def command(value: Union[str, Sequence[str]]) -> str:
    """Write a command line so that it can be typed again."""
    if isinstance(value, str):
        return value
    return shlex.join(["python", *value] if value[0].endswith(".py") else list(value))


def machine(environment: Mapping[str, Any]) -> str:
    """Write the processor and the versions of a file's ``environment``."""
    threads, gpu = environment.get("threads"), environment.get("gpu")
    processor = gpu or f"{environment['cpu']}, {threads} thread{'' if threads == 1 else 's'}"
    return f"{processor}; torch {environment['torch']}, timm {environment['timm']}"


def split_sizes(samples: Mapping[str, int], noun: str = "images") -> str:
    """Write the number of samples of each split: "train 8,000 images, test 1,000 images"."""
    return ", ".join(f"{name} {n:,} {noun}" for name, n in samples.items())


def clips_scored(data: Mapping[str, Any]) -> str:
    """Write which clips of each video were scored: the middle one, or several views.

    Args:
        data: The recipe's configuration of its data.
    """
    clips, crops = data.get("clips", 1), data.get("crops", 1)
    numbers = [
        f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((clips, "clip"), (crops, "crop"))
    ]
    text = "the middle clip of each"
    if clips * crops > 1:
        text = f"{' x '.join(numbers)} of each, probabilities averaged"
    crop = data.get("crop")
    return text if crop is None else f"{text}, cut to the pixels {' '.join(map(str, crop))} first"


def title_of(metric: str) -> str:
    """Write the name of a metric: ``balanced_accuracy`` as "balanced accuracy"."""
    return {"accuracy": "accuracy", "top5_accuracy": "top-5 accuracy"}.get(
        metric, metric.replace("_", " ")
    )


def majority_score(figures: Mapping[str, Any], metric: str) -> str:
    """Write the score of always giving the most frequent answer, or that it was not measured.

    Args:
        figures: The summary's figures of one split.
        metric: Name of the metric.
    """
    value = figures.get(f"majority_{metric}")
    return "not measured" if value is None else percent(value)


def per_label_table(figures: Mapping[str, Any]) -> str:
    """Write every label's figures as a Markdown table, or nothing where none were measured.

    Args:
        figures: The summary's figures of one split.
    """
    columns = [
        c for c in ("label_accuracy", "label_balanced_accuracy", "label_recall") if c in figures
    ]
    if not columns or len(figures[columns[0]]) > _LISTED:
        return ""
    titles = [title_of(c.removeprefix("label_")) for c in columns]
    lines = [f"| label | {' | '.join(titles)} |", "|---|" + "---|" * len(columns)]
    for label in figures[columns[0]]:
        values = (figures[c].get(label) for c in columns)
        cells = ("no case" if v is None else percent(v) for v in values)
        lines.append(f"| {escape_markdown(label)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def escape_markdown(label: str) -> str:
    """Escape the characters of a label that Markdown would take for markup."""
    return re.sub(r"([\\`*<>|\[\]])", r"\\\1", label)


def link_arxiv(text: str) -> str:
    """Make a link of every "arXiv 2412.05134"."""
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def labels_text(labels: Optional[Sequence[str]], classes: int, multi_label: bool) -> str:
    """Write how many labels a model has, of which kind, and their names.

    Args:
        labels: Names of the labels; None where the model has none.
        classes: Number of labels.
        multi_label: Whether the labels are independent of each other.
    """
    if not classes:
        return "none; give `num_classes` and train"
    kind = "independent, any number may hold (sigmoid)" if multi_label else "one holds (softmax)"
    listed = f": {', '.join(map(escape_markdown, labels))}" if labels and classes <= _LISTED else ""
    return f"{classes:,}, {kind}{listed}"


def license_text(facts: License) -> str:
    """Write the terms of the weights, with their link."""
    name = facts.name or facts.id
    return f"[{name}]({facts.link})." if facts.link else f"{name}."


FILTERS: Dict[str, Callable[..., str]] = {
    f.__name__: f
    for f in (percent, fixed, signed, count, millions, megabytes, duration, command, machine,
              split_sizes, clips_scored, title_of, majority_score, per_label_table)
}  # fmt: skip
