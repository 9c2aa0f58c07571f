"""Regions of a picture as weights on the cells of a map."""

import csv
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

import numpy as np
from PIL import Image

from ...data.images import IMAGE_SUFFIXES, open_image
from ...errors import InvalidInputError
from ...files import read_json

#: Corners, as (top, left): a quarter of the height by a quarter of the width.
CORNERS: Dict[str, Tuple[bool, bool]] = {
    "top left": (True, True),
    "top right": (True, False),
    "bottom left": (False, True),
    "bottom right": (False, False),
}
#: All fixed regions, in the order of the page.
FIXED = (*CORNERS, "border", "centre")
#: Pillow's names of pictures of one channel of numbers. A PNG of 16 bits is I;16, or I in older
#: Pillows.
MASK_MODES = ("1", "L", "P", "I", "I;16")
_COLUMNS = ("id", "region", "x0", "y0", "x1", "y1")


class Cells(NamedTuple):
    """Edges of the cells of a map, in shares of what the model saw.

    Cells that do not tile the input reach beyond it, from 0 or to more than 1; so do those of a
    model whose maps are moved. Where cells are missing at an edge, the last one reaches to it.

    Attributes:
        rows: (rows + 1,).
        columns: (columns + 1,).
    """

    rows: np.ndarray
    columns: np.ndarray


def _covered(edges: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return the share of each cell that lies in each span (N, 2), (cells, N)."""
    low, high = edges[:-1, None], edges[1:, None]
    shared = np.minimum(high, spans[:, 1]) - np.maximum(low, spans[:, 0])
    return np.clip(shared, 0, None) / (high - low)


def even_cells(grid: Tuple[int, int]) -> Cells:
    """Return the cells of a map that is stretched over the whole input.

    Args:
        grid: Rows and columns of the map.
    """
    return Cells(*(np.arange(count + 1) / count for count in grid))


def cells_of(grid: Tuple[int, int], model: Mapping[str, Any]) -> Cells:
    """Return where the cells of a model's maps lie in a heatmap.

    Args:
        grid: Rows and columns of the maps.
        model: Facts of the model, from the manifest.
    """
    from ..predictions import stored_placement  # imports torch

    size, placement = model["preprocessing"]["input_size"][1:], stored_placement(model, grid)
    moves = [round(move) for move in reversed(placement.offset)]
    rows, columns = (
        (np.arange(count + 1) * side - move) / length
        for count, side, move, length in zip(grid, placement.cells, moves, size, strict=True)
    )
    for edges in (rows, columns):  # `maps.at_input_size` repeats the edge, and so must the figures
        edges[0], edges[-1] = min(edges[0], 0.0), max(edges[-1], 1.0)
    return Cells(rows, columns)


def fixed_regions(cells: Cells) -> Dict[str, np.ndarray]:
    """Return how much of each cell lies in the corners, the border and the centre.

    A corner is a quarter of the height by a quarter of the width, the border an eighth on every
    side, and the centre half the height by half the width.

    Args:
        cells: Where the cells of the map lie.

    Returns:
        (rows, columns) in [0, 1] for each region.
    """
    found = {}
    for name, (top, left) in CORNERS.items():
        rows = (0.0, 0.25) if top else (0.75, 1.0)
        columns = (0.0, 0.25) if left else (0.75, 1.0)
        found[name] = box_weights((columns[0], rows[0], columns[1], rows[1]), cells)
    whole, inner = (0.0, 0.0, 1.0, 1.0), (0.125, 0.125, 0.875, 0.875)
    found["border"] = box_weights(whole, cells) - box_weights(inner, cells)
    found["centre"] = box_weights((0.25, 0.25, 0.75, 0.75), cells)
    return found


def box_weights(box: Tuple[float, float, float, float], cells: Cells) -> np.ndarray:
    """Return how much of each cell lies in a box.

    Args:
        box: (x0, y0, x1, y1), in shares of width and height.
        cells: Where the cells of the map lie.

    Returns:
        (rows, columns) in [0, 1].
    """
    x0, y0, x1, y1 = (np.clip(v, 0, 1) for v in box)
    return (
        _covered(cells.rows, np.array([[y0, y1]])) @ _covered(cells.columns, np.array([[x0, x1]])).T
    )


class Boxes:
    """Boxes of named things in photos.

    Args:
        file: A csv with the columns ``id``, ``region``, ``x0``, ``y0``, ``x1``, ``y1``, in pixels
            of the upright photo.

    Raises:
        InvalidInputError: If it cannot be read, has other columns, or a box is empty.
    """

    file: Path

    def __init__(self, file: Path):
        self.file = file
        self.found: Dict[str, List[Tuple[str, np.ndarray]]] = {}
        try:
            # Spreadsheets write a byte order mark, which utf-8-sig skips.
            with file.open(newline="", encoding="utf-8-sig") as opened:
                rows = csv.DictReader(opened)
                if lacking := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
                    raise ValueError(f"it lacks {', '.join(lacking)}")
                for row in rows:
                    if None in (row[name] for name in ("id", *_COLUMNS[2:])):
                        raise ValueError(f"line {rows.line_num} has too few cells")
                    box = np.array([float(row[k]) for k in _COLUMNS[2:]])
                    # A box of x, y, width and height would be nowhere, with a share of 0.
                    if not (np.isfinite(box).all() and (box[:2] < box[2:]).all()):
                        raise ValueError(f"a box of {row['id']} has {box.tolist()}")
                    self.found.setdefault(row["id"], []).append((row["region"] or "", box))
        except (OSError, ValueError, csv.Error) as error:
            raise InvalidInputError(
                f"{file} must be a csv with the columns {', '.join(_COLUMNS)} (pixels; left, top, "
                f"right, bottom): {error}"
            ) from error

    def of(self, name: str, seen: Tuple[float, ...], cells: Cells) -> Mapping[str, np.ndarray]:
        """Return the regions of a photo on the cells of its map.

        Args:
            name: Id of the photo.
            seen: Part that the model saw, (x0, y0, x1, y1) in pixels.
            cells: Where the cells of its map lie.

        Returns:
            (rows, columns) in [0, 1] for each region; several boxes of a name are united.
        """
        x0, y0, x1, y1 = seen
        origin, size = np.array([x0, y0, x0, y0]), np.array([x1 - x0, y1 - y0] * 2)
        regions: Dict[str, np.ndarray] = {}
        for region, box in self.found.get(name, []):
            a, b, c, d = ((box - origin) / size).tolist()
            weights = box_weights((a, b, c, d), cells)
            regions[region] = np.maximum(weights, regions.get(region, 0))
        return regions

    def has(self, name: str) -> bool:
        """Return whether there are boxes of a photo.

        Args:
            name: Id of the photo.
        """
        return name in self.found

    def mismatch(self, name: str) -> str:
        """Return the message for the case that no photo has boxes.

        Args:
            name: Id of any photo.
        """
        known = f"it has {next(iter(self.found))!r}" if self.found else "it has no rows"
        return (
            f"none of the ids in {self.file} is that of a row: {known}, and the rows have ids like "
            f"{name!r}. Take the ids of the predictions."
        )


class Masks:
    """Masks of photos: a folder of PNGs of class indices, named like the photos.

    Args:
        folder: ``<id>.png`` for each photo, of the upright photo's size and one channel. The ending
            of an image file is left out of the id. ``classes.json`` in the folder, or beside it,
            may name the indices.

    Raises:
        InvalidInputError: If there is no such folder, or ``classes.json`` names no indices.
    """

    names: "dict[int, Any]"
    folder: Path

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise InvalidInputError(f"{folder} is no folder of masks.")
        self.folder, self.names = folder, {}
        for file in (folder / "classes.json", folder.parent / "classes.json"):
            if file.is_file():
                self.names = _read_names(file)
                break

    def of(self, name: str, seen: Tuple[float, ...], cells: Cells) -> Mapping[str, np.ndarray]:
        """Return the regions of a photo on the cells of its map; see :meth:`Boxes.of`.

        Raises:
            InvalidInputError: If the mask is damaged, has several channels, or not the size of its
                photo.
        """
        file = self._file(name)
        if not file.is_file():
            return {}
        x0, y0, x1, y1 = seen
        try:
            with open_image(file) as opened:
                cut = opened.crop((round(x0), round(y0), round(x1), round(y1)))
        except ValueError as error:
            raise InvalidInputError(f"{file} is no mask: {error}.") from error
        _check_mask(file, opened, seen)
        # Pillow hands the pixels of mode 1 out as 0 and 255.
        mask = np.asarray(cut.convert("L").point([0] + [1] * 255) if cut.mode == "1" else cut)
        down, across = (
            _covered(edges, np.arange(count)[:, None] / count + np.array([0, 1 / count]))
            for edges, count in zip(cells, mask.shape, strict=True)
        )
        return {
            str(self.names.get(index, index)): down @ (mask == index) @ across.T
            for index in np.unique(mask).tolist()
        }

    def has(self, name: str) -> bool:
        """Return whether there is a mask of a photo; see :meth:`Boxes.has`."""
        return self._file(name).is_file()

    def mismatch(self, name: str) -> str:
        """Return the message for the case that no photo has a mask; see :meth:`Boxes.mismatch`."""
        return (
            f"none of the masks in {self.folder} is named like a row: that of {name!r} would be "
            f"{self._file(name)}."
        )

    def _file(self, name: str) -> Path:
        """Return the file of a photo's mask."""
        # Ids need not be file names: the numbers of cam.01 and train.parquet#17 are no endings.
        stem, _, ending = name.rpartition(".")
        return self.folder / f"{stem if f'.{ending.lower()}' in IMAGE_SUFFIXES else name}.png"


def _read_names(file: Path) -> Dict[int, Any]:
    """Return the names of indices: of a list, or of an object of names by index or the reverse."""
    try:
        listed = read_json(file)
        if isinstance(listed, list):
            return dict(enumerate(listed))
        return dict((int(k), v) if k.isdigit() else (int(v), k) for k, v in listed.items())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f'{file} must be a list of names, or an object such as {{"0": "background"}}: '
            f"{type(error).__name__} {error}"
        ) from error


def _check_mask(file: Path, mask: Image.Image, seen: Tuple[float, ...]) -> None:
    """Refuse a mask of several channels, or of another size than its photo."""
    if mask.mode not in MASK_MODES:
        raise InvalidInputError(
            f"{file} has pixels of mode {mask.mode}; a mask has one channel of class indices: save "
            "it with mode L or P."
        )
    x0, y0, x1, y1 = seen
    if not (_fits(mask.width, x0, x1) and _fits(mask.height, y0, y1)):
        raise InvalidInputError(
            f"{file} has {mask.width} x {mask.height} pixels, and its photo about {x0 + x1:.0f} x "
            f"{y0 + y1:.0f}: a mask needs the size of the upright photo."
        )


def _fits(length: int, low: float, high: float) -> bool:
    """Return whether a photo of which the model saw ``low`` to ``high`` can be so long."""
    # The model sees the centre of a photo, to a pixel of its input, which has 32 or more. From 0
    # or less on it may see padding.
    slack = 1 + (high - low) / 32
    return abs(length - (low + high)) <= slack and (low <= 0 or length >= round(high))
