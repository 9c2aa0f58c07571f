"""What goes wrong on clusters: several nodes, network file systems, signals and restarts.

The runs of several processes are in test_kill.
"""

import errno
import json
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="training needs se_zoo[train]")
pytest.importorskip("datasets", reason="training needs se_zoo[train]")

from accelerate import Accelerator
from filelock import FileLock
from safetensors.torch import load_file, save

from se_zoo import InvalidInputError
from se_zoo.data import ClipDataConfig, DataConfig, open_table
from se_zoo.data.faces.face_track import FaceTrack
from se_zoo.data.faces.track_table import TrackTable
from se_zoo.data.tables.clip_table import ClipTable
from se_zoo.data.tables.content import Content, StoredFiles
from se_zoo.errors import DataError
from se_zoo.train import nodes, run_folder
from se_zoo.train.preflight import check_shares
from se_zoo.train.resume import state, stop
from se_zoo.train.run_folder import RunFolder

from .test_train import folder, run  # noqa: F401  (folder is a fixture)
from .train_run import make_config, make_state

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def rows(output: Path) -> List[Dict[str, Any]]:
    found = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in found]


def weights_of(output: Path) -> List[bytes]:
    return [(output / place / "model.safetensors").read_bytes() for place in ("export", "best")]


#: Variables that name a job, and those that count its restarts.
RESTARTS = (
    ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"),
    ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
)


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests themselves may run in a job."""
    for name in (n for names in RESTARTS for n in names):
        monkeypatch.delenv(name, raising=False)


def is_kept(run_of: RunFolder) -> bool:
    """Whether --run.overwrite keeps a run with a checkpoint."""
    step = make_state(run_of.states, 1)
    run_of.claim(overwrite=True)
    run_of.release()
    return step.is_dir()


# Signals


def test_signal_at_the_end_of_an_epoch_leaves_the_evaluation_to_the_next_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation may take longer than the scheduler waits."""
    whole = run(folder, tmp_path / "whole", optim={"epochs": 2})
    broken = tmp_path / "broken"
    for at in (4, 8):
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as info:
            patch.setattr(stop.Stop, "asked", lambda self, done, at=at: 15 if done == at else None)
            run(folder, broken, optim={"epochs": 2})
        assert info.value.code == 128 + signal.SIGTERM
        assert not [row for row in rows(broken) if row["update"] == at and "valid" in row]
    run(folder, broken, optim={"epochs": 2})
    assert rows(broken) == rows(whole) and weights_of(broken) == weights_of(whole)


def test_figures_of_an_epoch_that_is_evaluated_again_are_not_logged_twice(tmp_path: Path) -> None:
    run_of = RunFolder(tmp_path, Accelerator(cpu=True))
    log = '{"update": 3}\n{"update": 4}\n{"update": 4, "valid": {}}\n{"update": 5}\n'
    run_of.log_file.write_text(log)
    run_of.trim(4)
    assert len(run_of.rows()) == 3
    run_of.trim(4, evaluated=False)
    assert run_of.rows() == [{"update": 3}, {"update": 4}]


def test_processes_ask_each_other_after_every_slow_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun kills them 30 seconds after the signal."""
    clock, other = [100.0], [0, 10]
    monkeypatch.setattr(stop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    process: Any = SimpleNamespace(
        num_processes=2, device="cpu",
        gather=lambda mine: torch.cat([mine, torch.tensor([other])]),
    )  # fmt: skip
    asking = stop.Stop(process)
    assert asking.due(1) and asking.asked(1) is None
    assert asking.due(2), "nothing is known yet"
    clock[0] += 0.1
    assert asking.asked(2) is None
    assert not asking.due(51) and asking.due(52), "an update takes 0.1 seconds"
    clock[0] += 5
    other[:] = [15, 10_000]  # the other process has got the signal, and is slow
    assert asking.asked(52) == 15 and asking.due(53)


def test_command_that_is_repeated_by_itself_does_not_overwrite_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run_of = RunFolder(tmp_path, Accelerator(cpu=True))
    for job, count in RESTARTS:
        with monkeypatch.context() as patch:
            patch.setenv(job, "7")
            patch.setenv(count, "0")
            assert not is_kept(run_of) and not capsys.readouterr().err
            patch.setenv(count, "1")
            assert is_kept(run_of) and "--run.overwrite keeps" in capsys.readouterr().err
            assert state.latest(run_of.states)[0] == run_of.states / "step_00000001"
            (tmp_path / "summary.json").write_text("{}")
            assert not is_kept(run_of), "a finished run is overwritten as before"


def test_restarted_command_overwrites_a_run_that_another_job_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job was preempted before it claimed the folder, or is a shell that was requeued."""
    run_of = RunFolder(tmp_path, Accelerator(cpu=True))
    for job, count in RESTARTS:
        with monkeypatch.context() as patch:
            patch.setenv(count, "1")
            assert not is_kept(run_of), "nobody knows which job began it"
            for name in ("7", "8"):
                patch.setenv(job, name)
                assert not is_kept(run_of) and is_kept(run_of)
            patch.setenv(job, "9")
            run_of.claim(overwrite=False)
            run_of.release()
            assert (run_of.states / "job").read_text() == "8", "job 9 goes on with its run"
            patch.delenv(job)
            assert not is_kept(run_of) and not (run_of.states / "job").exists()


def test_only_a_disk_that_cannot_lock_is_to_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {
        OSError(errno.ENOLCK, "no locks"): True, NotImplementedError("no flock"): True,
        PermissionError(errno.EACCES, "denied"): False,
    }  # fmt: skip
    for error, other_disk in errors.items():
        run_of = RunFolder(tmp_path, Accelerator(cpu=True))

        def fail(timeout: float, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(run_of.locked, "acquire", fail)
        with pytest.raises(InvalidInputError, match="cannot be made or locked") as info:
            run_of.claim(overwrite=False)
        assert ("another disk" in str(info.value)) == other_disk


# The run's folder


def test_folder_may_hold_what_nfs_and_aim_leave(tmp_path: Path) -> None:
    (tmp_path / ".nfs000000000001").write_text("removed, and still open")
    (tmp_path / ".aim").mkdir()
    run_of = RunFolder(tmp_path, Accelerator(cpu=True))
    run_of.check(overwrite=False)
    run_of.claim(overwrite=True)
    run_of.release()
    assert not (tmp_path / ".aim").exists() and (tmp_path / ".nfs000000000001").exists()


def test_message_of_a_lock_says_what_else_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "_PATIENCE", 0.1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with FileLock(tmp_path / "lock"):
        with pytest.raises(InvalidInputError, match=r"remove .*lock\. srun started 8 tasks"):
            RunFolder(tmp_path, Accelerator(cpu=True)).claim(overwrite=False)


def test_broken_image_that_several_processes_noted_counts_once(tmp_path: Path) -> None:
    (tmp_path / "replaced.txt").write_text("a: bad\nb: bad\na: bad\n")
    assert RunFolder(tmp_path, Accelerator(cpu=True)).replaced() == ["a: bad", "b: bad"]


def process_of_two() -> Any:
    return SimpleNamespace(num_processes=2, is_main_process=True, wait_for_everyone=lambda: None)


def test_folder_that_another_node_does_not_see_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "broadcast_object_list", lambda objects: objects)
    for sees in (True, False):
        monkeypatch.setattr(nodes, "gather_object", lambda mine, sees=sees: [*mine, ("n2", sees)])
        if sees:
            nodes.check_folder(tmp_path, process_of_two())
        else:
            with pytest.raises(InvalidInputError, match="another folder on n2 than"):
                nodes.check_folder(tmp_path, process_of_two())
        assert not list(tmp_path.iterdir())


def test_a_path_may_appear_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system shows it after some seconds."""
    made = tmp_path / "run" / "state"
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda s: made.mkdir(parents=True))
    monkeypatch.setattr(nodes, "time", clock)
    assert nodes.is_seen(made)
    monkeypatch.setattr(nodes, "_PATIENCE", -1)
    assert not nodes.is_seen(tmp_path / "none")


def test_only_the_main_process_chooses_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node may still see an older one as the newest."""
    from se_zoo.train.resume import checkpoints

    make_state(tmp_path, 1)
    chosen = make_state(tmp_path, 2)

    def receive(objects: List[Any]) -> None:
        objects[0] = (chosen, [])

    monkeypatch.setattr(checkpoints, "broadcast_object_list", receive)
    monkeypatch.setattr(state, "latest", lambda place: pytest.fail("it looked itself"))
    other: Any = SimpleNamespace(is_main_process=False, num_processes=2)
    nothing: Any = None
    found = checkpoints.Checkpoints(tmp_path, other, nothing, nothing, {}, 2)._latest(tmp_path)
    assert found == (chosen, [])


# The data


def test_nodes_with_other_data_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "stale")
    moved = next((tmp_path / "stale" / "valid" / "common").iterdir())
    moved.rename(tmp_path / "stale" / "valid" / "rare" / moved.name)
    own, stale = (
        {split: open_table(DataConfig(str(path)), split) for split in ("train", "valid")}
        for path in (folder, tmp_path / "stale")
    )
    for tables, refused in ((own, False), (stale, True)):
        other = {name: nodes._digest(table) for name, table in tables.items()}
        monkeypatch.setattr(
            nodes, "gather_object", lambda mine, other=other: [*mine, ("n2", other)]
        )
        if refused:
            with pytest.raises(DataError, match="process 1 on n2 sees another valid split"):
                nodes.check_tables(own, process_of_two())
        else:
            nodes.check_tables(own, process_of_two())


def test_labels_of_frames_and_parts_of_videos_tell_nodes_apart() -> None:
    """Where the number of samples, their names and their targets are the same."""

    def tracks(*speaking: bool) -> TrackTable:
        rows, folder = np.arange(3), Path()
        track = FaceTrack("a", rows / 25, np.array(speaking), rows, 25, True, folder, None, folder)
        return TrackTable("train", [track], [rows])

    def clips(start: float) -> ClipTable:
        content = Content(StoredFiles(Path(), ["a.mp4"]), ("a",), torch.zeros(1), [(start, 9.0)])
        return ClipTable("train", content, ClipDataConfig("x"))

    assert nodes._digest(tracks(True, True, False)) == nodes._digest(tracks(True, True, False))
    assert nodes._digest(tracks(True, True, False)) != nodes._digest(tracks(True, False, False))
    assert nodes._digest(clips(1)) == nodes._digest(clips(1)) != nodes._digest(clips(2))


def test_run_goes_on_with_data_that_were_moved(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """As the node's own disk has another name in every job."""
    shutil.copytree(folder, tmp_path / "job1")
    output = run(tmp_path / "job1", tmp_path / "run")
    (output / "summary.json").unlink()
    (tmp_path / "job1").rename(tmp_path / "job2")
    run(tmp_path / "job2", output)
    assert "its own last checkpoint" in capsys.readouterr().out
    summary = json.loads((output / "summary.json").read_text())
    assert summary["config"]["data"]["path"] == str(tmp_path / "job2")


def test_split_with_fewer_samples_than_processes_is_refused() -> None:
    config = make_config({"data": {"path": "x"}, "run": {"output": "x"}})
    splits: Any = dict(zip(config.data.splits, ([0] * 9, [0] * 3, [0] * 2), strict=True))
    check_shares(config, splits, 2)
    with pytest.raises(InvalidInputError, match="test split holds 2 images, fewer than the 3 proc"):
        check_shares(config, splits, 3)


# Accelerate


def test_accumulation_of_the_launcher_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accelerate would divide the loss by it, and the recipe's own loop knows nothing of it."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(InvalidInputError, match=r"give --optim\.accumulate 4"):
        run(folder, tmp_path / "run")


def test_one_process_goes_on_with_the_names_of_several(folder: Path, tmp_path: Path) -> None:
    output = run(folder, tmp_path / "run", optim={"ema_decay": None})
    before = weights_of(output)
    (output / "summary.json").unlink()
    shutil.rmtree(output / "export")
    (step,) = state.steps(output / "state")
    file = step / "model.safetensors"
    wrapped = save({f"module.{k}": v for k, v in load_file(file).items()}, {"format": "pt"})
    file.write_bytes(wrapped)
    (step / "manifest.json").unlink()
    listed = {
        p.relative_to(step).as_posix(): {
            "bytes": p.stat().st_size, "sha256": state.sha256_of(p),
        } for p in state._files(step)
    }  # fmt: skip
    (step / "manifest.json").write_text(json.dumps(listed))
    run(folder, output, optim={"ema_decay": None})
    assert weights_of(output) == before
