"""Data that mean harm or waste memory are refused with one clear error, before they are read."""

import os
import struct
import time
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from PIL import Image

from se_zoo.data import ClipDataConfig, DataConfig, check, open_table
from se_zoo.data.images import MAX_PIXELS, read_rgb
from se_zoo.errors import DataError
from se_zoo.text import one_line, printable

from .data_sets import (
    datasets,  # noqa: F401  (a fixture)
    edit,
    encoded,
    make_csv_single,
    make_folders,
    pixels,
    write_parquet,
)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size; it holds a few bytes of pixels alone."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + content


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(13_000, 13_000), (1, 100_000_000), (100_000_000, 1)])
def test_image_of_too_many_pixels_is_refused_by_its_header(size: Any) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"pixels|DecompressionBomb|exceeds"):
        read_rgb(BytesIO(png_of(*size)))
    assert time.monotonic() - began < 2


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_panorama_of_100_megapixels_is_read(tmp_path: Path) -> None:
    Image.new("L", (20_000, 5_000)).save(tmp_path / "wide.png")
    assert read_rgb(tmp_path / "wide.png").size == (20_000, 5_000)
    assert 20_000 * 5_000 < MAX_PIXELS


OTHER_FORMATS: Dict[str, bytes] = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "PCX": b"",
    "ICO": b"",
    "TGA": b"",
    "PDF": b"%PDF-1.4\n",
}


@pytest.mark.parametrize("kind", OTHER_FORMATS)
def test_ending_does_not_make_an_image(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    if OTHER_FORMATS[kind]:
        file.write_bytes(OTHER_FORMATS[kind])
    else:
        Image.new("RGB", (16, 16)).save(file, kind)
    with pytest.raises(ValueError, match=r"not an image \(JPEG, PNG"):
        read_rgb(file)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "MPO"])
def test_known_formats_are_read_whatever_the_ending(kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (16, 12), "red").save(tmp_path / "photo.bin", kind)
    assert read_rgb(tmp_path / "photo.bin").size == (16, 12)


#: What stands in the place of an image.
STRANGE: Dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "folder": Path.mkdir,
    "large file": lambda path: (path.touch(), os.truncate(path, 2**32))[1],
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("layout", ["folder", "csv"])
def test_what_is_no_regular_file_is_named_and_never_read(
    tmp_path: Path, kind: str, layout: str
) -> None:
    config = (make_folders if layout == "folder" else make_csv_single)(tmp_path / "data")
    file = next((tmp_path / "data" / "train").rglob("*.png"))
    file.unlink()
    STRANGE[kind](file)
    began = time.monotonic()
    report = check(config, workers=0, progress=False)
    assert time.monotonic() - began < 20
    assert len(report.errors) == 1 and file.name in report.errors[0], report.errors


def names_of(report: Any) -> str:
    return " ".join((*report.errors, *report.warnings))


@pytest.mark.parametrize("way", ["..", "absolute", "link", "folder link"])
def test_row_that_leads_out_of_its_folder_is_refused_unless_allowed(
    tmp_path: Path, way: str
) -> None:
    config, folder = make_csv_single(tmp_path / "data"), tmp_path / "data"
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "0.png").write_bytes(encoded(pixels("train", 0)))
    if way == "..":
        edit(folder / "table.csv", "train/0.png", "train/../../secret/0.png")
    elif way == "absolute":
        edit(folder / "table.csv", "train/0.png", str(secret / "0.png"))
    elif way == "link":
        (folder / "train" / "0.png").unlink()
        (folder / "train" / "0.png").symlink_to(secret / "0.png")
    else:
        (folder / "linked").symlink_to(secret)
        edit(folder / "table.csv", "train/0.png", "linked/0.png")
    with pytest.raises(DataError, match=r"lies outside .*--data.outside"):
        open_table(config, "train")[0]
    with pytest.raises(DataError, match="outside") if "link" not in way else _nothing():
        assert "outside" in names_of(check(config, workers=0, progress=False))
    allowed = replace(config, outside=True)
    assert open_table(allowed, "train")[0][0].size == (7, 9)
    assert check(allowed, workers=0, progress=False).ok


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_absolute_paths_inside_the_folder_are_taken_and_belong_to_rows(tmp_path: Path) -> None:
    config, folder = make_csv_single(tmp_path / "data"), tmp_path / "data"
    for split in ("train", "valid", "test"):
        edit(folder / "table.csv", f"\n{split}/", f"\n{folder}/{split}/")
    report = check(config, workers=0, progress=False)
    assert report.ok and not report.warnings, report.warnings
    assert open_table(config, "train")[0][0].size == (7, 9)


def parquet_of(folder: Path, path: str) -> DataConfig:
    """A parquet file whose images are a path instead of bytes."""
    for split in ("train", "valid", "test"):
        content = {"image": [{"bytes": None, "path": path}] * 2, "label": ["cat", "dog"]}
        write_parquet(folder, split, content)
    return DataConfig(str(folder), label="label")


@pytest.mark.parametrize(
    "path",
    ["/dev/zero", "/etc/hostname", "../secret.png", "file:///etc/hostname", "s3://bucket/x.png",
     "http://127.0.0.1:9/x.png", "zip://x.png::file:///tmp/x.zip", "memory://x",
     "hf://datasets/other/data@main/x.png"],
)  # fmt: skip
def test_cell_that_names_another_place_is_refused(tmp_path: Path, path: str, datasets: Any) -> None:
    (tmp_path / "secret.png").write_bytes(encoded(pixels("train", 0)))
    config = parquet_of(tmp_path / "data", path)
    with pytest.raises(DataError, match=r"outside|regular file"):
        open_table(config, "train")[0]
    stream = replace(config, streaming=True, label="label")
    from se_zoo.data.tables.content import reach_of, read_cell

    with pytest.raises((OSError, ValueError), match=r"outside|regular file"):
        read_cell({"bytes": None, "path": path}, reach_of(stream))


def test_cell_that_names_a_file_of_its_folder_is_read(tmp_path: Path, datasets: Any) -> None:
    config = parquet_of(tmp_path / "data", "files/x.png")
    (tmp_path / "data" / "files").mkdir()
    (tmp_path / "data" / "files" / "x.png").write_bytes(encoded(pixels("train", 0)))
    table = open_table(config, "train")
    assert table[0][0].size == (7, 9)
    before = table.fingerprint("train")
    (tmp_path / "data" / "files" / "x.png").write_bytes(encoded(pixels("train", 1)))
    assert table.fingerprint("train")["files"] != before["files"]


def test_csv_of_very_many_columns_is_refused_at_once(tmp_path: Path) -> None:
    config = make_csv_single(tmp_path / "data")
    names = ["image", "label", *map(str, range(100_000))]
    (tmp_path / "data" / "table.csv").write_text(",".join(names) + "\n" + "1," * 100_001 + "1\n")
    began = time.monotonic()
    with pytest.raises(DataError, match="100,002 columns"):
        open_table(config, "train")
    assert time.monotonic() - began < 5


def test_blank_before_a_quoted_cell_does_not_change_the_label(tmp_path: Path) -> None:
    config = make_csv_single(tmp_path / "data")
    edit(tmp_path / "data" / "table.csv", "train/0.png,train,bird", 'train/0.png, train, "bird"')
    assert open_table(config, "train").labels == ("bird", "cat", "dog")


# Text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat\nno errors", r"cat\nno errors"),
        ("\x1b[2Jcat", r"\x1b[2Jcat"),
        ("cat\u202egpj.", r"cat\u202egpj."),
        ("caf\udce9", r"caf\udce9"),
        ("café 猫 \U0001f408", "café 猫 \U0001f408"),
    ],
)
def test_control_characters_are_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    one_line(name).encode("utf-8")


def test_report_escapes_labels_and_file_names(tmp_path: Path) -> None:
    make_folders(tmp_path / "data")
    for split in ("train", "valid", "test"):
        (tmp_path / "data" / split / "cat").rename(tmp_path / "data" / split / "c\x1b[31m\nat")
    (tmp_path / "data" / "train" / "dog" / "no\nerrors.png").write_bytes(b"bad")
    text = check(DataConfig(str(tmp_path / "data")), workers=0, progress=False).text()
    assert "\x1b" not in text and r"c\x1b[31m\nat" in text
    assert r"no\nerrors.png" in text and "\nerrors.png" not in text


# Videos

PLAYLISTS: Dict[str, bytes] = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile '/etc/hostname'\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    "text": b"some text that is long enough to look like an ansi movie to a hopeful demuxer\n" * 9,
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_text_with_the_ending_of_a_video_is_not_opened(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV (extra: video)")
    from se_zoo.data.video.index import open_video

    (tmp_path / "film.mp4").write_bytes(PLAYLISTS[kind])
    with pytest.raises(DataError, match=r"film.mp4 cannot be read as a video"):
        open_video(tmp_path / "film.mp4")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_video_that_is_no_regular_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV (extra: video)")
    for split in ("train", "valid", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        STRANGE[kind](tmp_path / split / "cat" / "film.mp4")
    config = ClipDataConfig(str(tmp_path))
    with pytest.raises(DataError, match=r"no such file|regular file|outside"):
        open_table(config, "train")[0]
