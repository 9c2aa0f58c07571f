"""Runs that are killed, stopped or damaged, and go on as if nothing had happened."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
from packaging.version import Version
from PIL import Image

pytest.importorskip("accelerate", reason="training needs se_zoo[train]")
psutil = pytest.importorskip("psutil", reason="comes with accelerate")
pytest.importorskip("datasets", reason="training needs se_zoo[train]")

pytestmark = pytest.mark.slow  # each starts several runs, and ends some of them
ROOT = Path(__file__).parent.parent
TRAIN = 53  # no multiple of any batch here


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """A folder per class, whose brightness is the class."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    for split, count in (("train", TRAIN), ("valid", 9), ("test", 11)):
        for i in range(count):
            target = path / split / f"class{i % 3}"
            target.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8) + np.uint8(60 * (i % 3))
            Image.fromarray(pixels).save(target / f"{i}.png")
    return path


def check_gloo() -> None:
    """Skip what needs two processes where torch cannot be relied on for it."""
    if Version(torch.__version__) < Version("2.7"):
        pytest.skip("two gloo processes of torch 2.6 hang now and then (once in some twenty runs)")


def start(folder: Path, output: Path, processes: int, **options: Any) -> "subprocess.Popen[str]":
    run = {"output": str(output), "save_every": 1, **options.pop("run", {})}
    options["data"] = {"path": str(folder), "label": None, **options.get("data", {})}
    text = json.dumps({"run": run, **options})
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                   str(processes)]  # fmt: skip
    return subprocess.Popen(
        [*launch, "-m", "tests.train_run", text], cwd=ROOT, env=env, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(run: "subprocess.Popen[str]") -> str:
    """Standard output of a run that has to succeed."""
    try:
        out, err = run.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        kill(run)
        raise
    assert run.returncode == 0, err[:4000]
    return out


def rows(output: Path) -> List[Dict[str, Any]]:
    file = output / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # being written
            break
    return found


def wait_for(output: Path, updates: int, run: "subprocess.Popen[str]") -> None:
    """Until so many updates are logged."""
    end = time.monotonic() + 120
    while len([r for r in rows(output) if "loss" in r]) < updates:
        assert run.poll() is None and time.monotonic() < end, run.communicate()[1][-3000:]
        time.sleep(0.005)


def kill(run: "subprocess.Popen[str]") -> None:
    """SIGKILL for the run and all that it started; torchrun's workers are no group of its own."""
    launcher = psutil.Process(run.pid)
    for process in [launcher, *launcher.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    run.communicate()


def result(output: Path) -> Dict[str, Any]:
    """What must not depend on interruptions: losses, figures and weights."""
    timeless = [{k: v for k, v in r.items() if k != "images_per_second"} for r in rows(output)]
    summary = json.loads((output / "summary.json").read_text())
    return {
        "rows": timeless,
        "weights": (output / "export" / "model.safetensors").read_bytes(),
        "best": (output / "best" / "model.safetensors").read_bytes(),
        "figures": (summary["valid"], summary["test"], summary["best"]),
    }


#: Spread over two processes with FSDP2; see train_run.spread_over_cpus.
FSDP: Dict[str, Any] = {"fsdp": True, "run": {"channels_last": False}}


@pytest.mark.parametrize(
    ("processes", "how", "kills"), [(1, {}, 3), (2, {}, 1), (2, FSDP, 1)], ids=["1", "2", "2-fsdp"]
)
def test_killed_and_gone_on_is_equal_to_the_bit(
    folder: Path, tmp_path: Path, processes: int, how: Dict[str, Any], kills: int
) -> None:
    if processes > 1:
        check_gloo()
    options = {**how, "optim": {"batch_size": 8 // processes, "accumulate": 2, "clip_grad": 1.0}}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(folder, whole, processes, **options))
    expected = result(whole)
    updates = sum("loss" in r for r in expected["rows"])
    assert updates == 6, "three passes by two make two updates an epoch, the tail counts"
    rng = random.Random(processes)
    for at in sorted(rng.sample(range(2, updates), kills)):  # behind the first state
        run = start(folder, broken, processes, **options)
        wait_for(broken, at, run)
        kill(run)
    out = finish(start(folder, broken, processes, **options))
    assert "its own last checkpoint" in out
    assert result(broken) == expected


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_says_how_to_go_on_and_the_run_goes_on(
    folder: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    """Schedulers and terminals signal the whole group, loader processes too."""
    # The state is saved by the signal alone, then.
    options: Dict[str, Any] = {"run": {"save_every": 1000, "workers": workers}}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(folder, whole, 1, **options))
    run = start(folder, broken, 1, **options)
    wait_for(broken, 2, run)
    os.killpg(run.pid, number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 128 + number and "same command again" in err
    assert not (broken / "summary.json").exists()
    assert "its own last checkpoint" in finish(start(folder, broken, 1, **options))
    assert result(broken) == result(whole)


def test_spread_weights_learn_as_whole_ones_do(folder: Path, tmp_path: Path) -> None:
    """FSDP against DDP; the figures are of the averaged weights, which FSDP has to put together."""
    check_gloo()
    one, two, plain = tmp_path / "one", tmp_path / "two", tmp_path / "plain"
    finish(start(folder, one, 2, run={"channels_last": False}))
    finish(start(folder, two, 2, **FSDP))
    finish(start(folder, plain, 2, **FSDP, optim={"ema_decay": None}))
    half = {"fsdp": True, "run": {"channels_last": False, "mixed_precision": "bf16"}}
    finish(start(folder, tmp_path / "half", 2, **half))
    losses = [[r["loss"] for r in rows(path) if "loss" in r] for path in (one, two, plain)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    left, right, other = (
        json.loads((p / "summary.json").read_text())["test"]["loss"] for p in (one, two, plain)
    )
    assert right == pytest.approx(left, rel=1e-4) and other != pytest.approx(left, rel=1e-4)


#: Six views of a video, whose probabilities are averaged.
VIEWS = {"clips": 2, "crops": 3, "splits": ("train", "test", "test")}


@pytest.mark.parametrize("samples", ["images", "clips", "attributes"])
def test_two_processes_with_half_the_batch_are_one(
    samples: str, folder: Path, tmp_path: Path
) -> None:
    """Same samples, same augmentation; without BatchNorm and dropout the same sums as well. The
    splits (53, 9 and 11 images; 17 and 7 videos) divide by nothing."""
    check_gloo()
    options: Dict[str, Any] = {
        "model": {"backbone": "test_vit", "drop_rate": 0.0},
    }
    if samples == "clips":
        pytest.importorskip("av", reason="needs PyAV (extra: video)")
        folder = folder_of_videos(tmp_path / "videos")
        options["model"].update(name="framewise_sehead", num_frames=3, frame_stride=2)
        options["data"] = VIEWS
    if samples == "attributes":
        options["data"] = with_attributes(folder, tmp_path / "list.csv")
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(folder, one, 1, optim={"batch_size": 8, "lr": 1e-3}, **options))
    finish(start(folder, two, 2, optim={"batch_size": 4, "lr": 1e-3}, **options))
    assert len(rows(one)) > 2
    for a, b in zip(rows(one), rows(two), strict=True):
        for key in {"loss", "train_loss", "lr"} & a.keys():
            assert a[key] == pytest.approx(b[key], rel=1e-5)
    left, right = (json.loads((p / "summary.json").read_text()) for p in (one, two))
    for split in left["samples"].keys() - {"train"}:
        assert left[split].pop("loss") == pytest.approx(right[split].pop("loss"), abs=1e-5)
        assert left[split] == right[split]
    assert left.get("thresholds") == right.get("thresholds")
    assert ("at_thresholds" in left["test"]) == (samples == "attributes")


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_run_goes_on_with_another_number_of_processes(
    folder: Path, tmp_path: Path, before: int, after: int
) -> None:
    """Without BatchNorm and dropout, two with half the batch compute the same sums as one."""
    check_gloo()

    def options(processes: int) -> Dict[str, Any]:
        return {
            "model": {"backbone": "test_vit", "drop_rate": 0.0},
            "optim": {"batch_size": 8 // processes, "lr": 1e-3},
        }

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(folder, whole, 1, **options(1)))
    run = start(folder, broken, before, **options(before))
    wait_for(broken, 3, run)  # in the first epoch, behind the first state
    kill(run)
    out = finish(start(folder, broken, after, **options(after)))
    assert "its own last checkpoint" in out
    for a, b in zip(rows(whole), rows(broken), strict=True):
        assert a.keys() == b.keys() and a["update"] == b["update"]
        for key in {"loss", "train_loss", "lr"} & a.keys():
            assert a[key] == pytest.approx(b[key], rel=1e-4)


def test_signal_to_one_process_alone_stops_all(folder: Path, tmp_path: Path) -> None:
    """The state is saved by the signal alone, and both processes save the same update."""
    check_gloo()

    def options() -> Dict[str, Any]:
        return {"run": {"save_every": 1000}, "optim": {"batch_size": 4}}

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(folder, whole, 2, **options()))
    run = start(folder, broken, 2, **options())
    wait_for(broken, 2, run)
    workers = psutil.Process(run.pid).children()
    (second,) = (worker for worker in workers if worker.environ().get("RANK") == "1")
    second.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=120)
    assert run.returncode and "same command again" in err
    assert not (broken / "summary.json").exists()
    assert "its own last checkpoint" in finish(start(folder, broken, 2, **options()))
    assert result(broken) == result(whole)


def with_attributes(folder: Path, file: Path) -> Dict[str, Any]:
    """Options of the data with two yes-or-no answers an image, in a csv."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))
    lines = [f"{n},{n.split('/')[0]},{'class1' in n},{len(n) % 2}" for n in names]
    file.write_text("\n".join(["image,split,middle,other", *lines]).lower())
    return {"csv": str(file), "attributes": ("middle", "other")}


def folder_of_videos(path: Path) -> Path:
    from .video_files import write

    for split, count in (("train", 17), ("test", 7)):
        for i in range(count):
            target = path / split / f"class{i % 2}"
            target.mkdir(parents=True, exist_ok=True)
            write(target / f"{i}.mp4", 8 + i)
    return path
