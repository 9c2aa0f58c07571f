"""The sample data has the counts that CONTRIBUTING.md states."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Set

import pytest
import torch

from se_zoo.data import DataConfig, check, open_table
from se_zoo.data.celeba import CELEBA_IGNORE
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES

from .data_sets import (
    datasets,  # noqa: F401  (a fixture)
    refused,
)

CELEBA_SPLITS = {"train": 36775, "valid": 4535, "test": 3665}


@pytest.mark.data
def test_celeba_sample_has_the_stated_rows(data_dir: Path, tmp_path: Path, datasets: Any) -> None:
    """Its first rows: of the 36,775 training images no test reads all."""
    parquet = pytest.importorskip("pyarrow.parquet")
    for split, count in CELEBA_SPLITS.items():
        stored = parquet.ParquetFile(data_dir / "celeba46k" / f"{split}.parquet")
        assert stored.metadata.num_rows == count
        parquet.write_table(stored.read_row_group(0), tmp_path / f"{split}.parquet")
    config = DataConfig(str(tmp_path), attributes=CELEBA_ATTRIBUTES, ignore=CELEBA_IGNORE)
    report = check(config, fast=True)
    assert report.ok and not report.warnings
    assert [n.samples for n in report.counts.values()] == [1000, 1000, 1000]
    sizes = [(count.width, count.height) for count in report.counts.values()]
    assert sizes == [((104, 104), (128, 128))] * 3
    assert open_table(config, "test").targets.shape == (1000, 40)
    refused(replace(config, ignore=()), "unexpected: [celeb_id, image_id]")


@pytest.mark.data
def test_nobody_is_in_two_parts_of_the_celeba_sample(data_dir: Path) -> None:
    """Nor is anybody with part masks in its train part: their maps are measured on new faces."""
    parquet = pytest.importorskip("pyarrow.parquet")

    def people(*names: str) -> Set[int]:
        table = parquet.read_table(data_dir.joinpath(*names), columns=["celeb_id"])
        return set(table["celeb_id"].to_pylist())

    train, valid, test = (people("celeba46k", f"{split}.parquet") for split in CELEBA_SPLITS)
    assert len(train | valid | test) == len(train) + len(valid) + len(test)
    assert not train & people("celeba_parts", "parts.parquet")


@pytest.mark.data
def test_majority_of_the_celeba_sample_scores_as_stated(data_dir: Path) -> None:
    """What always answering the majority scores, as recipes/celeba.py states it."""
    parquet = pytest.importorskip("pyarrow.parquet")
    file = data_dir / "celeba46k" / "test.parquet"
    table = parquet.read_table(file, columns=list(CELEBA_ATTRIBUTES))
    share = torch.tensor([table[name].to_pylist() for name in CELEBA_ATTRIBUTES]).double().mean(1)
    assert torch.maximum(share, 1 - share).mean().item() == pytest.approx(0.805, abs=5e-4)


@pytest.mark.data
def test_cifar10_sample_has_the_stated_rows(data_dir: Path, datasets: Any) -> None:
    splits = ("train", "test", "test")
    config = DataConfig(str(data_dir / "cifar10"), splits=splits, label="label")
    report = check(config, fast=True)
    assert report.ok and report.labels[:3] == ("airplane", "automobile", "bird")
    assert report.counts["train"].samples == 20000 and report.counts["test"].samples == 4000


@pytest.mark.data
def test_imagenet_sample_has_an_image_of_every_class(data_dir: Path, datasets: Any) -> None:
    config = DataConfig(
        str(data_dir / "imagenet_sample"), splits=("train",) * 3, label="label", ignore=("wnid",)
    )
    table = open_table(config, "train")
    assert len(table.labels) == 1000 and sorted(table.targets.tolist()) == list(range(1000))
    image, target = table[0]
    assert image.mode == "RGB" and table.labels[int(target)].startswith("n")
    refused(replace(config, ignore=()), "unexpected: [wnid]")
