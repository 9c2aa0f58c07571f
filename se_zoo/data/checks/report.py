"""Reports of a check, and their text."""

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from ...text import counted, printable

#: Most labels whose counts are listed one by one.
_LISTED_LABELS = 60


@dataclass(frozen=True)
class SplitCounts:
    """Counts of one split."""

    samples: int
    """Number of samples."""
    decoded: int
    """Number of samples that were decoded without an error."""
    labels: Tuple[int, ...]
    """Number of samples with each class or attribute, in the order of the report's labels."""
    width: Optional[Tuple[int, int]]
    """Smallest and largest width of upright samples, in pixels; None if none was decoded."""
    height: Optional[Tuple[int, int]]
    """Smallest and largest height of upright samples, in pixels; None if none was decoded."""
    frames: Optional[Tuple[int, int]] = None
    """Number of frames of the shortest and the longest video."""


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Errors make training fail or its scores wrong. Warnings may be intended; a person has to judge.
    """

    name: str
    """The data set: its path or Hub id."""
    labels: Tuple[str, ...]
    """Names of the classes or attributes."""
    multi_label: bool
    """Whether the labels are attributes."""
    fast: bool
    """Whether only some samples of every split were decoded."""
    noun: str
    """What a sample is called: image or video."""
    counts: Dict[str, SplitCounts]
    """Counts by split, of the splits that could be opened."""
    errors: Tuple[str, ...]
    """One line per error; every missing or corrupt file has its own line."""
    warnings: Tuple[str, ...]
    """One line per warning."""

    @property
    def ok(self) -> bool:
        """Return whether there are no errors."""
        return not self.errors

    def __str__(self) -> str:
        """Return the text with at most 20 errors and 20 warnings."""
        return self.text()

    def text(self, most: Optional[int] = 20) -> str:
        """Return the report as text: tables of counts, warnings and errors.

        Args:
            most: Most errors and most warnings to list; None lists all.
        """
        total = sum(split.samples for split in self.counts.values())
        kind = "attributes" if self.multi_label else "classes"
        parts = [
            f"{printable(self.name)}: {counted(total, self.noun)}, {len(self.labels):,} {kind}",
            format_table(self._split_rows()),
            format_table(self._label_rows()),
        ]
        parts += [
            format_problems("warning", self.warnings, most),
            format_problems("error", self.errors, most),
        ]
        return "\n\n".join(parts)

    def _split_rows(self) -> List[List[str]]:
        video = self.noun == "video"
        frames = ["frames"] if video else []
        rows = [["split", f"{self.noun}s", "decoded", "width", "height", *frames]]
        for split, n in self.counts.items():
            decoded = f"{n.decoded:,}{' (sample)' if self.fast else ''}"
            lengths = [_range(n.frames)] if video else []
            rows.append(
                [split, f"{n.samples:,}", decoded, _range(n.width), _range(n.height), *lengths]
            )
        return rows

    def _label_rows(self) -> List[List[str]]:
        kind = "attribute" if self.multi_label else "class"
        if len(self.labels) <= _LISTED_LABELS:
            rows = [[kind, *self.counts]]
            for place, label in enumerate(self.labels):
                rows.append([printable(label), *(_share(n, place) for n in self.counts.values())])
            return rows
        rows = [[f"{self.noun}s a {kind}", "fewest", "median", "most"]]
        for split, n in self.counts.items():
            order = sorted(range(len(n.labels)), key=n.labels.__getitem__)
            picked = [order[0], order[len(order) // 2], order[-1]]
            rows.append(
                [split, *(f"{n.labels[i]:,} ({printable(self.labels[i])[:30]})" for i in picked)]
            )
        return rows


def _share(counts: SplitCounts, place: int) -> str:
    count = counts.labels[place]
    return f"{count:,} {count / max(1, counts.samples):6.1%}"


def _range(ends: Optional[Tuple[int, int]]) -> str:
    if ends is None:
        return "-"
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def format_table(rows: List[List[str]]) -> str:
    """Return rows as aligned columns: the first flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *cells]))
    return "\n".join(lines)


def format_problems(name: str, lines: Sequence[str], most: Optional[int]) -> str:
    """Return a heading and the lines below it, cut after ``most`` lines (None: all).

    Args:
        name: What a line is: error or warning.
        lines: The lines.
        most: Most lines to list; None lists all.
    """
    if not lines:
        return f"no {name}s"
    shown = list(lines if most is None else lines[:most])
    if len(shown) < len(lines):
        shown.append(f"... and {len(lines) - len(shown):,} more")
    head = f"{len(lines):,} {name}{'' if len(lines) == 1 else 's'}"
    return "\n".join([head, *(f"  {printable(line)}" for line in shown)])
