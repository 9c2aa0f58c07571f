"""What a run leaves behind: its log, the best weights, and an export that timm loads."""

import csv
import json
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Set, Union

import accelerate
import torch
from accelerate import Accelerator
from safetensors.torch import save
from torch import nn

from .. import provenance
from ..data import ImageStream, Table
from ..errors import InvalidInputError
from ..explanations import explain
from ..files import replacing, write_json, write_text
from ..models import SEHeadMixin, SpeakerModel
from ..models.pretrained.save import write_export
from ..provenance import options
from .config import AnyConfig
from .model import fp16_state
from .resume.order import Plan
from .resume.state import Progress

#: What a run writes into its folder; anything else in it is someone else's.
_OWN = {
    "state", "best", "export", "metrics.jsonl", "summary.csv", "summary.json", "curves.png",
    "samples.png", "samples.json", "predictions.csv", "logs", "features", "upload",
}  # fmt: skip
#: Where a person writes the facts of the model's card; never removed.
CARD = "card"


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights whole or not at all, readable for everyone who may read the folder
    (safetensors' own ``save_file`` makes files that only their owner can read)."""
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(weights, metadata={"format": "pt"}))


def plain(value: Any) -> Any:
    """JSON's own types (a path as text), so that what was read compares with what is."""
    return json.loads(json.dumps(value, default=str))


def to_text(config: Mapping[str, Any]) -> str:
    """A nested configuration as option names and values, one a line."""
    return "\n".join(f"--{name} {value}" for name, value in options(config).items())


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The options that differ, as ``--name before -> now``."""
    left, right = options(before), options(now)
    names = [n for n in {**left, **right} if left.get(n) != right.get(n)]
    return ", ".join(f"--{n} {left.get(n)} -> {right.get(n)}" for n in names)


class RunFolder:
    """The folder of a run; only the main process writes to it."""

    def __init__(self, path: Path, accelerator: Accelerator):
        self.path, self.accelerator = path, accelerator
        self.states, self.log_file = path / "state", path / "metrics.jsonl"

    def check(self, overwrite: bool) -> None:
        """Refuse a folder that holds something else, or a run that is finished.

        Raises:
            InvalidInputError: Naming what is there.
        """
        present = self._present()
        strange = sorted(n for n in present if n.removesuffix(".tmp") not in {*_OWN, CARD})
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
        return {p.name for p in self.path.iterdir()} if self.path.is_dir() else set()

    def claim(self, overwrite: bool) -> None:
        """Make the folder, or empty it; what can go wrong before has to be known by then."""
        self.accelerator.wait_for_everyone()  # all processes have looked before the main one writes
        if self.accelerator.is_main_process:
            if overwrite:
                for name in self._present() - {CARD}:
                    path = self.path / name
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            try:
                self.states.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidInputError(f"--run.output cannot be made: {error}") from error
            for unfinished in self.states.glob("*.tmp"):  # a run was killed while it wrote them
                shutil.rmtree(unfinished)
        self.accelerator.wait_for_everyone()

    def log(self, row: Dict[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``, and tell the trackers."""
        numbers = {k: v for k, v in row.items() if isinstance(v, float)}
        numbers.update({f"valid/{k}": v for k, v in row.get("valid", {}).items()})
        self.accelerator.log(numbers, step=row["update"])
        if self.accelerator.is_main_process:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def rows(self) -> List[Dict[str, Any]]:
        """The log so far; a last line that was cut off is left out."""
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
        """Drop what was logged after an update: the run goes on from there."""
        if not self.accelerator.is_main_process:
            return
        kept = [row for row in self.rows() if row["update"] <= update]
        write_text(self.log_file, "".join(json.dumps(r) + "\n" for r in kept))

    def save_best(self, model: nn.Module, figures: Dict[str, Any]) -> None:
        """Keep these weights as the best."""
        if self.accelerator.is_main_process:
            (self.path / "best").mkdir(exist_ok=True)
            save_weights(model, self.path / "best" / "model.safetensors")
            write_json(self.path / "best" / "metrics.json", figures)


def environment(accelerator: Accelerator) -> Dict[str, Any]:
    """Versions and machine that a figure was made with."""
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
        explains = isinstance(model, SpeakerModel) and model.se is not None
        if explains or isinstance(model, SEHeadMixin):
            write_export(model, temporary, model_args, self.weights)
        else:
            weights = save(self.weights, metadata={"format": "pt"})
            (temporary / "model.safetensors").write_bytes(weights)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)


def _skipped(tables: Mapping[str, Union[Table, ImageStream]]) -> Dict[str, Any]:
    """What the user let be left out, by split, where there is any."""
    found = {name: list(t.skipped) for name, t in tables.items() if isinstance(t, Table)}
    return {"skipped": found} if any(found.values()) else {}


def left_out(tables: Mapping[str, Union[Table, ImageStream]]) -> List[str]:
    """What is said of samples that are left out: how many, and the first of them."""
    return [
        f"left out of the {name} split: {len(reasons)} of {len(reasons) + len(tables[name])}, "
        f"the first: {reasons[0]}"
        for name, reasons in _skipped(tables).get("skipped", {}).items()
        if reasons
    ]


def write_table(path: Path, rows: List[Dict[str, Any]]) -> None:
    """The epochs of a log as csv."""
    epochs = [{**{k: v for k, v in r.items() if k != "valid"}, **r["valid"]}
              for r in rows if "valid" in r]  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(epochs[0]) if epochs else ["epoch"])
        writer.writeheader()
        writer.writerows(epochs)


def draw_curves(path: Path, rows: List[Dict[str, Any]]) -> None:
    """Loss, learning rate and validation figures over the updates, as PNG."""
    from matplotlib.figure import Figure

    steps = [r for r in rows if "loss" in r]
    epochs = [r for r in rows if "valid" in r]
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    dots = "." if len(steps) < 20 else ""  # a line of one point would not be seen
    left.plot([r["update"] for r in steps], [r["loss"] for r in steps], lw=0.7, marker=dots,
              label="an update")  # fmt: skip
    left.plot([r["update"] for r in epochs], [r["train_loss"] for r in epochs], "o-", ms=3,
              label="mean of an epoch")  # fmt: skip
    left.set(title="training loss", xlabel="update")
    left.legend()
    for name in ("accuracy", "balanced_accuracy", "average_precision"):
        middle.plot([r["epoch"] for r in epochs], [r["valid"][name] for r in epochs], "o-", ms=3,
                    label=name.replace("_", " "))  # fmt: skip
    middle.set(title="validation", xlabel="epoch")
    middle.legend()
    right.plot([r["update"] for r in steps], [r["lr"] for r in steps], marker=dots)
    right.set(title="learning rate", xlabel="update")
    figure.savefig(path, dpi=110)


def draw_samples(path: Path, model: nn.Module, images: torch.Tensor) -> None:
    """Explanations of a few images' predictions, as PNG with the numbers beside it; nothing for a
    model without an SE head."""
    if isinstance(model, SEHeadMixin):
        explain(model, images, explain(model, images, method="gate").logits.argmax(1)).save(path)
