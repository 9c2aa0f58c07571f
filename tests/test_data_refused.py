"""Data sets that cannot be opened are refused with an error that says what is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List

import pytest

from se_zoo.data import DataConfig, check

from .data_sets import (
    ATTRIBUTES,
    CLASSES,
    MULTI,
    SINGLE,
    columns,
    datasets,  # noqa: F401  (a fixture)
    edit,
    make_class_labels,
    make_csv_multi,
    make_csv_single,
    make_folders,
    make_multi,
    multi_columns,
    refused,
    write_parquet,
)


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "data")
    listing = make_csv_single(tmp_path / "listed")
    refused(replace(folders, path=str(tmp_path / "none")), "no such folder", "none")
    refused(replace(folders, path=""), "path is empty")
    refused(replace(folders, path=str(listing.csv)), "is not a folder")
    refused(replace(folders, name="plain"), "for Hub data")
    refused(replace(folders, label="label"), "no parquet files")
    refused(replace(folders, attributes=ATTRIBUTES), "no parquet files")
    refused(replace(folders, limit=0), "1 or more")
    refused(replace(folders, limit=7), "limit is 7", "has 6 images")
    refused(replace(folders, splits=("train", "", "test")), "empty name")
    refused(folders, "splits is [train, valid, test]", split="extra")
    refused(replace(listing, attributes=ATTRIBUTES), "exclude each other")
    refused(replace(listing, label=None), "set label")
    refused(replace(listing, label="image"), "more than once: [image]")
    refused(replace(listing, csv=Path("none.csv")), "no such file: none.csv")
    refused(replace(listing, csv=Path("table.csv")), "did you mean", "listed/table.csv")
    refused(DataConfig("some/hub-id"), "set label", "--data.label", "se-zoo check, --label")


@pytest.mark.parametrize("make", [make_multi, make_folders, make_csv_single])
def test_missing_split_shows_both_lists(
    tmp_path: Path, datasets: Any, make: Callable[[Path], DataConfig]
) -> None:
    config = replace(make(tmp_path / "data"), splits=("train", "val", "test"))
    options = "(--data.splits, or --splits of se-zoo check)."
    refused(config, "[train", "val", "test", "valid", options, split="val")
    assert any("valid" in error for error in check(config, workers=0).errors)


@pytest.mark.parametrize("column", ["image", "Old"])
def test_missing_column_shows_both_lists(tmp_path: Path, datasets: Any, column: str) -> None:
    config = make_multi(tmp_path / "data")
    content = multi_columns("valid", 3)
    content["Other"] = content.pop(column)
    write_parquet(tmp_path / "data", "valid", content)
    parts = (f"missing: [{column}]", "unexpected: [Other]", "Needed: [image, Old, Big]", "found: [")
    refused(config, *parts, split="valid")
    report = check(config, workers=0)
    assert len(report.errors) == 1 and list(report.counts) == ["train", "test"]


def test_csv_with_missing_or_repeated_columns_is_refused(tmp_path: Path) -> None:
    config = make_csv_single(tmp_path / "data")
    refused(replace(config, image="file_name"), "missing: [file_name]", "found: [image, split")
    edit(tmp_path / "data" / "table.csv", "image,split,label", "image,label,label")
    refused(config, "repeated: [label]")


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ([-1, 1] * 3, "Old (int64)"),
        ([0.0, 1.0] * 3, "Old (float64)"),
        (["yes", "no"] * 3, "string"),
    ],
)
def test_attributes_that_are_not_bool_are_refused(
    tmp_path: Path, datasets: Any, values: List[Any], part: str
) -> None:
    write_parquet(tmp_path / "data", "train", {**multi_columns("train", 6), "Old": values})
    refused(replace(MULTI, path=str(tmp_path / "data")), "must be bool", part, "column == 1")


@pytest.mark.parametrize("value", ["-1", "yes", "", "2"])
def test_csv_attributes_that_are_not_bool_are_refused(tmp_path: Path, value: str) -> None:
    config = make_csv_multi(tmp_path / "data")
    edit(tmp_path / "data" / "table.csv", "train/1.png,train,False", f"train/1.png,train,{value}")
    refused(config, "line 3", f"Old is '{value}'", "write 0 for -1")


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("train/1.png,train,cat", "train/1.png,train,cat,more", "line 3: 4 cells"),
        ("train/1.png,train,cat", "train/1.png,train,", "line 3: label is empty"),
        ("train/1.png,train,cat", "train/1.png,,cat", "line 3: split is empty"),
        ("train/1.png,train,cat", ",train,cat", "line 3: image is empty"),
        ("train/1.png,train,cat", '"train/1.png"x,train,cat', "as csv"),
    ],
)
def test_bad_csv_lines_are_refused_by_number(tmp_path: Path, old: str, new: str, part: str) -> None:
    config = make_csv_single(tmp_path / "data")
    edit(tmp_path / "data" / "table.csv", old, new)
    refused(config, part)


def test_file_that_is_no_csv_is_refused(tmp_path: Path) -> None:
    config = make_csv_single(tmp_path / "data")
    assert config.csv is not None
    config.csv.write_bytes(b"\xff\xfe\x00")
    refused(config, "UTF-8")
    config.csv.write_bytes(b"")
    refused(config, "missing: [image, label]")
    config.csv.write_bytes(b"image;split;label\ntrain/0.png;train;cat\n")
    refused(config, "table.csv separates its columns by ';'; write them with commas")


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ([0.5, 1.5], "must be a ClassLabel"),
        ([True, False], "must be a ClassLabel"),
        ([0, -1], "-1 usually marks"),
        ([0, 10**7], "numbers from 0 to 10000000"),
        ([0, None], "the first is row 1"),
        (["cat", " "], "is empty in row 1"),
    ],
)
def test_labels_that_are_no_classes_are_refused(
    tmp_path: Path, datasets: Any, values: List[Any], part: str
) -> None:
    write_parquet(tmp_path / "data", "train", {**columns("train", 2), "label": values})
    refused(replace(SINGLE, path=str(tmp_path / "data")), part)


def test_class_labels_of_unlabelled_rows_are_refused(tmp_path: Path, datasets: Any) -> None:
    """As the test split of ImageNet is on the Hub."""
    names = datasets.ClassLabel(names=list(CLASSES))
    content = {**columns("test", 2), "label": [1, -1]}
    config = make_class_labels(tmp_path / "data")
    write_parquet(tmp_path / "data", "test", content, label=names)
    refused(config, "1 values outside its 3 classes", "-1 in row 1", split="test")


def test_image_column_without_images_is_refused(tmp_path: Path, datasets: Any) -> None:
    write_parquet(tmp_path / "data", "train", {"image": [1, 2], "label": [0, 1]})
    refused(replace(SINGLE, path=str(tmp_path / "data")), "holds no images")


def test_file_that_is_no_parquet_is_refused(tmp_path: Path, datasets: Any) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").write_bytes(b"PAR1 and no more")
    refused(replace(SINGLE, path=str(tmp_path / "data")), "cannot load the train split")


def test_splits_whose_classes_differ_are_refused(tmp_path: Path, datasets: Any) -> None:
    config = make_folders(tmp_path / "folders")
    (tmp_path / "folders" / "test" / "dog").rename(tmp_path / "folders" / "test" / "wolf")
    parts = ("missing: [dog]", "new: [wolf]", "[bird, cat, dog]", "[bird, cat, wolf]")
    refused(config, *parts, split="test")
    assert any("wolf" in error for error in check(config, workers=0).errors)

    config = make_csv_single(tmp_path / "listed")
    edit(tmp_path / "listed" / "table.csv", "test/2.png,test,dog", "test/2.png,test,wolf")
    refused(config, "lacks: [wolf]", "[bird, cat, dog]", split="test")

    config = make_class_labels(tmp_path / "rows")
    other = datasets.ClassLabel(names=["cat", "bird", "dog"])
    write_parquet(tmp_path / "rows", "test", {**columns("test", 1), "label": [0]}, label=other)
    refused(config, "in another order", split="test")


def test_folders_without_classes_or_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    refused(DataConfig(str(tmp_path)), "a folder per class")
    (tmp_path / "train" / "cat").mkdir()
    refused(DataConfig(str(tmp_path)), "has no images")
    for file in ("notes.txt", ".hidden.jpg"):
        (tmp_path / "train" / "cat" / file).write_text("no image")
    refused(DataConfig(str(tmp_path)), "has no images. Its files end in .txt; images end in .avif")
    deeper = tmp_path / "train" / "cat" / "black"
    deeper.mkdir()
    (deeper / "0.png").write_text("no image")
    refused(DataConfig(str(tmp_path)), "has no images. Its images lie in", "train/<class>/<image>")
