"""Figures and facts in words, as the card's template writes them."""

import re
import shlex
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Union

from .facts import License

#: More labels than this are counted, not listed.
_LISTED = 50


def percent(value: float, digits: int = 1) -> str:
    """0.88845 as "88.8 %"."""
    return f"{100 * value:.{digits}f} %"


def fixed(value: float, digits: int) -> str:
    """With so many digits behind the point."""
    return f"{value:.{digits}f}"


def signed(value: float, digits: int) -> str:
    """Likewise, with a sign."""
    return f"{value:+.{digits}f}"


def count(value: int) -> str:
    """8000 as "8,000"."""
    return f"{value:,}"


def millions(value: int) -> str:
    """1948200 as "1.95"."""
    return f"{value / 1e6:.2f}"


def duration(seconds: float) -> str:
    """1908.3 as "32 minutes"."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def command(value: Union[str, Sequence[str]]) -> str:
    """A command line as it can be typed again."""
    if isinstance(value, str):
        return value
    return shlex.join(["python", *value] if value[0].endswith(".py") else list(value))


def machine(environment: Mapping[str, Any]) -> str:
    """The machine and the versions of a measurement."""
    threads, gpu = environment.get("threads"), environment.get("gpu")
    processor = gpu or f"{environment['cpu']}, {threads} thread{'' if threads == 1 else 's'}"
    return f"{processor}; torch {environment['torch']}, timm {environment['timm']}"


def samples(value: Mapping[str, int], noun: str = "images") -> str:
    """The images, or videos, of each split."""
    return ", ".join(f"{name} {n:,} {noun}" for name, n in value.items())


def views(data: Mapping[str, Any]) -> str:
    """Of which part of each video, and over how many clips of it, a clip model was scored."""
    clips, crops = data.get("clips", 1), data.get("crops", 1)
    many = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((clips, "clip"), (crops, "crop"))]
    said = "the middle clip of each"
    if clips * crops > 1:
        said = f"{' x '.join(many)} of each, probabilities averaged"
    crop = data.get("crop")
    where = "" if crop is None else f", cut to the pixels {' '.join(map(str, crop))} first"
    return said + where


def title_of(metric: str) -> str:
    """``balanced_accuracy`` as "balanced accuracy"."""
    return {"accuracy": "accuracy", "top5_accuracy": "top-5 accuracy"}.get(
        metric, metric.replace("_", " ")
    )


def majority(figures: Mapping[str, Any], metric: str) -> str:
    """What always giving the most frequent answer scores, where that was measured."""
    value = figures.get(f"majority_{metric}")
    return "not measured" if value is None else percent(value)


def per_label(figures: Mapping[str, Any]) -> str:
    """Every label's own figures as a Markdown table, or nothing where there are none."""
    old = {"attribute_accuracy": "label_accuracy",
           "attribute_balanced_accuracy": "label_balanced_accuracy"}  # fmt: skip
    known = {old.get(k, k): v for k, v in figures.items()}
    columns = [
        c for c in ("label_accuracy", "label_balanced_accuracy", "label_recall") if c in known
    ]
    if not columns or len(known[columns[0]]) > _LISTED:
        return ""
    titles = [title_of(c.removeprefix("label_")) for c in columns]
    lines = [f"| label | {' | '.join(titles)} |", "|---|" + "---|" * len(columns)]
    for label in known[columns[0]]:
        values = (known[c].get(label) for c in columns)
        shown = ("no case" if v is None else percent(v) for v in values)
        lines.append(f"| {plain_text(label)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def plain_text(label: str) -> str:
    """A label as Markdown shows it letter by letter."""
    return re.sub(r"([\\`*<>|\[\]])", r"\\\1", label)


def linked(text: str) -> str:
    """Every "arXiv 2412.05134" as a link."""
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def megabytes(size: int) -> str:
    """A file's size in MB (10^6 bytes)."""
    return f"{size / 1e6:.1f} MB"


def labels_text(labels: Optional[Sequence[str]], number: int, multi_label: bool) -> str:
    """How many labels, of which kind, and which."""
    if not number:
        return "none; give `num_classes` and train"
    kind = "independent, any number may hold (sigmoid)" if multi_label else "one holds (softmax)"
    listed = f": {', '.join(map(plain_text, labels))}" if labels and number <= _LISTED else ""
    return f"{number:,}, {kind}{listed}"


def license_text(facts: License) -> str:
    """The terms of the weights, with their link."""
    name = facts.name or facts.id
    return f"[{name}]({facts.link})." if facts.link else f"{name}."


FILTERS: Dict[str, Callable[..., str]] = {
    f.__name__: f
    for f in (percent, fixed, signed, count, millions, duration, command, machine, samples, views,
              title_of, majority, per_label, megabytes)
}  # fmt: skip
