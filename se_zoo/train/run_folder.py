"""The folder of a run: what may be in it, its log and its best weights."""

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Mapping, Set, Union

import accelerate
import torch
from accelerate import Accelerator
from safetensors.torch import save
from torch import nn

from .. import provenance
from ..data import ImageStream, Table
from ..errors import InvalidInputError
from ..files import name_without_tmp, replacing, write_json, write_text

#: What a run writes into its folder. A run refuses a folder that holds anything else.
_OWN = {
    "state", "best", "export", "metrics.jsonl", "summary.csv", "summary.json", "curves.png",
    "samples.png", "samples.json", "predictions.csv", "logs", "features", "upload",
}  # fmt: skip
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


def plain(value: Any) -> Any:
    """Return a value in JSON's types, paths as text, as it would be read again from a file."""
    return json.loads(json.dumps(value, default=str))


class RunFolder:
    """The folder of a run; only the main process writes to it."""

    path: Path
    accelerator: Accelerator
    states: Path
    log_file: Path

    def __init__(self, path: Path, accelerator: Accelerator):
        self.path, self.accelerator = path, accelerator
        self.states, self.log_file = path / "state", path / "metrics.jsonl"

    def check(self, overwrite: bool) -> None:
        """Refuse a folder that holds other files, or a run that is finished.

        Args:
            overwrite: Accept a finished run.

        Raises:
            InvalidInputError: If there is such a file; the message names it.
        """
        present = self._present()
        strange = sorted(n for n in present if n != CARD and name_without_tmp(n) not in _OWN)
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
        """Return the names of what is in the folder."""
        return {p.name for p in self.path.iterdir()} if self.path.is_dir() else set()

    def claim(self, overwrite: bool) -> None:
        """Make the folder, remove what an interrupted run left half-written, or empty the folder.

        Call it only when no other error can occur before the training starts.

        Args:
            overwrite: Remove everything but the card's folder.

        Raises:
            InvalidInputError: If the folder cannot be made.
        """
        self.accelerator.wait_for_everyone()  # all processes have looked before the main one writes
        if self.accelerator.is_main_process:
            if overwrite:
                for name in self._present() - {CARD}:
                    path = self.path / name
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            try:
                self.states.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidInputError(
                    f"--run.output {self.path} cannot be made: {error}"
                ) from error
            self._remove_temporaries()
        self.accelerator.wait_for_everyone()

    def _remove_temporaries(self) -> None:
        """Remove files and checkpoints that a killed run left half-written."""
        for checkpoint in self.states.glob("*.tmp"):
            shutil.rmtree(checkpoint)
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
        """Return the log so far, without a last line that was cut off."""
        if not self.log_file.is_file():
            return []
        found = []
        for line in self.log_file.read_text("utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def trim(self, update: int) -> None:
        """Remove the log's lines after an update, from which the run continues."""
        if not self.accelerator.is_main_process:
            return
        kept = [row for row in self.rows() if row["update"] <= update]
        write_text(self.log_file, "".join(json.dumps(r) + "\n" for r in kept))

    def save_best(self, model: nn.Module, figures: Dict[str, Any]) -> None:
        """Store a model's weights and figures as the best so far."""
        if self.accelerator.is_main_process:
            (self.path / "best").mkdir(exist_ok=True)
            save_weights(model, self.path / "best" / "model.safetensors")
            write_json(self.path / "best" / "metrics.json", figures)


def environment(accelerator: Accelerator) -> Dict[str, Any]:
    """Return the versions and the machine that a figure was made with."""
    gpu = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else None
    versions = {"accelerate": accelerate.__version__}
    return provenance.environment(versions, gpu=gpu, processes=accelerator.num_processes)


@contextmanager
def full_precision() -> Iterator[None]:
    """Convolutions on GPUs in fp32 proper, not in TF32, which is on by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class Export:
    """``export/``, which timm loads, with summary, samples and curves beside it."""

    folder: RunFolder
    config: AnyConfig
    weights: Dict[str, torch.Tensor]

    def __init__(self, folder: RunFolder, config: AnyConfig):
        self.folder, self.config = folder, config

    def round(self, model: nn.Module) -> None:
        """Round the weights to fp16, as they are exported."""
        self.weights = fp16_state(model)
        model.load_state_dict(self.weights)

    def write_summary(
        self,
        model: nn.Module,
        tables: Mapping[str, Union[Table, ImageStream]],
        plan: Plan,
        progress: Progress,
        findings: Mapping[str, Any],
    ) -> None:
        """Write curves and figures; the summary, which says that the run is finished, last.

        Args:
            model: What is exported.
            tables: The splits, by name.
            plan: How the training was cut into updates.
            progress: How it went.
            findings: Figures of the splits by name, and what else the summary is to say.
        """
        rows = self.folder.rows()
        write_table(self.folder.path / "summary.csv", rows)
        draw_curves(self.folder.path / "curves.png", rows)
        splits, sessions = self.config.data.splits, progress.sessions
        summary = {
            "config": plain(asdict(self.config)),
            "command": sys.argv,
            "commit": " ".join(dict.fromkeys(s["commit"] or "unknown" for s in sessions)),
            "environment": sessions[-1]["environment"],
            "starts_from": sessions[0]["starts_from"],
            "sessions": sessions,
            "parameters": sum(p.numel() for p in model.parameters()),
            "labels": list(tables[splits[0]].labels),
            "samples": {name: len(table) for name, table in tables.items()},
            **_skipped(tables),
            "updates": plan.total,
            "seconds": round(progress.seconds, 1),
            "weights": "after the last epoch, rounded to fp16, evaluated in fp32"
            + ("" if self.config.optim.ema_decay is None else "; averaged (EMA)"),
            "best": {"update": progress.best_update, self.config.run.best: progress.best},
            **findings,
        }
        write_json(self.folder.path / "summary.json", summary)

    def write_model(self, model: nn.Module, model_args: Mapping[str, Any]) -> None:
        """Write ``export/``; of a model without an SE block the weights alone.

        Args:
            model: What is exported; :meth:`round` has rounded it.
            model_args: Arguments of its architecture.
        """
        temporary, final = self.folder.path / "export.tmp", self.folder.path / "export"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        if getattr(model, "explains", False):
            write_export(model, temporary, model_args, self.weights)
        else:
            weights = save(self.weights, metadata={"format": "pt"})
            (temporary / "model.safetensors").write_bytes(weights)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)


def _skipped(tables: Mapping[str, Union[Table, ImageStream]]) -> Dict[str, Any]:
    """What the user let be left out, by split, where there is any."""
    found = {name: list(t.skipped) for name, t in tables.items() if isinstance(t, Table)}
    return found if any(found.values()) else {}


def describe_skipped(tables: Mapping[str, Union[Table, ImageStream]]) -> List[str]:
    """Return a line for each split with skipped samples: how many, and why the first was."""
    return [
        f"left out of the {name} split: {len(reasons)} of {len(reasons) + len(tables[name])}, "
        f"the first: {reasons[0]}"
        for name, reasons in skipped_samples(tables).items()
        if reasons
    ]
