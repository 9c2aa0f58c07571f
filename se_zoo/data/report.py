"""What a check of a data set found, and how it reads."""

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

#: Counts of more labels than this are summed up instead of listed.
LISTED_LABELS = 60


@dataclass(frozen=True)
class SplitCounts:
    """One split in numbers."""

    samples: int
    decoded: int
    """Samples that were decoded without an error; in the fast form a sample."""
    labels: Tuple[int, ...]
    """How often each class or attribute occurs, in the order of the report's labels."""
    width: Optional[Tuple[int, int]]
    """Lowest and highest, in pixels, upright; None if none was decoded."""
    height: Optional[Tuple[int, int]]
    frames: Optional[Tuple[int, int]] = None
    """Of the shortest and the longest video."""


@dataclass(frozen=True)
class Report:
    """Errors make training fail or lie; warnings are for a person to judge."""

    name: str
    labels: Tuple[str, ...]
    multi_label: bool
    fast: bool
    noun: str
    """What a sample is: image or video."""
    counts: Dict[str, SplitCounts]
    """By split, those that could be opened."""
    errors: Tuple[str, ...]
    """One line each; every missing or corrupt file has its own."""
    warnings: Tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def __str__(self) -> str:
        return self.text()

    def text(self, most: Optional[int] = 20) -> str:
        """As tables, with at most so many errors and warnings (None: all)."""
        total = sum(split.samples for split in self.counts.values())
        kind = "attributes" if self.multi_label else "classes"
        parts = [
            f"{self.name}: {total:,} {self.noun}s, {len(self.labels):,} {kind}",
            aligned(self._split_rows()),
            aligned(self._label_rows()),
        ]
        parts += [
            problems_text("warning", self.warnings, most),
            problems_text("error", self.errors, most),
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
        if len(self.labels) <= LISTED_LABELS:
            rows = [[kind, *self.counts]]
            for place, label in enumerate(self.labels):
                rows.append([label, *(_share(n, place) for n in self.counts.values())])
            return rows
        rows = [[f"{self.noun}s a {kind}", "fewest", "median", "most"]]
        for split, n in self.counts.items():
            order = sorted(range(len(n.labels)), key=n.labels.__getitem__)
            picked = [order[0], order[len(order) // 2], order[-1]]
            rows.append([split, *(f"{n.labels[i]:,} ({self.labels[i][:30]})" for i in picked)])
        return rows


def _share(counts: SplitCounts, place: int) -> str:
    count = counts.labels[place]
    return f"{count:,} {count / max(1, counts.samples):6.1%}"


def _range(ends: Optional[Tuple[int, int]]) -> str:
    if ends is None:
        return "-"
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def aligned(rows: List[List[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *cells]))
    return "\n".join(lines)


def problems_text(name: str, lines: Sequence[str], most: Optional[int]) -> str:
    if not lines:
        return f"no {name}s"
    shown = list(lines if most is None else lines[:most])
    if len(shown) < len(lines):
        shown.append(f"... and {len(lines) - len(shown):,} more")
    head = f"{len(lines):,} {name}{'' if len(lines) == 1 else 's'}"
    return "\n".join([head, *(f"  {line}" for line in shown)])
