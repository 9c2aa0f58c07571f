"""Corrupt images in training: named and replaced, and an interrupted run continues exactly."""

import json
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("accelerate", reason="training needs se_zoo[train]")
pytest.importorskip("datasets", reason="training needs se_zoo[train]")

from se_zoo import InvalidInputError
from se_zoo.data import DataConfig, open_table
from se_zoo.errors import DataError
from se_zoo.train import loader, preflight

from .test_train import run
from .train_run import cat_or_dog, write_images

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
SKIP: Dict[str, Any] = {"data": {"broken": "skip"}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Any) -> Path:
    counts = {"train": 24, "valid": 6, "test": 6}
    return write_images(tmp_path_factory.mktemp("images"), counts, cat_or_dog, name="{:02}.png")


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    """The images, of which one in every split is cut off."""
    shutil.copytree(whole, tmp_path / "data")
    for split in ("train", "valid"):
        file = tmp_path / "data" / split / "cat" / "02.png"
        file.write_bytes(file.read_bytes()[:60])
    return tmp_path / "data"


def rows(output: Path) -> Any:
    found = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in found]


def test_corrupt_images_are_named_and_the_updates_stay_the_same(
    damaged: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    expected = rows(run(whole, tmp_path / "whole"))
    output = run(damaged, tmp_path / "run", **SKIP)
    err = capsys.readouterr().err
    assert err.count("replaced by the next image") == 1 and "train/cat/02.png" in err
    assert "left out of the valid split: 1 of 6" in err and "valid/cat/02.png" in err
    assert [r["update"] for r in rows(output)] == [r["update"] for r in expected]
    summary = json.loads((output / "summary.json").read_text())
    assert summary["samples"] == {"train": 24, "valid": 5, "test": 6}
    assert "train/cat/02.png" in summary["replaced"][0]
    assert "train/cat/02.png" in (output / "replaced.txt").read_text()


@pytest.mark.parametrize("decoded", [True, False])
def test_interrupted_run_with_a_corrupt_image_continues_exactly(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: bool
) -> None:
    if not decoded:
        monkeypatch.setattr(loader, "_DECODED_BYTES_LIMIT", 1)
    at_once = run(damaged, tmp_path / "whole", **SKIP)
    broken = tmp_path / "broken"
    run(damaged, broken, **SKIP, run={"keep": 10, "save_every": 1})
    for step in sorted((broken / "state").glob("step_*"))[1:]:
        shutil.rmtree(step)  # as if it had been killed after the first update
    (broken / "summary.json").unlink()
    run(damaged, broken, **SKIP, run={"keep": 10})
    assert rows(broken) == rows(at_once)
    left, right = (load_file(o / "export" / "model.safetensors") for o in (broken, at_once))
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert len((broken / "replaced.txt").read_text().splitlines()) == 1


def test_run_that_a_corrupt_image_stopped_goes_on_with_skip(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in mid-epoch: the look before the start decodes a part of a large set alone."""
    monkeypatch.setattr(loader, "_DECODED_BYTES_LIMIT", 1)
    shutil.copy(damaged / "valid" / "cat" / "00.png", damaged / "valid" / "cat" / "02.png")
    monkeypatch.setattr(preflight, "check_data", lambda *args, **options: _Fine())
    with pytest.raises(DataError, match=r"train/cat/02\.png"):
        run(damaged, tmp_path / "run", optim={"epochs": 2}, run={"save_every": 1})
    found = list((tmp_path / "run" / "state").glob("step_*"))
    assert found, "it stopped before the first checkpoint"
    run(damaged, tmp_path / "run", **SKIP, optim={"epochs": 2})
    assert (tmp_path / "run" / "summary.json").is_file()


class _Fine:
    ok = True


def test_replacement_has_its_own_label(damaged: Path, tmp_path: Path) -> None:
    table = open_table(DataConfig(str(damaged), broken="skip"), "train")
    replacing = loader.Replacing(table, tmp_path / "log")  # type: ignore[arg-type]
    last_cat = tmp_path / "data" / "train" / "cat" / "22.png"
    last_cat.write_bytes(b"bad")
    assert len(table) == len(replacing) == 24
    assert [replacing[i][1] for i in (1, 11)] == [0, 1]
    with pytest.raises(DataError):
        table[11]


def test_too_many_corrupt_images_in_a_row_stop_the_run(damaged: Path, tmp_path: Path) -> None:
    for file in (damaged / "train").rglob("*.png"):
        file.write_bytes(b"bad")
    table = open_table(DataConfig(str(damaged), broken="skip"), "train")
    replacing = loader.Replacing(table, tmp_path / "log")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"24 images of .* in a row cannot be read"):
        replacing[3]
    assert len((tmp_path / "log").read_text().splitlines()) == 24


def test_streams_cannot_skip(whole: Path, tmp_path: Path) -> None:
    options: Dict[str, Any] = {"data": {"broken": "skip", "streaming": True}}
    with pytest.raises(DataError, match=r"leave --data\.streaming out"):
        run(whole, tmp_path / "run", **options)


def test_one_class_is_refused(whole: Path, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        shutil.copytree(whole / split / "cat", tmp_path / "data" / split / "cat")
    with pytest.raises(InvalidInputError, match="the class cat alone"):
        run(tmp_path / "data", tmp_path / "run")
