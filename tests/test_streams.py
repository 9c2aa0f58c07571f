"""Data that streams: the same images, in batches that no interruption and no process changes."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
from PIL import Image

library = pytest.importorskip("datasets", reason="streams need se_zoo[train]")
pytest.importorskip("accelerate", reason="training needs se_zoo[train]")

from safetensors.torch import load_file  # noqa: E402

from se_zoo import InvalidInputError  # noqa: E402
from se_zoo.data import DataConfig, open_stream, open_table  # noqa: E402
from se_zoo.errors import DataError  # noqa: E402
from se_zoo.train import loader, train  # noqa: E402
from se_zoo.train.head_only import HeadTrainer  # noqa: E402
from se_zoo.train.resume import state  # noqa: E402
from se_zoo.train.resume.order import Plan  # noqa: E402

from .data_sets import cell  # noqa: E402
from .train_run import make_config, undrawn  # noqa: E402

SIZES = {"train": 37, "valid": 7, "test": 5}
CLASSES = ["cat", "dog", "owl"]


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def rows_of(count: int, seed: int) -> Dict[str, List[Any]]:
    """Random pictures; the class is the row number modulo 3, the attribute whether it is even."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return {
        "image": [cell(picture) for picture in pictures],
        "label": [i % 3 for i in range(count)],
        "even": [i % 2 == 0 for i in range(count)],
    }


def write(folder: Path, split: str, columns: Dict[str, List[Any]]) -> None:
    features = library.Features(
        image=library.Image(), label=library.ClassLabel(names=CLASSES), even=library.Value("bool")
    )
    table = library.Dataset.from_dict(columns, features)
    # Small row groups, as large files have them: what is shuffled is more than one.
    table.to_parquet(folder / f"{split}.parquet", batch_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    path = tmp_path_factory.mktemp("parquet")
    for seed, (split, count) in enumerate(SIZES.items()):
        write(path, split, rows_of(count, seed))
    return path


@pytest.fixture
def config(folder: Path) -> DataConfig:
    return DataConfig(str(folder), label="label", ignore=("even",), streaming=True)


@pytest.mark.parametrize("split", SIZES)
def test_stream_has_what_the_table_has(config: DataConfig, split: str) -> None:
    stream, table = open_stream(config, split), open_table(replace(config, streaming=False), split)
    assert len(stream) == len(table) == SIZES[split]
    assert list(stream.labels) == list(table.labels) == CLASSES and not stream.multi_label
    for row, (image, target) in zip(stream, table, strict=True):
        assert np.array_equal(np.array(stream.decode(row)), np.array(image))
        assert row.target == target


def test_attributes(config: DataConfig) -> None:
    config = replace(config, label=None, attributes=("even",), ignore=("label",))
    stream = open_stream(config, "test")
    assert stream.multi_label and stream.labels == ("even",)
    assert [row.target.tolist() for row in stream] == [[1.0], [0.0], [1.0], [0.0], [1.0]]


def test_shuffled_is_a_permutation_that_the_seed_decides(config: DataConfig) -> None:
    stream = open_stream(config, "train")
    cells = [row.cell["bytes"] for row in stream]
    once, again, other = ([r.cell["bytes"] for r in stream.shuffled(s)] for s in (1, 1, 2))
    assert once == again and sorted(once) == sorted(cells)
    assert once != other and once != cells


def test_limits_take_the_first_images(config: DataConfig) -> None:
    config = replace(config, limit=10, limit_eval=6)
    assert [len(open_stream(config, s)) for s in SIZES] == [10, 6, 5]
    whole = open_stream(replace(config, limit=None), "train")
    first = {row.cell["bytes"] for row, _ in zip(whole, range(10), strict=False)}
    assert {row.cell["bytes"] for row in open_stream(config, "train").shuffled(0)} == first
    with pytest.raises(DataError, match=r"limit is 38, but the train split .* has 37"):
        open_stream(replace(config, limit=38), "train")


def test_what_cannot_be_streamed_is_refused(
    config: DataConfig, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="neither"):
        open_stream(replace(config, path=str(tmp_path), label=None), "train")
    with pytest.raises(DataError, match=r"unexpected: \[even\]"):
        open_stream(replace(config, ignore=()), "train")
    with pytest.raises(DataError, match="must be bool"):
        bad = replace(config, label=None, attributes=("label",))
        open_stream(bad, "train")
    with pytest.raises(DataError, match="holds no images"):
        open_stream(replace(config, image="even", ignore=("image",)), "train")
    with pytest.raises(DataError, match="shuffle_buffer is 0"):
        open_stream(replace(config, shuffle_buffer=0), "train")
    with pytest.raises(DataError, match="take open_stream"):
        open_table(config, "train")
    table = library.Dataset.from_dict({**rows_of(4, 0), "label": ["a", "b", "a", "b"]})
    table.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="not a ClassLabel"):
        open_stream(replace(config, path=str(tmp_path)), "train")


def test_corrupt_image_names_its_row(config: DataConfig, tmp_path: Path) -> None:
    columns = rows_of(9, 0)
    columns["image"][5]["bytes"] = columns["image"][5]["bytes"][:60]
    columns["image"][7] = {"bytes": b"", "path": None}
    write(tmp_path, "train", columns)
    stream = open_stream(replace(config, path=str(tmp_path)), "train")
    bad = []
    for row in stream:
        try:
            stream.decode(row)
        except DataError as error:
            assert f"row {row.place}" in str(error)
            bad.append(row.place)
    assert bad == [5, 7]


def test_label_without_a_class(config: DataConfig, tmp_path: Path) -> None:
    write(tmp_path, "train", {**rows_of(4, 0), "label": [0, 1, -1, 2]})
    with pytest.raises(DataError, match="label -1"):
        list(open_stream(replace(config, path=str(tmp_path)), "train"))


class _Hub:
    """``datasets.load_dataset`` of a Hub data set whose description may know its size."""

    def __init__(self, folder: Path, known: Dict[str, int]):
        self.folder, self.known = folder, known
        self.load = library.load.load_dataset  # not the one that is replaced

    def __call__(self, path: str, name: Any, *, split: str, streaming: bool) -> Any:
        assert (path, name, streaming) == ("timm/pets", None, True)
        file = str(self.folder / f"{split}.parquet")
        rows = self.load("parquet", data_files=file, split="train", streaming=True)
        known = {k: library.SplitInfo(k, num_examples=v) for k, v in self.known.items()}
        rows.info.splits = library.SplitDict(known)
        return rows


def test_size_of_a_hub_set_comes_from_its_description(
    config: DataConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, path="timm/pets")
    monkeypatch.setattr(library, "load_dataset", _Hub(folder, {"train": 37, "test": 6}))
    assert len(open_stream(config, "train")) == 37
    with pytest.raises(DataError, match="set limit_eval"):
        open_stream(config, "valid")
    assert len(open_stream(replace(config, limit_eval=3), "valid")) == 3
    with pytest.raises(DataError, match="ended after 5 of 6"):
        list(open_stream(config, "test"))
    monkeypatch.setattr(library, "load_dataset", _Hub(folder, {"train": 30}))
    with pytest.raises(DataError, match="more than the 30"):
        list(open_stream(config, "train"))


def batches(config: DataConfig, plan: Plan, process: int, start: int = 0, workers: int = 0) -> Any:
    run = make_config({"run": {"output": "x", "workers": workers}, "data": {"path": "x"}})
    stream = open_stream(config, "train")
    return list(loader.training_batches(stream, _noisy, run, plan, process, start))


def _noisy(image: Image.Image) -> torch.Tensor:
    """A transform whose random numbers show."""
    return torch.from_numpy(np.array(image)).float() + torch.rand(32, 32, 1) + np.random.rand()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_on_no_worker_no_process_and_no_interruption(
    config: DataConfig, workers: int
) -> None:
    plan = Plan(37, 4, 2, 2, 3, 7)
    one = batches(config, Plan(37, 8, 1, 2, 3, 7), 0)
    assert len(one) == 12  # four passes an epoch
    left, right = (batches(config, plan, p, workers=workers) for p in (0, 1))
    for whole, a, b in zip(one, left, right, strict=True):
        assert torch.equal(whole[0], torch.cat([a[0], b[0]]))
        assert torch.equal(whole[1], torch.cat([a[1], b[1]]))
    rest = batches(config, plan, 1, start=3, workers=workers)  # the second update of epoch two
    assert all(torch.equal(a[0], b[0]) for a, b in zip(rest, right[6:], strict=True))
    epochs = [torch.cat([b[0].flatten(1).mean(1).round() for b in one[i : i + 4]]) for i in (0, 4)]
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_reads_every_image_once(config: DataConfig, workers: int) -> None:
    options = {"run": {"output": "x", "workers": workers}, "data": {"path": "x"}}
    run = make_config({**options, "optim": {"batch_size": 2}})
    seen: List[Any] = []
    for process in (0, 1):
        found = loader.evaluation_batches(
            open_stream(config, "valid"), _plain, run, process, processes=2
        )
        seen += [(image.sum().item(), int(t)) for b in found for image, t in zip(*b, strict=True)]
    table = open_table(replace(config, streaming=False), "valid")
    assert sorted(seen) == sorted((_plain(image).sum().item(), t) for image, t in table)


def _plain(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).float()


def trained(folder: Path, output: Path, drawn: bool = False, **options: Any) -> Path:
    options["data"] = {
        "path": str(folder), "ignore": ("even",), "streaming": True, **options.get("data", {}),
    }  # fmt: skip
    options["run"] = {"output": str(output), **options.get("run", {})}
    with nullcontext() if drawn else undrawn():
        return train(make_config(options))


def result(output: Path) -> Any:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [r["loss"] for r in rows if "loss" in r]
    summary = json.loads((output / "summary.json").read_text())
    return losses, summary["valid"], summary["test"], load_file(output / "export/model.safetensors")


def test_run_goes_on_in_mid_epoch_to_the_bit(folder: Path, tmp_path: Path) -> None:
    run = {"keep": 100, "workers": 2, "save_every": 1}
    whole = trained(folder, tmp_path / "whole", drawn=True, run=run)
    losses, valid, test, weights = result(whole)
    assert (whole / "samples.png").is_file()
    for step in state.steps(whole / "state"):
        if step.name > "step_00000006":
            shutil.rmtree(step)
    (whole / "summary.json").unlink()
    trained(folder, whole)
    again = result(whole)
    assert again[:3] == (losses, valid, test)
    assert all(torch.equal(v, again[3][k]) for k, v in weights.items())


def test_order_depends_on_the_options_of_the_stream(folder: Path, tmp_path: Path) -> None:
    usual = result(trained(folder, tmp_path / "usual", optim={"epochs": 1}))[0]
    for field, value in (("streaming", False), ("shuffle_buffer", 5)):
        other = trained(folder, tmp_path / field, optim={"epochs": 1}, data={field: value})
        assert result(other)[0] != usual, field


def test_what_needs_all_labels_or_reads_once_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="class-balance"):
        trained(folder, tmp_path / "a", optim={"class_balance": True})
    data = {"path": str(folder), "ignore": ("even",), "streaming": True}
    options = {"data": data, "run": {"output": str(tmp_path / "b"), "channels_last": False}}
    with pytest.raises(InvalidInputError, match=r"leave --data\.streaming out"):
        train(make_config(options), "", HeadTrainer)
