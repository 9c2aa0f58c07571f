"""Show the figures of `benchmarks/cost.py`: a table and a plot."""

from pathlib import Path
from typing import Any, Dict, List

from matplotlib.figure import Figure


def cost_table(rows: List[Dict[str, Any]]) -> str:
    """Return a Markdown table with a column for each model and batch.

    Time is the ratio to the plain forward, memory is in MB.
    """
    heads = [f"{row['model']}, {row['batch']}" for row in rows]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(rows) + 1) + "|"]
    for side in dict.fromkeys(side for row in rows for side in row["sides"]):
        cells = []
        for row in rows:
            figures = row["sides"].get(side)
            if figures is None:
                cells.append("")
                continue
            digits = 2 if figures["ratio"] < 100 else 0
            shown = f"x {figures['ratio']:.{digits}f}"
            shown = f"{figures['ms']:.0f} ms" if side == "plain" else shown
            cells.append(shown + (f", {figures['mb']:.0f} MB" if "mb" in figures else ""))
        lines.append(f"| {'plain forward' if side == 'plain' else side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_cost(rows: List[Dict[str, Any]], file: Path) -> None:
    """Plot time over the plain forward and growth of peak memory, on logarithmic scales."""
    names = [side for side in dict.fromkeys(s for r in rows for s in r["sides"]) if side != "plain"]
    figure = Figure((11, 0.3 * len(names) + 1.6))
    for axis, key in zip(figure.subplots(1, 2, sharey=True), ("ratio", "mb"), strict=True):
        for n, row in enumerate(rows):
            points = [(row["sides"][s][key], len(names) - 1 - i) for i, s in enumerate(names)
                      if key in row["sides"].get(s, {})]  # fmt: skip
            axis.plot([p[0] for p in points], [p[1] for p in points], "osD^v<>*"[n % 8], alpha=0.75,
                      label=f"{row['model']}, batch {row['batch']}")  # fmt: skip
        axis.set_xscale("log")
        axis.grid(alpha=0.3)
        axis.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
    left, right = figure.axes
    left.axvline(1, color="0.5", lw=1)
    left.set_title("time over the plain forward", fontsize=9)
    right.set_title("growth of peak memory, MB", fontsize=9)
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
