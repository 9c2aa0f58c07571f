"""Name labels of which a part of the photos is explained by one corner, as by a watermark."""

import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..predictions import Predictions
from .collect import FEWEST, LabelMaps
from .regions import CORNERS, even_cells, fixed_regions
from .same_content import same_content

#: A corner is suspect if its lead is so many times the spread above what is usual, whatever the
#: photos show there. Chosen, as all limits here, on seeds 0 to 6 and 10 of
#: `python -m benchmarks.watermark`: 14 is the most that a corner without a mark has there.
SPREADS = 16.0
#: A corner with a smaller lead is suspect if the photos in which it counts most show the same thing
#: there, at least this share of them, and so much more often than the other photos of the label.
#: On those seeds 100 % of the photos do in a planted corner, and at most 77 % in others.
ALIKE, MORE_ALIKE = 0.9, 0.25
#: Leads that are smaller, in spreads and in shares of the evidence, are not looked at.
LOOK, LEAST = 3.0, 0.01


class Suspect(NamedTuple):
    """A label and a corner.

    Attributes:
        index: The class.
        label: Its name, with the index where several classes have that name.
        corner: Name of the corner.
        lead: How much more evidence than usual the corner has, beyond any other corner; the mean
            over the label's photos, less the median of all labels if there are several, in shares
            of the evidence that a photo of the label usually has.
        spreads: The lead in spreads of all leads; 0 where there is only one label.
        alike: Share of the photos that show the same thing in the corner: of those in which it
            counts most, and of others. None where it was not looked at.
        suspicious: Whether that is more than chance and nature explain.
    """

    index: int
    label: str
    corner: str
    lead: float
    spreads: float
    alike: Optional[Tuple[float, float]]
    suspicious: bool


def corner_leads(label: LabelMaps) -> np.ndarray:
    """Return the lead of each corner in each photo of a label.

    Args:
        label: The maps of a label.

    Returns:
        (N, 4), for the sampled maps: how far a corner's evidence is above its own median, less the
        same of the strongest other corner; negative values count as 0. The unit is the median
        evidence of a map. Shares of each map's own evidence would hide a mark: features see more
        than their cell, so that it raises the evidence of all cells around, too.
    """
    shares = np.stack([kept.share.astype(np.float64) for kept in label.sample])
    regions = fixed_regions(label.cells or even_cells((shares.shape[1], shares.shape[2])))
    corners = np.stack([(shares * regions[name]).sum((1, 2)) for name in CORNERS], axis=1)
    totals = np.array([kept.total for kept in label.sample])
    corners *= (totals / np.median(totals))[:, None]
    above = corners - np.median(corners, axis=0)  # (N, 4)
    others = [np.delete(above, n, axis=1).max(1) for n in range(len(CORNERS))]
    return np.clip(above - np.stack(others, axis=1), 0, None)


def find_suspects(
    labels: Sequence[LabelMaps], photos: Optional[Predictions] = None
) -> List[Suspect]:
    """Rank labels and corners by how much a part of the label's photos is explained by the corner.

    What a model expects in a place, because of its padding or of what is usually there, shifts all
    photos of a label: that is the corner's median. A watermark in a part of the photos lifts one
    corner far above it. The mean leads (see :func:`corner_leads`) are compared with those of the
    same corner of the other labels: less their median, and in units of the median absolute
    deviation times 1.4826 of all of them. Nature does that too, more weakly, but does not show the
    same thing in the photos: see :func:`.same_content.same_content`. A mark that nearly all photos
    of a label have is their median, and is not found this way.

    A single label has no others to be compared with. Then the photos of every corner with a lead
    are looked at, and without them no corner is suspicious.

    Args:
        labels: The maps of each label; those with too few maps are left out.
        photos: The predictions that the maps are from, to look at their photos. Without them only
            a very large lead is suspicious.

    Returns:
        All pairs: the suspicious ones first, then by their lead.

    Raises:
        InvalidInputError: If a photo cannot be read.
    """
    judged = [label for label in labels if label.count >= FEWEST]
    if not judged:
        return []
    of_photos = [corner_leads(label) for label in judged]
    leads = np.stack([lead.mean(0) for lead in of_photos])  # (labels, 4)
    several, spread = len(judged) > 1, math.inf
    if several:  # the median of a single label is the label itself
        leads -= np.median(leads, axis=0)
        spread = max(1.4826 * float(np.median(np.abs(leads - np.median(leads)))), 1e-6)
    found = []
    for place in np.argsort(-leads, axis=None, kind="stable"):
        row, column = divmod(int(place), len(CORNERS))
        lead, spreads = float(leads[row, column]), float(leads[row, column]) / spread
        corner, alike = [*CORNERS][column], None
        if photos is not None and lead > LEAST and (spreads > LOOK or not several):
            sample, of_corner = judged[row].sample, of_photos[row][:, column]
            alike = same_content(photos, sample, of_corner, corner)
        same = alike is not None and alike[0] >= ALIKE and alike[0] - alike[1] >= MORE_ALIKE
        suspicious = same or (spreads > SPREADS and lead > LEAST)
        label = judged[row]
        found.append(Suspect(label.index, label.label, corner, lead, spreads, alike, suspicious))
    return sorted(found, key=lambda suspect: not suspect.suspicious)
