"""Broken photos, and files that are none, for ``model.explain`` and ``se-zoo explain``."""

import functools
import io
import os
import random
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from PIL import Image

from se_zoo.models.load_model import load_model

from .case import SPECIAL, Case, break_bytes, make_special
from .commands import run_command
from .models import saved_model


@functools.lru_cache(maxsize=1)
def _model() -> Any:
    return load_model(f"local-dir:{saved_model()}")


def _encoded(rng: random.Random, form: str, mode: str = "RGB", **options: Any) -> bytes:
    """Return a small photo in a format of Pillow's."""
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (40, 50, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, form, **options)
    return file.getvalue()


def _png(width: int, height: int, depth: int = 8, colour: int = 0, rows: int = 0) -> bytes:
    """Return a PNG of zeros with any size in its header, and so many rows of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"\0" * ((width * depth // 8 + 1) * rows), 9)
    text = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return text + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


#: Formats and modes of valid photos.
_FORMS: Tuple[Tuple[str, str], ...] = (
    ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"),
    ("PNG", "LA"), ("PNG", "P"), ("PNG", "1"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"),
    ("WEBP", "RGB"), ("WEBP", "RGBA"), ("PPM", "RGB"),
)  # fmt: skip
#: Formats that Pillow reads and this project does not.
_FOREIGN = ("ICO", "TGA", "PCX", "SGI", "PDF", "EPS", "ICNS", "DDS", "SPIDER", "MSP", "IM")
#: Sizes that are too large, or too long, to be read.
_TOO_LARGE = ((13_000, 13_000), (1, 100_000_000), (100_000_000, 1), (2**31 - 1, 2**31 - 1),
              (70_000, 10), (0, 5))  # fmt: skip


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    return file.getvalue()


#: Contents that are no photo, whatever the file is called.
_NO_PHOTO: Dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"no photo",
    "page": lambda: b"<html><body>404</body></html>",
    "drawing": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "pickle": lambda: b"\x80\x04cos\nsystem\n.",
    "tar": _tar,
    "zeros": lambda: b"\0" * 4096,
    "16 bit": lambda: _png(40, 50, depth=16, rows=50),
    "no pixels": lambda: _png(40, 50),
}


def _odd_options(rng: random.Random) -> Tuple[str, Dict[str, Any]]:
    """Return a format and options that are valid, but rare."""
    exif = Image.Exif()
    exif[0x0112] = rng.choice([0, 3, 6, 8, 9, 65_535])
    return rng.choice([
        ("JPEG", {"exif": exif}), ("JPEG", {"progressive": True}), ("PNG", {"icc_profile": b"x"}),
        ("JPEG", {"icc_profile": b"\0" * 128}), ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {"save_all": True, "append_images": [Image.new("P", (50, 40))] * 3}),
    ])  # fmt: skip


def make_photo(rng: random.Random, folder: Path) -> Case:
    """Write a photo that is damaged, too large, no photo at all, or valid."""
    place = folder / rng.choice(["python", "python", "command"])
    place.mkdir()
    ending = rng.choice([".jpg", ".png", ".JPEG", ".gif"])
    stem = rng.choice(
        [b"photo", b"photo", b"a\nb", b"\xff\xfe", "\u202egpj".encode(), b"-x", b"a b'\""]
    )
    file = place / os.fsdecode(stem + ending.encode())
    kind = rng.choice(["damaged"] * 5 + ["no photo"] * 2 + ["foreign", "large", "special", "valid",
                                                            "odd", "narrow", "linked"])  # fmt: skip
    valid: Optional[bool] = False
    change = kind
    if kind == "special":
        change = rng.choice(SPECIAL)
        make_special(change, file)
        return Case(file, False, f"{place.name}: {change}")
    if kind == "damaged":
        form, mode = rng.choice(_FORMS)
        data, done = break_bytes(rng, _encoded(rng, form, mode))
        change, valid = f"{form}, {mode}: {done}", None
    elif kind == "no photo":
        change = rng.choice(sorted(_NO_PHOTO))
        data = _NO_PHOTO[change]()
    elif kind == "foreign":
        change = rng.choice(_FOREIGN)
        mode = {"SPIDER": "F", "MSP": "1"}.get(change, "RGB")
        data = _encoded(rng, change, mode)
    elif kind == "large":
        size = rng.choice(_TOO_LARGE)
        change, data = (
            f"{size} pixels",
            _png(*size, rows=min(size[1], 1000) if size[0] < 2**20 else 0),
        )
    elif kind == "narrow":
        change, data, valid = "1 x 5000 pixels", _png(1, 5000, rows=5000), True
    elif kind == "odd":
        form, options = _odd_options(rng)
        change, data, valid = f"{form} with {sorted(options)}", _encoded(rng, form, **options), True
    else:
        form, mode = rng.choice(_FORMS)
        change, data, valid = f"{form}, {mode}: {kind}", _encoded(rng, form, mode), True
    if kind == "linked":
        (folder / "target").write_bytes(data)
        file.symlink_to(folder / "target")
    else:
        file.write_bytes(data)
    return Case(file, valid, f"{place.name}: {change}")


def read_photo(file: Path) -> Any:
    """Explain a photo, in Python or by the command line; its folder's name says which."""
    if file.parent.name == "python":
        return _model().explain(file).to_dict()
    out = file.parent.parent / "why.png"
    options = ["--model", f"local-dir:{saved_model()}", "--device", "cpu", "--out", str(out)]
    return run_command(["explain", str(file), *options])
