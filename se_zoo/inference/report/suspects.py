"""Name labels of which a part of the photos is explained by one corner, as by a watermark."""

from typing import List, NamedTuple, Sequence

import numpy as np

from .collect import FEWEST, LabelMaps
from .regions import CORNERS, fixed_regions

#: A corner is suspect if its lead is so many times the spread above what is usual, and at least so
#: large. Chosen on seeds 0 to 3 and 10 of `python -m benchmarks.watermark`: there, the planted
#: corner has 20 to 43 spreads, and what comes first without a mark 3 to 7; on seeds 5 and 6 the
#: planted corner comes first with 8.3 and 5.9, and is not named.
SPREADS, LEAST = 9.0, 0.01


class Suspect(NamedTuple):
    """A label and a corner.

    Attributes:
        label: Name of the label.
        corner: Name of the corner.
        lead: How much more evidence than usual the corner has, beyond any other corner; the mean
            over the label's photos, less the median of all labels, in shares of the evidence that
            a photo of the label usually has.
        spreads: The lead in spreads of all leads.
        suspicious: Whether that is more than chance and nature explain.
    """

    label: str
    corner: str
    lead: float
    spreads: float
    suspicious: bool


def corner_leads(label: LabelMaps) -> np.ndarray:
    """Return the lead of each corner in a label's photos, (4,).

    Args:
        label: The maps of a label.

    Returns:
        The mean, over the sampled maps, of how far a corner's evidence is above its own median,
        less the same of the strongest other corner; negative values count as 0. The unit is the
        median evidence of a map. Shares of each map's own evidence would hide a mark: features see
        more than their cell, so that it raises the evidence of all cells around, too.
    """
    shares = np.stack([kept.share.astype(np.float64) for kept in label.sample])
    regions = fixed_regions((shares.shape[1], shares.shape[2]))
    corners = np.stack([(shares * regions[name]).sum((1, 2)) for name in CORNERS], axis=1)
    totals = np.array([kept.total for kept in label.sample])
    corners *= (totals / np.median(totals))[:, None]
    above = corners - np.median(corners, axis=0)  # (N, 4)
    others = [np.delete(above, n, axis=1).max(1) for n in range(len(CORNERS))]
    return np.clip(above - np.stack(others, axis=1), 0, None).mean(0)


def find_suspects(labels: Sequence[LabelMaps]) -> List[Suspect]:
    """Rank labels and corners by how much a part of the label's photos is explained by the corner.

    What a model expects in a place, because of its padding or of what is usually there, shifts all
    photos of a label: that is the corner's median. A watermark in a part of the photos lifts one
    corner far above it. The leads (see :func:`corner_leads`) are compared with those of the same
    corner of the other labels: less their median, and in units of the median absolute deviation
    times 1.4826 of all of them. A mark that nearly all photos of a label have is their median, and
    is not found this way.

    Args:
        labels: The maps of each label; those with too few maps are left out.

    Returns:
        All pairs, the most suspicious first.
    """
    judged = [label for label in labels if label.count >= FEWEST]
    if not judged:
        return []
    leads = np.stack([corner_leads(label) for label in judged])  # (labels, 4)
    leads -= np.median(leads, axis=0)
    spread = 1.4826 * float(np.median(np.abs(leads - np.median(leads))))
    found = []
    for place in np.argsort(-leads, axis=None, kind="stable"):
        row, column = divmod(int(place), len(CORNERS))
        lead = float(leads[row, column])
        spreads = lead / max(spread, 1e-6)
        suspicious = spreads > SPREADS and lead > LEAST
        found.append(Suspect(judged[row].label, [*CORNERS][column], lead, spreads, suspicious))
    return found
