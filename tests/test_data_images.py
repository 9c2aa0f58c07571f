"""Images become RGB the right way up, and damaged ones are named."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from se_zoo.data import DataConfig, open_table
from se_zoo.data.images import read_rgb
from se_zoo.errors import DataError

from .data_sets import (
    MULTI,
    datasets,  # noqa: F401  (a fixture)
    encoded,
    make_folders,
    multi_columns,
    pixels,
    write_parquet,
)


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
def test_exif_orientation_turns_the_image(tmp_path: Path, orientation: int) -> None:
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
def test_pixels_of_unknown_range_are_refused(mode: str) -> None:
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
def test_corrupt_image_is_named_by_split_row_and_file(
    tmp_path: Path, datasets: Any, damage: str
) -> None:
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


def test_row_without_an_image_is_named(tmp_path: Path, datasets: Any) -> None:
    content = multi_columns("train", 6)
    content["image"][1] = None
    content["image"][2] = {"bytes": None, "path": "nowhere.png"}
    write_parquet(tmp_path / "data", "train", content)
    table = open_table(replace(MULTI, path=str(tmp_path / "data")), "train")
    with pytest.raises(DataError, match="row 1: the row is empty"):
        table[1]
    with pytest.raises(DataError, match=r"row 2 \(nowhere.png\): no such file"):
        table[2]
