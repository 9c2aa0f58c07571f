"""The benchmark of predicting, small."""

from argparse import Namespace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow (extra: predict)")
pytest.importorskip("psutil", reason="comes with accelerate")

from benchmarks.predict import memory, throughput

from .predicting import encoded, tiny_model, write_folder


@pytest.fixture
def args(tmp_path: Path) -> Namespace:
    return Namespace(
        source=write_folder(tmp_path / "few", encoded(5)), model=tiny_model(tmp_path / "model"),
        target=None, photos=24, times=4, batch_size=8, workers=0, rounds=2,
    )  # fmt: skip


def test_throughput_compares_both_sides(args: Namespace, tmp_path: Path) -> None:
    found = throughput(args, tmp_path)
    assert set(found["photos_per_second"]) == {"predict", "bare"}
    assert 0 < found["predict_over_bare"]["least"] <= found["predict_over_bare"]["most"]
    assert len(list((tmp_path / "predict1").glob("part-*.parquet"))) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data_set(args: Namespace, tmp_path: Path) -> None:
    args.photos, args.times = 100, 10
    assert memory(args, tmp_path)["growth"] < 0.1
