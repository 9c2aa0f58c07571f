"""Broken ``config.json`` and ``model.safetensors`` of a saved model."""

import copy
import functools
import json
import pickle
import random
import shutil
import struct
from pathlib import Path
from typing import Any, Optional, Tuple

import timm
import torch

import se_zoo
from se_zoo.models.load_model import load_any

from .case import (
    SPECIAL,
    STRANGE,
    Case,
    Exploit,
    break_bytes,
    change_json,
    kept_folder,
    make_special,
    put,
)

#: Changes of one entry of a config that no reader may accept, as (path of keys, value).
_IMPOSSIBLE: Tuple[Tuple[Tuple[str, ...], Any], ...] = (
    (("num_classes",), 4), (("num_classes",), -1), (("num_classes",), "three"),
    (("label_names",), "abc"), (("label_names",), ["a", "a", "a"]), (("label_names",), ["a"]),
    (("label_names",), {"0": "a"}), (("label_names",), [1, 2, 3]),
    (("architecture",), 7), (("architecture",), "no_such_model"), (("model_args",), [1]),
    (("pretrained_cfg",), "x"), (("pretrained_cfg", "std"), [-1, 1, 1]),
    (("pretrained_cfg", "mean"), [1e30] * 3), (("pretrained_cfg", "crop_pct"), -1),
    (("pretrained_cfg", "input_size"), [3, 20_000, 20_000]),
    (("pretrained_cfg", "input_size"), "large"), (("pretrained_cfg", "input_size"), [1, 64, 64]),
    (("pretrained_cfg", "interpolation"), "magic"), (("pretrained_cfg", "classifier"), "layer4"),
    (("model_args", "backbone"), "../../x"), (("model_args", "backbone"), ["resnet18"]),
    (("model_args", "gate"), "open"), (("model_args", "reduction"), -1),
    (("model_args", "layers"), [100_000] * 4), (("model_args", "layers"), [2, 1, 1, 1]),
    (("model_args", "channels"), [8, 8, 8, 8]), (("model_args", "num_classes"), 5),
    (("model_args", "multi_label"), "false"), (("model_args", "checkpoint_path"), "x"),
    (("model_args", "map_offset"), ["a", "b"]), (("model_args", "thresholds"), [0.5]),
)  # fmt: skip


@functools.lru_cache(maxsize=1)
def saved_model() -> Path:
    """Return the folder of a small saved model of three classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3)
    model.pretrained_cfg.update(input_size=(3, 64, 64))
    return se_zoo.save(model, kept_folder() / "model", labels=["a", "b", "c"])


def read_model(folder: Path) -> Any:
    """Load a model by its folder: by timm, or as the command line does; its name says which."""
    name = f"local-dir:{folder}"
    if folder.name == "by_timm":
        return timm.create_model(name, pretrained=True)
    return load_any(name)


def _copied(rng: random.Random, folder: Path, name: str) -> Path:
    """Return a new folder with one file of the saved model."""
    place = folder / rng.choice(["by_timm", "by_command"])
    place.mkdir()
    shutil.copy(saved_model() / name, place)
    return place


def make_config(rng: random.Random, folder: Path) -> Case:
    """Write a saved model with a changed config.json."""
    place = _copied(rng, folder, "model.safetensors")
    text = (saved_model() / "config.json").read_bytes()
    content, valid = json.loads(text), None
    kind = rng.choice(["impossible"] * 3 + ["changed"] * 6 + ["bytes"] * 2 + ["special", "none"])
    change = kind
    if kind == "bytes":
        broken, change = break_bytes(rng, text)
        (place / "config.json").write_bytes(broken)
        return Case(place, None, change)
    if kind == "special":
        change = rng.choice(SPECIAL)
        make_special(change, place / "config.json")
        return Case(place, False, change)
    if kind == "impossible":
        path, value = rng.choice(_IMPOSSIBLE)
        put(content, path, value)
        change, valid = f"{path} = {value!r:.60}", False
    elif kind == "changed":
        change = change_json(rng, content)
    else:
        valid = True
    (place / "config.json").write_text(json.dumps(content))
    return Case(place, valid, change)


def make_header(rng: random.Random, folder: Path) -> Case:
    """Write a saved model whose weights have a changed header."""
    place = _copied(rng, folder, "config.json")
    file = place / "model.safetensors"
    raw = (saved_model() / file.name).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    name = rng.choice(sorted(k for k in header if k != "__metadata__"))
    valid: Optional[bool] = False
    kind = rng.choice(["dtype", "shape", "offsets", "strange", "drop", "add", "length", "tail",
                       "bytes", "none", "pickle", "special"])  # fmt: skip
    change = f"{kind} of {name}"
    if kind in ("pickle", "special"):
        if kind == "special":
            change = rng.choice(SPECIAL)
            make_special(change, file)
        else:
            file.write_bytes(pickle.dumps({name: Exploit()}))
        return Case(place, False, change)
    if kind == "dtype":
        wide = {"F32": ["I32", "U32", "F8_E4M3"], "I64": ["F64", "U64", "C64"]}
        header[name]["dtype"] = rng.choice(wide.get(header[name]["dtype"], ["X"]))
    elif kind == "shape":
        shape = header[name]["shape"]
        header[name]["shape"] = rng.choice(
            [[2**40], [*shape, 2], [], [0, *shape], [-1, *shape], [2**63, 2**63], "x", None]
        )
        valid = None if header[name]["shape"] == shape else False
    elif kind == "offsets":
        first, last = header[name]["data_offsets"]
        header[name]["data_offsets"] = rng.choice(
            [[last, first], [first, last + 4], [0, 2**60], [-4, last], [first], "x"]
        )
        valid = None if header[name]["data_offsets"] == [first, last] else False
    elif kind == "strange":
        header[name] = copy.deepcopy(rng.choice(STRANGE))
    elif kind == "drop":
        del header[name]
    elif kind == "add":
        header["more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
        data += b"\0" * 4
    elif kind == "tail":
        data = data[: rng.randrange(len(data))]
    packed = json.dumps(header).encode()
    if kind == "bytes":
        packed, done = break_bytes(rng, packed)
        change, valid = f"bytes {done}", None
    if kind == "none":
        change, valid = "nothing", True
    size = len(packed)
    if kind == "length":
        size = rng.choice([0, 7, 2**20, 2**40, 2**60, 2**64 - 1, size - 1])
    file.write_bytes(struct.pack("<Q", size) + packed + data)
    return Case(place, valid, change)
