"""Explanations as data for JSON."""

from typing import TYPE_CHECKING, Any, Dict, List

import torch

from .channel_selection import select_channels

if TYPE_CHECKING:
    from .explanation import Explanation


def to_dict(explanation: "Explanation") -> Dict[str, Any]:
    """Return everything but pixels; see :meth:`Explanation.to_dict`."""
    thresholds, names = explanation.thresholds, explanation.label_names
    return {
        "method": explanation.method,
        "normalize": explanation.normalize,
        "exact": explanation.exact,
        "weights": explanation.weights,
        "native_grid": list(explanation.native_grid),
        "image_size": list(explanation.heatmap.shape[-2:]),
        "cell_size": list(explanation.placement.cells),
        "map_offset": list(explanation.placement.offset),
        "versus_weights": list(explanation.versus_weights),
        "multi_label": explanation.multi_label,
        "thresholds": None if thresholds is None else list(thresholds),
        "rows": _rows(explanation),
        "images": _images(explanation),
        "label_names": None if names is None else list(names),
    }


def _rows(explanation: "Explanation") -> List[Dict[str, Any]]:
    probability = explanation.row_probability.tolist()
    labels = explanation.labels
    rows: List[Dict[str, Any]] = []
    for n, image in enumerate(explanation.image_index.tolist()):
        row = {
            "image": image,
            "target": explanation.target[n],
            "label": labels[n],
            "probability": round(probability[n], 6),
            "constant": round(float(explanation.constant[n]), 6),
            "map": _rounded(explanation.raw[n]),
        }
        if explanation.versus is not None:
            row["versus"] = explanation.versus[n]
        if explanation.method == "class_gate":
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
        }
        for i in range(len(explanation))
    ]


def _rounded(values: torch.Tensor) -> List[Any]:
    """Return nested lists of the values, with six decimals to keep the JSON small."""
    array = values.detach().float().cpu().double()
    return ((array * 1e6).round() / 1e6).tolist()
