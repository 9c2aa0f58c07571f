"""Training of speaker models: face tracks and their sound in, one answer a frame out."""

import sys
import zlib
from contextlib import nullcontext
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import DistributedType, gather_object, send_to_device
from torch import nn

from ...data import TrackTable, open_tracks
from ...data.faces.ava import write_predictions
from ...data.faces.track_table import csv_of
from ...errors import DataError, InvalidInputError
from ...explanations import explain_speaker
from ...metrics import average_precision
from ...models import SpeakerOutput, create_speaker_model
from ...models.zoo_speaker import SIZES
from ..config import SpeakerAugmentConfig, SpeakerConfig
from ..engine import Trainer
from ..model import cfg_of_run
from ..preflight import AnyTable
from . import batches as tracks
from .lengths import LengthPlan

#: What the face alone says counts half (LR-ASD and Light-ASD).
_VISUAL = 0.5
#: Updates below which a run from random weights is warned of: the GRID recipe's 200 do.
FEW = 200
#: Figures by which the best weights of a run can be chosen.
METRICS = ("average_precision", "accuracy", "balanced_accuracy")


def speaker_loss(
    output: SpeakerOutput,
    labels: torch.Tensor,
    face_labels: Optional[torch.Tensor] = None,
    mask: Optional[torch.Tensor] = None,
    weight: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Binary cross-entropy of face and sound together, plus half of that of the face alone.

    Args:
        output: Of a speaker model, (B, T).
        labels: 0 and 1, (B, T).
        face_labels: What the face alone has to say, where the sound was exchanged; None: the same.
        mask: Which frames count, (B, T) bool; None: all.
        weight: Of the frames with speech; None: 1.

    Returns:
        The mean over the frames that count.
    """
    total = torch.zeros((), device=labels.device)
    seen = labels if face_labels is None else face_labels
    for logits, truth, share in zip(output, (labels, seen), (1.0, _VISUAL), strict=True):
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), truth, pos_weight=weight, reduction="none"
        )
        total = total + share * (losses.mean() if mask is None else losses[mask].mean())
    return total


class SpeakerTrainer(Trainer):
    """A speaker model's run; see :class:`~se_zoo.train.engine.Trainer`."""

    config: SpeakerConfig
    plan: LengthPlan
    unit = "frames"
    pretrained_source = "the zoo's weights"

    @property
    def batch_unit(self) -> str:
        return self.unit

    def open_tables(self) -> Dict[str, AnyTable]:
        config, first = self.config.data, self.accelerator.is_main_process
        found = {name: open_tracks(config, name, first) for name in dict.fromkeys(config.splits)}
        for table in found.values() if first else ():
            # Rather now than in the middle of an epoch, or after it.
            for index in range(0, len(table), max(1, len(table) // 16)):
                if error := table.inspect(index).error:
                    raise DataError(f"{error}. --data.broken skip leaves such tracks out")
        return {**found}

    def table(self, split: str) -> TrackTable:
        """A split."""
        table = self.tables[split]
        assert isinstance(table, TrackTable)
        return table

    def make_plan(self) -> LengthPlan:
        optim, table = self.config.optim, self.table(self.config.data.splits[0])
        most = self.config.augment.frames or max(table.lengths)
        return LengthPlan(
            len(table), optim.batch_size, self.accelerator.num_processes, optim.accumulate,
            optim.epochs, self.config.run.seed, tuple(min(n, most) for n in table.lengths),
        )  # fmt: skip

    def check(self) -> None:
        config, table = self.config, self.table(self.config.data.splits[0])
        if config.run.best not in METRICS:
            raise InvalidInputError(
                f"--run.best {config.run.best} is none of the metrics: {', '.join(METRICS)}."
            )
        if config.model.name not in SIZES:
            raise InvalidInputError(
                f"--model.name {config.model.name} is no speaker model; these are: "
                f"{', '.join(SIZES)}."
            )
        if config.model.body != (config.data.bodies is not None):
            raise InvalidInputError("--model.body and --data.bodies go together.")
        if not 0 < (config.model.norm_momentum or 1) <= 1 or config.model.norm_momentum == 0:
            raise InvalidInputError("--model.norm-momentum must be above 0, 1 at most.")
        _check_augment(config.augment)
        if len(table) < 2 and config.augment.noise + config.augment.swap > 0:
            raise InvalidInputError("--augment.noise and --augment.swap need two tracks or more.")
        if self.plan.passes == 0:
            raise InvalidInputError(
                f"{table.name} has {len(table)} tracks for {self.plan.processes} processes."
            )
        if config.optim.batch_size < 2 or max(table.lengths) < 2:
            raise InvalidInputError(
                "a batch of a single frame has no statistics; --optim.batch-size counts frames."
            )
        left = len(table) - self.plan.used
        if left:
            self.accelerator.print(
                f"left out of the training: the {left} shortest tracks, which fill no batch",
                file=sys.stderr,
            )
        if self.plan.total < FEW and not (config.model.pretrained or config.run.init):
            self.accelerator.print(
                f"only {self.plan.total} updates in all, from random weights: start from others "
                "(--run.init, or --model.pretrained with a lower --optim.lr), or lower "
                "--optim.batch-size",
                file=sys.stderr,
            )
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise InvalidInputError("a speaker model is too small to be spread with FSDP; use DDP.")
        speaking = torch.cat([table.sample(i).labels for i in range(len(table))])
        yes = speaking.sum()
        weight = ((len(speaking) - yes) / yes.clamp(min=1)).clamp(1, 10)
        balance = config.optim.class_balance
        self.weight = weight.to(self.accelerator.device) if balance else None

    def computes(self) -> Dict[str, Any]:
        """The groups depend on the number of processes and on the length of every track."""
        lengths = zlib.crc32(np.array(self.plan.lengths, dtype=np.int64).tobytes())
        more = {"processes": self.plan.processes, "track_lengths": lengths}
        return {**super().computes(), **more}

    def build(self) -> nn.Module:
        config = self.config.model
        model = create_speaker_model(
            config.name, config.pretrained, gate=config.gate, pool=config.pool, body=config.body,
            se=config.se,
        )  # fmt: skip
        momentum = config.norm_momentum or min(0.1, max(0.01, 10 / self.plan.total))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = momentum
        cfg: Any = cfg_of_run(model, config, self.labels, self.tag)
        model.pretrained_cfg = model.default_cfg = cfg
        return model

    def batches(self, update: int) -> Iterator[Any]:
        return tracks.training_batches(
            self.table(self.config.data.splits[0]), self.config, self.plan,
            self.accelerator.process_index, update,
        )  # fmt: skip

    def count(self, batch: Any) -> int:
        return batch["labels"].numel()

    def loss(self, batch: Any) -> torch.Tensor:
        with self.accelerator.autocast():
            output = self.model(batch["audio"], batch["face"], batch.get("body"))
        return speaker_loss(output, batch["labels"], batch["face_labels"], weight=self.weight)

    # Evaluation

    def score(self, model: nn.Module, split: str, mixed_precision: bool) -> Dict[str, Any]:
        """Figures over the rows of the split's csv, and AVA's average precision among them."""
        found = self.row_scores(model, split, mixed_precision)
        table = self.table(split)
        places = np.concatenate([table.rows_of(i) for i in range(len(table))])
        truth = table.speaking
        logits = np.concatenate([found[i] for i in range(len(table))]).astype(np.float64)
        order = places.argsort()  # of rows with equal scores, the csv's order decides
        self.predictions = dict(zip(places[order].tolist(), logits[order].tolist(), strict=True))
        return figures_of(truth[order], logits[order])

    @torch.inference_mode()
    def row_scores(
        self, model: nn.Module, split: str, mixed_precision: bool = False
    ) -> Dict[int, np.ndarray]:
        """Logits of the rows of every track of a split, by its place; on all processes."""
        model.eval()
        table, accelerator = self.table(split), self.accelerator
        batches = tracks.evaluation_batches(
            table, self.config, accelerator.process_index, accelerator.num_processes
        )
        mine: List[Tuple[tracks.Piece, np.ndarray]] = []
        for pieces, inputs in batches:
            inputs = send_to_device(inputs, accelerator.device)
            with accelerator.autocast() if mixed_precision else nullcontext():
                output = model(inputs["audio"], inputs["face"], inputs.get("body"), inputs["mask"])
            for piece, logits in zip(pieces, output.logits.float().cpu().numpy(), strict=True):
                mine.append((piece, logits[piece.begin - piece.first : piece.end - piece.first]))
        frames = [np.full(length, np.nan, np.float32) for length in table.lengths]
        for piece, logits in gather_object(mine):
            frames[piece.index][piece.begin : piece.end] = logits
        return {i: frames[i][table.sample(i).frame_of_row] for i in range(len(table))}

    def show(self, figures: Dict[str, Any]) -> str:
        return (
            f"average precision {figures['average_precision']:.2%} (share of speech "
            f"{figures['positive']:.2%}), accuracy {figures['accuracy']:.2%}"
        )

    # What is left behind

    def model_args(self, model: Any) -> Dict[str, Any]:
        return dict(model._model_args)

    def leave(self, model: nn.Module) -> None:
        """A test track that speaks, explained; and the test split's scores as AVA's script takes
        them."""
        config, folder = self.config.data, self.folder.path
        table = self.table(config.splits[-1])
        truth = csv_of(config, config.splits[-1])
        write_predictions(folder / "predictions.csv", truth, self.predictions)
        if getattr(model, "se", None) is not None:
            speaks = int(table.targets[:, 0].argmax())
            place = int(table.sample(speaks).labels.argmax())
            count = min(table.lengths[speaks], tracks.LONGEST)
            first = min(place, table.lengths[speaks] - count)
            piece = tracks.Piece(speaks, first, count, first, first + count)
            inputs = tracks.Whole(table, self.config.model.body).read(piece)
            labels = inputs.pop("labels")
            inputs = {k: v[None].to(self.accelerator.device) for k, v in inputs.items()}
            found = explain_speaker(model, **inputs)  # type: ignore[arg-type]
            found.save(
                folder / "samples.png", inputs["face"], truth=labels, fps=table.sample(speaks).fps
            )


def _check_augment(augment: SpeakerAugmentConfig) -> None:
    if augment.frames is not None and augment.frames < 1:
        raise InvalidInputError("--augment.frames must be 1 or more.")
    low, high = augment.scale
    if augment.rotate < 0 or not 0 < low <= high <= 1 or augment.snr[0] > augment.snr[1]:
        raise InvalidInputError(
            "--augment.rotate must not be negative, --augment.scale two numbers from 0 to 1, "
            "and --augment.snr two numbers, the lower first."
        )
    chances = (augment.hflip, augment.noise, augment.swap, augment.mute)
    if min(chances) < 0 or max(*chances, augment.swap + augment.mute) > 1:
        raise InvalidInputError(
            "--augment.hflip, noise and swap plus mute are probabilities, 0 to 1."
        )


def figures_of(truth: np.ndarray, logits: np.ndarray) -> Dict[str, Any]:
    """Figures of rows: AVA's average precision, accuracy at a probability of one half, loss.

    Args:
        truth: (N,) bool.
        logits: (N,).

    Raises:
        DataError: If no row is positive.
    """
    said = logits > 0
    loss = np.logaddexp(0, np.where(truth, -logits, logits)).mean()
    recalls = [float((said == truth)[truth == side].mean()) for side in np.unique(truth)]
    share = float(truth.mean())
    values = {
        "loss": float(loss),
        "average_precision": average_precision(truth.tolist(), logits.tolist()),
        "accuracy": float((said == truth).mean()),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "positive": share,
        "majority_accuracy": max(share, 1 - share),
        "majority_balanced_accuracy": 1 / len(recalls),
    }
    return {name: round(value, 5) for name, value in values.items()}
