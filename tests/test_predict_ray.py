"""The Ray recipe: runs that do not mix, and a local cluster in which a worker is killed."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow (extra: predict)")
psutil = pytest.importorskip("psutil", reason="comes with accelerate")

from .predicting import encoded, tiny_model, write_folder  # noqa: E402

ROOT = Path(__file__).parent.parent
COUNT, BAD = 400, 77


def workers(run: "subprocess.Popen[str]") -> "list[psutil.Process]":
    """Processes of Ray that hold a model; Ray names them after what they do."""
    found = []
    for process in psutil.Process(run.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "ray::" in (title := " ".join(process.cmdline())) and "Explainer" in title:
                found.append(process)
    return found


def test_results_of_two_runs_are_not_mixed(tmp_path: Path) -> None:
    from recipes.predict_ray import check_same_run
    from se_zoo.errors import InvalidInputError

    out, checkpoint = tmp_path / "out", tmp_path / "shared" / "checkpoint"
    args = argparse.Namespace(
        source="photos", out=str(out), model="m", target=None, image="image", id="id",
        checkpoint=None,
    )  # fmt: skip
    check_same_run(args)
    for folder in (out, checkpoint):
        folder.mkdir(parents=True)
    (out / "a.parquet").touch()
    with pytest.raises(InvalidInputError, match=r"--out .* to which Ray would add"):
        check_same_run(args)
    args.checkpoint = str(checkpoint)
    with pytest.raises(InvalidInputError, match="belong together"):
        check_same_run(args)
    (out / "a.parquet").unlink()
    check_same_run(args)  # begins, and leaves its options beside the checkpoint
    for folder in (out, checkpoint):
        (folder / "a.parquet").touch()
    check_same_run(args)
    args.model, args.target = "n", ["Smiling"]
    with pytest.raises(InvalidInputError, match="another model, target; give"):
        check_same_run(args)
    checkpoint.with_name("checkpoint.json").unlink()
    with pytest.raises(InvalidInputError, match=r"checkpoint\.json is missing"):
        check_same_run(args)


@pytest.mark.slow
def test_killed_worker_loses_no_row(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray (extra: ray)")
    photos, out = encoded(COUNT, BAD), tmp_path / "out"
    source = write_folder(tmp_path / "photos", photos)
    model = tiny_model(tmp_path / "model")
    command = ["recipes/predict_ray.py", source, "--out", out, "--model", model,
               "--batch-size", "4", "--blocks", "20", "--concurrency", "2",
               "--num-cpus", "0.5"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
           "RAY_AUTH_MODE": "disabled"}  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=ROOT, env=env, stdout=log, stderr=log,
            text=True, start_new_session=True,
        )  # fmt: skip
    end, killed = time.monotonic() + 400, False
    while run.poll() is None and time.monotonic() < end:
        if not killed and len(found := workers(run)) == 2:
            found[0].send_signal(signal.SIGKILL)
            killed = True
        time.sleep(0.02)
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0 and killed, (tmp_path / "log").read_text()[-3000:]
    tables = [pq.read_table(file) for file in sorted(out.glob("*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    names = [str(Path(row["path"]).relative_to(source)) for row in rows]
    assert sorted(names) == sorted(f"{i % 3}/{i:04d}.png" for i in range(COUNT))
    bad = [name for name, row in zip(names, rows, strict=True) if row["error"]]
    assert bad == [f"{BAD % 3}/{BAD:04d}.png"]
    assert all(row["map"] for row in rows if not row["error"])
