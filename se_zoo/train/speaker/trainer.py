"""Training of speaker models: face tracks and their sound in, one answer per frame out."""

import sys
import zlib
from contextlib import nullcontext
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from accelerate.utils import DistributedType, gather_object, send_to_device
from torch import nn

from ...data import TrackTable, open_tracks
from ...data.faces.ava import write_predictions
from ...data.faces.track_table import csv_of
from ...errors import DataError, InvalidInputError
from ...explanations import explain_speaker
from ...models import create_speaker_model
from ...models.zoo_speaker import SIZES
from ..batch_norm import batch_norms
from ..config import SpeakerConfig
from ..model import pretrained_cfg_of_run
from ..preflight import AnyTable
from ..trainer import Trainer
from . import batches as tracks
from .lengths import LengthPlan
from .scores import METRICS, figures_of, speaker_loss, speech_weight

#: A run from random weights with fewer updates prints a warning. The GRID recipe's 200 are enough.
_FEW_UPDATES = 200


class SpeakerTrainer(Trainer):
    """A speaker model's run; see :class:`~se_zoo.train.trainer.Trainer`."""

    config: SpeakerConfig
    plan: LengthPlan
    unit = "frames"
    pretrained_source = "the zoo's weights"

    weight: Optional[torch.Tensor]
    predictions: Dict[int, float]

    @property
    def batch_unit(self) -> str:
        """What the batch size counts, in the plural."""
        return self.unit

    def open_tables(self) -> Dict[str, AnyTable]:
        """Open the splits, by name."""
        config, first = self.config.data, self.accelerator.is_main_process
        found = {name: open_tracks(config, name, first) for name in dict.fromkeys(config.splits)}
        for table in found.values() if first else ():
            # Some tracks are read now, so that damage is found before the training.
            for index in range(0, len(table), max(1, len(table) // 16)):
                if error := table.inspect(index).error:
                    raise DataError(f"{error}. --data.broken skip leaves such tracks out")
        return {**found}

    def table(self, split: str) -> TrackTable:
        """Return a split."""
        table = self.tables[split]
        assert isinstance(table, TrackTable)
        return table

    def make_plan(self) -> LengthPlan:
        """Return how the training split is divided into updates."""
        optim, table = self.config.optim, self.table(self.config.data.splits[0])
        longest = self.config.augment.frames or max(table.lengths)
        return LengthPlan(
            len(table), optim.batch_size, self.accelerator.num_processes, optim.accumulate,
            optim.epochs, self.config.run.seed, tuple(min(n, longest) for n in table.lengths),
        )  # fmt: skip

    def check(self) -> None:
        """Refuse options that do not fit the data, and print warnings."""
        config, table = self.config, self.table(self.config.data.splits[0])
        _check_options(config)
        if len(table) < 2 and config.augment.noise + config.augment.swap > 0:
            raise InvalidInputError("--augment.noise and --augment.swap need two tracks or more.")
        if self.plan.passes == 0:
            raise InvalidInputError(
                f"{table.name} has {len(table)} tracks, too few for {self.plan.processes} "
                "processes; launch fewer."
            )
        if config.optim.batch_size < 2 or max(table.lengths) < 2:
            raise InvalidInputError(
                "a batch of a single frame has no statistics; --optim.batch-size counts frames, "
                "and the tracks need two frames or more."
            )
        self._warn()
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise InvalidInputError("a speaker model is too small to shard with FSDP; use DDP.")
        labels = torch.cat([table.sample(i).labels for i in range(len(table))])
        weight = speech_weight(labels).to(self.accelerator.device)
        self.weight = weight if config.optim.class_balance else None

    def _warn(self) -> None:
        """Print how many tracks are left out, and whether the run has few updates."""
        left_out = len(self.table(self.config.data.splits[0])) - self.plan.used
        if left_out:
            self.accelerator.print(
                f"left out of the training: the {left_out} shortest tracks, which fill no batch",
                file=sys.stderr,
            )
        random = not (self.config.model.pretrained or self.config.run.init)
        if self.plan.total < _FEW_UPDATES and random:
            self.accelerator.print(
                f"only {self.plan.total} updates in all, from random weights: start from trained "
                "weights (--run.init, or --model.pretrained with a lower --optim.lr), or lower "
                "--optim.batch-size",
                file=sys.stderr,
            )

    def identity(self) -> Dict[str, Any]:
        """Return what identifies the run.

        The groups of tracks depend on the number of processes and on the length of every track.
        """
        lengths = zlib.crc32(np.array(self.plan.lengths, dtype=np.int64).tobytes())
        more = {"processes": self.plan.processes, "track_lengths": lengths}
        return {**super().identity(), **more}

    def build_model(self) -> nn.Module:
        """Return the model of the configuration."""
        config = self.config.model
        model = create_speaker_model(
            config.name, config.pretrained, gate=config.gate, pool=config.pool, body=config.body,
            se=config.se,
        )  # fmt: skip
        momentum = config.norm_momentum or min(0.1, max(0.01, 10 / self.plan.total))
        for norm in batch_norms(model):
            norm.momentum = momentum
        cfg: Any = pretrained_cfg_of_run(model, config, self.labels, self.tag)
        model.pretrained_cfg = model.default_cfg = cfg
        return model

    def batches(self, update: int) -> Iterator[Any]:
        """Return this process's batches from an update to the end of the run."""
        return tracks.training_batches(
            self.table(self.config.data.splits[0]), self.config, self.plan,
            self.accelerator.process_index, update,
        )  # fmt: skip

    def count(self, batch: Any) -> int:
        """Return how many frames a batch has."""
        return batch["labels"].numel()

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of tracks."""
        with self.accelerator.autocast():
            output = self.model(batch["audio"], batch["face"], batch.get("body"))
        return speaker_loss(output, batch["labels"], batch["face_labels"], weight=self.weight)

    # Evaluation

    def score(self, model: nn.Module, split: str, mixed_precision: bool) -> Dict[str, Any]:
        """Return the figures over the rows of the split's csv, with AVA's average precision."""
        found = self.row_scores(model, split, mixed_precision)
        table = self.table(split)
        places = np.concatenate([table.rows_of(i) for i in range(len(table))])
        truth = table.speaking
        logits = np.concatenate([found[i] for i in range(len(table))]).astype(np.float64)
        order = places.argsort()  # rows with equal scores are ranked in the order of the csv
        self.predictions = dict(zip(places[order].tolist(), logits[order].tolist(), strict=True))
        return figures_of(truth[order], logits[order])

    @torch.inference_mode()
    def row_scores(
        self, model: nn.Module, split: str, mixed_precision: bool = False
    ) -> Dict[int, np.ndarray]:
        """Return the logits of the rows of every track of a split, in all processes.

        Args:
            model: The model.
            split: Name of the split.
            mixed_precision: Evaluate in ``--run.mixed-precision`` instead of fp32.

        Returns:
            Logits (rows,) by the index of the track.
        """
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

    def format_figures(self, figures: Dict[str, Any]) -> str:
        """Return average precision and accuracy as text."""
        return (
            f"average precision {figures['average_precision']:.2%} (share of speech "
            f"{figures['positive']:.2%}), accuracy {figures['accuracy']:.2%}"
        )

    # Export

    def model_args(self, model: Any) -> Dict[str, Any]:
        """Return the arguments of the architecture that the export's config.json must name."""
        return dict(model._model_args)

    def write_extra_files(self, model: nn.Module) -> None:
        """Write the test split's scores as AVA's script reads them, and an explained test track."""
        config = self.config.data
        truth = csv_of(config, config.splits[-1])
        write_predictions(self.folder.path / "predictions.csv", truth, self.predictions)
        if self.config.model.se:
            self._draw_sample(model)

    def _draw_sample(self, model: Any) -> None:
        """Explain a test track with speech, as ``samples.png``."""
        table = self.table(self.config.data.splits[-1])
        index = int(table.targets[:, 0].argmax())
        track = table.sample(index)
        count = min(table.lengths[index], tracks.LONGEST)
        first = min(int(track.labels.argmax()), table.lengths[index] - count)
        piece = tracks.Piece(index, first, count, first, first + count)
        inputs = tracks.Whole(table, self.config.model.body).read(piece)
        labels = inputs.pop("labels")
        inputs = {k: v[None].to(self.accelerator.device) for k, v in inputs.items()}
        explanation = explain_speaker(model, **inputs)  # type: ignore[arg-type]
        file = self.folder.path / "samples.png"
        explanation.save(file, inputs["face"], truth=labels, fps=track.fps)


def _check_options(config: SpeakerConfig) -> None:
    """Refuse options of the run that cannot work together."""
    model = config.model
    if config.run.best not in METRICS:
        raise InvalidInputError(
            f"--run.best {config.run.best} is not a metric of speaker models; choose one of: "
            f"{', '.join(METRICS)}."
        )
    if model.name not in SIZES:
        raise InvalidInputError(
            f"--model.name {model.name} is no speaker model; these are: {', '.join(SIZES)}."
        )
    if model.body != (config.data.bodies is not None):
        raise InvalidInputError(
            "--model.body and --data.bodies go together; give both of them or neither."
        )
    augment = config.augment
    if augment.swap + augment.mute > 1:
        raise InvalidInputError(
            f"--augment.swap plus mute are probabilities of one change; {augment.swap:g} and "
            f"{augment.mute:g} are more than 1 together."
        )
