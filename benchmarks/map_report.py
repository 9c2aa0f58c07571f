"""Summarise the scores of `benchmarks/maps.py`: means, intervals, tables, plots and pictures."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
import torch

from benchmarks.map_cases import CaseSet
from se_zoo.explanations.quality import Deleted
from se_zoo.explanations.quality.cases import CONTROLS, OURS, Drawn, draw
from se_zoo.explanations.quality.compare import same_maps
from se_zoo.explanations.quality.peer_methods import OF_PIXELS
from se_zoo.explanations.quality.regions import WANTED_IOUS

#: Measures in the order of the tables: title, and whether larger is better.
QUALITY = {
    "pixel_ap": ("pixel AP", True),
    "pixel_ap_registered": ("pixel AP, registered", True),
    "pointing": ("pointing", True),
    "mask_iou": ("mask IoU", True),
    "box": ("MaxBoxAccV2", True),
    "insertion": ("insertion", True),
    "deletion": ("deletion", False),
    "road": ("ROAD", True),
    "road_blurred": ("ROAD, map blurred", True),
    "drop": ("average drop", False),
    "increase": ("increase", True),
    "gain": ("average gain", True),
    "adcc": ("ADCC", True),
    # Sharpening alone raises the energy, so it comes last, beside that of the same map squared.
    "energy": ("energy / chance", True),
    "energy_squared": ("energy, map squared", True),
}
#: Rank correlations, which are neither good nor bad by themselves.
DEPENDENCE = {
    "likeness": "with our contribution map",
    "stability": "image moved",
    "random_classifier": "classifier random",
    "random_all": "all random",
}
#: The measures that are plotted.
PLOTTED = ("pixel_ap", "pointing", "insertion", "deletion", "road", "energy")
#: Smallest difference that the three decimals of a table show.
LEAST = 0.0005
#: Method with which the others are compared.
REFERENCE = "contribution"

#: Smallest number of images for which an interval is computed.
_FEW = 5
#: Smallest number of cases with which a group is resampled by itself.
_SMALL = 3

Scores = Dict[str, Dict[str, Dict[str, Any]]]


@dataclass(frozen=True)
class Interval:
    """A mean over cases and its 95 % interval.

    Attributes:
        mean: The mean.
        low: Lower end of the interval; None for fewer than five images.
        high: Upper end of the interval; None for fewer than five images.
        cases: Number of cases.
    """

    mean: float
    low: Optional[float]
    high: Optional[float]
    cases: int


class Bootstrap:
    """Resample the images of a set, in the same way for every method: differences are paired.

    All cases of an image are drawn together. All groups have the same weight, and keep it in every
    resample, so differences between groups do not widen the interval. The spread within a group of
    one or two cases cannot be estimated; these groups are resampled as one, in which differences
    between them count.

    Args:
        found: The set.
        resamples: Number of resamples.
    """

    def __init__(self, found: CaseSet, resamples: int):
        self.groups, images = found.groups, np.asarray(found.images)
        names, self.image = np.unique(images, return_inverse=True)
        random = np.random.default_rng(0)
        draws = random.integers(0, len(names), (resamples, len(names)))
        drawn = np.stack([np.bincount(row, minlength=len(names)) for row in draws])
        # The first row is the sample itself.
        self.counts = np.vstack([np.ones((1, len(names))), drawn])

    def _weights(self, rows: Sequence[int]) -> np.ndarray:
        """Return the weight of each case in every resample, (1 + R, n)."""
        names = [self.groups[n] for n in rows]
        _, group, sizes = np.unique(names, return_inverse=True, return_counts=True)
        own = 1 / sizes[group]  # weight of a case within its group
        # A stratum is resampled as one: each large group, and all small groups together.
        stratum = np.where(sizes >= _SMALL, np.arange(len(sizes)), len(sizes))[group]
        member = np.eye(len(sizes) + 1)[stratum]
        share = own @ member  # number of groups in each stratum
        drawn = self.counts[:, self.image[list(rows)]] * own
        totals = drawn @ member
        present = ((totals > 0) * share).sum(1, keepdims=True)
        scale = np.divide(share, totals, where=totals > 0, out=np.zeros_like(totals))
        weights = drawn * scale[:, stratum]
        return np.divide(weights, present, where=present > 0, out=np.full_like(weights, np.nan))

    def _values(self, measure: str, table: Dict[str, Any], rows: Sequence[int]) -> np.ndarray:
        """Return the mean over the cases in every resample, (1 + R,)."""
        weights = self._weights(rows)
        values = np.asarray([table[str(n)] for n in rows], float)
        if measure == "mask_iou":
            return (weights @ values).max(1)  # the best threshold for all cases together
        if measure != "box":
            return weights @ values
        # The same as quality.max_box_accuracy, for all resamples at once.
        hits = values[:, None] >= np.array(WANTED_IOUS)[:, None]  # (n, wanted, thresholds)
        return np.einsum("rn,ndt->rdt", weights, hits).max(2).mean(1)

    def mean(self, measure: str, table: Dict[str, Any]) -> Interval:
        """Return the mean of a method's scores.

        Args:
            measure: Name of the measure.
            table: Score of each case, by the case's number as a string.
        """
        rows = sorted(map(int, table))
        return self._interval(self._values(measure, table, rows), rows)

    def difference(
        self, measure: str, table: Dict[str, Any], other: Dict[str, Any]
    ) -> Optional[Interval]:
        """Return the mean difference of two methods over the cases of both; None if there are none.

        Args:
            measure: Name of the measure.
            table: Score of each case, by the case's number as a string.
            other: The scores to subtract.
        """
        rows = sorted(set(map(int, table)) & set(map(int, other)))
        if not rows:
            return None
        values = self._values(measure, table, rows) - self._values(measure, other, rows)
        return self._interval(values, rows)

    def _interval(self, values: np.ndarray, rows: Sequence[int]) -> Interval:
        """Return the sample's own value and the percentiles of the resamples."""
        if len(set(self.image[list(rows)].tolist())) < _FEW:
            return Interval(float(values[0]), None, None, len(rows))
        low, high = np.nanpercentile(values[1:], [2.5, 97.5])
        return Interval(float(values[0]), float(low), float(high), len(rows))


def summarise(
    found: CaseSet, scores: Scores, resamples: int, reference: str = REFERENCE
) -> List[Dict[str, Any]]:
    """Summarise scores in one row for each method and measure.

    Args:
        found: The set.
        scores: Score of each case, by method and measure.
        resamples: Number of resamples of the bootstrap.
        reference: Method with which the others are compared.

    Returns:
        Rows with mean, interval, cases, and the difference to the reference with its interval.
    """
    bootstrap = Bootstrap(found, resamples)
    rows = []
    for method, tables in scores.items():
        for measure in (*QUALITY, *DEPENDENCE):
            if not tables.get(measure):  # or without any score
                continue
            mean = bootstrap.mean(measure, tables[measure])
            row = {"set": found.name, "method": method, "measure": measure, **vars(mean)}
            own = scores.get(reference, {}).get(measure)
            if own and method != reference and measure in QUALITY:
                less = bootstrap.difference(measure, tables[measure], own)
                if less is not None:
                    row.update(difference=less.mean, difference_low=less.low,
                               difference_high=less.high)  # fmt: skip
            rows.append(row)
    return rows


def verdict(row: Dict[str, Any]) -> str:
    """Return " +" or " -" if a method is better or worse than the reference, else nothing.

    The interval of the difference must exclude 0, by more than three decimals can show.
    """
    low, high = row.get("difference_low"), row.get("difference_high")
    if low is None or high is None or not (low > LEAST or high < -LEAST):
        return ""
    return " +" if (low > LEAST) == QUALITY[row["measure"]][1] else " -"


def quality_table(rows: Sequence[Dict[str, Any]], methods: Sequence[str]) -> str:
    """Return a Markdown table of means, each with its mark; (n) where a method has fewer cases."""
    measures = [m for m in QUALITY if any(row["measure"] == m for row in rows)]
    by_key = {(row["method"], row["measure"]): row for row in rows}
    most = {m: max(row["cases"] for row in rows if row["measure"] == m) for m in measures}
    arrows = [QUALITY[m][0] + (" ↑" if QUALITY[m][1] else " ↓") for m in measures]
    lines = [f"| map | {' | '.join(arrows)} |", "|---" * (len(measures) + 1) + "|"]
    for method in methods:
        cells = []
        for measure in measures:
            row = by_key.get((method, measure))
            if row is None:
                cells.append("")
                continue
            fewer = row["cases"] < most[measure]
            cells.append(
                f"{row['mean']:.3f}{verdict(row)}" + (f" ({row['cases']})" if fewer else "")
            )
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def dependence_table(rows: Sequence[Dict[str, Any]], methods: Sequence[str]) -> str:
    """Return a Markdown table of the rank correlations of the methods' maps."""
    by_key = {(row["method"], row["measure"]): row for row in rows}
    lines = [f"| map | {' | '.join(DEPENDENCE.values())} |", "|---" * (len(DEPENDENCE) + 1) + "|"]
    for method in methods:
        found = [by_key.get((method, measure)) for measure in DEPENDENCE]
        if any(found):
            cells = ["" if row is None else f"{row['mean']:.3f}" for row in found]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def channel_rows(found: CaseSet, channels: Scores, resamples: int) -> List[Dict[str, Any]]:
    """Summarise the logit lost without the selected channels, and without as many random ones."""
    bootstrap = Bootstrap(found, resamples)
    rows = []
    for way, tables in channels.items():
        row: Dict[str, Any] = {"set": found.name, "selected_by": way}
        for side in Deleted._fields:
            interval = bootstrap.mean(side, tables[side])
            row.update({side: interval.mean, f"{side}_low": interval.low,
                        f"{side}_high": interval.high, "cases": interval.cases})  # fmt: skip
        rows.append(row)
    return rows


def channel_table(rows: Sequence[Dict[str, Any]]) -> str:
    """Return a Markdown table of the rows of :func:`channel_rows`."""
    lines = ["| without channels selected by | the logit loses | random ones |", "|---|---|---|"]
    for row in rows:
        cells = [f"{row[s]:.2f}" + ("" if row[f"{s}_low"] is None else
                 f" ({row[f'{s}_low']:.2f} to {row[f'{s}_high']:.2f})")
                 for s in Deleted._fields]  # fmt: skip
        lines.append(f"| {row['selected_by']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_csv(file: Path, rows: Sequence[Dict[str, Any]]) -> None:
    """Write rows to a csv file; missing values stay empty."""
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, fields)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()})


def draw_quality(rows: Sequence[Dict[str, Any]], methods: Sequence[str], file: Path) -> None:
    """Plot means and intervals of the main measures, one row of plots for each set."""
    from matplotlib.figure import Figure

    sets = list(dict.fromkeys(row["set"] for row in rows))
    figure = Figure((2.3 * len(PLOTTED) + 2, (0.24 * len(methods) + 0.9) * len(sets)))
    axes = figure.subplots(len(sets), len(PLOTTED), squeeze=False, sharey="row")
    for line, name in zip(axes, sets, strict=True):
        for axis, measure in zip(line, PLOTTED, strict=True):
            for place, method in enumerate(reversed(methods)):
                key = (name, method, measure)
                for row in rows:
                    if (row["set"], row["method"], row["measure"]) == key:
                        colour = "C3" if method in OURS else "0.5" if method in CONTROLS else "C0"
                        ends = [row["mean"] if row[e] is None else row[e] for e in ("low", "high")]
                        axis.plot(ends, [place, place], color=colour, lw=2)
                        axis.plot(row["mean"], place, "o", color=colour, ms=4)
            title, larger = QUALITY[measure]
            axis.set_title(f"{title} {'↑' if larger else '↓'}", fontsize=9)
            axis.set_yticks(range(len(methods)), list(reversed(methods)), fontsize=8)
            axis.set_ylim(-0.6, len(methods) - 0.4)
            axis.locator_params(axis="x", nbins=5)
            axis.tick_params(axis="x", labelsize=7)
            axis.grid(alpha=0.3)
        line[0].set_ylabel(name)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def draw_page(found: CaseSet, methods: Sequence[str], rows: Sequence[int], file: Path) -> None:
    """Draw the methods' maps side by side, one line for each case, with the answer outlined.

    Methods with equal heatmaps share a column. For methods that attribute to pixels, the strongest
    hundredth of the pixels is drawn in one colour: otherwise a few pixels would hide all others.
    """
    from matplotlib.figure import Figure

    cases = found.cases.some(rows).to(next(found.model.parameters()).device)
    columns: List[Tuple[List[str], Drawn]] = []
    for method in methods:
        drawn = draw(found.model, cases, method)
        same = [names for names, other in columns if same_maps(other.heatmap, drawn.heatmap)]
        same[0].append(method) if same else columns.append(([method], drawn))
    mean, std = (torch.tensor(s).view(-1, 1, 1) for s in found.model.image_stats())  # type: ignore[operator]
    pixels = (cases.images.cpu() * std + mean).clamp(0, 1).movedim(1, 3).numpy()
    labels = found.model.class_labels() or {}  # type: ignore[operator]
    width = 1.5
    tall = width * pixels.shape[1] / pixels.shape[2]
    lines = max(len(names) for names, _ in columns) + 1
    figure = Figure((width * (len(columns) + 1), (tall + 0.1) * len(rows) + 0.13 * lines))
    axes = figure.subplots(len(rows), len(columns) + 1, squeeze=False)
    for n, (line, target) in enumerate(zip(axes, cases.targets.tolist(), strict=True)):
        name = str(labels[target]) if labels else str(target)
        line[0].set_ylabel(name.split(",")[0], fontsize=7)
        shown = [pixels[n]]
        for names, drawn in columns:
            shown.append(_overlaid(pixels[n], drawn.heatmap[n].cpu().numpy(), names[0]))
        for axis, picture in zip(line, shown, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.imshow(picture)
            if cases.regions is not None:
                axis.contour(cases.regions[n].cpu().numpy(), [0.5], colors="w", linewidths=0.6)
    for axis, (names, _) in zip(axes[0][1:], columns, strict=True):
        axis.set_title("\n= ".join(name.replace("/", "\n", not names[1:]) for name in names),
                       fontsize=7)  # fmt: skip
    figure.tight_layout(pad=0.3)
    figure.savefig(file, dpi=120)


def _overlaid(pixels: np.ndarray, heat: np.ndarray, method: str) -> np.ndarray:
    """Draw a heatmap (H, W) over a picture (H, W, 3) in [0, 1]."""
    if method in OF_PIXELS:
        heat = (heat / max(float(np.quantile(heat, 0.99)), 1e-6)).clip(0, 1)
    colours = matplotlib.colormaps["turbo"](heat)[..., :3]
    return pixels + 0.6 * heat[..., None] * (colours - pixels)
