"""Broken files of saved explanations, for ``Explanation.load``."""

import copy
import functools
import json
import random
from pathlib import Path
from typing import Any, Dict, Tuple

import torch

from se_zoo.explanations import Explanation
from se_zoo.models.load_model import load_model

from .case import SPECIAL, Case, break_bytes, change_json, make_special, put
from .models import saved_model

#: Changes that no reader may accept, as (path of keys, value).
_IMPOSSIBLE: Tuple[Tuple[Tuple[Any, ...], Any], ...] = (
    (("method",), "magic"), (("method",), 3), (("normalize",), "magic"), (("rows",), []),
    (("rows", 0, "image"), 7), (("rows", 0, "image"), -3), (("rows", 0, "target"), 99),
    (("rows", 0, "target"), "a"), (("rows", 0, "map"), []),
    (("rows", 0, "map"), [[1.0], [2.0, 3.0]]), (("rows", 0, "map"), "x"),
    (("rows", 0, "constant"), None), (("images",), []),
    (("images", 0, "logits"), [1.0]), (("images", 0, "gate"), [0.5]), (("images", 0, "gate"), "x"),
    (("images", 0, "selected_channels"), [10**6]), (("image_size",), [20_000, 20_000]),
    (("image_size",), [0, 0]), (("image_size",), [64]), (("image_size",), [-1, 64]),
    (("image_size",), [10**12, 10**12]), (("cell_size",), [1e9, 1e9]), (("cell_size",), ["a", "b"]),
    (("cell_size",), [float("nan"), 1.0]), (("map_offset",), [1.0]), (("map_offset",), [1e30, 0.0]),
    (("map_offset",), ["a", "b"]), (("label_names",), ["a"]), (("label_names",), "abc"),
    (("thresholds",), [0.5]), (("mean",), "x"), (("std",), [0.5]), (("exact",), "yes"),
    (("multi_label",), "no"), (("frame_count",), 4), (("versus_weights",), 3),
)  # fmt: skip


@functools.cache
def _saved(method: str) -> str:
    model = load_model(f"local-dir:{saved_model()}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        photos = torch.randn(2, 3, 64, 64)
    versus = "b" if method == "difference" else None
    explanation = model.explain(photos, ["a"], method, versus=versus)
    return json.dumps(explanation.to_dict())


def make_explanation(rng: random.Random, folder: Path) -> Case:
    """Write a changed file of an explanation."""
    file = folder / "why.json"
    method = rng.choice(["contribution", "affinity", "class_gate", "difference", "activation"])
    text = _saved(method)
    content: Dict[str, Any] = json.loads(text)
    kind = rng.choice(["impossible"] * 4 + ["changed"] * 5 + ["bytes"] * 2 + ["special", "none"])
    valid, change = None, kind
    if kind == "special":
        change = rng.choice(SPECIAL)
        make_special(change, file)
        return Case(file, False, change)
    if kind == "bytes":
        data, change = break_bytes(rng, text.encode())
        file.write_bytes(data)
        return Case(file, None, change)
    if kind == "impossible":
        path, value = rng.choice(_IMPOSSIBLE)
        put(content, path, copy.deepcopy(value))
        change, valid = f"{path} = {value!r:.60}", False
    elif kind == "changed":
        change = change_json(rng, content)
    else:
        valid = True
    file.write_text(json.dumps(content))
    return Case(file, valid, f"{method}: {change}")


def read_explanation(file: Path) -> Any:
    """Load an explanation and use what it offers without pictures."""
    loaded = Explanation.load(file)
    return loaded.titles(), loaded.labels, loaded.predicted, loaded.boxes(), loaded.to_dict()
