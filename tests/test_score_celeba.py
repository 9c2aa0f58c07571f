"""tools/score_celeba.py: the figures of a folder are those of its training, and of its weights."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

datasets = pytest.importorskip("datasets", reason="the tool needs se_zoo[train]")
pytest.importorskip("accelerate", reason="the tool needs se_zoo[train]")

from se_zoo import InvalidInputError  # noqa: E402
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES  # noqa: E402
from se_zoo.models.load_model import load_model  # noqa: E402
from se_zoo.models.pretrained.manifest import hub_folder  # noqa: E402
from se_zoo.statistics import THRESHOLDS  # noqa: E402
from se_zoo.train import train  # noqa: E402
from tools import score_celeba  # noqa: E402

from .data_sets import cell  # noqa: E402
from .train_run import make_config, undrawn  # noqa: E402

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

PARTS = {"train": 48, "valid": 40, "test": 45}
NAME = "tiny_celeba"


def picture(rng: np.random.Generator, bright: bool) -> Dict[str, Any]:
    return cell(rng.integers(0, 120, (36, 30, 3), dtype=np.uint8) + np.uint8(90 * bright))


@pytest.fixture(scope="module")
def root(tmp_path_factory: Any) -> Path:
    """Noise with CelebA's columns, five images a person; who smiles is bright."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    (folder / score_celeba.DATA).mkdir()
    for part, count in PARTS.items():
        columns: Dict[str, Any] = {a: rng.random(count) < 0.4 for a in CELEBA_ATTRIBUTES}
        columns = {name: values.tolist() for name, values in columns.items()}
        columns["image"] = [picture(rng, smiles) for smiles in columns["Smiling"]]
        columns["celeb_id"] = [i // 5 for i in range(count)]
        columns["image_id"] = list(range(count))
        table = datasets.Dataset.from_dict(columns)
        table.to_parquet(folder / score_celeba.DATA / f"{part}.parquet")
    return folder


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: Any) -> Path:
    """A run of a tiny model on this data."""
    output = tmp_path_factory.mktemp("run")
    config = score_celeba.sample_config(root)
    data = {"path": config.path, "label": None, "ignore": config.ignore,
            "attributes": config.attributes}  # fmt: skip
    options = {"data": data, "run": {"output": str(output)}, "optim": {"epochs": 4}}
    with undrawn():
        return train(make_config(options))


def test_figures_are_those_of_the_training(root: Path, run: Path) -> None:
    """Same transform, same rules, same thresholds; only the intervals are new."""
    summary = json.loads((run / "summary.json").read_text())
    found = score_celeba.score(run / "export", NAME, score_celeba.sample_config(root))
    for split in ("valid", "test"):
        own = found["valid"] if split == "valid" else {
            name: row["value"] for name, row in found["figures"].items() if name != "f1"
        }  # fmt: skip
        for metric, value in own.items():
            assert value == pytest.approx(summary[split][metric], abs=1e-4), (split, metric)
    for metric, row in found["at_thresholds"].items():
        assert row["value"] == pytest.approx(summary["test"]["at_thresholds"][metric], abs=1e-4)
    assert {n: row["threshold"] for n, row in found["labels"].items()} == summary["thresholds"]
    assert found["thresholds_stored"] and found["samples"] == {"valid": 40, "test": 45}
    assert found["people"] == {"valid": 8, "test": 9}
    weights = (run / "export" / "model.safetensors").read_bytes()
    assert found["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert {row["group"] for row in found["groups"]["rows"]} == set(score_celeba.GROUPS)
    assert json.loads(json.dumps(found)) == found


def test_thresholds_are_written_into_the_folder(
    root: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Of a model that was trained before runs stored them."""
    folder = tmp_path / "export"
    folder.mkdir()
    for file in (run / "export").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    stored = config["model_args"].pop("thresholds")
    (folder / "config.json").write_text(json.dumps(config))
    out = tmp_path / "test.json"
    monkeypatch.setenv("SE_ZOO_DATA", str(root))
    monkeypatch.setattr(score_celeba, "THREADS", 1)
    command = ["score_celeba.py", NAME, "--folder", str(folder), "--out", str(out)]

    def scored(*options: str) -> Dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [*command, *options])
        score_celeba.main()
        return json.loads(out.read_text())

    before = scored()
    assert not before["thresholds_stored"]
    assert json.loads((folder / "config.json").read_text()) == config, "nothing was asked for"
    after = scored("--write-thresholds")
    assert after["thresholds_stored"] and after["labels"] == before["labels"]
    assert load_model(f"local-dir:{folder}").thresholds == tuple(stored)
    written = json.loads((folder / "config.json").read_text())
    assert written["model_args"].pop("thresholds") == stored and written == config
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert "balanced_accuracy" in capsys.readouterr().out


def test_config_is_whole_when_writing_fails(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.json"
    file.write_bytes((run / "export" / "config.json").read_bytes())
    before = file.read_bytes()

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        score_celeba.write_thresholds(tmp_path, [0.2] * 40)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([NAME, "--write-thresholds"], "give its --folder"),
        ([NAME], "tiny_celeba for test.json"),
    ],
)
def test_command_that_cannot_work_is_refused(
    options: Any, says: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("SE_ZOO_DATA", str(root))
    monkeypatch.setattr(sys, "argv", ["score_celeba.py", *options])
    with pytest.raises(SystemExit):
        score_celeba.main()
    assert says in capsys.readouterr().err


def test_model_of_other_labels_is_refused(run: Path) -> None:
    model = load_model(f"local-dir:{run / 'export'}")
    score_celeba.check_model(model, NAME)
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": [f"a{i}" for i in range(40)]}
    with pytest.raises(InvalidInputError, match="a0, a1, a2"):
        score_celeba.check_model(model, NAME)


@pytest.mark.data
def test_bundled_model_on_a_slice_of_the_official_split(data_dir: Path) -> None:
    if not (data_dir / score_celeba.DATA).is_dir():
        pytest.skip(f"SE_ZOO_DATA has no {score_celeba.DATA}")
    name = "resnet18_slim_celeba"
    config = score_celeba.sample_config(data_dir, limit=120)
    found = score_celeba.score(hub_folder(name), name, config)
    figures = found["figures"]
    assert found["samples"] == {"valid": 120, "test": 120} and found["people"]["test"] > 60
    assert figures["accuracy"]["value"] > 0.86 > figures["accuracy"]["low"] - 0.05
    assert figures["balanced_accuracy"]["value"] > 0.65
    tuned = found["at_thresholds"]["f1"]
    assert tuned["value"] > figures["f1"]["value"], "thresholds of the valid part serve the test"
    assert all(row["threshold"] in THRESHOLDS for row in found["labels"].values())
    male = next(r for r in found["groups"]["rows"] if r["group"] == "Male")
    assert male["true_positive_rate"]["yes"]["cases"] >= 10
