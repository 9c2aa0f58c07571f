"""The state of a run on disk: whole or not there, checked when read, the last few kept.

A state is a folder ``state/step_<updates>`` with what Accelerate saves (model, optimiser, scaler),
the averaged weights, ``progress.json``, and ``manifest.json`` with the size and SHA-256 of every
file. It is written under another name and renamed when complete.
"""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ...errors import SEZooError
from ...files import write_json
from ...models.pretrained.manifest import sha256_of

_STEP = re.compile(r"step_(\d+)")
MANIFEST = "manifest.json"


class StateError(SEZooError, RuntimeError):
    """A saved state that is incomplete or damaged, or belongs to another run."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        update: Updates made.
        loss_sums: Sum of the losses of the epoch's updates so far, of each process.
        best: Best value of the validation metric so far.
        best_update: When it was reached.
        config: What the run computes; a state goes on only under the same.
        seconds: Time spent in training and validation so far.
        sessions: Of each start of the run: what it started from, at which update, with which
            commit and environment.
    """

    update: int
    loss_sums: List[float]
    best: Optional[float]
    best_update: Optional[int]
    config: Dict[str, Any]
    seconds: float = 0.0
    sessions: List[Dict[str, Any]] = field(default_factory=list)


def _files(folder: Path) -> List[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)


def unfinished(folder: Path, update: int) -> Path:
    """Where a state is written before it is whole."""
    return folder / f"step_{update:08d}.tmp"


def begin(temporary: Path) -> None:
    """Make the folder for an unfinished state; what was left there is dropped."""
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)


def finish(temporary: Path, progress: Progress, keep: int) -> Path:
    """Complete a state: progress, manifest, its real name; then drop all but the last ``keep``."""
    write_json(temporary / "progress.json", asdict(progress))
    listed = {
        str(p.relative_to(temporary)): {"bytes": p.stat().st_size, "sha256": sha256_of(p)}
        for p in _files(temporary)
    }
    write_json(temporary / MANIFEST, listed)
    for path in [*_files(temporary), temporary / MANIFEST]:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # or the rename could reach the disk before the content
    final = temporary.with_suffix("")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for old in steps(final.parent)[:-keep]:
        shutil.rmtree(old)
    return final


def steps(folder: Path) -> List[Path]:
    """Complete states, oldest first."""
    found = [(m, p) for p in folder.glob("step_*") if (m := _STEP.fullmatch(p.name))]
    return [p for _, p in sorted(found, key=lambda pair: int(pair[0][1]))]


def problem_of(folder: Path) -> Optional[str]:
    """What is wrong with a state, naming the file; None if it is whole."""
    try:
        listed: Dict[str, Dict[str, Any]] = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        return f"{folder / MANIFEST} cannot be read ({error})"
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != entry["bytes"]:
            return f"{path} has {path.stat().st_size} bytes instead of {entry['bytes']}"
        if sha256_of(path) != entry["sha256"]:
            return f"{path} was changed (its SHA-256 is another one)"
    return None


def latest(folder: Path) -> Tuple[Optional[Path], List[str]]:
    """The newest whole state, and what is wrong with the newer ones."""
    problems: List[str] = []
    for step in reversed(steps(folder)):
        problem = problem_of(step)
        if problem is None:
            return step, problems
        problems.append(problem)
    return None, problems


def read_progress(folder: Path) -> Progress:
    """The progress of a whole state."""
    return Progress(**json.loads((folder / "progress.json").read_text("utf-8")))
