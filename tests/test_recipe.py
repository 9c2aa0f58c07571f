"""``recipes/celeba.py``, run as a user runs it, on pictures made up here."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

import se_zoo
from se_zoo.models.labels import CELEBA_ATTRIBUTES

datasets = pytest.importorskip("datasets", reason="the recipes need se_zoo[train]")
pytest.importorskip("accelerate", reason="the recipes need se_zoo[train]")

ROOT = Path(__file__).parent.parent


def make_split(count: int, rng: np.random.Generator) -> Dict[str, List[Any]]:
    """Grey pictures; the first attribute is whether they are bright, the others are chance."""
    bright = rng.random(count) < 0.5
    columns: Dict[str, List[Any]] = {"image": []}
    for light in bright:
        pixels = rng.integers(0, 80, (109, 89, 3), dtype=np.uint8) + np.uint8(150 * light)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        columns["image"].append({"bytes": file.getvalue(), "path": None})
    for i, name in enumerate(CELEBA_ATTRIBUTES):
        columns[name] = (rng.random(count) < 0.3 if i else bright).tolist()
    return columns


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("faces")
    for split, count in (("train", 96), ("valid", 19), ("test", 21)):
        datasets.Dataset.from_dict(make_split(count, rng)).to_parquet(path / f"{split}.parquet")
    return path


def run(folder: Path, output: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # A cache of its own: nothing is left in the user's.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(output.parent / "hf")}
    return subprocess.run(
        [sys.executable, "recipes/celeba.py", "--data", str(folder), "--output", str(output),
         "--batch-size", "32", *arguments],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_export_is_the_model_that_was_scored(folder: Path, tmp_path: Path) -> None:
    """The figures of summary.json come out again from what a user would load."""
    done = run(folder, tmp_path / "run", "--debug")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["samples"] == {"train": 96, "valid": 19, "test": 21}
    model: Any = timm.create_model(f"local-dir:{tmp_path / 'run' / 'export'}", pretrained=True)
    assert list(model.class_labels()) == list(CELEBA_ATTRIBUTES) and model.is_multi_label()
    transform: Any = create_transform(**resolve_data_config(model=model))
    test = datasets.Dataset.from_parquet(
        str(folder / "test.parquet"), cache_dir=str(tmp_path / "hf")
    ).cast_column("image", datasets.Image())
    images = torch.stack([transform(row["image"]) for row in test])
    truth = torch.tensor([[row[name] for name in CELEBA_ATTRIBUTES] for row in test])
    explanation = model.eval().explain(images, target="5_o_Clock_Shadow")
    right = ((explanation.logits > 0) == truth).float().mean().item()
    assert abs(right - summary["test"]["accuracy"]) < 0.5 / truth.numel()
    assert explanation.exact and explanation.native_grid == (16, 13)


def test_output_that_holds_something_is_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("mine")
    done = run(folder, tmp_path / "run", "--debug")
    assert done.returncode and "--overwrite" in done.stderr
    assert (tmp_path / "run" / "summary.json").read_text() == "mine"


@pytest.mark.parametrize("problem", ["split", "columns"])
def test_data_that_lacks_something_is_refused_with_both_lists(
    folder: Path, tmp_path: Path, problem: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "valid", "test"):
        (data / f"{split}.parquet").symlink_to(folder / f"{split}.parquet")
    if problem == "split":
        (data / "valid.parquet").unlink()
    else:
        (data / "train.parquet").unlink()
        columns = make_split(4, np.random.default_rng(1))
        columns["Smile"] = columns.pop("Smiling")
        datasets.Dataset.from_dict(columns).to_parquet(data / "train.parquet")
    done = run(data, tmp_path / "run", "--debug")
    assert done.returncode and "Traceback" not in done.stderr
    for part in {"split": ("valid.parquet",), "columns": ("'Smiling'", "'Smile'")}[problem]:
        assert part in done.stderr


@pytest.mark.parametrize("name", [n for n in se_zoo.list_models(declared=True) if "celeba" in n])
def test_what_the_recipe_trains_loads_under_the_declared_name(name: str) -> None:
    """The command that the error for missing weights names has to lead somewhere."""
    from recipes.celeba import Config, build_model

    declared: Any = timm.create_model(name)
    architecture = declared.pretrained_cfg["architecture"]
    trained: Any = build_model(Config(model=architecture))
    declared.load_state_dict(trained.state_dict())
    images = torch.randn(1, 3, *declared.pretrained_cfg["input_size"][1:])
    with torch.no_grad():
        assert torch.equal(declared.eval()(images), trained.eval()(images))
    assert declared.explain(images, "Smiling").exact


@pytest.mark.parametrize("recipe", ["objects", "own_data", "squeeze_only"])
def test_debug_variant(recipe: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        for i in range(20):
            target = tmp_path / "data" / split / f"class{i % 2}"
            target.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(target / f"{i}.png")
    options = {
        "objects": ["--data.label", "None", "--data.splits", "train", "valid", "test"],
        "squeeze_only": ["--data.attributes", "--run.init", "None"],
    }
    command = [
        sys.executable, f"recipes/{recipe}.py", "--debug", "--data.path", tmp_path / "data",
        "--run.output", tmp_path / "run", *options.get(recipe, []),
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    model: Any = timm.create_model(f"local-dir:{tmp_path / 'run' / 'export'}", pretrained=True)
    assert model.class_labels() == ("class0", "class1")
    wrong = subprocess.run(
        [sys.executable, f"recipes/{recipe}.py", "--optim.lrr", "1"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert wrong.returncode and "--optim.lr" in wrong.stdout + wrong.stderr
