"""The folder of a run: what may be in it, its log and its best weights."""

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Set, Union

import accelerate
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from safetensors.torch import save
from torch import nn

from .. import provenance
from ..data import ImageStream, Table
from ..errors import InvalidInputError
from ..files import name_without_tmp, read_json, replacing, write_json, write_text
from ..text import one_line
from .nodes import check_folder

#: Folders and files that a run writes into its folder. A run refuses one that holds anything else.
#: The tracker aim writes to ".aim".
_FOLDERS = {"state", "best", "export", "logs", "features", "upload", ".aim"}
_FILES = {
    "metrics.jsonl", "summary.csv", "summary.json", "curves.png", "samples.png", "samples.json",
    "predictions.csv", "lock", "replaced.txt",
}  # fmt: skip
#: File that names the broken training images, which others replaced.
REPLACED = "replaced.txt"
#: File that a run locks while it trains; the system frees the lock of a process that dies.
_LOCK = "lock"
#: Seconds to wait for the lock: loader processes of a killed run hold it until they notice.
_PATIENCE = 10.0
#: Variables that are above 0 where SLURM requeued a job or torchrun restarted its processes.
_RESTARTS = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
#: Variables that name the job, the same after each of its restarts; the first that is set counts.
_JOBS = ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")
#: File in the folder of the checkpoints that names the job which began the run.
_JOB = "job"
#: Errors of a file system that locks no files.
_CANNOT_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
#: Folder in which a person writes the facts of the model's card; never removed.
CARD = "card"


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights whole or not at all.

    Everyone who may read the folder may read the file; safetensors' own ``save_file`` makes files
    that only their owner may read.
    """
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(weights, metadata={"format": "pt"}))


class RunFolder:
    """The folder of a run; only the main process writes to it."""

    path: Path
    accelerator: Accelerator
    states: Path
    log_file: Path
    locked: FileLock

    def __init__(self, path: Path, accelerator: Accelerator):
        self.path, self.accelerator = path, accelerator
        self.states, self.log_file = path / "state", path / "metrics.jsonl"
        self.locked = FileLock(path / _LOCK)

    def check(self, overwrite: bool) -> None:
        """Refuse a folder that holds other files, or a run that is finished.

        Args:
            overwrite: Accept a finished run.

        Raises:
            InvalidInputError: If there is such a file; the message names it.
        """
        present = self._present()
        strange = sorted(n for n in present if n != CARD and not self._is_own(n))
        if strange:
            raise InvalidInputError(
                f"--run.output {self.path} holds {strange[0]}, which no run wrote; name another "
                "folder."
            )
        if "summary.json" in present and not overwrite:
            raise InvalidInputError(
                f"--run.output {self.path} holds a finished run; name another folder, or add "
                "--run.overwrite."
            )

    def _present(self) -> Set[str]:
        """Return the names of what is in the folder.

        NFS calls a file ``.nfs...`` that was removed or replaced and is still open somewhere, such
        as the log that a person watches. It goes by itself.
        """
        names = {p.name for p in self.path.iterdir()} if self.path.is_dir() else set()
        return {name for name in names if not name.startswith(".nfs")}

    def _is_own(self, name: str) -> bool:
        """Return whether a run may have written what has this name; pipes and devices never."""
        plain, path = name_without_tmp(name), self.path / name
        return path.is_dir() if plain in _FOLDERS else plain in _FILES and path.is_file()

    def claim(self, overwrite: bool) -> None:
        """Make and lock the folder, remove what an interrupted run left half-written, or empty it.

        Call it only when no other error can occur before the training starts.

        Args:
            overwrite: Remove everything but the card's folder. An interrupted run stays all the
                same where SLURM or torchrun restarts the job that began it.

        Raises:
            InvalidInputError: If the folder cannot be made, another run uses it, or other nodes do
                not see it.
        """
        self.accelerator.wait_for_everyone()  # all processes have looked before the main one writes
        problem: Any = [self._lock(overwrite) if self.accelerator.is_main_process else None]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(problem)
        if problem[0]:
            raise InvalidInputError(problem[0])
        if self.accelerator.is_main_process:
            if overwrite and self._is_repeated():
                print(f"restarted: --run.overwrite keeps the run in {self.path}", file=sys.stderr)
            elif overwrite:
                for name in self._present() - {CARD, _LOCK}:
                    path = self.path / name
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            self.states.mkdir(exist_ok=True)
            self._remove_temporaries()
            self._note_job()
        self.accelerator.wait_for_everyone()
        check_folder(self.states, self.accelerator)

    def _is_repeated(self) -> bool:
        """Return whether this job began the folder's run, was interrupted, and is restarted.

        A job that is restarted may not have begun it: it may have been preempted before.
        """
        again = any(os.environ.get(name, "0") not in ("", "0") for name in _RESTARTS)
        finished = (self.path / "summary.json").exists()
        if not again or finished or not self._has_checkpoint():
            return False
        job, file = _job(), self.states / _JOB
        return job != "" and file.is_file() and file.read_bytes() == job.encode()

    def _note_job(self) -> None:
        """Write down which job begins a run; the job of a run that goes on stays."""
        if self._has_checkpoint():
            return
        if job := _job():
            write_text(self.states / _JOB, job)
        else:
            (self.states / _JOB).unlink(missing_ok=True)

    def _has_checkpoint(self) -> bool:
        """Return whether the folder's run has written a checkpoint, whole or damaged."""
        return any(self.states.glob("step_*[0-9]"))

    def _lock(self, overwrite: bool) -> str:
        """Make and lock the folder; return what is wrong, or ""."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.locked.acquire(timeout=_PATIENCE)
            self.check(overwrite)  # a run that held the lock until now may have finished
        except InvalidInputError as error:
            return str(error)
        except Timeout:
            return self._why_locked()
        except NotImplementedError as error:
            return self._why_not_locked(error, can_lock=False)
        except OSError as error:
            return self._why_not_locked(error, can_lock=error.errno not in _CANNOT_LOCK)
        return ""

    def _why_not_locked(self, error: Exception, can_lock: bool) -> str:
        """Return the message of a folder that cannot be made or locked."""
        why = f"--run.output {self.path} cannot be made or locked: {error}."
        return why if can_lock else f"{why} Name a folder on another disk."

    def _why_locked(self) -> str:
        """Return the message of a folder that another process has locked."""
        why = (
            f"another run trains in --run.output {self.path}; wait for its end, or name another "
            f"folder. If none does, because its node failed, remove {self.path / _LOCK}."
        )
        tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
        if tasks != "1":
            why += f" srun started {tasks} tasks: for one run, each must be torchrun with --nnodes."
        return why

    def release(self) -> None:
        """Free the folder for other runs; the end of the process does the same."""
        self.locked.release()

    def _remove_temporaries(self) -> None:
        """Remove files and checkpoints that a killed run left half-written."""
        for left in self.states.glob("*.tmp"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for folder in (self.path, self.path / "best", self.path / "features"):
            for path in folder.glob("*.tmp"):
                if path.is_file():
                    path.unlink()

    def log(self, row: Dict[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``, and pass its numbers to the trackers."""
        numbers = {k: v for k, v in row.items() if isinstance(v, float)}
        numbers.update({f"valid/{k}": v for k, v in row.get("valid", {}).items()})
        self.accelerator.log(numbers, step=row["update"])
        if self.accelerator.is_main_process:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def rows(self) -> List[Dict[str, Any]]:
        """Return the log so far, up to a line that was cut off or that no run wrote."""
        if not self.log_file.is_file():
            return []
        found: List[Dict[str, Any]] = []
        for line in self.log_file.read_bytes().splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(row, dict) or not isinstance(row.get("update"), int):
                break
            found.append(row)
        return found

    def take_over(self, other: Path, best_update: Optional[int]) -> None:
        """Copy the log and the best weights of a run that goes on in this folder.

        Args:
            other: Folder of that run.
            best_update: Update of the best weights that its checkpoint knows.
        """
        if not self.accelerator.is_main_process or self.log_file.exists():
            return
        log, best = other / self.log_file.name, other / "best"
        if log.is_file():
            shutil.copyfile(log, self.log_file)
        figures = best / "metrics.json"
        if figures.is_file() and read_json(figures).get("update") == best_update:
            shutil.copytree(best, self.path / "best", dirs_exist_ok=True)

    def trim(self, update: int, evaluated: bool = True) -> None:
        """Remove the log's lines after an update, from which the run continues.

        Args:
            update: The update.
            evaluated: Keep the figures of the epoch that the update ended.
        """
        if not self.accelerator.is_main_process:
            return
        kept = [
            row for row in self.rows()
            if row["update"] < update
            or (row["update"] == update and (evaluated or "valid" not in row))
        ]  # fmt: skip
        write_text(self.log_file, "".join(json.dumps(r) + "\n" for r in kept))

    def replaced(self) -> List[str]:
        """Return the broken training images that others replaced, with the reasons.

        Several processes that find one at the same time all write it down.
        """
        file = self.path / REPLACED
        return list(dict.fromkeys(file.read_text("utf-8").splitlines())) if file.is_file() else []

    def save_best(self, model: nn.Module, figures: Dict[str, Any]) -> None:
        """Store a model's weights and figures as the best so far."""
        if self.accelerator.is_main_process:
            (self.path / "best").mkdir(exist_ok=True)
            save_weights(model, self.path / "best" / "model.safetensors")
            write_json(self.path / "best" / "metrics.json", figures)


def _job() -> str:
    """Return the name of the job that this process belongs to; "" if it belongs to none."""
    return next((os.environ[name] for name in _JOBS if os.environ.get(name)), "")


def environment(accelerator: Accelerator) -> Dict[str, Any]:
    """Return the versions and the machine that a figure was made with."""
    gpu = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else None
    versions = {"accelerate": accelerate.__version__}
    return provenance.environment(versions, gpu=gpu, processes=accelerator.num_processes)


def skipped_samples(tables: Mapping[str, Union[Table, ImageStream]]) -> Dict[str, List[str]]:
    """Return why samples were skipped, by split; empty if none were."""
    found = {name: list(t.skipped) for name, t in tables.items() if isinstance(t, Table)}
    return found if any(found.values()) else {}


def describe_skipped(tables: Mapping[str, Union[Table, ImageStream]]) -> List[str]:
    """Return a line for each split with skipped samples: how many, and why the first was."""
    return [
        f"left out of the {name} split: {len(reasons)} of {len(reasons) + len(tables[name])}, "
        f"the first: {one_line(reasons[0])}"
        for name, reasons in skipped_samples(tables).items()
        if reasons
    ]
