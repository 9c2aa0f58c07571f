"""Measure memory and speed of `se-zoo explain` over the number of photos.

    python -m benchmarks.many_photos
    python -m benchmarks.many_photos --counts 60 300 --photos my_photos

Run time: about five minutes with the default counts on two idle cores. Result: printed, and as JSON
with --out.

Each count is a folder of hard links (or copies) of the photos, and a run of the command in its own
process. Memory is the largest resident size of that process, as the system counts it. A run of one
photo, which is mostly imports and loading, is subtracted from the time.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import tyro

from se_zoo.cli.explain import DEFAULT_MODEL
from se_zoo.data.images import IMAGE_SUFFIXES
from se_zoo.files import write_json


@dataclass(frozen=True)
class Bench:
    """Options of the measurement."""

    counts: Tuple[int, ...] = (200, 2000)
    """Numbers of photos."""
    photos: Optional[Path] = None
    """Folder of the photos that are copied; by default face_parts/images of SE_ZOO_DATA."""
    model: str = DEFAULT_MODEL
    """Model that explains them."""
    target: Optional[str] = None
    """Label to explain; by default those that are predicted."""
    batch_size: int = 8
    """Photos that the model takes at once."""
    workers: int = 2
    """Threads that read and draw."""
    out: Optional[Path] = None
    """File for the figures, .json."""


def _photos(bench: Bench) -> List[Path]:
    """Return the photos that are copied."""
    folder = bench.photos
    if folder is None:
        data = os.environ.get("SE_ZOO_DATA")
        if not data:
            sys.exit("name a folder with --photos, or set SE_ZOO_DATA to the sample data")
        folder = Path(data) / "face_parts" / "images"
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        sys.exit(f"{folder} has no photos; name another folder with --photos")
    return found


def _fill(folder: Path, photos: List[Path], count: int) -> None:
    """Put copies of photos into a new folder."""
    folder.mkdir()
    for n, photo in zip(range(count), cycle(photos), strict=False):
        copy = folder / f"{n:06}{photo.suffix}"
        try:
            os.link(photo, copy)
        except OSError:  # another disk
            shutil.copy(photo, copy)


def _run(folder: Path, out: Path, bench: Bench) -> Tuple[float, float]:
    """Explain a folder; return the seconds, and the peak of the resident memory in MB."""
    options = ["--model", bench.model, "--batch-size", bench.batch_size, "--workers", bench.workers]
    options += [] if bench.target is None else ["--target", bench.target]
    command = [sys.executable, "-m", "se_zoo.cli", "explain", folder, "--out", out, *options]
    begun = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if process.returncode:
        sys.exit(f"the command failed with exit status {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return seconds, used.ru_maxrss * unit / 1e6


def main(bench: Bench) -> List[Dict[str, Any]]:
    """Run the command for each count, and print memory and rate.

    Args:
        bench: The options.

    Returns:
        For each count ``photos``, ``seconds``, ``peak_mb`` and ``photos_a_second``.
    """
    photos = _photos(bench)
    figures: List[Dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for count in (1, *bench.counts):
            folder, out = Path(work) / f"in{count}", Path(work) / f"out{count}"
            _fill(folder, photos, count)
            seconds, peak = _run(folder, out, bench)
            drawn = sum(1 for _ in out.glob("*.png"))
            if drawn != count:
                sys.exit(f"{drawn} pictures of {count} photos")
            shutil.rmtree(out)
            figure = {"photos": count, "seconds": round(seconds, 2), "peak_mb": round(peak, 1)}
            if figures:
                rest = max(1e-9, seconds - figures[0]["seconds"])
                figure["photos_a_second"] = round((count - 1) / rest, 2)
            figures.append(figure)
            print(json.dumps(figure), flush=True)
    first, last = figures[1]["peak_mb"], figures[-1]["peak_mb"]
    print(f"peak of the last count over that of the first: {last / first:.3f}")
    if bench.out is not None:
        write_json(bench.out, {"model": bench.model, "figures": figures})
    return figures


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
