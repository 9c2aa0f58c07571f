"""The result of a run: an export that timm loads, the summary, and pictures."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Mapping, Union

import torch
from safetensors.torch import save
from torch import nn

from ..data import ImageStream, Table
from ..files import replace_folder, write_json
from ..models.pretrained.fetch import WEIGHTS_NAME
from ..models.pretrained.manifest import sha256_of
from ..models.save_model import fp16_state, write_export
from ..provenance import command_words
from .config import AnyConfig
from .options import plain
from .resume.order import Plan
from .resume.state import Progress
from .run_folder import RunFolder, skipped_samples


class Export:
    """Writes ``export/``, which timm loads, and beside it the summary and the curves."""

    folder: RunFolder
    config: AnyConfig
    weights: Dict[str, torch.Tensor]

    def __init__(self, folder: RunFolder, config: AnyConfig):
        self.folder, self.config = folder, config

    def round(self, model: nn.Module) -> None:
        """Round the weights to fp16, in which they are exported."""
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
        """Write curves and tables; then the summary, whose presence means that the run is finished.

        Call it after :meth:`write_model`: the summary names the weights that its figures are of.

        Args:
            model: The model that is exported.
            tables: The splits, by name.
            plan: How the training was divided into updates.
            progress: How far the run is.
            findings: Figures of the splits by name, and further entries of the summary.
        """
        rows = self.folder.rows()
        _write_table(self.folder.path / "summary.csv", rows)
        _draw_curves(self.folder.path / "curves.png", rows)
        splits, sessions = self.config.data.splits, progress.sessions
        skipped = skipped_samples(tables)
        summary = {
            "config": plain(asdict(self.config)),
            "command": command_words(),
            "commit": " ".join(dict.fromkeys(s["commit"] or "unknown" for s in sessions)),
            "environment": sessions[-1]["environment"],
            "starts_from": sessions[0]["starts_from"],
            "sessions": sessions,
            "parameters": sum(p.numel() for p in model.parameters()),
            "labels": list(tables[splits[0]].labels),
            "samples": {name: len(table) for name, table in tables.items()},
            **({"skipped": skipped} if skipped else {}),
            **({"replaced": replaced} if (replaced := self.folder.replaced()) else {}),
            "data": progress.data,
            "updates": plan.total,
            "seconds": round(progress.seconds, 1),
            "weights": "after the last epoch, rounded to fp16, evaluated in fp32"
            + ("" if self.config.optim.ema_decay is None else "; averaged (EMA)"),
            "weights_sha256": sha256_of(self.folder.path / "export" / WEIGHTS_NAME),
            "best": {"update": progress.best_update, self.config.run.best: progress.best},
            **findings,
        }
        write_json(self.folder.path / "summary.json", summary)

    def write_model(self, model: nn.Module, model_args: Mapping[str, Any]) -> None:
        """Write ``export/``; of a model without an SE block only the weights.

        Args:
            model: The model, after :meth:`round`.
            model_args: Arguments of its architecture, for config.json.
        """
        with replace_folder(self.folder.path / "export") as made:
            if self.config.model.se:
                write_export(model, made, model_args, self.weights)
            else:
                weights = save(self.weights, metadata={"format": "pt"})
                (made / WEIGHTS_NAME).write_bytes(weights)


def _write_table(path: Path, rows: List[Dict[str, Any]]) -> None:
    """Write the epochs of a log as csv."""
    epochs = [{**{k: v for k, v in r.items() if k != "valid"}, **r["valid"]}
              for r in rows if "valid" in r]  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = list(epochs[0]) if epochs else ["epoch"]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(epochs)


def _draw_curves(path: Path, rows: List[Dict[str, Any]]) -> None:
    """Draw loss, learning rate and validation figures over the training, as PNG."""
    from matplotlib.figure import Figure

    steps = [r for r in rows if "loss" in r]
    epochs = [r for r in rows if "valid" in r]
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    dots = "." if len(steps) < 20 else ""  # a line through one point would be invisible
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
