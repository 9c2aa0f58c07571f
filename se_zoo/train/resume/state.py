"""Checkpoints on disk: complete or absent, verified when read, the last few kept.

A checkpoint is a folder ``state/step_<updates>``. It holds what Accelerate saves (model, optimizer,
scaler), the averaged weights, ``progress.json``, and ``manifest.json`` with the size and SHA-256 of
every file. It is written under another name and renamed when it is complete.
"""

import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ...errors import SEZooError
from ...files import read_json, rename, write_json
from ...models.pretrained.manifest import sha256_of

_STEP = re.compile(r"step_(\d+)")
MANIFEST = "manifest.json"
_PROGRESS = "progress.json"


class StateError(SEZooError, RuntimeError):
    """A checkpoint that is incomplete or damaged, or belongs to another run."""


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``progress.json`` has the same names.

    Attributes:
        update: Updates made.
        loss_sums: Sum of the losses of the epoch's updates so far, for each process.
        best: Best value of the validation metric so far.
        best_update: The update after which it was reached.
        config: What identifies the run; only a run with the same continues from the checkpoint.
        seconds: Time spent in training and validation so far.
        sessions: For each start of the run: what it started from, after how many updates, with
            which commit and environment.
        data: The fingerprint of each split; empty in checkpoints of older versions.
        evaluated: Whether the epoch that the last update ended was evaluated. It was not where a
            signal left no time for it.
    """

    update: int
    loss_sums: List[float]
    best: Optional[float]
    best_update: Optional[int]
    config: Dict[str, Any]
    seconds: float = 0.0
    sessions: List[Dict[str, Any]] = field(default_factory=list)
    data: Dict[str, Dict[str, str]] = field(default_factory=dict)
    evaluated: bool = True


def _files(folder: Path) -> List[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)


def unfinished(folder: Path, update: int) -> Path:
    """Return the folder in which a checkpoint is written until it is complete."""
    return folder / f"step_{update:08d}.tmp"


def begin(temporary: Path) -> None:
    """Make the folder of an unfinished checkpoint, empty."""
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)


def finish(temporary: Path, progress: Progress, keep: int) -> Path:
    """Complete a checkpoint, rename it, and remove older ones.

    Args:
        temporary: Folder of the unfinished checkpoint.
        progress: Stored in it.
        keep: Number of checkpoints to keep, with this one.

    Returns:
        The folder of the checkpoint.
    """
    write_json(temporary / _PROGRESS, asdict(progress))
    listed = {
        p.relative_to(temporary).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_of(p)}
        for p in _files(temporary)
    }
    write_json(temporary / MANIFEST, listed)
    for path in [*_files(temporary), temporary / MANIFEST]:
        with path.open("rb+") as file:  # Windows syncs no file that is open for reading alone
            os.fsync(file.fileno())  # otherwise the rename may reach the disk before the content
    final = temporary.with_suffix("")
    shutil.rmtree(final, ignore_errors=True)
    rename(temporary, final)
    for old in steps(final.parent)[:-keep]:
        # What another program holds open, on Windows or NFS, goes when the next one is complete.
        shutil.rmtree(old, ignore_errors=True)
    return final


def steps(folder: Path) -> List[Path]:
    """Return the folders of the finished checkpoints, oldest first."""
    found = [(m, p) for p in folder.glob("step_*") if (m := _STEP.fullmatch(p.name)) and p.is_dir()]
    return [p for _, p in sorted(found, key=lambda pair: int(pair[0][1]))]


def _problem_of(folder: Path) -> Optional[str]:
    """Return what is wrong with a checkpoint, naming the file; None if it is complete."""
    try:
        listed: Dict[str, Dict[str, Any]] = read_json(folder / MANIFEST)
    except (OSError, ValueError) as error:
        return f"{folder / MANIFEST} cannot be read ({error})"
    entries = list(listed.values()) if isinstance(listed, dict) else [None]
    if not all(isinstance(entry, dict) and {"bytes", "sha256"} <= set(entry) for entry in entries):
        return f"{folder / MANIFEST} does not list bytes and sha256 of every file"
    if _PROGRESS not in listed:
        return f"{folder / MANIFEST} does not list {_PROGRESS}"
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != entry["bytes"]:
            return f"{path} has {path.stat().st_size} bytes instead of {entry['bytes']!r:.40}"
        if sha256_of(path) != entry["sha256"]:
            return f"{path} was changed: its SHA-256 is not the one in {MANIFEST}"
    return None


def latest(folder: Path) -> Tuple[Optional[Path], List[str]]:
    """Return the newest complete checkpoint, and what is wrong with the newer ones."""
    problems: List[str] = []
    for step in reversed(steps(folder)):
        problem = _problem_of(step)
        if problem is None:
            return step, problems
        problems.append(problem)
    return None, problems


def read_progress(folder: Path) -> Progress:
    """Return the progress stored in a complete checkpoint.

    Raises:
        StateError: If it is not one that a run wrote.
    """
    file = folder / _PROGRESS
    try:
        progress = Progress(**read_json(file))
        if problem := _progress_problem(progress, folder):
            raise ValueError(problem)
    except (OSError, ValueError, TypeError) as error:
        raise StateError(f"{file} was not written by a run: {error}") from error
    return progress


def _progress_problem(progress: Progress, folder: Path) -> str:
    """Return which entry cannot be, or ""."""
    step, update = _STEP.fullmatch(folder.name), progress.update
    if step is None or not isinstance(update, int) or update != int(step[1]):
        return f"update is {update!r:.40} in {folder.name}"
    numbers: Dict[str, Any] = {"loss_sums": progress.loss_sums, "seconds": [progress.seconds]}
    if progress.best is not None or progress.best_update is not None:
        numbers["best and best_update"] = [progress.best, progress.best_update]
    for name, values in numbers.items():
        if not isinstance(values, list) or not values or not all(map(_is_number, values)):
            return f"{name} is {values!r:.80}"
    for name, values in (("config", progress.config), ("data", progress.data)):
        if not isinstance(values, dict):
            return f"{name} is {values!r:.80}"
    if not isinstance(progress.evaluated, bool):
        return f"evaluated is {progress.evaluated!r:.80}"
    if not all(isinstance(split, dict) for split in progress.data.values()):
        return f"data is {progress.data!r:.80}"
    known, sessions = {"starts_from", "commit", "environment"}, progress.sessions
    if not isinstance(sessions, list) or not all(
        isinstance(s, dict) and known <= set(s) for s in sessions
    ):
        return f"sessions is {sessions!r:.80}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
