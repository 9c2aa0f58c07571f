"""Every layout of a data set, and everything that can be wrong with one."""

import csv
import io
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from se_zoo import cli
from se_zoo.cli.check import Check, data_config
from se_zoo.data import DataConfig, ImageTable, check, open_table
from se_zoo.data.celeba import CELEBA_IGNORE
from se_zoo.data.images import read_rgb
from se_zoo.data.tables.content import Content
from se_zoo.errors import DataError
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES

SPLITS = {"train": 6, "valid": 3, "test": 4}
CLASSES = ("bird", "cat", "dog")
ATTRIBUTES = ("Old", "Big")
MULTI = DataConfig("", attributes=ATTRIBUTES)
SINGLE = DataConfig("", label="label")


def pixels(split: str, row: int) -> Image.Image:
    """An image that no other row has."""
    noise = np.random.default_rng([row, *split.encode()])
    return Image.fromarray(noise.integers(0, 256, (9, 7, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def class_of(row: int) -> int:
    return row % 3


def attributes_of(row: int) -> List[bool]:
    return [row % 2 == 0, row % 3 == 0]


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, with a cache of its own."""
    library = pytest.importorskip("datasets", reason="parquet and Hub data need se_zoo[train]")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return library


def columns(split: str, count: int, image: str = "image") -> Dict[str, List[Any]]:
    files = [{"bytes": encoded(pixels(split, i)), "path": f"{i}.png"} for i in range(count)]
    return {image: files}


def multi_columns(split: str, count: int) -> Dict[str, List[Any]]:
    truth = [attributes_of(i) for i in range(count)]
    named = {name: [row[k] for row in truth] for k, name in enumerate(ATTRIBUTES)}
    return {**columns(split, count), **named}


def write_parquet(folder: Path, split: str, content: Dict[str, List[Any]], **kinds: Any) -> None:
    """kinds: features of columns, where the values do not say them."""
    import datasets

    table = datasets.Dataset.from_dict(content)
    for name, kind in kinds.items():
        table = table.cast_column(name, kind)
    folder.mkdir(exist_ok=True)
    table.to_parquet(folder / f"{split}.parquet")


def make_multi(folder: Path) -> DataConfig:
    for split, count in SPLITS.items():
        write_parquet(folder, split, multi_columns(split, count))
    return replace(MULTI, path=str(folder))


def make_single(folder: Path, value: Callable[[int], Any], **kinds: Any) -> DataConfig:
    for split, count in SPLITS.items():
        labels = [value(class_of(i)) for i in range(count)]
        write_parquet(folder, split, {**columns(split, count), "label": labels}, **kinds)
    return replace(SINGLE, path=str(folder))


def make_class_labels(folder: Path) -> DataConfig:
    import datasets

    names = datasets.ClassLabel(names=list(CLASSES))
    return make_single(folder, int, label=names, image=datasets.Image())


def make_names(folder: Path) -> DataConfig:
    return make_single(folder, CLASSES.__getitem__)


def make_numbers(folder: Path) -> DataConfig:
    return make_single(folder, int)


def make_plain_bytes(folder: Path) -> DataConfig:
    """As other tools write parquet: a binary column, nothing of datasets in the schema."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir()
    for split, count in SPLITS.items():
        files = [encoded(pixels(split, i)) for i in range(count)]
        labels = [CLASSES[class_of(i)] for i in range(count)]
        table = pyarrow.table({"image": files, "label": labels})
        pyarrow.parquet.write_table(table, folder / f"{split}.parquet")
    return replace(SINGLE, path=str(folder))


def make_folders(folder: Path) -> DataConfig:
    for split, count in SPLITS.items():
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
        for i in range(count):
            file = folder / split / CLASSES[class_of(i)] / f"{i}.png"
            file.write_bytes(encoded(pixels(split, i)))
    return DataConfig(str(folder))


def make_csv(folder: Path, header: Sequence[str], cells: Callable[[int], Sequence[Any]]) -> Path:
    """Images in a folder for every split, and a table beside them."""
    rows = []
    for split, count in SPLITS.items():
        (folder / split).mkdir(parents=True)
        for i in range(count):
            (folder / split / f"{i}.png").write_bytes(encoded(pixels(split, i)))
            rows.append([f"{split}/{i}.png", split, *cells(i)])
    path = folder / "table.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
        csv.writer(file).writerows([["image", "split", *header], *rows])
    return path


def make_csv_single(folder: Path) -> DataConfig:
    path = make_csv(folder, ["label"], lambda i: [CLASSES[class_of(i)]])
    return replace(SINGLE, path=str(folder), csv=path)


def make_csv_multi(folder: Path) -> DataConfig:
    path = make_csv(folder, ATTRIBUTES, lambda i: [attributes_of(i)[0], int(attributes_of(i)[1])])
    return replace(MULTI, path=str(folder), csv=path)


LAYOUTS = {
    "parquet, attributes": make_multi,
    "parquet, ClassLabel": make_class_labels,
    "parquet, names": make_names,
    "parquet, numbers": make_numbers,
    "parquet, bytes": make_plain_bytes,
    "folders": make_folders,
    "csv, label": make_csv_single,
    "csv, attributes": make_csv_multi,
}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def refused(config: DataConfig, *parts: str, split: str = "train") -> None:
    """Opening fails with an error that holds the parts."""
    with pytest.raises(DataError) as info:
        open_table(config, split)
    for part in parts:
        assert part in str(info.value)


# ---------------------------------------------------------------------------------- reading


def original_row(table: ImageTable, row: int) -> int:
    """Folders are read class by class, and their files carry the row they were written as."""
    return int(Path(table.stored.name(row) or f"{row}").stem)


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


def test_target_is_a_copy(tmp_path: Path) -> None:
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


def test_limit_is_of_the_training_split(tmp_path: Path) -> None:
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


def test_ignored_columns(tmp_path: Path, datasets: Any) -> None:
    config = make_multi(tmp_path / "data")
    content = {**multi_columns("train", 6), "celeb_id": list(range(6))}
    write_parquet(tmp_path / "data", "train", content)
    refused(config, "unexpected: [celeb_id]", "found: [image, Old, Big, celeb_id]")
    assert len(open_table(replace(config, ignore=("celeb_id", "not there")), "train")) == 6


def test_a_split_may_serve_twice(tmp_path: Path) -> None:
    config = replace(make_folders(tmp_path / "data"), splits=("train", "test", "test"))
    assert len(open_table(config, "test")) == 4
    report = check(config, workers=0)
    assert report.ok and list(report.counts) == ["train", "test"]
    assert "validation and test" in report.warnings[0]


def test_numbers_keep_their_value(tmp_path: Path, datasets: Any) -> None:
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


def test_hub_data(datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_hub_that_cannot_be_reached(datasets: Any) -> None:
    refused(replace(SINGLE, path="no-such/data"), "no-such/data is not a folder here", "train")


# ------------------------------------------------------------------------- processes, imports


def first_of(batch: List[Any]) -> Tuple[Tuple[int, ...], str]:
    return np.array(batch[0][0]).shape, str(batch[0][1])


@pytest.mark.parametrize("layout", ["parquet, attributes", "folders"])
@pytest.mark.parametrize("limit", [None, 4])
def test_pickles(tmp_path: Path, datasets: Any, layout: str, limit: Any) -> None:
    table = open_table(replace(LAYOUTS[layout](tmp_path / "data"), limit=limit), "train")
    copy = pickle.loads(pickle.dumps(table))
    assert len(copy) == len(table) == (limit or 6) and copy.labels == table.labels
    for (a, x), (b, y) in zip(table, copy, strict=True):
        assert np.array_equal(np.array(a), np.array(b)) and str(x) == str(y)


def test_spawned_loader_process(tmp_path: Path, datasets: Any) -> None:
    table = open_table(make_multi(tmp_path / "data"), "train")
    loader = DataLoader(
        table, num_workers=1, multiprocessing_context="spawn", collate_fn=first_of, batch_size=3
    )
    assert list(loader) == [((9, 7, 3), "tensor([1., 1.])"), ((9, 7, 3), "tensor([0., 1.])")]


def test_import_is_light() -> None:
    script = "import sys, se_zoo.data, se_zoo.cli; print([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = eval(done.stdout)
    assert "se_zoo.data.tables.parquet" in loaded
    assert not {"datasets", "pandas", "pyarrow", "accelerate"} & set(loaded)


# ----------------------------------------------------------------------------------- images


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    file = io.BytesIO()
    form = "TIFF" if mode == "CMYK" else "PNG"
    Image.new("RGB", (5, 4), "white").convert(mode).save(file, form)
    image = read_rgb(file)
    assert image.mode == "RGB" and image.size == (5, 4)
    assert image.getpixel((2, 2)) == (255, 255, 255)


def test_transparent_palette_lies_on_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((0, 0), 0)
    file = io.BytesIO(encoded(image, transparency=1))
    opened = read_rgb(file)
    assert opened.getpixel((0, 0)) == (0, 0, 0) and opened.getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, orientation: int) -> None:
    """Two corners tell the eight orientations apart; the stored image has both at the top."""
    stored = Image.new("RGB", (40, 24))
    stored.paste("red", (0, 0, 8, 8))
    stored.paste("blue", (32, 0, 40, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "train" / "face" / "turned.jpg"
    file.parent.mkdir(parents=True)
    stored.save(file, exif=exif, quality=95, subsampling=0)
    image, _ = open_table(DataConfig(str(tmp_path)), "train")[0]
    width, height = image.size
    assert (width > height) == (orientation < 5)
    corners = {(x, y): image.getpixel((x, y)) for x in (3, width - 4) for y in (3, height - 4)}
    red = next(at for at, colour in corners.items() if colour[0] > 200)  # type: ignore[index]
    blue = next(at for at, colour in corners.items() if colour[2] > 200)  # type: ignore[index]
    left, top, right, bottom = 3, 3, width - 4, height - 4
    assert (red, blue) == {
        1: ((left, top), (right, top)),
        2: ((right, top), (left, top)),
        3: ((right, bottom), (left, bottom)),
        4: ((left, bottom), (right, bottom)),
        5: ((left, top), (left, bottom)),
        6: ((right, top), (right, bottom)),
        7: ((right, bottom), (right, top)),
        8: ((left, bottom), (left, top)),
    }[orientation]


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pixels_of_unknown_range(mode: str) -> None:
    file = io.BytesIO(encoded(Image.new(mode, (4, 4)), "TIFF"))
    with pytest.raises(ValueError, match="convert it to 8 bit"):
        read_rgb(file)


@pytest.mark.filterwarnings("ignore")  # Pillow's own, on what it finds odd
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_damaged_files_give_one_kind_of_error(form: str) -> None:
    rng = np.random.default_rng(0)
    whole = encoded(pixels("train", 0).resize((64, 64)), form)
    failures = 0
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 400), 3):
            data[place] ^= int(rng.integers(1, 256))
        try:
            read_rgb(io.BytesIO(bytes(data[: int(rng.integers(1, len(data)))])))
        except ValueError:
            failures += 1
    assert failures > 50


DAMAGE = {
    "truncated": (encoded(Image.effect_noise((64, 64), 90), "PNG")[:900], "cannot read the image"),
    "text": (b"hello", "not an image"),
    "empty": (b"", "not an image"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_corrupt_image_is_named(tmp_path: Path, datasets: Any, damage: str) -> None:
    data, reason = DAMAGE[damage]
    config = make_folders(tmp_path / "data")
    (tmp_path / "data" / "train" / "cat" / "1.png").write_bytes(data)
    table = open_table(config, "train")
    row = [table.stored.name(i) for i in range(6)].index("train/cat/1.png")
    with pytest.raises(DataError, match=rf"train split .* row {row} \(train/cat/1.png\): {reason}"):
        table[row]

    content = multi_columns("train", 6)
    content["image"][2] = {"bytes": data, "path": "two.png"}
    write_parquet(tmp_path / "rows", "train", content)
    table = open_table(replace(MULTI, path=str(tmp_path / "rows")), "train")
    with pytest.raises(DataError, match=rf"train split .* row 2 \(two.png\): {reason}"):
        table[2]
    table[1], table[3]


def test_row_without_an_image(tmp_path: Path, datasets: Any) -> None:
    content = multi_columns("train", 6)
    content["image"][1] = None
    content["image"][2] = {"bytes": None, "path": "nowhere.png"}
    write_parquet(tmp_path / "data", "train", content)
    table = open_table(replace(MULTI, path=str(tmp_path / "data")), "train")
    with pytest.raises(DataError, match="row 1: the row is empty"):
        table[1]
    with pytest.raises(DataError, match=r"row 2 \(nowhere.png\): no such file"):
        table[2]


# ----------------------------------------------------------------------------------- errors


def test_bad_settings(tmp_path: Path) -> None:
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
    refused(DataConfig("some/hub-id"), "set label")


@pytest.mark.parametrize("make", [make_multi, make_folders, make_csv_single])
def test_missing_split_shows_both_lists(
    tmp_path: Path, datasets: Any, make: Callable[[Path], DataConfig]
) -> None:
    config = replace(make(tmp_path / "data"), splits=("train", "val", "test"))
    refused(config, "[train", "val", "test", "valid", split="val")
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


def test_csv_columns(tmp_path: Path) -> None:
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
def test_attributes_that_are_not_bool(
    tmp_path: Path, datasets: Any, values: List[Any], part: str
) -> None:
    write_parquet(tmp_path / "data", "train", {**multi_columns("train", 6), "Old": values})
    refused(replace(MULTI, path=str(tmp_path / "data")), "must be bool", part, "column == 1")


@pytest.mark.parametrize("value", ["-1", "yes", "", "2"])
def test_csv_attributes_that_are_not_truth(tmp_path: Path, value: str) -> None:
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
def test_csv_lines(tmp_path: Path, old: str, new: str, part: str) -> None:
    config = make_csv_single(tmp_path / "data")
    edit(tmp_path / "data" / "table.csv", old, new)
    refused(config, part)


def test_csv_that_is_none(tmp_path: Path) -> None:
    config = make_csv_single(tmp_path / "data")
    assert config.csv is not None
    config.csv.write_bytes(b"\xff\xfe\x00")
    refused(config, "UTF-8")
    config.csv.write_bytes(b"")
    refused(config, "missing: [image, label]")


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ([0.5, 1.5], "must be a ClassLabel"),
        ([True, False], "must be a ClassLabel"),
        ([0, -1], "-1 usually marks"),
        ([0, 10**7], "numbers from 0 to 10000000"),
        ([0, None], "the first is row 1"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, datasets: Any, values: List[Any], part: str) -> None:
    write_parquet(tmp_path / "data", "train", {**columns("train", 2), "label": values})
    refused(replace(SINGLE, path=str(tmp_path / "data")), part)


def test_unlabelled_class_labels(tmp_path: Path, datasets: Any) -> None:
    """As the test split of ImageNet is on the Hub."""
    names = datasets.ClassLabel(names=list(CLASSES))
    content = {**columns("test", 2), "label": [1, -1]}
    config = make_class_labels(tmp_path / "data")
    write_parquet(tmp_path / "data", "test", content, label=names)
    refused(config, "1 values outside its 3 classes", "-1 in row 1", split="test")


def test_image_column_that_is_none(tmp_path: Path, datasets: Any) -> None:
    write_parquet(tmp_path / "data", "train", {"image": [1, 2], "label": [0, 1]})
    refused(replace(SINGLE, path=str(tmp_path / "data")), "holds no images")


def test_parquet_that_is_none(tmp_path: Path, datasets: Any) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").write_bytes(b"PAR1 and no more")
    refused(replace(SINGLE, path=str(tmp_path / "data")), "cannot load the train split")


def test_class_mismatch(tmp_path: Path, datasets: Any) -> None:
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


def test_folders_without_classes_or_images(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    refused(DataConfig(str(tmp_path)), "a folder per class")
    (tmp_path / "train" / "cat").mkdir()
    refused(DataConfig(str(tmp_path)), "has no images")
    for file in ("notes.txt", ".hidden.jpg"):
        (tmp_path / "train" / "cat" / file).write_text("no image")
    refused(DataConfig(str(tmp_path)), "has no images")


# ------------------------------------------------------------------------------------ check


@pytest.mark.parametrize("workers", [0, 2])
def test_check_names_every_bad_file(tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "data"
    config = make_csv_single(folder)
    (folder / "train" / "0.png").write_bytes(b"hello")
    whole = (folder / "test" / "3.png").read_bytes()
    (folder / "test" / "3.png").write_bytes(whole[:-30])
    (folder / "valid" / "2.png").unlink()
    (folder / "valid" / "extra.JPG").write_bytes(b"")
    (folder / "valid" / "extra.txt").write_bytes(b"")
    state = torch.get_rng_state()
    report = check(config, workers=workers, progress=False)
    assert torch.equal(state, torch.get_rng_state())
    assert not report.ok and len(report.errors) == 3
    for file, reason in (
        ("row 0 (train/0.png)", "not an image"),
        ("row 2 (valid/2.png)", "no such file"),
        ("row 3 (test/3.png)", "cannot read the image"),
    ):
        assert [e for e in report.errors if file in e and reason in e], report.errors
    unused = [w for w in report.warnings if "belong to no row" in w]
    assert len(unused) == 1 and "valid/extra.JPG" in unused[0] and ".txt" not in unused[0]
    assert [n.decoded for n in report.counts.values()] == [5, 2, 3]
    assert [n.labels for n in report.counts.values()] == [(2, 2, 2), (1, 1, 1), (2, 1, 1)]
    assert all(e in str(report) for e in report.errors)


def test_check_reports_sizes(tmp_path: Path) -> None:
    config = make_folders(tmp_path / "data")
    Image.new("RGB", (30, 5)).save(tmp_path / "data" / "train" / "cat" / "1.png")
    counts = check(config, workers=0).counts
    assert counts["train"].width == (7, 30) and counts["train"].height == (5, 9)
    assert counts["test"].width == (7, 7) and counts["test"].height == (9, 9)


def test_check_finds_labels_that_never_or_always_occur(tmp_path: Path, datasets: Any) -> None:
    config = make_multi(tmp_path / "data")
    for split, old in (("valid", True), ("test", False)):
        content = {**multi_columns(split, 4), "Old": [old] * 4}
        write_parquet(tmp_path / "data", split, content)
    report = check(config, workers=0)
    assert report.ok and len(report.warnings) == 2
    assert "valid split" in report.warnings[0] and "always occur: [Old]" in report.warnings[0]
    assert "test split" in report.warnings[1] and "never occur: [Old]" in report.warnings[1]


def test_check_finds_classes_that_training_never_sees(tmp_path: Path) -> None:
    """An empty class folder satisfies the layout, not the training."""
    config = make_folders(tmp_path / "data")
    for file in (tmp_path / "data" / "train" / "dog").iterdir():
        file.unlink()
    report = check(config, workers=0)
    assert len(report.errors) == 2  # of valid and test
    assert "valid split" in report.errors[0] and "[dog]" in report.errors[0]
    for split in ("valid", "test"):
        for file in (tmp_path / "data" / split / "dog").iterdir():
            file.unlink()
    report = check(config, workers=0)
    assert report.ok and len(report.warnings) == 3


def test_check_finds_doubles_between_splits(tmp_path: Path) -> None:
    config, folder = make_folders(tmp_path / "data"), tmp_path / "data"
    train = (folder / "train" / "cat" / "1.png").read_bytes()
    (folder / "test" / "dog" / "8.png").write_bytes(train)
    (folder / "test" / "dog" / "9.png").write_bytes(train)
    (folder / "train" / "cat" / "again.png").write_bytes(train)  # within a split: no leak
    report = check(config, workers=0)
    assert report.ok and len(report.warnings) == 1
    assert "2 images of the test split" in report.warnings[0]
    assert "in train too" in report.warnings[0]


def test_fast_check_decodes_a_sample(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "all" / "cat"
    folder.mkdir(parents=True)
    good = encoded(pixels("train", 0))
    for i in range(200):
        (folder / f"{i:03}.png").write_bytes(b"bad" if i in (0, 1, 199) else good)
    config = DataConfig(str(tmp_path / "data"), splits=("all", "all", "all"))
    fast, full = check(config, fast=True), check(config, workers=2)
    assert fast.fast and fast.counts["all"].decoded == 62 and "sample" in str(fast)
    assert len(fast.errors) == 2 and "000.png" in fast.errors[0] and "199.png" in fast.errors[1]
    assert len(full.errors) == 3 and full.counts["all"].decoded == 197
    assert fast.counts["all"].labels == full.counts["all"].labels == (200,)


class _Deadly:
    """An image that takes its process along."""

    names: Sequence[str] = ()

    def name(self, row: int) -> str:
        return str(row)

    def read(self, row: int) -> bytes:
        if row == 20:
            os._exit(1)
        return encoded(pixels("train", row))


def test_process_that_dies_is_an_error() -> None:
    from se_zoo.data.tables.parallel_check import decode

    table = ImageTable("faces", Content(_Deadly(), ("a",), torch.zeros(64).long()))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"decoded faces died after .* of 64 samples"):
        list(decode(table, range(64), workers=1))


def test_check_refuses_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="limit is 0"):
        check(replace(make_csv_single(tmp_path / "listed"), limit=0))
    with pytest.raises(DataError, match="workers is -1"):
        check(make_folders(tmp_path / "data"), workers=-1)


def test_long_reports_are_cut(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "train"
    for name in range(70):
        (folder / f"c{name:02}").mkdir(parents=True)
        (folder / f"c{name:02}" / "a.png").write_bytes(b"bad")
    report = check(DataConfig(str(tmp_path / "data"), splits=("train",) * 3), workers=0)
    assert "70 errors" in str(report) and "and 50 more" in str(report)
    assert str(report).count("not an image") == 20
    assert report.text(None).count("not an image") == 70
    assert "fewest" in str(report) and report.counts["train"].width is None


# ------------------------------------------------------------------------------ command line


def run(*args: object) -> None:
    cli.main([str(a) for a in args])


def failing(*args: object) -> str:
    with pytest.raises(SystemExit) as info:
        run(*args)
    message = str(info.value.code)
    assert message.startswith("se-zoo: ") and "\n" not in message
    return message


def test_command_prints_the_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_folders(tmp_path / "data")
    run("check", tmp_path / "data", "--workers", "0")
    printed = capsys.readouterr().out
    assert "13 images, 3 classes" in printed and "no errors" in printed
    assert ["train", "6", "6", "7", "9"] in [line.split() for line in printed.splitlines()]
    assert ["bird", "2", "33.3%", "1", "33.3%", "2", "50.0%"] in [
        line.split() for line in printed.splitlines()
    ]


def test_command_fails_on_errors(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_folders(tmp_path / "data")
    for file in (tmp_path / "data" / "train" / "cat").iterdir():
        file.write_bytes(b"")
    assert "2 errors" in failing("check", tmp_path / "data", "--workers", "0")
    assert "train/cat/1.png" in capsys.readouterr().out
    assert "2 errors" in failing("check", tmp_path / "data", "--fast")


def test_command_refuses_bad_input_in_one_line(tmp_path: Path) -> None:
    assert "no such folder" in failing("check", tmp_path / "none")
    assert "a folder per class" in failing("check", make_listing(tmp_path), "--label", "label")
    assert "--celeba" in failing("check", tmp_path, "--celeba", "--label", "label")


def make_listing(tmp_path: Path) -> Path:
    make_csv_single(tmp_path / "listed")
    return tmp_path / "listed"


def test_command_takes_every_option(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = make_listing(tmp_path)
    edit(folder / "table.csv", "image,split,label", "file,split,kind")
    edit(folder / "table.csv", ",valid,", ",val,")
    run("check", folder, "--csv", folder / "table.csv", "--image", "file", "--label", "kind",
        "--splits", "train", "val", "test", "--workers", "0")  # fmt: skip
    assert "13 images, 3 classes" in capsys.readouterr().out


def test_command_celeba(tmp_path: Path, datasets: Any, capsys: pytest.CaptureFixture) -> None:
    for split, count in SPLITS.items():
        content: Dict[str, List[Any]] = columns(split, count)
        content.update(celeb_id=[1] * count, image_id=list(range(count)))
        for i, name in enumerate(CELEBA_ATTRIBUTES):
            content[name] = [(i + row) % 2 == 0 for row in range(count)]
        write_parquet(tmp_path / "data", split, content)
    run("check", tmp_path / "data", "--celeba", "--workers", "0")
    printed = capsys.readouterr().out
    assert "13 images, 40 attributes" in printed and "no errors" in printed
    content["Smiling"] = [-1, 1, 1, -1]
    write_parquet(tmp_path / "data", "test", content)
    assert "1 error" in failing("check", tmp_path / "data", "--celeba", "--workers", "0")
    assert "Smiling (int64)" in capsys.readouterr().out


def test_command_celeba_of_the_hub() -> None:
    config = data_config(Check("flwrlabs/celeba", celeba=True))
    assert config.name == "img_align+identity+attr" and config.ignore == CELEBA_IGNORE
    assert config.attributes == CELEBA_ATTRIBUTES
    assert data_config(Check("folder", celeba=True)).name is None


# --------------------------------------------------------------------------------- real data

CELEBA_SPLITS = {"train": 36775, "valid": 4535, "test": 3665}


@pytest.mark.data
def test_celeba_sample(data_dir: Path, tmp_path: Path, datasets: Any) -> None:
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
def test_majority_of_the_celeba_sample(data_dir: Path) -> None:
    """What always answering the majority scores, as recipes/celeba.py states it."""
    parquet = pytest.importorskip("pyarrow.parquet")
    file = data_dir / "celeba46k" / "test.parquet"
    table = parquet.read_table(file, columns=list(CELEBA_ATTRIBUTES))
    share = torch.tensor([table[name].to_pylist() for name in CELEBA_ATTRIBUTES]).double().mean(1)
    assert torch.maximum(share, 1 - share).mean().item() == pytest.approx(0.805, abs=5e-4)


@pytest.mark.data
def test_cifar10_sample(data_dir: Path, datasets: Any) -> None:
    splits = ("train", "test", "test")
    config = DataConfig(str(data_dir / "cifar10"), splits=splits, label="label")
    report = check(config, fast=True)
    assert report.ok and report.labels[:3] == ("airplane", "automobile", "bird")
    assert report.counts["train"].samples == 20000 and report.counts["test"].samples == 4000


@pytest.mark.data
def test_imagenet_sample(data_dir: Path, datasets: Any) -> None:
    config = DataConfig(
        str(data_dir / "imagenet_sample"), splits=("train",) * 3, label="label", ignore=("wnid",)
    )
    table = open_table(config, "train")
    assert len(table.labels) == 1000 and sorted(table.targets.tolist()) == list(range(1000))
    image, target = table[0]
    assert image.mode == "RGB" and table.labels[int(target)].startswith("n")
    refused(replace(config, ignore=()), "unexpected: [wnid]")
