"""Make random broken configs, weights and facts, for :mod:`benchmarks.fuzz`."""

import copy
import functools
import json
import random
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import timm
import torch

import se_zoo
from se_zoo.hub.facts import read_facts
from se_zoo.models.load_model import load_any


class Case(NamedTuple):
    """One input.

    Attributes:
        path: The file or folder.
        valid: Whether a right reader accepts it; None where either is right.
        change: What was changed.
    """

    path: Path
    valid: Optional[bool]
    change: str


class Reader(NamedTuple):
    """A reader, and inputs for it.

    Attributes:
        make: Writes an input into an empty folder.
        read: Reads it; raises one of the project's errors for what it refuses.
    """

    make: Callable[[random.Random, Path], Case]
    read: Callable[[Path], Any]


#: Values that stand where others belong.
STRANGE: Tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 10**30, -0.5, 1e30, float("nan"), float("inf"), "", "a",
    "\u202etxt", "a\nb", "../../x", "x" * 10_000, [], [1], [[]], [None] * 5, ["a"] * 3, {},
    {"a": 1},
    [10**6] * 4, [20_000] * 3, [3, 20_000, 20_000], {"0": "a"},
)  # fmt: skip

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
    """Return the folder of a small saved model of three classes; it stays until the end."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz_")) / "model"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3)
    return se_zoo.save(model, folder, labels=["a", "b", "c"])


def _read_model(folder: Path) -> Any:
    return load_any(f"local-dir:{folder}")


def _paths(content: Any, start: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
    """Return the places of all entries of nested objects and lists."""
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    found = []
    for key, value in inner:
        found.append((*start, key))
        if isinstance(value, (dict, list)):
            found += _paths(value, (*start, key))
    return found


def _put(content: Any, path: Tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


def _broken_text(rng: random.Random, text: bytes) -> Tuple[bytes, str]:
    """Return bytes that were cut, doubled, nested or hit by chance, and what was done."""
    place = rng.randrange(len(text))
    ways: Dict[str, Callable[[], bytes]] = {
        "cut": lambda: text[:place],
        "doubled": lambda: text + text,
        "hit": lambda: text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :],
        "nested": lambda: b"[" * 100_000,
        "zeros": lambda: text[:place] + b"\0" * 50 + text[place:],
        "digits": lambda: text.replace(b"3", b"3" * 5000, 1),
        "empty": lambda: b"",
    }
    name = rng.choice(sorted(ways))
    return ways[name](), f"{name} at {place}"


def make_config(rng: random.Random, folder: Path) -> Case:
    """Write a saved model with a changed config.json."""
    good, place = saved_model(), folder / "model"
    place.mkdir()
    shutil.copy(good / "model.safetensors", place)
    text = (good / "config.json").read_bytes()
    content, valid = json.loads(text), None
    kind = rng.randrange(4)
    if kind == 0:
        path, value = rng.choice(_IMPOSSIBLE)
        _put(content, path, value)
        change, valid = f"{path} = {value!r:.60}", False
    elif kind == 1:
        changes = []
        for _ in range(rng.randint(1, 3)):
            path, value = rng.choice(_paths(content)), copy.deepcopy(rng.choice(STRANGE))
            _put(content, path, value)
            changes.append(f"{path} = {value!r:.60}")
        change = "; ".join(changes)
    elif kind == 2:
        path = rng.choice(_paths(content))
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        change = f"without {path}"
    else:
        broken, change = _broken_text(rng, text)
        (place / "config.json").write_bytes(broken)
        return Case(place, None, change)
    (place / "config.json").write_text(json.dumps(content))
    return Case(place, valid, change)


def make_header(rng: random.Random, folder: Path) -> Case:
    """Write a saved model whose weights have a changed header."""
    good, place = saved_model(), folder / "model"
    place.mkdir()
    shutil.copy(good / "config.json", place)
    raw = (good / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    name = rng.choice(sorted(k for k in header if k != "__metadata__"))
    valid: Optional[bool] = False
    kind = rng.choice(["dtype", "shape", "offsets", "strange", "drop", "add", "length", "tail",
                       "bytes", "none"])  # fmt: skip
    change = f"{kind} of {name}"
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
        packed, done = _broken_text(rng, packed)
        change, valid = f"bytes {done}", None
    if kind == "none":
        change, valid = "nothing", True
    size = len(packed)
    if kind == "length":
        size = rng.choice([0, 7, 2**20, 2**40, 2**60, 2**64 - 1, size - 1])
    (place / "model.safetensors").write_bytes(struct.pack("<Q", size) + packed + data)
    return Case(place, valid, change)


_FACTS = """\
summary: What it does.
license: {id: mit}
data: {name: Pets, text: Which images.}
intended_use: For tests.
limits: [It knows nothing.]
bias: None is known.
"""


def make_facts(rng: random.Random, folder: Path) -> Case:
    """Write changed facts of a card."""
    file = folder / "facts.yaml"
    valid: Optional[bool] = False
    changes: Dict[str, str] = {
        "unknown key": _FACTS + "mystery: 3\n",
        "missing key": _FACTS.replace("bias: None is known.\n", ""),
        "TODO": _FACTS.replace("For tests.", "TODO: write"),
        "list for text": _FACTS.replace("What it does.", "[a, b]"),
        "number for text": _FACTS.replace("What it does.", "3.5"),
        "impossible date": _FACTS.replace("What it does.", "2024-99-99"),
        "impossible number": _FACTS.replace("What it does.", "1" * 5000),
        "python object": _FACTS.replace("What it does.", "!!python/object/apply:os.getcwd []"),
        "like itself by turns": "like: other.yaml\n" + _FACTS,
        "like nothing": "like: none.yaml\n" + _FACTS,
        "like a list": "like: [1, 2]\n" + _FACTS,
        "nested": "summary: " + "[" * 5000,
        "no mapping": "- a\n- b\n",
        "empty": "",
        "tab": "summary:\t- x\n\t y",
        "no licence": _FACTS.replace("{id: mit}", "{id: other}"),
        "no limits": _FACTS.replace("[It knows nothing.]", "[]"),
        "bad base": _FACTS + "base_model: a b c\n",
    }
    change = rng.choice([*sorted(changes), "bytes", "nothing"])
    if change == "bytes":
        broken, change = _broken_text(rng, _FACTS.encode())
        file.write_bytes(broken)
        return Case(file, None, change)
    if change == "nothing":
        valid = True
    file.write_text(changes.get(change, _FACTS))
    (folder / "other.yaml").write_text(f"like: {file.name}\n" + _FACTS)
    return Case(file, valid, change)


#: Readers by name.
READERS: Dict[str, Reader] = {
    "config": Reader(make_config, _read_model),
    "header": Reader(make_header, _read_model),
    "facts": Reader(make_facts, read_facts),
}
