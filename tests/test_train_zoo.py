"""tools/train_zoo.py trains what is not finished, and takes no other run for it."""

import json
import subprocess
from pathlib import Path
from typing import Any, List

import pytest

from tools import train_zoo

NAME = "convnext_atto_celeba"


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> List[List[str]]:
    """The commands that the tool runs, instead of running them."""
    commands: List[List[str]] = []

    def run(command: List[str], **_: Any) -> None:
        commands.append(command)

    monkeypatch.setattr(train_zoo, "ROOT", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    return commands


def finish(root: Path, *options: str) -> None:
    """Leave what a finished run leaves."""
    folder = root / "runs" / "zoo" / NAME
    folder.mkdir(parents=True)
    command = ["python", "-m", "tools.cpu_training", "recipes/celeba.py", *options]
    (folder / "summary.json").write_text(json.dumps({"command": command}))


def test_finished_run_is_skipped(tmp_path: Path, started: List[List[str]]) -> None:
    train_zoo.train([NAME])
    assert len(started) == 1 and "recipes/celeba.py" in started[0]
    finish(tmp_path, *train_zoo.JOBS[NAME][1:], "--run.workers", "2")
    train_zoo.train([NAME])
    assert len(started) == 1


def test_run_with_other_options_is_not_taken_for_it(
    tmp_path: Path, started: List[List[str]]
) -> None:
    finish(tmp_path, *train_zoo.JOBS[NAME][1:-1], "3")
    with pytest.raises(SystemExit, match=r"of another command.*--optim\.epochs 3; delete it"):
        train_zoo.train([NAME])
    assert not started


@pytest.mark.parametrize("name", train_zoo.STARTS)
def test_what_a_job_starts_from_is_written_first(name: str, started: List[List[str]]) -> None:
    module, file = train_zoo.STARTS[name]
    train_zoo.train([name])
    assert started[0][1:] == ["-m", module, str(file)] and len(started) == 2
    assert started[1][started[1].index("--run.init") + 1] == str(file)


@pytest.mark.parametrize("name", train_zoo.JOBS)
def test_every_job_names_a_recipe(name: str) -> None:
    recipe = train_zoo.JOBS[name][0]
    assert (Path(__file__).parents[1] / "recipes" / recipe).is_file()
    assert f"recipes/{recipe}" in train_zoo.command_of(name)
