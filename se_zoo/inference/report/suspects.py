"""Name labels that are explained by one corner, as by a watermark."""

import statistics
from typing import List, NamedTuple, Sequence

from .collect import FEWEST, LabelMaps
from .regions import CORNERS

#: A corner is suspect if its lead is so many times the spread above the middle of all leads, and
#: at least so large. Measured by `python -m benchmarks.watermark`.
SPREADS, LEAST = 8.0, 0.03


class Suspect(NamedTuple):
    """A label and a corner.

    Attributes:
        label: Name of the label.
        corner: Name of the corner.
        lead: Mean of what the corner has more of the evidence than any other corner, in [0, 1].
        spreads: By how many spreads the lead lies above the middle of all leads.
        suspicious: Whether that is more than chance and nature explain.
    """

    label: str
    corner: str
    lead: float
    spreads: float
    suspicious: bool


def find_suspects(labels: Sequence[LabelMaps]) -> List[Suspect]:
    """Rank labels and corners by how much the corner leads the other corners.

    What nature puts in corners (sky, lawn, hair) it puts in several of them, in turn; a watermark
    is always in the same. The lead of a corner is therefore compared with the leads of all corners
    of all labels: their median, and as the spread their median absolute deviation times 1.4826.

    Args:
        labels: The maps of each label; those with too few maps are left out.

    Returns:
        All pairs, the most suspicious first.
    """
    leads = [
        (label.lead_of(corner), label.label, corner)
        for label in labels if label.count >= FEWEST for corner in CORNERS
    ]  # fmt: skip
    if not leads:
        return []
    middle = statistics.median(lead for lead, _, _ in leads)
    spread = 1.4826 * statistics.median(abs(lead - middle) for lead, _, _ in leads)
    found = []
    for lead, label, corner in sorted(leads, reverse=True):
        spreads = (lead - middle) / max(spread, 1e-6)
        found.append(Suspect(label, corner, lead, spreads, spreads > SPREADS and lead > LEAST))
    return found
