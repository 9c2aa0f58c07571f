"""What a run stores of thresholds: one a label, chosen on the split that it validates on."""

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("accelerate", reason="training needs se_zoo[train]")
pytest.importorskip("datasets", reason="training needs se_zoo[train]")

import timm
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from se_zoo.data import DataConfig, open_table
from se_zoo.explanations.target_classes import above_threshold
from se_zoo.statistics import THRESHOLDS, accuracy_of, confusion, f1_of
from se_zoo.train import train
from se_zoo.train.head_only import HeadTrainer

from .train_run import make_config

pytestmark = pytest.mark.usefixtures("fresh_accelerator", "undrawn")

LABELS = ("bright", "rare", "odd")
SPLITS = {"train": 48, "valid": 24, "test": 21}


@pytest.fixture(scope="module")
def data(tmp_path_factory: Any) -> Dict[str, Any]:
    """Bright and dark images in a csv; nothing is rare in the split to validate on."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("faces")
    lines = ["image,split,bright,rare,odd"]
    for split, count in SPLITS.items():
        for i in range(count):
            bright = i % 3 == 0
            pixels = rng.integers(0, 150, (32, 32, 3), dtype=np.uint8) + np.uint8(90 * bright)
            Image.fromarray(pixels).save(path / f"{split}{i}.png")
            rare = i % 7 == 0 and split != "valid"
            lines.append(f"{split}{i}.png,{split},{int(bright)},{int(rare)},{i % 2}")
    (path / "list.csv").write_text("\n".join(lines))
    return {
        "path": str(path), "csv": str(path / "list.csv"), "label": None, "attributes": LABELS
    }  # fmt: skip


def run(data: Dict[str, Any], output: Path, trainer: Any = None, **options: Any) -> Dict[str, Any]:
    options["data"] = data
    options["run"] = {"output": str(output), **options.get("run", {})}
    train(make_config(options), "", trainer)
    return json.loads((output / "summary.json").read_text())


def scored(data: Dict[str, Any], output: Path, split: str) -> Any:
    """Truth, logits and thresholds of what a user loads from the export."""
    model: Any = timm.create_model(f"local-dir:{output / 'export'}", pretrained=True).eval()
    config = DataConfig(data["path"], csv=Path(data["csv"]), attributes=LABELS)
    table = open_table(config, split)
    transform: Any = create_transform(**resolve_data_config(model=model))
    images = torch.stack([transform(table[i][0]) for i in range(len(table))])
    with torch.no_grad():
        return table.targets > 0, model(images), model.thresholds


@pytest.mark.parametrize("trainer", [None, HeadTrainer], ids=["whole", "head"])
def test_export_has_the_thresholds_that_answer_the_valid_split_best(
    data: Dict[str, Any], tmp_path: Path, trainer: Any
) -> None:
    options = {"run": {"channels_last": False}, "optim": {"epochs": 5}}
    summary = run(data, tmp_path / "run", trainer, **options)
    truth, logits, thresholds = scored(data, tmp_path / "run", "valid")
    assert summary["thresholds"] == dict(zip(LABELS, thresholds, strict=True))
    assert "valid" in summary["thresholds_from"]
    assert thresholds[1] == 0.5, "no image of the split has this label"
    chosen = f1_of(confusion(truth, above_threshold(logits, thresholds) > 0).sum(0))
    for other in THRESHOLDS:
        found = f1_of(confusion(truth, above_threshold(logits, [other] * 3) > 0).sum(0))
        assert (found[[0, 2]] <= chosen[[0, 2]]).all()
    assert "at_thresholds" not in summary["valid"], "chosen on it, so flattered by them"


def test_test_split_is_scored_at_one_half_and_at_the_thresholds(
    data: Dict[str, Any], tmp_path: Path
) -> None:
    summary = run(data, tmp_path / "run", optim={"epochs": 3})
    truth, logits, thresholds = scored(data, tmp_path / "run", "test")
    at_half = accuracy_of(confusion(truth, logits > 0).sum(0)).mean().item()
    counts = confusion(truth, above_threshold(logits, thresholds) > 0).sum(0)
    figures = summary["test"]["at_thresholds"]
    assert summary["test"]["accuracy"] == pytest.approx(at_half, abs=1e-5)
    assert figures["accuracy"] == pytest.approx(accuracy_of(counts).mean().item(), abs=1e-5)
    assert figures["f1"] == pytest.approx(f1_of(counts).mean().item(), abs=1e-5)
    assert list(figures["label_f1"]) == list(LABELS)
    assert figures["accuracy"] != summary["test"]["accuracy"], "these thresholds change answers"


def test_without_a_valid_split_of_its_own_a_run_stores_none(
    data: Dict[str, Any], tmp_path: Path
) -> None:
    summary = run({**data, "splits": ("train", "test", "test")}, tmp_path / "run")
    assert summary["thresholds"] is None and "at_thresholds" not in summary["test"]
    assert "test is the split that is scored" in summary["thresholds_from"]
    assert scored(data, tmp_path / "run", "test")[2] is None


def test_control_without_the_block_has_none(data: Dict[str, Any], tmp_path: Path) -> None:
    summary = run(data, tmp_path / "run", model={"se": False})
    assert "thresholds" not in summary and "at_thresholds" not in summary["test"]
