"""The recipes, run as a user runs them, on pictures made up here."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

import se_zoo
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES

datasets = pytest.importorskip("datasets", reason="the recipes need se_zoo[train]")
pytest.importorskip("accelerate", reason="the recipes need se_zoo[train]")

from .data_sets import cell  # noqa: E402
from .preloaded import PATIENCE, ROOT, run_python  # noqa: E402
from .video_files import write_lossless  # noqa: E402

SPLITS = ("train", "valid", "test")
SPLIT_OPTION = ["--data.splits", *SPLITS]

#: Recipe -> its data (fixtures below), and what it needs beside them. All run without SE_ZOO_DATA.
RECIPES: Dict[str, Any] = {
    "celeba": ("faces", ["--data.name", "None"]),
    "objects": ("objects", [*SPLIT_OPTION, "--data.image", "image"]),
    "own_data": ("pets", []),
    "clips": ("films", []),
    "squeeze_only": ("faces", ["--data.name", "None"]),
    "parity": ("faces", ["--data.name", "None", "--seeds", "0", "1"]),
}


def make_faces(count: int, rng: np.random.Generator) -> Dict[str, List[Any]]:
    """Grey pictures; the first attribute is whether they are bright, the others are chance."""
    bright = rng.random(count) < 0.5
    pictures = [
        rng.integers(0, 80, (109, 89, 3), dtype=np.uint8) + np.uint8(150 * b) for b in bright
    ]
    columns: Dict[str, List[Any]] = {"image": [cell(p) for p in pictures]}
    for i, name in enumerate(CELEBA_ATTRIBUTES):
        columns[name] = (rng.random(count) < 0.3 if i else bright).tolist()
    return columns


@pytest.fixture(scope="module")
def data(tmp_path_factory: Any) -> Dict[str, Path]:
    """Folders by name: parquet with attributes, parquet with a label, and a folder per class."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    for name in ("faces", "objects"):
        (root / name).mkdir()
    for split, count in (("train", 96), ("valid", 19), ("test", 21)):
        faces = datasets.Dataset.from_dict(make_faces(count, rng))
        faces.to_parquet(root / "faces" / f"{split}.parquet")
        labels = [i % 3 for i in range(count)]
        shades = [
            rng.integers(0, 90, (40, 40, 3), dtype=np.uint8) + np.uint8(70 * i) for i in labels
        ]
        columns = {"image": [cell(p) for p in shades], "label": labels}
        datasets.Dataset.from_dict(columns).to_parquet(root / "objects" / f"{split}.parquet")
        for i in range(count):
            target = root / "pets" / split / f"class{labels[i]}"
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shades[i]).save(target / f"{i}.png")
            target = root / "films" / split / f"class{labels[i]}"
            target.mkdir(parents=True, exist_ok=True)
            if i < 18:
                write_lossless(target / f"{i}.mkv", [shades[i], *shades[:5]])
    return {name: root / name for name in ("faces", "objects", "pets", "films")}


def command(recipe: str, folder: Path, output: Path, *options: str) -> List[str]:
    """What a user gives Python."""
    return [f"recipes/{recipe}.py", "--debug", "--data.path", str(folder), "--run.output",
            str(output), *RECIPES[recipe][1], *options]  # fmt: skip


def environment(cache: Path) -> Dict[str, str]:
    """Without the sample data; and nothing is left in the user's cache."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(cache)}
    env.pop("SE_ZOO_DATA", None)
    return env


def run(
    recipe: str, folder: Path, output: Path, *options: str
) -> "subprocess.CompletedProcess[str]":
    env = environment(output.parent / "hf")
    return run_python(*command(recipe, folder, output, *options), env=env)


def figures(output: Path) -> Dict[str, Any]:
    """The losses of all updates, and the figures of the test split."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    test = json.loads((output / "summary.json").read_text())["test"]
    return {
        "losses": [r["loss"] for r in rows if "loss" in r],
        "test": {k: v for k, v in test.items() if isinstance(v, float)},
    }


def debugged(recipe: str, data: Dict[str, Path], output: Path) -> Path:
    """The output of the --debug of a recipe."""
    done = run(recipe, data[RECIPES[recipe][0]], output)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def parity_run(data: Dict[str, Path], tmp_path_factory: Any) -> Path:
    """The output of the recipe that trains four times."""
    return debugged("parity", data, tmp_path_factory.mktemp("parity") / "run")


@pytest.fixture(scope="module")
def celeba_run(data: Dict[str, Path], tmp_path_factory: Any) -> Path:
    """The output of the recipe that the others are made from."""
    return debugged("celeba", data, tmp_path_factory.mktemp("celeba") / "run")


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(r, marks=pytest.mark.slow) if r == "parity" else r for r in sorted(RECIPES)],
)
def test_debug_variant(
    recipe: str,
    data: Dict[str, Path],
    tmp_path: Path,
    golden: Callable[[str, Any], Any],
    request: pytest.FixtureRequest,
) -> None:
    """Every loss is what it was when the golden file was written (``--write-golden``)."""
    if recipe in ("parity", "celeba"):
        output = request.getfixturevalue(f"{recipe}_run")
    else:
        output = debugged(recipe, data, tmp_path / "run")
    runs = sorted(p.parent for p in output.rglob("summary.json"))
    found = {str(p.relative_to(output)): figures(p) for p in runs}
    known = golden(recipe, {"timm": timm.__version__, "runs": found})
    assert found.keys() == known["runs"].keys()
    if timm.__version__ == known["timm"]:  # others draw other random numbers
        for name, expected in known["runs"].items():
            # Kernels of other machines round differently.
            assert found[name]["losses"] == pytest.approx(expected["losses"], rel=2e-3), name
            assert found[name]["test"] == pytest.approx(expected["test"], rel=2e-3, abs=0.05), name
    for path in runs:
        if "without" not in path.name:
            timm.create_model(f"local-dir:{path / 'export'}", pretrained=True)
            assert (path / "samples.png").is_file() and (path / "curves.png").is_file()


@pytest.mark.slow
def test_a_process_that_has_imported_nothing_trains_the_same(
    data: Dict[str, Path], celeba_run: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, *command("celeba", data["faces"], tmp_path / "run")], cwd=ROOT, text=True,
        env=environment(tmp_path / "hf"), capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, known = figures(tmp_path / "run"), figures(celeba_run)
    for name, values in known.items():
        assert found[name] == pytest.approx(values, rel=1e-4), name


def test_option_that_does_not_exist(data: Dict[str, Path], tmp_path: Path) -> None:
    wrong = run("parity", data["faces"], tmp_path / "run", "--optim.lrr", "1")
    assert wrong.returncode and "--optim.lr" in wrong.stdout + wrong.stderr


def test_export_is_the_model_that_was_scored(
    data: Dict[str, Path], celeba_run: Path, tmp_path: Path
) -> None:
    """The figures of summary.json come out again from what a user would load."""
    summary = json.loads((celeba_run / "summary.json").read_text())
    assert summary["samples"] == {"train": 64, "valid": 19, "test": 21}
    model: Any = timm.create_model(f"local-dir:{celeba_run / 'export'}", pretrained=True)
    assert list(model.class_labels()) == list(CELEBA_ATTRIBUTES) and model.is_multi_label()
    transform: Any = create_transform(**resolve_data_config(model=model))
    test = datasets.Dataset.from_parquet(
        str(data["faces"] / "test.parquet"), cache_dir=str(tmp_path / "hf")
    ).cast_column("image", datasets.Image())
    images = torch.stack([transform(row["image"]) for row in test])
    truth = torch.tensor([[row[name] for name in CELEBA_ATTRIBUTES] for row in test])
    explanation = model.eval().explain(images, target="5_o_Clock_Shadow")
    right = ((explanation.logits > 0) == truth).float().mean().item()
    assert abs(right - summary["test"]["accuracy"]) < 0.5 / truth.numel()
    assert explanation.exact


def test_debug_of_streamed_data(data: Dict[str, Path], tmp_path: Path) -> None:
    folder = with_class_label(data["objects"] / "train.parquet", tmp_path)
    done = run("objects", folder, tmp_path / "run", "--data.streaming")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["samples"] == {"train": 64, "valid": 19, "test": 21}


def with_class_label(file: Path, tmp_path: Path) -> Path:
    """The same data with a ClassLabel, without which a stream does not know its classes."""
    target = tmp_path / "declared"
    target.mkdir()
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b", "c"])
    )
    for split in SPLITS:
        rows = datasets.Dataset.from_parquet(
            str(file.with_name(f"{split}.parquet")), cache_dir=str(tmp_path / "hf")
        )
        rows.cast(features).to_parquet(target / f"{split}.parquet")
    return target


def test_output_that_holds_something_is_kept(data: Dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("mine")
    done = run("celeba", data["faces"], tmp_path / "run")
    assert done.returncode and "--run.overwrite" in done.stderr
    assert (tmp_path / "run" / "summary.json").read_text() == "mine"


@pytest.mark.parametrize("problem", ["split", "columns"])
def test_data_that_lacks_something_is_refused_with_both_lists(
    data: Dict[str, Path], tmp_path: Path, problem: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for split in SPLITS:
        (folder / f"{split}.parquet").symlink_to(data["faces"] / f"{split}.parquet")
    if problem == "split":
        (folder / "valid.parquet").unlink()
    else:
        (folder / "train.parquet").unlink()
        columns = make_faces(4, np.random.default_rng(1))
        columns["Smile"] = columns.pop("Smiling")
        datasets.Dataset.from_dict(columns).to_parquet(folder / "train.parquet")
    done = run("celeba", folder, tmp_path / "run")
    assert done.returncode and "Traceback" not in done.stderr
    said = {
        "split": ("valid.parquet", "Needed", "found"),
        "columns": ("missing: [Smiling]", "unexpected: [Smile]"),
    }
    for part in said[problem]:
        assert part in done.stderr


def test_parity_compares_weights_to_start_from_and_whole_batches() -> None:
    from recipes.celeba import DEFAULT
    from se_zoo.train.options import plain
    from se_zoo.train.repeat import compared_options as compared

    config = plain(asdict(DEFAULT))
    assert compared(config, 1) != compared({**config, "run": {**config["run"], "init": "x"}}, 1)
    assert compared(config, 1) == compared({**config, "run": {**config["run"], "keep": 9}}, 1)
    halved = {**config, "optim": {**config["optim"], "batch_size": 32}}
    assert config["optim"]["batch_size"] == 64 and compared(config, 1) == compared(halved, 2)
    assert compared(config, 1) != compared(config, 2)


@pytest.fixture
def compare(data: Dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``compare(output, *options)``: the recipe in this process."""
    from se_zoo.train.recipe import read_options

    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    parity = importlib.import_module("parity")

    def main(output: Path, *options: str) -> None:
        monkeypatch.setattr(sys, "argv", command("parity", data["faces"], output, *options))
        parity.main(read_options(parity.DEFAULT_OPTIONS, ""))

    return main


def finish(config: Any, tag: str, last: bool) -> None:
    """Leave what the comparison reads of a finished run, with figures that are made up."""
    from se_zoo.train.options import plain

    assert tag == "celeba" and not last
    seed = config.run.seed
    share = 0.6 + 0.05 * seed + (0.02 + 0.01 * seed if config.model.se else 0)
    shares = dict.fromkeys(("accuracy", "balanced_accuracy", "average_precision"), share)
    origin = {"commit": "0", "environment": {"processes": 1}, "data": {"train": "0"}}
    config.run.output.mkdir(parents=True)
    summary = {"config": plain(asdict(config)), **origin, "test": shares}
    (config.run.output / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(params=["not trained", pytest.param("trained", marks=pytest.mark.slow)])
def compared(
    request: pytest.FixtureRequest,
    compare: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The output of the recipe: of a command, or with training left out."""
    if request.param == "trained":
        return request.getfixturevalue("parity_run")
    with monkeypatch.context() as patch:
        patch.setattr("se_zoo.train.api.train", finish)
        compare(tmp_path / "run")
    return tmp_path / "run"


def test_parity_trains_nothing_twice_and_mixes_nothing(
    compare: Callable[..., None], compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = compared

    def again_with(*options: str) -> str:
        compare(output, *options)
        return capsys.readouterr().out

    made = {p: p.stat().st_mtime_ns for p in output.rglob("summary.json")}
    assert {p.parent.name for p in made} == {"with-0", "with-1", "without-0", "without-1"}
    again = again_with()
    assert "balanced accuracy" in again
    assert made == {p: p.stat().st_mtime_ns for p in made}
    content = json.loads((output / "parity.json").read_text())
    row = content["figures"]["accuracy"]
    ours = [100 * r["accuracy"] for r in content["runs"]["with"]]
    assert row["with"] == pytest.approx(sum(ours) / 2)
    assert row["with_deviation"] == pytest.approx(abs(ours[0] - ours[1]) / 2**0.5)
    assert row["difference"] == pytest.approx(row["with"] - row["without"])
    plains = [100 * r["accuracy"] for r in content["runs"]["without"]]
    differences = [a - b for a, b in zip(ours, plains, strict=True)]
    assert row["difference_deviation"] == pytest.approx(np.std(differences, ddof=1))
    assert row["deviation"] ** 2 == pytest.approx(
        (np.var(ours, ddof=1) + np.var(plains, ddof=1)) / 2
    )
    within = "yes" if abs(row["difference"]) <= row["deviation"] else "no"
    line = next(x for x in again.splitlines() if x.startswith("| accuracy"))
    assert f"{within} ({row['deviation']:.2f})" in line and f"{row['difference']:+.2f} ±" in line
    with pytest.raises(se_zoo.InvalidInputError, match=r"--optim.lr 0\.002 -> 0\.01"):
        again_with("--optim.lr", "0.01")
    assert "not known from one seed" in again_with("--seeds", "1")


def test_parity_refuses_what_is_for_a_single_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    from parity import DEFAULT_OPTIONS, check

    for given, says in (
        (replace(DEFAULT_OPTIONS, seeds=(1, 1)), "--seeds"),
        (replace(DEFAULT_OPTIONS, seeds=()), "--seeds"),
        (replace(DEFAULT_OPTIONS, model=replace(DEFAULT_OPTIONS.model, se=False)), "--model.no-se"),
        (
            replace(DEFAULT_OPTIONS, run=replace(DEFAULT_OPTIONS.run, overwrite=True)),
            "--run.overwrite",
        ),
        (replace(DEFAULT_OPTIONS, run=replace(DEFAULT_OPTIONS.run, seed=5)), "--run.seed"),
    ):
        with pytest.raises(se_zoo.InvalidInputError, match=says):
            check(given)
    check(DEFAULT_OPTIONS)
