"""Sums over all maps of a data set, in one pass and in constant memory."""

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Protocol, Tuple

import numpy as np

from ...errors import InvalidInputError
from ...explanations.methods import FROM_ZERO_METHODS
from ..predictions import Prediction
from .regions import FIXED, Cells, cells_of, fixed_regions

#: Maps that are kept of each label, for clusters and pictures.
SAMPLE = 400
#: Labels with fewer maps that are not empty are counted and not judged.
FEWEST = 20
#: Photos with an empty map that are kept of each label, for pictures and names.
KEPT_EMPTY = 20


class RegionsOfPhotos(Protocol):
    """Regions that differ from photo to photo."""

    def of(self, name: str, seen: Tuple[float, ...], cells: Cells) -> Mapping[str, np.ndarray]:
        """Return the regions of a photo on the cells of its map."""
        ...

    def has(self, name: str) -> bool:
        """Return whether there are regions of a photo."""
        ...

    def mismatch(self, name: str) -> str:
        """Return the message for the case that no photo has regions, given the id of one."""
        ...


class Sampled(NamedTuple):
    """A map that is kept, in the order of a hash of its photo's id.

    Attributes:
        order: The hash, negative.
        id: Name of the photo.
        share: The map's evidence, float16 (rows, columns), with the sum 1.
        total: Sum of the map's evidence.
        place: Where the row is, see :class:`se_zoo.inference.predictions.Prediction`.
    """

    order: int
    id: str
    share: np.ndarray
    total: float
    place: Tuple[int, int]

    def __lt__(self, other: Any) -> bool:
        return (self.order, self.id) < (other.order, other.id)


class EmptyMap(NamedTuple):
    """A photo with an empty map of a label that is predicted for it.

    Attributes:
        probability: Probability of the label.
        id: Name of the photo.
        place: Where the row is, see :class:`se_zoo.inference.predictions.Prediction`.
    """

    probability: float
    id: str
    place: Tuple[int, int]


@dataclass
class LabelMaps:
    """What is known of a label's maps.

    Attributes:
        index: The class.
        label: Its name, with the index where several classes have that name.
        count: Number of maps with evidence.
        total: Sum of the maps' shares of evidence, (rows, columns).
        regions: Sum of the share of evidence in each region, and the number of maps it is over.
        area: Sum of each region's share of the picture.
        sample: Some of the maps.
        cells: Where the cells of the maps lie; None if they are stretched over the input.
        empty: Number of maps without evidence.
        sure: The photos with an empty map for which the label is most probable.
    """

    index: int
    label: str
    count: int = 0
    total: Any = 0.0
    regions: Dict[str, List[float]] = field(default_factory=dict)
    area: Dict[str, float] = field(default_factory=dict)
    sample: List[Sampled] = field(default_factory=list)
    cells: Optional[Cells] = None
    empty: int = 0
    sure: List[EmptyMap] = field(default_factory=list)

    @property
    def photos(self) -> int:
        """Number of photos for which the label is predicted, with a map that is empty or not."""
        return self.count + self.empty

    @property
    def mean(self) -> np.ndarray:
        """Mean share of evidence of each cell, (rows, columns)."""
        return self.total / max(1, self.count)

    def share(self, region: str) -> Optional[float]:
        """Return the mean share of evidence in a region; None without a map that has it."""
        total, count = self.regions.get(region, (0.0, 0))
        return total / count if count else None

    def area_of(self, region: str) -> Optional[float]:
        """Return the mean share of the picture that a region takes."""
        count = self.regions.get(region, (0.0, 0))[1]
        return self.area[region] / count if count else None

    def add(
        self, row: Prediction, share: np.ndarray, total: float, regions: Mapping[str, np.ndarray]
    ) -> None:
        """Count a map in."""
        self.count += 1
        self.total = self.total + share
        for name, weights in regions.items():
            before, count = self.regions.get(name, (0.0, 0))
            self.regions[name] = [before + float((share * weights).sum()), count + 1]
            self.area[name] = self.area.get(name, 0.0) + float(weights.mean())
        # The photos with the lowest hashes: a random sample that is the same every time.
        number = -int.from_bytes(hashlib.sha256(row.id.encode()).digest()[:8], "big")
        kept = Sampled(number, row.id, share.astype(np.float16), total, row.place)
        if len(self.sample) < SAMPLE:
            heapq.heappush(self.sample, kept)
        elif self.sample[0] < kept:
            heapq.heapreplace(self.sample, kept)

    def add_empty(self, photo: EmptyMap) -> None:
        """Count a photo with an empty map in."""
        self.empty += 1
        heapq.heappush(self.sure, photo)
        if len(self.sure) > KEPT_EMPTY:
            heapq.heappop(self.sure)


def evidence_share(raw: np.ndarray, from_zero: bool) -> Optional[Tuple[np.ndarray, float]]:
    """Return where the evidence for a class lies, with the sum 1, and how much it is.

    Args:
        raw: A map, (rows, columns).
        from_zero: Whether the heatmap begins at 0; negative values are left out. Other maps begin
            at their lowest value.

    Returns:
        (rows, columns), and the sum before it was divided by it; None if there is no evidence for
        the class.
    """
    positive = np.clip(raw, 0, None) if from_zero else raw - raw.min()
    total = float(positive.sum(dtype=np.float64))
    return (positive / total, total) if total > 0 else None


def collect(
    rows: Iterable[Prediction],
    model: Mapping[str, Any],
    of_photos: Iterable[RegionsOfPhotos] = (),
) -> List[LabelMaps]:
    """Sum up the maps of each label, over the photos for which it is predicted.

    Empty maps lie nowhere: they are counted, and are in none of the sums.

    Args:
        rows: Predictions.
        model: Facts of the model, from the manifest.
        of_photos: Boxes and masks.

    Returns:
        What is known of each label that has a map, in the order of the classes.

    Raises:
        InvalidInputError: If the maps have a time axis, a mask does not fit its photo, boxes or
            masks are of none of the photos, or a region has the name of another one.
    """
    from_zero = model["method"] in FROM_ZERO_METHODS
    names: Counter[str] = Counter(model["label_names"] or ())
    given = list(of_photos)
    unmatched, last = given, None
    found: Dict[int, LabelMaps] = {}
    fixed: Dict[Tuple[int, int], Tuple[Cells, Dict[str, np.ndarray]]] = {}
    for row in rows:
        # Photos without a map count, too: their ids show that the regions are of this data set.
        unmatched = [regions for regions in unmatched if not regions.has(row.id)]
        last = row.id
        for n, index in enumerate(row.target):
            if not _predicted(row, n, model):
                continue
            if index not in found:
                name = f"{row.label[n]} ({index})" if names[row.label[n]] > 1 else row.label[n]
                found[index] = LabelMaps(index, name)
            label = found[index]
            evidence = evidence_share(row.map[n], from_zero)
            if evidence is None:
                label.add_empty(EmptyMap(row.probability[n], row.id, row.place))
                continue
            share, total = evidence
            if share.ndim != 2:
                raise InvalidInputError("a report is of photos; these maps have a time axis.")
            grid = (share.shape[0], share.shape[1])
            if grid not in fixed:
                cells = cells_of(grid, model)
                fixed[grid] = cells, fixed_regions(cells)
            cells, regions = fixed[grid][0], dict(fixed[grid][1])
            for one in given:
                own = one.of(row.id, row.region or (), cells)
                if twice := sorted(own.keys() & regions.keys()):
                    raise InvalidInputError(
                        f"{row.id} has two regions {twice[0]!r}, and their shares would be mixed: "
                        f"{', '.join(FIXED)} are the report's own, and boxes and masks need "
                        "different names."
                    )
                regions.update(own)
            label.cells = label.cells or cells
            label.add(row, share, total, regions)
    if unmatched and last is not None:
        raise InvalidInputError(unmatched[0].mismatch(last))
    return [found[index] for index in sorted(found)]


def _predicted(row: Prediction, n: int, model: Mapping[str, Any]) -> bool:
    """Return whether the model predicts the class of a row's map."""
    if not model["multi_label"]:
        return bool(row.top) and row.top[0][0] == row.target[n]
    limits = model["thresholds"]
    return row.probability[n] > (0.5 if limits is None else limits[row.target[n]])
