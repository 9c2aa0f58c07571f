"""The one reading of a config: by timm's names, by the command line, and of a model in memory."""

import json
from pathlib import Path
from typing import Any, Dict

import pytest
import timm
from safetensors.torch import save_file

import se_zoo
from se_zoo import InvalidInputError, UnknownModelError
from se_zoo.models.load_model import load_any
from se_zoo.models.pretrained.config_check import (
    check_config,
    check_description,
    check_label_names,
    read_config,
)
from se_zoo.models.pretrained.fetch import described_model

NAN = float("nan")


@pytest.mark.parametrize(
    "entry",
    [
        {"num_classes": -1}, {"num_classes": 3.0}, {"num_classes": True}, {"num_classes": 10**9},
        {"input_size": "3x224x224"}, {"input_size": [3, 224]}, {"input_size": [3, 0, 224]},
        {"input_size": [3, 20000, 20000]}, {"input_size": [10**6, 8, 8]},
        {"mean": [1e30] * 3}, {"mean": "grey"}, {"mean": [0.5, 0.5]}, {"mean": [NAN] * 3},
        {"std": [-1, 1, 1]}, {"std": [0, 0, 0]}, {"std": 0.5}, {"std": ["a"] * 3},
        {"crop_pct": -1}, {"crop_pct": 1e-9}, {"crop_pct": "all"}, {"crop_pct": NAN},
        {"interpolation": 7}, {"interpolation": "magic"}, {"crop_mode": ["center"]},
        {"tag": 7}, {"classifier": 7}, {"classifier": [None]}, {"first_conv": {"a": 1}},
        {"fixed_input_size": "false"}, {"label_offset": -1}, {"pool_size": 7},
        {"label_names": "cat"}, {"label_names": {"0": "cat"}}, {"label_names": [1, 2, 3]},
        {"label_names": ["a", "b"]}, {"label_names": ["a"] * 3}, {"label_names": ["a", "", "c"]},
        {"label_names": ["a", None, "c"]}, {"label_names": []}, {"label_names": 3},
    ],
    ids=str,
)  # fmt: skip
def test_value_that_cannot_be_is_refused_by_name(entry: Dict[str, Any]) -> None:
    with pytest.raises(UnknownModelError, match=f"^Here is wrong: .*{next(iter(entry))}"):
        check_config({"num_classes": 3, **entry}, "Here")


def test_every_config_of_timm_and_of_the_registry_is_accepted() -> None:
    for name in timm.list_models("*", pretrained=True, include_tags=True):
        found = timm.get_pretrained_cfg(name)
        assert found is not None
        check_config(found.to_dict(), name)


@pytest.mark.parametrize(
    "args",
    [
        [1], "gate", {"layers": [10**9]}, {"embed_dim": 1e300}, {"depth": NAN},
        {"x": [[[[[[[[[[1]]]]]]]]]]}, {"multi_label": "false"}, {"num_classes": 4},
        {"channels": list(range(10**4))},
    ],
    ids=lambda args: str(args)[:40],
)  # fmt: skip
def test_model_arguments_without_bounds_are_refused(args: Any) -> None:
    with pytest.raises(UnknownModelError, match="Here"):
        check_description({"num_classes": 3}, args, "Here")


def test_error_quotes_a_long_value_in_part() -> None:
    with pytest.raises(ValueError, match="must be a list of texts") as info:
        check_label_names("x" * 10_000, 3)
    assert len(str(info.value)) < 300


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"]
)
def test_file_that_is_no_object_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UnknownModelError, match=r"config.json"):
        read_config(tmp_path / "config.json")
    for read in (described_model, timm.create_model):
        with pytest.raises(UnknownModelError, match=r"config\.json"):
            read(f"local-dir:{tmp_path}")


def test_config_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(10**9)  # no block of the disk is used
    with pytest.raises(UnknownModelError, match="at most 16,000,000"):
        described_model(f"local-dir:{tmp_path}")


def test_folder_of_a_run_names_its_export(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "config.json").write_text("{}")
    for read in (described_model, timm.create_model):
        with pytest.raises(UnknownModelError, match=f"is in local-dir:{tmp_path / 'export'}$"):
            read(f"local-dir:{tmp_path}")


NOT_TIMMS = "is not one that timm wrote"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pretrained_cfg": [1]}, NOT_TIMMS), ({"architecture": 7}, NOT_TIMMS),
        # timm itself fails at it from 1.0.31 on.
        ({"model_args": [1]}, rf"model_args must be a JSON object, not \[1\]|{NOT_TIMMS}"),
        ({"label_names": "ab"}, "label_names must be a list of texts"),
        ({"model_args": {"backbone": ["a"]}}, r"must be timm's name of one, not \['a'\]"),
        ({"model_args": {"backbone": "test_resnet", "gate": []}}, r"Unknown gate \[\]"),
    ],
    ids=str,
)  # fmt: skip
def test_timm_and_the_command_line_refuse_the_same_configs(
    tmp_path: Path, changes: Dict[str, Any], says: str
) -> None:
    """Beside good weights, so that the config is what is refused."""
    model = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=2)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    config = {
        "architecture": "timm_sehead", "num_classes": 2, "pretrained_cfg": {},
        "model_args": {"backbone": "test_resnet"}, **changes,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    for read in (timm.create_model, load_any):
        with pytest.raises(UnknownModelError, match=says):
            read(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("names", ["ab", ["a"], [1, 2], ["a", "a"], {"a": 0, "b": 1}])
def test_labels_set_on_a_model_are_checked_when_they_are_used(names: Any) -> None:
    model: Any = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=2)
    model.pretrained_cfg.update(num_classes=2, label_names=names)
    with pytest.raises(InvalidInputError, match="label_names"):
        model.class_labels()


@pytest.mark.parametrize("content", [None, '{"architecture": "no_such_model"}'])
def test_folder_that_describes_no_model_is_one_error(content: Any, tmp_path: Path) -> None:
    """The same from timm as from the command line."""
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    for create in (timm.create_model, se_zoo.create_model):
        with pytest.raises(UnknownModelError, match=r"config\.json"):
            create(f"local-dir:{tmp_path}", pretrained=True)
