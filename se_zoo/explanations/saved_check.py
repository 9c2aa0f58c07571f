"""Check the content of a saved explanation before anything is made of it.

The file may come from anyone. Its lists must go together, its numbers be finite, and its sizes not
ask for endless maps.
"""

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .maps import check_normalize
from .methods import METHODS

#: Version of what a file holds. A change of what its entries mean gives it another number.
FORMAT = 1
#: Most values of the heatmaps of a file: 1,300 maps of an image of 448 pixels.
_MOST_VALUES = 2**28
#: Largest length of an input along an axis, and largest move of its maps, in pixels.
_LONGEST = 65_536


def check_content(content: Any) -> None:
    """Check what :func:`~se_zoo.explanations.serialize.to_dict` gave, as it was read from a file.

    Args:
        content: The content.

    Raises:
        ValueError: If something is missing, is of another type, or does not go with the rest.
    """
    content = _object("the file", content)
    if (version := content.get("format_version", FORMAT)) != FORMAT:  # the first files had none
        raise ValueError(
            f"its format_version is {version!r:.80}, and this version of se_zoo reads {FORMAT}; "
            "read it with the version that wrote it, or a later one."
        )
    for name in ("exact", "multi_label"):
        if not isinstance(content.get(name), bool):
            raise _wrong(name, content.get(name), "true or false")
    if content.get("method") not in METHODS:
        raise _wrong("method", content.get("method"), f"one of {', '.join(METHODS)}")
    if not isinstance(content.get("weights"), str):
        raise _wrong("weights", content.get("weights"), "a text")
    if missing := [name for name in ("label_names", "thresholds") if name not in content]:
        raise ValueError(f"it has no {missing[0]}.")
    check_normalize(content.get("normalize", ""))
    images, rows = (_list(name, content.get(name)) for name in ("images", "rows"))
    classes, channels = _check_images(images)
    _check_labels(content, classes)
    grid = _check_rows(rows, content, len(images), classes, channels)
    _check_sizes(content, grid, len(rows))


def _check_images(images: Sequence[Any]) -> Tuple[int, int]:
    """Check what is stored of each image; return the numbers of classes and of channels."""
    logits, gates, photos = [], [], 0
    for image in images:
        image = _object("an image", image)
        logits.append(_numbers("logits", image.get("logits")))
        gates.append(_numbers("gate", image.get("gate"), fewest=0, least=0))
        _check_channels(image, len(gates[-1]))
        if "photo" in image:
            photos += 1
            _check_photo(_object("photo", image["photo"]))
    if (
        len({*map(len, logits)}) > 1
        or len({*map(len, gates)}) > 1
        or photos not in (0, len(images))
    ):
        raise ValueError("its images have different numbers of logits, gates or photos.")
    return len(logits[0]), len(gates[0])


def _check_channels(entry: Dict[str, Any], channels: int) -> None:
    for channel in _list("selected_channels", entry.get("selected_channels"), least=0):
        _index("a selected channel", channel, channels)
    if not isinstance(entry.get("rule"), str):
        raise _wrong("rule", entry.get("rule"), "a text")


def _check_photo(photo: Dict[str, Any]) -> None:
    if not isinstance(photo.get("name"), str):
        raise _wrong("name of a photo", photo.get("name"), "a text")
    for side in _list("size of a photo", photo.get("size"), 2, 2):
        _index("a side of a photo", side, 10**6)
    for name in ("region", *(("frame",) if "frame" in photo else ())):
        _numbers(name, photo.get(name), 4, 4, most=10**6)


def _check_labels(content: Dict[str, Any], classes: int) -> None:
    """Check what is stated of the classes, and of colours."""
    names, thresholds = content.get("label_names"), content.get("thresholds")
    if names is not None:
        if not all(isinstance(n, str) for n in _list("label_names", names, classes, classes)):
            raise _wrong("label_names", names, "texts")
    if thresholds is not None:
        _numbers("thresholds", thresholds, classes, classes, most=1)
    mean = _numbers("mean", content.get("mean"))
    std = _numbers("std", content.get("std"), len(mean), len(mean))
    if min(std) <= 0:
        raise _wrong("std", std, "numbers above 0")


def _check_rows(
    rows: Sequence[Any], content: Dict[str, Any], images: int, classes: int, channels: int
) -> Tuple[int, ...]:
    """Check what is stored of each map; return the size of all maps."""
    grids = set()
    others = _list("versus_weights", content.get("versus_weights"), least=0)
    _numbers("versus_weights", others, 0)
    for row in rows:
        row = _object("a row", row)
        _index("image of a row", row.get("image"), images)
        _index("target", row.get("target"), classes)
        _number("constant", row.get("constant"))
        grids.add(_shape(row.get("map")))
        if content["method"] == "class_gate" and "rule" in row:
            _check_channels(row, channels)
        if "versus" in row:
            several = row["versus"] if isinstance(row["versus"], list) else [row["versus"]]
            if len(several) != len(others):
                raise _wrong("versus", row["versus"], f"{len(others)} classes, as versus_weights")
            for one in several:
                _index("versus", one, classes)
    if len({"versus" in row for row in rows}) > 1 or len(grids) > 1:
        raise ValueError("its rows have maps of different sizes, or not all of them versus.")
    return grids.pop()


def _check_sizes(content: Dict[str, Any], grid: Tuple[int, ...], rows: int) -> None:
    """Check how large the maps are drawn."""
    frames = [content["frame_count"]] if "frame_count" in content else []
    size = [*frames, *_list("image_size", content.get("image_size"), 2, 2)]
    for length in size:
        _index("image_size and frame_count", length, _LONGEST, least=1)
    cells = _numbers("cell_size", content.get("cell_size"), len(size), len(size), 0, _LONGEST)
    _numbers("map_offset", content.get("map_offset"), 2, 2, -_LONGEST, _LONGEST)
    if len(grid) != len(size):
        raise ValueError(f"its maps have {len(grid)} axes, and its images {len(size)}.")
    extent = math.prod(max(1, cell * n) for cell, n in zip(cells, grid, strict=True))
    if rows * max(extent, math.prod(size)) > _MOST_VALUES:
        raise ValueError(
            f"its {rows} maps of {' x '.join(map(str, size))} pixels take too much memory; at most "
            f"{_MOST_VALUES:,} values are read."
        )


def _shape(values: Any) -> Tuple[int, ...]:
    """Return the shape of a map as nested lists, (rows, columns) or (steps, rows, columns)."""
    shape: List[int] = []
    level: List[Any] = [values]
    while all(isinstance(value, list) for value in level):
        lengths = {len(value) for value in level}
        if len(lengths) > 1 or 0 in lengths or len(shape) > 3:
            raise _wrong("map", values, "lists of lists of the same length")
        shape += lengths
        level = [inner for value in level for inner in value]
    _numbers("map", level)
    return tuple(shape)


def _object(name: str, value: Any) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(name, value, "a JSON object")
    return value


def _list(name: str, value: Any, least: int = 1, most: Optional[int] = None) -> List[Any]:
    if not isinstance(value, list) or not least <= len(value) <= (most or len(value)):
        raise _wrong(
            name, value, f"a list of {least} or more" if most is None else f"{most} values"
        )
    return value


def _numbers(
    name: str, values: Any, fewest: int = 1, length: Optional[int] = None,
    least: float = -math.inf, most: float = math.inf,
) -> List[float]:  # fmt: skip
    for value in _list(name, values, fewest, length):
        _number(name, value, least, most)
    return values


def _number(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> None:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not abs(value) < 1e38 or not least <= value <= most:  # beyond float32
        raise _wrong(name, value, "finite" if most == math.inf else f"from {least:g} to {most:g}")


def _index(name: str, value: Any, count: int, least: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < count:
        raise _wrong(name, value, f"a whole number from {least} to {count - 1:,}")


def _wrong(name: str, value: Any, needed: str) -> ValueError:
    return ValueError(f"{name} must be {needed}, not {value!r:.80}.")
