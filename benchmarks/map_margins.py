"""Compare our maps with every CAM method: the difference in pixel average precision."""

from typing import Any, Dict, List, Sequence

from benchmarks.map_cases import CaseSet
from benchmarks.map_report import Bootstrap, Scores
from se_zoo.explanations.methods import TABLE
from se_zoo.explanations.quality.peer_methods import OF_PIXELS
from se_zoo.explanations.quality.peers import PEERS

#: The measure that is compared: no monotone change of a map alters it.
MEASURE = "pixel_ap"
#: Our maps that know the class.
COMPARED = tuple(m.name for m in TABLE if not m.classless and not m.pairwise)


def margin_rows(found: CaseSet, scores: Scores, resamples: int) -> List[Dict[str, Any]]:
    """Summarise by how much our maps exceed those of the CAM methods of other libraries.

    Peers are taken as their libraries draw them, without the model's ``map_offset``.

    Args:
        found: The set.
        scores: Score of each case, by method and measure.
        resamples: Number of resamples of the bootstrap.

    Returns:
        Rows with our method, the peer, and the paired difference with its 95 % interval; none for a
        set without regions.
    """
    bootstrap = Bootstrap(found, resamples)
    rows = []
    for method in COMPARED:
        for peer in PEERS:
            own, other = (scores.get(name, {}).get(MEASURE) for name in (method, peer))
            if peer in OF_PIXELS or not own or not other:
                continue
            interval = bootstrap.difference(MEASURE, own, other)
            if interval is not None:
                rows.append({"set": found.name, "method": method, "peer": peer, **vars(interval)})
    return rows


def margin_table(rows: Sequence[Dict[str, Any]]) -> str:
    """Return a Markdown table of the rows of :func:`margin_rows`; the best peer comes first."""
    by_key = {(row["method"], row["peer"]): row for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    peers = sorted(
        dict.fromkeys(row["peer"] for row in rows),
        key=lambda peer: min(row["mean"] for row in rows if row["peer"] == peer),
    )
    lines = [f"| over | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for peer in peers:
        cells = []
        for method in methods:
            row = by_key.get((method, peer))
            ends = "" if row is None or row["low"] is None else (
                f" ({row['low']:+.3f} to {row['high']:+.3f})"
            )  # fmt: skip
            cells.append("" if row is None else f"{row['mean']:+.3f}{ends}")
        lines.append(f"| {peer} | {' | '.join(cells)} |")
    return "\n".join(lines)
