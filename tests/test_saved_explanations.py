"""Files of saved explanations that anybody may have written."""

import copy
import json
import os
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
import timm
import torch

from se_zoo import InvalidInputError
from se_zoo.explanations import Explanation


@pytest.fixture(scope="module")
def content() -> Dict[str, Any]:
    torch.manual_seed(0)
    model: Any = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3).eval()
    explanation = model.explain(torch.randn(2, 3, 64, 64), [0, 2], "difference", versus=1)
    return json.loads(json.dumps(explanation.to_dict()))


def load(content: Any, folder: Path) -> Explanation:
    file = folder / "why.json"
    file.write_text(json.dumps(content))
    return Explanation.load(file)


@pytest.mark.parametrize(
    "place, value",
    [
        (("method",), "magic"), (("exact",), "yes"), (("multi_label",), "no"), (("weights",), 3),
        (("normalize",), -1), (("label_names",), ["a"]), (("label_names",), "abc"),
        (("thresholds",), [0.5]), (("mean",), "x"), (("std",), [0.5]), (("std",), [0, 0, 0]),
        (("image_size",), [0, 0]), (("image_size",), [64]), (("image_size",), [20_000, 20_000]),
        (("image_size",), [10**12] * 2), (("cell_size",), [1e9, 1e9]), (("cell_size",), [1.0]),
        (("map_offset",), [1e30, 0]), (("map_offset",), [float("nan"), 0]), (("frame_count",), 4),
        (("rows",), []), (("rows", 0), 7), (("rows", 0, "image"), 2), (("rows", 0, "target"), -1),
        (("rows", 0, "map"), []), (("rows", 0, "map"), [[1.0], [2.0, 3.0]]),
        (("rows", 0, "map"), [[float("nan")]]), (("rows", 0, "constant"), None),
        (("rows", 0, "versus"), 3), (("rows", 0, "versus"), [1, 2]), (("versus_weights",), 3),
        (("images",), []), (("images", 0, "logits"), [1.0]), (("images", 0, "gate"), [0.5]),
        (("images", 0, "selected_channels"), [10**6]), (("images", 0, "rule"), None),
        (("images", 0, "photo"), {"name": "a.jpg"}),
    ],
    ids=str,
)  # fmt: skip
def test_entries_that_cannot_be_are_refused(
    place: Tuple[Any, ...], value: Any, content: Dict[str, Any], tmp_path: Path
) -> None:
    changed = inner = copy.deepcopy(content)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(InvalidInputError, match=r"why\.json is no explanation"):
        load(changed, tmp_path)


@pytest.mark.parametrize("name", ["label_names", "thresholds", "rows", "cell_size", "exact"])
def test_missing_entries_are_refused(name: str, content: Dict[str, Any], tmp_path: Path) -> None:
    changed = {key: value for key, value in content.items() if key != name}
    with pytest.raises(InvalidInputError, match=name):
        load(changed, tmp_path)


def test_files_of_a_later_format_are_refused_and_the_first_ones_read(
    content: Dict[str, Any], tmp_path: Path
) -> None:
    """A later version may give an entry another meaning, or add one that changes the rest."""
    assert content["format_version"] == 1
    for version in (2, "2", None):
        with pytest.raises(InvalidInputError, match=r"format_version is .*, and this version .* 1"):
            load({**content, "format_version": version}, tmp_path)
    first = {name: value for name, value in content.items() if name != "format_version"}
    assert load(first, tmp_path).target == (0, 2, 0, 2)


def test_the_file_itself_is_read(content: Dict[str, Any], tmp_path: Path) -> None:
    loaded = load(content, tmp_path)
    assert loaded.target == (0, 2, 0, 2) and loaded.versus == (1, 1, 1, 1)


def test_files_nested_without_end_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("deep.json", "pipe.json"):
        with pytest.raises(InvalidInputError, match=name):
            Explanation.load(tmp_path / name)
