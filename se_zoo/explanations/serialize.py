"""Explanations as data for JSON, and back."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

import torch

from ..errors import InvalidInputError
from ..files import read_json
from .channel_selection import Selection, select_channels
from .maps import Placement, to_heatmap
from .methods import FROM_ZERO_METHODS
from .photo import Photo
from .saved_check import FORMAT, check_content

if TYPE_CHECKING:
    from .explanation import Explanation


def to_dict(explanation: "Explanation") -> Dict[str, Any]:
    """Return everything but pixels; see :meth:`Explanation.to_dict`."""
    thresholds, names = explanation.thresholds, explanation.label_names
    return {
        "format_version": FORMAT,
        "method": explanation.method,
        "normalize": explanation.normalize,
        "exact": explanation.exact,
        "weights": explanation.weights,
        "native_grid": list(explanation.native_grid),
        "image_size": list(explanation.heatmap.shape[-2:]),
        **({"frame_count": explanation.heatmap.shape[1]} if explanation.is_clip else {}),
        "mean": list(explanation.mean),
        "std": list(explanation.std),
        "cell_size": list(explanation.placement.cells),
        "map_offset": list(explanation.placement.offset),
        "versus_weights": list(explanation.versus_weights),
        "multi_label": explanation.multi_label,
        # A user may have set numpy's numbers, which JSON does not know.
        "thresholds": None if thresholds is None else [float(t) for t in thresholds],
        "rows": _rows(explanation),
        "images": _images(explanation),
        "label_names": None if names is None else list(names),
    }


def _rows(explanation: "Explanation") -> List[Dict[str, Any]]:
    probability = explanation.row_probability.tolist()
    labels, empty = explanation.labels, explanation.empty
    rows: List[Dict[str, Any]] = []
    for n, image in enumerate(explanation.image_index.tolist()):
        row = {
            "image": image,
            "target": explanation.target[n],
            "label": labels[n],
            "probability": round(probability[n], 6),
            "constant": round(float(explanation.constant[n]), 6),
            "empty": empty[n],
            "map": _rounded(explanation.raw[n]),
        }
        if explanation.versus is not None:
            row["versus"] = explanation.versus[n]
        if explanation.method == "class_gate" and explanation.selected.shape[1]:
            row["selected_channels"] = explanation.selected[n].nonzero()[:, 0].tolist()
            row["rule"] = explanation.rule[n]
        rows.append(row)
    return rows


def _images(explanation: "Explanation") -> List[Dict[str, Any]]:
    probabilities, predicted = explanation.probabilities, explanation.predicted
    gate = explanation.gate
    if explanation.method == "class_gate":  # its selected channels are of the rows
        selected, rule = select_channels(gate)
    else:
        selected, rule = explanation.selected, explanation.rule
    return [
        {
            "probabilities": _rounded(probabilities[i]),
            "logits": _rounded(explanation.logits[i]),
            "predicted": predicted[i].nonzero()[:, 0].tolist(),
            "gate": _rounded(gate[i]),
            "selected_channels": selected[i].nonzero()[:, 0].tolist(),
            "rule": rule[i],
            **({} if explanation.photos is None else {"photo": explanation.photos[i].to_dict()}),
        }
        for i in range(len(explanation))
    ]


def _rounded(values: torch.Tensor) -> List[Any]:
    """Return nested lists of the values, with six decimals to keep the JSON small."""
    array = values.detach().float().cpu().double()
    return ((array * 1e6).round() / 1e6).tolist()


def read_fields(path: Union[str, "os.PathLike[str]"]) -> Dict[str, Any]:
    """Return the attributes of a saved explanation; see :meth:`Explanation.load`."""
    file = Path(path)
    if file.suffix.lower() in (".png", ".mp4"):
        file = file.with_suffix(".json")
    if not file.is_file():
        raise InvalidInputError(f"no such file: {file}")
    try:
        content = read_json(file)
        parts = content.get("parts") if isinstance(content, dict) else None
        if parts is None:
            check_content(content)
    except (ValueError, OSError) as error:
        raise InvalidInputError(
            f"{file} is no explanation that Explanation.save wrote: {error}"
        ) from error
    if parts is not None:
        several = f"{len(parts)} explanations" if isinstance(parts, list) else "explanations"
        raise InvalidInputError(
            f"{file} holds {several}; write the one that you want, an entry of its `parts`, to a "
            "file of its own."
        )
    return _fields(content)


def _fields(content: Dict[str, Any]) -> Dict[str, Any]:
    """Return the attributes of the explanation of which :func:`to_dict` gave this content."""
    rows, images = content["rows"], content["images"]
    raw = torch.tensor([row["map"] for row in rows], dtype=torch.float32)
    frames = [content["frame_count"]] if "frame_count" in content else []
    size = (*frames, *content["image_size"])
    method, normalize = content["method"], content["normalize"]
    gate = torch.tensor([image["gate"] for image in images], dtype=torch.float32)
    of = rows if method == "class_gate" else images
    known = all("rule" in each for each in of)  # not of class-gate maps of `se-zoo predict`
    selected = torch.zeros(len(of), gate.shape[1] if known else 0, dtype=torch.bool)
    for n, each in enumerate(of if known else ()):
        selected[n, each["selected_channels"]] = True
    versus = None
    if "versus" in rows[0]:
        given = [row["versus"] for row in rows]
        versus = tuple(tuple(each) if isinstance(each, list) else each for each in given)
    x, y = content["map_offset"]
    placement = Placement(tuple(content["cell_size"]), (x, y))
    return {
        "heatmap": to_heatmap(raw, method in FROM_ZERO_METHODS, normalize, size, placement),
        "raw": raw,
        "constant": torch.tensor([row["constant"] for row in rows], dtype=torch.float32),
        "logits": torch.tensor([image["logits"] for image in images], dtype=torch.float32),
        "gate": gate,
        "class_gate": None,
        "selection": Selection(selected, tuple(each.get("rule", "") for each in of)),
        "image_index": torch.tensor([row["image"] for row in rows]),
        "target": tuple(row["target"] for row in rows),
        "versus": versus,
        "versus_weights": tuple(content["versus_weights"]),
        "placement": placement,
        "method": method,
        "normalize": normalize,
        "exact": content["exact"],
        "weights": content["weights"],
        "label_names": _optional_tuple(content["label_names"]),
        "multi_label": content["multi_label"],
        "thresholds": _optional_tuple(content["thresholds"]),
        "images": torch.zeros(len(images), len(content["mean"]), *(0 for _ in size)),
        "mean": tuple(content["mean"]),
        "std": tuple(content["std"]),
        "photos": _photos(images),
    }


def _photos(images: List[Dict[str, Any]]) -> Optional[Tuple[Photo, ...]]:
    if "photo" not in images[0]:
        return None
    return tuple(
        Photo(
            name=photo["name"],
            size=(photo["size"][0], photo["size"][1]),
            region=_region(photo["region"]),
            frame=_region(photo["frame"]) if "frame" in photo else None,
        )
        for photo in (image["photo"] for image in images)
    )


def _region(box: List[float]) -> Tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return x0, y0, x1, y1


def _optional_tuple(values: Optional[List[Any]]) -> Optional[Tuple[Any, ...]]:
    return None if values is None else tuple(values)
