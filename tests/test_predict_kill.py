"""Predictions that are killed at any moment, and go on as if nothing had happened."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow (extra: predict)")
pytest.importorskip("psutil", reason="comes with accelerate")

from benchmarks.predict_kill import Command, kill_and_go_on

from .predicting import encoded, tiny_model, write_folder

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("processes", "kills"), [(1, 3), (2, 2)])
def test_killed_runs_go_on_to_the_same_rows(tmp_path: Path, processes: int, kills: int) -> None:
    photos, bad = encoded(400), 77
    photos[bad] = b"no photo"
    options: Any = ["--rows-per-file", "16", "--batch-size", "8", "--workers", "1"]
    command = Command(
        str(write_folder(tmp_path / "photos", photos)), tiny_model(tmp_path / "model"), options,
        processes,
    )  # fmt: skip
    result = kill_and_go_on(command, tmp_path, kills, seed=processes)
    assert result["killed"] == kills, "the run is long enough to be killed so often"
    assert result["ids"] == sorted(f"{i % 3}/{i:04d}.png" for i in range(400))
    assert result["equal_to_the_bit"] and result["errors"] == 1 and not result["left_over"]
