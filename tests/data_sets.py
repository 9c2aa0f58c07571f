"""Small data sets in every layout, shared by the tests of the data."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import numpy as np
import pytest
from PIL import Image

from se_zoo.data import DataConfig, open_table
from se_zoo.errors import DataError

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


def cell(picture: Union[Image.Image, np.ndarray], path: Optional[str] = None) -> Dict[str, Any]:
    """A picture as parquet has it: a PNG, and the name of its file."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    return {"bytes": encoded(image), "path": path}


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
    return {image: [cell(pixels(split, i), f"{i}.png") for i in range(count)]}


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
