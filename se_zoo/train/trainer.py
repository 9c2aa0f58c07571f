"""A training run: its data, model and optimizer; subclasses define data, model and loss.

Everything random depends on the seed and on the number of updates made (:mod:`.resume.order`), so
a checkpoint (:mod:`.resume.state`) of weights, optimizer and counters is enough to continue a run.
"""

import sys
from dataclasses import asdict, replace
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast, broadcast_object_list

from .. import provenance
from ..errors import InvalidInputError
from . import schedule
from .batch_norm import batch_norms, folded_norms, freeze_norms
from .config import AnyConfig
from .ema import EvalWeights, ShardedEvalWeights
from .evaluate import convert_to_channels_last, full_precision
from .export import Export
from .model import freeze_backbone, load_init
from .nodes import check_tables
from .options import option_lines, plain, result_options
from .preflight import AnyTable, share_skipped, start_trackers
from .resume.checkpoints import Checkpoints
from .resume.order import Plan, seed_all
from .resume.state import Progress
from .run_folder import RunFolder, describe_skipped, environment


class Trainer:
    """A run: the data, the model and the optimizer, prepared by Accelerate.

    Args:
        config: The run.
        tag: The zoo's tag of the data set, see :func:`se_zoo.train.train`.
        accelerator: Made by :func:`~se_zoo.train.preflight.make_accelerator`.

    Attributes:
        tables: The splits, by name.
        plan: How the training split is divided into updates.
        raw_model: The module that is trained, before Accelerate prepared it.
        model: The same as Accelerate prepared it.
        eval_weights: The weights to evaluate and export.
        progress: How far the run is.
    """

    config: AnyConfig
    tag: str
    accelerator: Accelerator
    folder: RunFolder
    tables: Dict[str, AnyTable]
    labels: Tuple[str, ...]
    multi_label: bool
    plan: Plan
    source: str
    sharded: bool
    optimizer: Any
    eval_weights: EvalWeights
    raw_model: torch.nn.Module
    model: Any
    progress: Progress
    checkpoints: Checkpoints
    commit: Optional[str]

    #: What the speed is counted in, per second.
    unit = "images"

    #: The source of the weights of ``--model.pretrained``, for messages.
    pretrained_source = "timm's weights"

    def __init__(self, config: AnyConfig, tag: str, accelerator: Accelerator):
        self.config, self.tag, self.accelerator = config, tag, accelerator
        self.folder = RunFolder(config.run.output, accelerator)
        with accelerator.main_process_first():  # the other processes then use its cache
            tables = self.open_tables()
        self.tables = share_skipped(tables, accelerator)
        check_tables(self.tables, accelerator)
        for line in describe_skipped(self.tables):
            accelerator.print(line, file=sys.stderr)
        if not config.run.dry_run:
            if config.run.overwrite and config.run.resume is not None:
                raise InvalidInputError(
                    "--run.overwrite would remove a run before --run.resume is known to go on; "
                    "continue in a new --run.output."
                )
            self.folder.check(config.run.overwrite)
        first = self.tables[config.data.splits[0]]
        self.labels, self.multi_label = first.labels, first.multi_label
        self.plan = self.make_plan()
        self.check()
        seed_all(config.run.seed)
        self._prepare(self._make_model())
        identity = self.identity()
        self.progress = Progress(0, [0.0], None, None, identity)
        self.checkpoints = Checkpoints(
            self.folder.states, accelerator, self.model, self.eval_weights, identity,
            config.run.keep,
        )  # fmt: skip
        self._fingerprints: Dict[str, Dict[str, str]] = {}
        self.commit = provenance.commit()  # now, because the files may change during the run

    def _make_model(self) -> torch.nn.Module:
        """Return the module to train, on its device, with the weights that the run starts from."""
        model = self.build_model()
        self.source = self._load_initial_weights(model)
        model = model.to(self.accelerator.device)
        if self.config.run.channels_last:
            convert_to_channels_last(model)
        self.prepare_inputs(model)
        if self.config.run.init is not None or self.config.model.pretrained:
            self._check_norms(model)
        if self.config.optim.freeze_backbone:
            freeze_backbone(model)
        return self.wrap(model)

    def _check_norms(self, model: torch.nn.Module) -> None:
        """Say that loaded BatchNorms were folded, and measure their statistics if possible."""
        optim = self.config.optim
        folded = [] if optim.freeze_norms or optim.freeze_backbone else folded_norms(model)
        if not folded:
            return
        done = self.unfold(model, folded)
        self.accelerator.print(
            f"{self.source}: {len(folded)} of {len(batch_norms(model))} BatchNorms were folded "
            "into their convolutions (mean 0, variance 1), and training would start from chance; "
            f"{done}",
            file=sys.stderr,
        )
        for tensor in model.state_dict().values():
            broadcast(tensor)  # each process measured its own samples

    def unfold(self, model: torch.nn.Module, folded: Sequence[Any]) -> str:
        """Give folded BatchNorms statistics; return what was done, or what to do."""
        return "--optim.freeze-norms keeps them as they are"

    def train_mode(self) -> None:
        """Put the model into train mode, but for BatchNorms that are frozen."""
        self.model.train()
        if self.config.optim.freeze_norms or self.config.optim.freeze_backbone:
            freeze_norms(self.raw_model)

    def _prepare(self, model: torch.nn.Module) -> None:
        """Make the averaged weights and the optimizer, and let Accelerate prepare all."""
        optim = self.config.optim
        self.sharded = self.accelerator.distributed_type == DistributedType.FSDP
        eval_weights = ShardedEvalWeights if self.sharded else EvalWeights
        self.eval_weights = eval_weights(model, optim.ema_decay)
        groups = schedule.parameter_groups(model, optim.weight_decay, optim.layer_decay)
        optimizer = torch.optim.AdamW(groups, optim.lr, fused=True)
        self.raw_model = model
        if self.config.run.compile:
            model.compile()
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.eval_weights.attach(self.model)

    # Defined by subclasses

    def open_tables(self) -> Dict[str, AnyTable]:
        """Open the splits, by name."""
        raise NotImplementedError

    def make_plan(self) -> Plan:
        """Return how the training split is divided into updates."""
        raise NotImplementedError

    def check(self) -> None:
        """Refuse options that do not fit the data."""
        raise NotImplementedError

    def build_model(self) -> torch.nn.Module:
        """Return the model; random weights follow from the run's seed."""
        raise NotImplementedError

    def prepare_inputs(self, model: torch.nn.Module) -> None:
        """Make what turns samples into the model's input; the model is on its device by now."""

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the module to train: the model itself, or a wrapper that trains a part of it.

        Raises:
            InvalidInputError: If an option needs cached features.
        """
        if self.config.optim.l1_classifier:
            raise InvalidInputError(
                "--optim.l1-classifier is for heads that are trained on cached features; leave it "
                "at 0 here, and train this run's head again: recipes/squeeze_only.py (of clips: "
                f"squeeze_clips.py) --run.init {self.config.run.output}."
            )
        return model

    def unwrap(self, trained: torch.nn.Module) -> torch.nn.Module:
        """Return the model to export from the module that was trained."""
        return trained

    def batches(self, update: int) -> Iterator[Any]:
        """Return this process's batches from an update to the end of the run."""
        raise NotImplementedError

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of ``self.model``, in training mode, for a batch on the device."""
        raise NotImplementedError

    def count(self, batch: Any) -> int:
        """Return how many samples a batch has, in :attr:`unit`."""
        raise NotImplementedError

    def score(self, model: torch.nn.Module, split: str, mixed_precision: bool) -> Dict[str, Any]:
        """Return the figures of a model on a split; every sample counts once."""
        raise NotImplementedError

    def format_figures(self, figures: Dict[str, Any]) -> str:
        """Return the most important figures as text, for a line on the screen."""
        raise NotImplementedError

    def conclude(self, model: torch.nn.Module, scores: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
        """Set on the model what depends on its scores, in all processes.

        Args:
            model: The model to export.
            scores: Its figures by split; further figures may be added.

        Returns:
            Entries to add to the summary.
        """
        return {}

    def measure_maps(self, model: torch.nn.Module) -> Dict[str, Any]:
        """Set on the model of the main process what is measured of its maps.

        Args:
            model: The model to export.

        Returns:
            Entries to add to the summary.
        """
        return {}

    def write_extra_files(self, model: torch.nn.Module) -> None:
        """Write further files into the run's folder, such as explained samples."""

    def model_args(self, model: torch.nn.Module) -> Dict[str, Any]:
        """Return the arguments of the architecture that the export's config.json must name."""
        raise NotImplementedError

    # Before the first update

    @property
    def batch_unit(self) -> str:
        """What the batch size counts, in the plural."""
        return f"{self.config.data.noun}s"

    def identity(self) -> Dict[str, Any]:
        """Return what identifies the run: a checkpoint continues only a run with an equal one."""
        options = result_options(plain(asdict(self.config)), self.plan.processes)
        return {**options, "samples": self.plan.samples, "sharded": self.sharded}

    def fingerprints(self) -> Dict[str, Dict[str, str]]:
        """Return the fingerprint of each split; all processes must call it."""
        if not self._fingerprints:
            found: Any = [None]
            if self.accelerator.is_main_process:
                found = [{name: t.fingerprint(name) for name, t in self.tables.items()}]
            (self._fingerprints,) = broadcast_object_list(found)
        return self._fingerprints

    def dry_run_report(self) -> str:
        """Return what ``--run.dry-run`` prints."""
        plan, noun = self.plan, self.config.data.noun
        splits = ", ".join(f"{name} {len(table):,}" for name, table in self.tables.items())
        return "\n".join(
            [
                option_lines(plain(asdict(self.config))),
                schedule.describe_groups(self.optimizer.param_groups),
                f"{noun}s: {splits}; {len(self.labels)} "
                f"{'attributes' if self.multi_label else 'classes'}",
                f"an epoch: {plan.updates:,} updates of {plan.batch_size} {self.batch_unit} x "
                f"{plan.processes} processes x {plan.accumulate} passes; {plan.total:,} in all",
                f"starts from: {self.source}",
            ]
        )

    def _load_initial_weights(self, model: torch.nn.Module) -> str:
        """Load ``--run.init``; return what a run without a checkpoint starts from."""
        if self.config.run.init is not None:
            return f"--run.init {load_init(model, self.config.run.init)}"
        return self.pretrained_source if self.config.model.pretrained else "scratch"

    def restore(self) -> None:
        """Continue from the run's own last checkpoint, or from that of ``--run.resume``."""
        self.folder.claim(self.config.run.overwrite)
        start_trackers(self.accelerator)
        data, accept = self.fingerprints(), self.config.run.accept_changed_data
        found = self.checkpoints.load(self.config.run.resume, data, accept)
        if found is not None:
            self.progress, self.source = found
            if self.config.run.resume is not None:
                self.folder.take_over(self.config.run.resume, self.progress.best_update)
        self.progress = replace(self.progress, data=data)
        self.accelerator.print(f"starts from: {self.source}")
        self.folder.trim(self.progress.update, self.progress.evaluated)
        session = {
            "starts_from": self.source,
            "update": self.progress.update,
            "commit": self.commit,
            "environment": environment(self.accelerator),
        }
        self.progress = replace(self.progress, sessions=[*self.progress.sessions, session])

    # Evaluation and export

    def evaluate(self, model: torch.nn.Module, split: str, mixed_precision: bool) -> Dict[str, Any]:
        """Return the figures of the main process's model on a split."""
        # Each process has its own BatchNorm statistics; all must evaluate the main process's.
        for tensor in model.state_dict().values():
            broadcast(tensor)
        return self.score(model, split, mixed_precision)

    def export(self) -> None:
        """Round the weights for the export, score them, and write the export and the summary."""
        export = Export(self.folder, self.config)
        evaluated = self.eval_weights.to_model()
        model = self.unwrap(evaluated)
        export.round(model)  # before scoring, so that the scores are those of the export
        splits = dict.fromkeys(self.config.data.splits[1:])  # a split may be named twice
        with full_precision():
            scores = {s: self.evaluate(evaluated, s, mixed_precision=False) for s in splits}
        concluded = self.conclude(model, scores)
        if self.accelerator.is_main_process:
            concluded = {**concluded, **self.measure_maps(model)}
            export.write_model(model, self.model_args(model))
            self.write_extra_files(model)
            export.write_summary(
                model, self.tables, self.plan, self.progress, {**concluded, **scores}
            )
            last = self.config.data.splits[-1]
            print(f"{last}: {self.format_figures(scores[last])}; {self.folder.path}")
