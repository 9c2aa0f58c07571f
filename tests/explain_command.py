"""Run ``se-zoo explain`` in this process, and look at what it wrote."""

import csv
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest
from PIL import Image

from se_zoo import cli


def run(*args: object) -> int:
    """Run ``se-zoo explain`` and return its exit status."""
    try:
        cli.main(["explain", *map(str, args)])
    except SystemExit as stop:
        assert isinstance(stop.code, int), stop.code
        return stop.code
    return 0


def fails(*args: object) -> str:
    """The one line that a failing call prints."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["explain", *map(str, args)])
    assert isinstance(stop.value.code, str) and "\n" not in stop.value.code
    return stop.value.code


def draw(path: Path, seed: int = 0, size: Tuple[int, int] = (52, 64)) -> Path:
    """A smooth image of random colours."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def rows_of(table: Path) -> List[Dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_in(folder: Path) -> List[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
