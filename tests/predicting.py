"""A tiny model, and a data set of tiny photos in every layout, for tests of predicting."""

import io
import tarfile
from pathlib import Path
from typing import Any, List

import numpy as np
import timm
import torch
from PIL import Image

import se_zoo

from .tester import randomise, spread_gate

LABELS = ("ant", "bee", "cat", "dog", "eel", "fox")


def tiny_model(folder: Path) -> str:
    """Save an untrained model of 64 px with six classes; return its name."""
    torch.manual_seed(0)
    model: Any = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=len(LABELS))
    model.pretrained_cfg.update(label_names=list(LABELS), input_size=(3, 64, 64), crop_pct=0.9)
    spread_gate(randomise(model).eval(), torch.randn(8, 3, 64, 64))
    se_zoo.save(model, folder)
    return f"local-dir:{folder}"


def encoded(count: int, bad: int = -1) -> List[bytes]:
    """PNG photos of various sizes; the one of number ``bad`` is no photo."""
    rng = np.random.default_rng(0)
    photos = []
    for i in range(count):
        file = io.BytesIO()
        size = (3 + i % 3, 4, 3)
        image = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
        image.resize((40 + i % 7, 36 + i % 5), Image.Resampling.BICUBIC).save(file, "PNG")
        photos.append(b"no photo" if i == bad else file.getvalue())
    return photos


def write_folder(root: Path, photos: List[bytes]) -> Path:
    for i, content in enumerate(photos):
        file = root / f"{i % 3}" / f"{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (root / "list.txt").write_text("no photo, and not asked for")
    return root


def write_parquet(root: Path, photos: List[bytes], files: int = 2, group: int = 5) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        part = photos[i * len(photos) // files : (i + 1) * len(photos) // files]
        cells = [{"bytes": content, "path": None} for content in part]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        names = pa.array([f"{i}/{n}" for n in range(len(part))])
        table = pa.table({"image": pa.array(cells, kind), "name": names})
        pq.write_table(table, root / f"{i}.parquet", row_group_size=group)
    return root


def write_tars(root: Path, photos: List[bytes], files: int = 2) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        with tarfile.open(root / f"{i}.tar", "w") as tar:
            for n in range(i * len(photos) // files, (i + 1) * len(photos) // files):
                for suffix, content in ((".png", photos[n]), (".cls", b"3")):
                    member = tarfile.TarInfo(f"{n:06d}{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return root
