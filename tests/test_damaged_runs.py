"""Folders of interrupted runs whose files were changed."""

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

pytest.importorskip("accelerate", reason="training needs se_zoo[train]")

from accelerate import Accelerator

from se_zoo import InvalidInputError
from se_zoo.train.resume import state
from se_zoo.train.resume.checkpoints import Checkpoints
from se_zoo.train.run_folder import RunFolder

from .train_run import make_state

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def rewrite(file: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps(change(content)))


def without(content: Dict[str, Any], name: str, entry: str) -> Dict[str, Any]:
    return {**content, name: {k: v for k, v in content[name].items() if k != entry}}


@pytest.mark.parametrize(
    "change",
    [
        lambda c: [], lambda c: {}, lambda c: {**c, "model.safetensors": None},
        lambda c: without(c, "model.safetensors", "sha256"),
        lambda c: without(c, "progress.json", "bytes"), lambda c: {**c, "none": {"bytes": 1}},
        lambda c: {k: v for k, v in c.items() if k != "progress.json"},
    ],
)  # fmt: skip
def test_checkpoint_with_a_wrong_manifest_is_named_and_passed_over(
    change: Callable[[Any], Any], tmp_path: Path
) -> None:  # fmt: skip
    first, last = make_state(tmp_path, 1), make_state(tmp_path, 2)
    rewrite(last / "manifest.json", change)
    found, problems = state.latest(tmp_path)
    assert found == first and len(problems) == 1 and "manifest.json" in problems[0]


@pytest.mark.parametrize(
    "entry",
    [
        {"update": 7}, {"update": "2"}, {"loss_sums": []}, {"loss_sums": ["a"]}, {"best": "high"},
        {"config": [1]}, {"data": [1]}, {"data": {"train": 3}}, {"sessions": 3},
        {"sessions": [{"update": 1}]}, {"seconds": None}, {"mystery": 1},
    ],
    ids=str,
)  # fmt: skip
def test_progress_that_no_run_wrote_is_refused(entry: Dict[str, Any], tmp_path: Path) -> None:
    step = make_state(tmp_path, 2)
    rewrite(step / "progress.json", lambda content: {**content, **entry})
    with pytest.raises(state.StateError, match=r"progress\.json was not written by a run"):
        state.read_progress(step)


def test_checkpoint_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    """Its manifest fits its files, and these are not what Accelerate wrote."""
    step = make_state(tmp_path, 2)
    nothing: Any = None
    checkpoints = Checkpoints(tmp_path, Accelerator(cpu=True), nothing, nothing, {"samples": 3}, 2)
    rewrite(step / "progress.json", lambda content: {**content, "config": {"samples": 3}})
    rewrite(step / "manifest.json", lambda content: content)
    sizes = {"bytes": (step / "progress.json").stat().st_size,
             "sha256": state.sha256_of(step / "progress.json")}  # fmt: skip
    rewrite(step / "manifest.json", lambda content: {**content, "progress.json": sizes})
    with pytest.raises(state.StateError, match=r"step_00000002 cannot be loaded.*--run\.overwrite"):
        checkpoints.load(None, {}, False)


@pytest.mark.parametrize(
    "line", [b"[]", b"null", b"3", b"{}", b'{"update": "a"}', b"\xff", b"[" * 100_000]
)
def test_log_ends_before_a_line_that_no_run_wrote(line: bytes, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, Accelerator(cpu=True))
    folder.log_file.write_bytes(b'{"update": 1}\n' + line + b'\n{"update": 3}\n')
    assert folder.rows() == [{"update": 1}]
    folder.trim(5)
    assert folder.log_file.read_text() == '{"update": 1}\n'


def test_pipe_in_a_run_folder_is_refused_and_not_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(InvalidInputError, match=r"holds metrics\.jsonl"):
        RunFolder(tmp_path, Accelerator(cpu=True)).check(overwrite=False)


def test_files_in_the_place_of_checkpoints_are_passed_over(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, Accelerator(cpu=True))
    step = make_state(folder.states, 1)
    (folder.states / "step_00000007").write_text("no folder")
    (folder.states / "step_00000008.tmp").write_text("no folder")
    folder.claim(overwrite=False)
    folder.release()
    assert state.latest(folder.states) == (step, [])
    assert not (folder.states / "step_00000008.tmp").exists()
