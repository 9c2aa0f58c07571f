"""Every layout of a data set is read as it was written."""

import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Tuple, get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from se_zoo.cli.check import Check
from se_zoo.data import ClipDataConfig, DataConfig, ImageTable, check, open_table
from se_zoo.data.tables.layout import Layout
from se_zoo.data.tables.open import _READERS

from .data_sets import (
    ATTRIBUTES,
    CLASSES,
    LAYOUTS,
    SINGLE,
    SPLITS,
    attributes_of,
    class_of,
    columns,
    datasets,  # noqa: F401  (a fixture)
    make_csv_multi,
    make_csv_single,
    make_folders,
    make_multi,
    multi_columns,
    pixels,
    refused,
    write_parquet,
)
from .preloaded import start_process


def original_row(table: ImageTable, row: int) -> int:
    """Folders are read class by class, and their files carry the row they were written as."""
    return int(Path(table.stored.name(row) or f"{row}").stem)


def test_every_layout_has_a_reader_and_the_check_knows_those_of_videos() -> None:
    assert set(get_args(Layout)) == set(_READERS)
    declared, checked = (get_type_hints(each)["layout"] for each in (ClipDataConfig, Check))
    assert declared == checked and set(get_args(declared)) <= {"auto", *get_args(Layout)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_what_was_written(tmp_path: Path, datasets: Any, layout: str) -> None:
    config = LAYOUTS[layout](tmp_path / "data")
    for split, count in SPLITS.items():
        table = open_table(config, split)
        assert len(table) == len(list(table)) == count
        assert str(tmp_path) in table.name and split in table.name
        rows = [original_row(table, i) for i in range(count)]
        assert sorted(rows) == list(range(count))
        for place, row in enumerate(rows):
            image, target = table[place]
            assert image.mode == "RGB"
            assert np.array_equal(np.array(image), np.array(pixels(split, row)))
            if table.multi_label:
                assert isinstance(target, torch.Tensor) and target.dtype == torch.float32
                assert target.tolist() == [float(t) for t in attributes_of(row)]
                assert torch.equal(table.targets[place], target)
            else:
                assert type(target) is int and target == class_of(row) == table.targets[place]
        if table.multi_label:
            assert table.labels == ATTRIBUTES and table.targets.shape == (count, 2)
        else:
            assert table.labels == (("0", "1", "2") if "numbers" in layout else CLASSES)
            assert table.targets.dtype == torch.long
    report = check(config, workers=0, progress=False)
    assert report.ok and not report.warnings, str(report)
    assert {split: n.decoded for split, n in report.counts.items()} == SPLITS


def test_writing_to_a_target_leaves_the_table_unchanged(tmp_path: Path) -> None:
    table = open_table(make_csv_multi(tmp_path / "data"), "train")
    target: Any = table[0][1]
    target.fill_(7)
    assert table[0][1].tolist() == [1, 1]  # type: ignore[union-attr]


def test_rows_outside_are_index_errors(tmp_path: Path) -> None:
    table = open_table(make_folders(tmp_path / "data"), "test")
    assert np.array_equal(np.array(table[-1][0]), np.array(table[3][0]))
    for row in (4, -5):
        with pytest.raises(IndexError, match="4 rows"):
            table[row]


def test_attributes_come_in_the_declared_order(tmp_path: Path, datasets: Any) -> None:
    config = replace(make_multi(tmp_path / "data"), attributes=ATTRIBUTES[::-1])
    table = open_table(config, "train")
    assert table.labels == ("Big", "Old")
    assert table.targets.tolist() == [list(map(float, attributes_of(i)[::-1])) for i in range(6)]


def test_limit_cuts_training_and_limit_eval_the_other_splits(tmp_path: Path) -> None:
    config = replace(make_csv_single(tmp_path / "data"), limit=2)
    assert [len(open_table(config, split)) for split in SPLITS] == [2, 3, 4]
    train = open_table(config, "train")
    assert train.labels == CLASSES
    whole = open_table(replace(config, limit=None), "train").targets
    assert train.targets.tolist() == whole[[0, 3]].tolist(), "evenly spaced"
    assert [np.array(image).tolist() for image, _ in train] == [
        np.array(pixels("train", row)).tolist() for row in (0, 3)
    ]
    assert train.where(1).startswith("the train split") and "row 3" in train.where(1)
    few = replace(config, limit_eval=3)
    assert [len(open_table(few, split)) for split in SPLITS] == [2, 3, 3]
    assert check(config, workers=0).counts["train"].decoded == 6


def test_unexpected_columns_are_refused_unless_ignored(tmp_path: Path, datasets: Any) -> None:
    config = make_multi(tmp_path / "data")
    content = {**multi_columns("train", 6), "celeb_id": list(range(6))}
    write_parquet(tmp_path / "data", "train", content)
    refused(config, "unexpected: [celeb_id]", "found: [image, Old, Big, celeb_id]")
    assert len(open_table(replace(config, ignore=("celeb_id", "not there")), "train")) == 6


def test_a_column_start_of_images_is_like_any_other(tmp_path: Path) -> None:
    """In tables of clips it says where a part begins."""
    make_folders(tmp_path / "data")
    file = next((tmp_path / "data").rglob("*.png")).relative_to(tmp_path / "data")
    (tmp_path / "a.csv").write_text(f"image,label,start\n{file},x,monday\n")
    config = DataConfig(
        str(tmp_path / "data"), csv=tmp_path / "a.csv", label="label", ignore=("start",)
    )
    assert len(open_table(config, "train")) == 1


def test_a_split_may_serve_twice(tmp_path: Path) -> None:
    config = replace(make_folders(tmp_path / "data"), splits=("train", "test", "test"))
    assert len(open_table(config, "test")) == 4
    report = check(config, workers=0)
    assert report.ok and list(report.counts) == ["train", "test"]
    assert "validation and test" in report.warnings[0]


def test_number_labels_keep_their_value_when_classes_are_missing(
    tmp_path: Path, datasets: Any
) -> None:
    """A class that does not occur must not move the others."""
    for split, values in {"train": [0, 3, 1], "valid": [3], "test": [1]}.items():
        content = {**columns(split, len(values)), "label": values}
        write_parquet(tmp_path / "data", split, content)
    config = replace(SINGLE, path=str(tmp_path / "data"))
    assert open_table(config, "train").labels == ("0", "1", "2", "3")
    assert open_table(config, "valid").targets.tolist() == [3]
    assert open_table(config, "test").labels == ("0", "1", "2", "3")
    assert any("never occur: [2]" in warning for warning in check(config, 0).warnings)


def test_csv_without_splits_is_for_training(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    config = make_csv_single(folder)
    (folder / "table.csv").write_text("image,label\ntrain/0.png, cat \n\ntrain/1.png,dog\n")
    assert open_table(config, "train").labels == ("cat", "dog")
    refused(config, "Needed: [train, valid, test]", "found: [train]", '"split"', split="test")
    once = replace(config, splits=("train", "train", "train"))
    assert check(once, workers=0).counts["train"].labels == (1, 1)


class _Hub:
    """Stands for datasets.load_dataset on a Hub data set."""

    def __init__(self, **splits: Any):
        self.splits = splits
        self.asked: List[Tuple[str, Any]] = []

    def __call__(self, path: str, name: Any = None, *, split: str) -> Any:
        self.asked.append((path, name))
        if split not in self.splits:
            raise ValueError(f'Unknown split "{split}". Should be one of {list(self.splits)}.')
        return self.splits[split]


def test_hub_data_with_other_columns_and_no_validation_split(
    datasets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema of uoft-cs/cifar10: other column names, no validation split."""
    features = datasets.Features(
        img=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES))
    )
    made = {
        split: datasets.Dataset.from_dict(
            {**columns(split, count, "img"), "label": [class_of(i) for i in range(count)]}, features
        )
        for split, count in (("train", 6), ("test", 4))
    }
    hub = _Hub(**made)
    monkeypatch.setattr(datasets, "load_dataset", hub)
    config = DataConfig("uoft-cs/cifar10", "plain_text", image="img", label="label")
    refused(config, "[train, valid, test]", "['train', 'test']", split="valid")
    config = replace(config, splits=("train", "test", "test"))
    table = open_table(config, "test")
    assert table.labels == CLASSES and table[1][1] == 1
    assert np.array_equal(np.array(table[1][0]), np.array(pixels("test", 1)))
    assert set(hub.asked) == {("uoft-cs/cifar10", "plain_text")}
    assert check(config, workers=0).ok


def test_hub_that_cannot_be_reached_is_refused(datasets: Any) -> None:
    refused(replace(SINGLE, path="no-such/data"), "no-such/data is not a folder here", "train")


# Processes


def first_of(batch: List[Any]) -> Tuple[Tuple[int, ...], str]:
    return np.array(batch[0][0]).shape, str(batch[0][1])


@pytest.mark.parametrize("layout", ["parquet, attributes", "folders"])
@pytest.mark.parametrize("limit", [None, 4])
def test_pickled_table_reads_the_same(
    tmp_path: Path, datasets: Any, layout: str, limit: Any
) -> None:
    table = open_table(replace(LAYOUTS[layout](tmp_path / "data"), limit=limit), "train")
    copy = pickle.loads(pickle.dumps(table))
    assert len(copy) == len(table) == (limit or 6) and copy.labels == table.labels
    for (a, x), (b, y) in zip(table, copy, strict=True):
        assert np.array_equal(np.array(a), np.array(b)) and str(x) == str(y)


def test_new_loader_process_reads_the_table(tmp_path: Path, datasets: Any) -> None:
    """One that has imported torch, and nothing of se_zoo: its table is pickled."""
    start_process(int).join()  # the fork server with torch
    context = multiprocessing.get_context("forkserver")
    table = open_table(make_multi(tmp_path / "data"), "train")
    loader = DataLoader(
        table, num_workers=1, multiprocessing_context=context, collate_fn=first_of, batch_size=3
    )
    assert list(loader) == [((9, 7, 3), "tensor([1., 1.])"), ((9, 7, 3), "tensor([0., 1.])")]
