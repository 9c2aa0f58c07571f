"""Regions of a picture as weights on the cells of a map."""

import csv
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
from PIL import Image

from ...errors import InvalidInputError

#: Corners, as (top, left): a quarter of the height by a quarter of the width.
CORNERS: Dict[str, Tuple[bool, bool]] = {
    "top left": (True, True),
    "top right": (True, False),
    "bottom left": (False, True),
    "bottom right": (False, False),
}
#: All fixed regions, in the order of the page.
FIXED = (*CORNERS, "border", "centre")


def fixed_regions(grid: Tuple[int, int]) -> Dict[str, np.ndarray]:
    """Return how much of each cell lies in the corners, the border and the centre.

    A corner is a quarter of the height by a quarter of the width, the border an eighth on every
    side, and the centre half the height by half the width.

    Args:
        grid: Rows and columns of the map.

    Returns:
        (rows, columns) in [0, 1] for each region.
    """
    found = {}
    for name, (top, left) in CORNERS.items():
        rows = (0.0, 0.25) if top else (0.75, 1.0)
        columns = (0.0, 0.25) if left else (0.75, 1.0)
        found[name] = box_weights((columns[0], rows[0], columns[1], rows[1]), grid)
    found["border"] = 1 - box_weights((0.125, 0.125, 0.875, 0.875), grid)
    found["centre"] = box_weights((0.25, 0.25, 0.75, 0.75), grid)
    return found


def box_weights(box: Tuple[float, float, float, float], grid: Tuple[int, int]) -> np.ndarray:
    """Return how much of each cell lies in a box.

    Args:
        box: (x0, y0, x1, y1), in shares of width and height.
        grid: Rows and columns of the map.

    Returns:
        (rows, columns) in [0, 1].
    """

    def covered(low: float, high: float, count: int) -> np.ndarray:
        edges = np.arange(count + 1) / count
        return np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None) * count

    return np.outer(covered(box[1], box[3], grid[0]), covered(box[0], box[2], grid[1]))


class Boxes:
    """Boxes of named things in photos.

    Args:
        file: A csv with the columns ``id``, ``region``, ``x0``, ``y0``, ``x1``, ``y1``, in pixels
            of the upright photo.

    Raises:
        InvalidInputError: If it cannot be read, or has other columns.
    """

    def __init__(self, file: Path):
        self.found: Dict[str, List[Tuple[str, np.ndarray]]] = {}
        try:
            with file.open(newline="", encoding="utf-8") as opened:
                for row in csv.DictReader(opened):
                    box = np.array([float(row[k]) for k in ("x0", "y0", "x1", "y1")])
                    self.found.setdefault(row["id"], []).append((row["region"], box))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{file} must be a csv with the columns id, region, x0, y0, x1, y1 (pixels): "
                f"{type(error).__name__} {error}"
            ) from error

    def of(
        self, name: str, seen: Tuple[float, ...], grid: Tuple[int, int]
    ) -> Mapping[str, np.ndarray]:
        """Return the regions of a photo on the cells of its map.

        Args:
            name: Id of the photo.
            seen: Part that the model saw, (x0, y0, x1, y1) in pixels.
            grid: Rows and columns of the map.

        Returns:
            (rows, columns) in [0, 1] for each region; several boxes of a name are united.
        """
        x0, y0, x1, y1 = seen
        origin, size = np.array([x0, y0, x0, y0]), np.array([x1 - x0, y1 - y0] * 2)
        regions: Dict[str, np.ndarray] = {}
        for region, box in self.found.get(name, []):
            a, b, c, d = ((box - origin) / size).tolist()
            weights = box_weights((a, b, c, d), grid)
            regions[region] = np.maximum(weights, regions.get(region, 0))
        return regions


class Masks:
    """Masks of photos: a folder of PNGs of class indices, named like the photos.

    Args:
        folder: ``<id without suffix>.png`` for each photo, of the photo's size. ``classes.json``
            in it, or beside it, may name the indices.

    Raises:
        InvalidInputError: If there is no such folder.
    """

    names: "dict[int, Any]"
    folder: Path

    def __init__(self, folder: Path):
        import json

        if not folder.is_dir():
            raise InvalidInputError(f"{folder} is no folder of masks.")
        self.folder, self.names = folder, {}
        for file in (folder / "classes.json", folder.parent / "classes.json"):
            if file.is_file():
                listed = json.loads(file.read_text("utf-8"))
                pairs = enumerate(listed) if isinstance(listed, list) else (
                    (int(k), v) if k.isdigit() else (int(v), k) for k, v in listed.items()
                )  # fmt: skip
                self.names = dict(pairs)
                break

    def of(
        self, name: str, seen: Tuple[float, ...], grid: Tuple[int, int]
    ) -> Mapping[str, np.ndarray]:
        """Return the regions of a photo on the cells of its map; see :meth:`Boxes.of`."""
        file = self.folder / Path(name).with_suffix(".png")
        if not file.is_file():
            return {}
        x0, y0, x1, y1 = seen
        with Image.open(file) as opened:
            mask = np.asarray(opened.crop((round(x0), round(y0), round(x1), round(y1))))
        regions = {}
        for index in np.unique(mask).tolist():
            part = Image.fromarray((mask == index).astype(np.float32))
            cells = part.resize((grid[1], grid[0]), Image.Resampling.BOX)
            regions[str(self.names.get(index, index))] = np.asarray(cells)
        return regions
