"""Take the figures of a model's maps out of a benchmark's results, for the model's card."""

import json
from pathlib import Path
from typing import Any, Dict, List

from benchmarks.map_margins import MEASURE
from se_zoo.errors import InvalidInputError
from se_zoo.models.pretrained.manifest import cards_folder, hub_folder

#: Methods that a card shows beside the model's default: that which adds up to the logit, the
#: paper's, the control, and the best known of other libraries.
BESIDE = ("contribution", "gate", "activation", "grad-cam/GradCAM")
MEASURES = ("pixel_ap", "pointing", "energy")


def _set_figures(content: Dict[str, Any], name: str, title: str, default: str) -> Dict[str, Any]:
    """Return the figures of a set: a row a method, and the default less the best CAM method."""
    means: Dict[str, Dict[str, float]] = {}
    for row in content["rows"]:
        if row["set"] == name and row["measure"] in MEASURES:
            means.setdefault(row["method"], {})[row["measure"]] = row["mean"]
    margins = [
        row for row in content["margins"]
        if row["set"] == name and row["method"] == default
        and row["cases"] == content["sets"][name]["cases"]
    ]  # fmt: skip
    if not margins:
        raise InvalidInputError(
            f"The results of {name} lack {default}, the model's default: run the benchmark again."
        )
    best = max(margins, key=lambda row: means[row["peer"]][MEASURE])
    shown = dict.fromkeys((default, *BESIDE, best["peer"]))
    rows: List[Dict[str, Any]] = [
        {"method": method, **means[method]}
        for method in shown if method in means
    ]  # fmt: skip
    margin = {key: best[key] for key in ("peer", "mean", "low", "high")}
    return {"title": title, **content["sets"][name], "rows": rows, "margin": margin}


def card_maps(content: Dict[str, Any], titles: Dict[str, str]) -> Dict[str, Any]:
    """Return what a card says of its model's maps.

    Args:
        content: Results of ``python -m benchmarks.maps``.
        titles: What the sets are, by name.
    """
    model = content["options"]["model"].removeprefix("se_zoo/")
    config = json.loads((hub_folder(model) / "config.json").read_text("utf-8"))
    default = config["model_args"].get("map_method") or "contribution"
    made = {key: content[key] for key in ("command", "commit", "environment", "weights_sha256")}
    figures = [_set_figures(content, name, titles[name], default) for name in content["sets"]]
    return {
        **made, "method": default, "pixel_cases": content["options"]["pixel_cases"],
        "pixel_gains": _pixel_gains(content, default), "sets": figures,
    }  # fmt: skip


def _pixel_gains(content: Dict[str, Any], default: str) -> List[str]:
    """Return in what the default is better than contribution, beyond the interval, in all sets."""
    worst: Dict[str, float] = {}
    for row in content["rows"]:
        if row["method"] == default and row["measure"] in ("insertion", "deletion", "road"):
            end = "difference_high" if row["measure"] == "deletion" else "difference_low"
            gain = (-1 if row["measure"] == "deletion" else 1) * (row.get(end) or 0)
            worst[row["measure"]] = min(gain, worst.get(row["measure"], gain))
    return [measure for measure, gain in worst.items() if gain > 0]


def maps_file(content: Dict[str, Any]) -> Path:
    """Return the file for these figures: maps.json beside the card of the results' model."""
    return cards_folder() / content["options"]["model"].removeprefix("se_zoo/") / "maps.json"
