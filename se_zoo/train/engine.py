"""The training loop: any number of processes, interrupted at any moment, the same result.

Everything random is a function of the seed and of how far the run is (:mod:`.order`), so a state
(:mod:`.state`) of weights, optimiser and counters is all that a run needs to go on.
"""

import math
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Collection, Dict, Iterator, Tuple, Type

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast, send_to_device
from tqdm import tqdm

from .. import provenance
from ..errors import InvalidInputError
from . import run_folder as output
from . import schedule
from .config import AnyConfig
from .ema import Scored, ShardedScored
from .evaluate import lay_out
from .model import load_init
from .preflight import (
    AnyTable,
    agree,
    check_options,
    make_accelerator,
    settle_sharding,
    start_trackers,
)
from .resume.checkpoints import Checkpoints
from .resume.order import Plan, seed_all
from .resume.state import Progress
from .resume.stop import Stop

#: Options that change where a run goes, how it is watched or how fast it is, not what it computes.
FREE = frozenset({"output", "overwrite", "resume", "workers", "save_every", "keep", "log_every",
                  "trackers", "dry_run", "init"})  # fmt: skip


def computed(
    config: Dict[str, Any], processes: int, free: Collection[str] = FREE
) -> Dict[str, Any]:
    """What of a configuration decides the result: all but the free options of the run, and the
    batch of all processes instead of that of one."""
    run = {k: v for k, v in config["run"].items() if k not in free}
    optim = {**config["optim"], "batch_size": config["optim"]["batch_size"] * processes}
    return {**config, "run": run, "optim": optim}


def run(config: AnyConfig, tag: str, trainer_class: Type["Trainer"], last: bool = True) -> Path:
    """Train, evaluate and export; see :func:`se_zoo.train.train`."""
    accelerator = make_accelerator(config)
    check_options(config, accelerator)
    settle_sharding(accelerator)
    trainer = trainer_class(config, tag, accelerator)
    if config.run.dry_run:
        accelerator.print(trainer.description())
        return config.run.output
    with Stop(accelerator) as stop:
        trainer.fit(stop)
    trainer.finish()
    # Without this meeting the other processes tear gloo down at once, which can hang (torch 2.6).
    accelerator.wait_for_everyone()
    if last:
        accelerator.end_training()
    else:
        for tracker in accelerator.trackers:
            tracker.finish()
    return config.run.output


class Clock:
    """Samples a second of this process, between two moments at which the device is waited for."""

    def __init__(self) -> None:
        self.started, self.samples = time.perf_counter(), 0

    def rate(self) -> float:
        """Samples a second since the last reading."""
        now = time.perf_counter()
        rate = self.samples / (now - self.started)
        self.started, self.samples = now, 0
        return rate


class Trainer:
    """A run: model, data and optimiser, prepared; what is learned of what is a subclass's.

    A subclass opens the splits, makes the plan and the model, and knows what a batch is, what it
    loses, and what a split scores.
    """

    config: AnyConfig
    #: What is counted in a second.
    unit = "images"

    #: What `--model.pretrained` stands for.
    pretrained_source = "timm's weights"

    @property
    def batch_unit(self) -> str:
        """What the size of a batch counts."""
        return f"{self.config.data.noun}s"

    def __init__(self, config: AnyConfig, tag: str, accelerator: Accelerator):
        self.config, self.tag, self.accelerator = config, tag, accelerator
        self.folder = output.RunFolder(config.run.output, accelerator)
        with accelerator.main_process_first():  # the others then read what it cached
            tables = self.open_tables()
        self.tables = agree(tables, accelerator)
        for line in output.left_out(self.tables):
            accelerator.print(line, file=sys.stderr)
        if not config.run.dry_run:
            self.folder.check(config.run.overwrite)
        first = self.tables[config.data.splits[0]]
        self.labels, self.multi_label = first.labels, first.multi_label
        self.plan = self.make_plan()
        self.check()
        seed_all(config.run.seed)
        model = self.build()
        self.source = self._starting_weights(model)
        model = model.to(accelerator.device)
        if config.run.channels_last:
            lay_out(model)
        self.ready(model)
        model = self.adapt(model)
        self.sharded = accelerator.distributed_type == DistributedType.FSDP
        self.scored = (ShardedScored if self.sharded else Scored)(model, config.optim.ema_decay)
        groups = schedule.parameter_groups(
            model, config.optim.weight_decay, config.optim.layer_decay
        )
        optimizer = torch.optim.AdamW(groups, config.optim.lr, fused=True)
        self.raw_model = model
        if config.run.compile:
            model.compile()
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.scored.follow(self.model)
        computes = self.computes()
        self.progress = Progress(0, [0.0], None, None, computes)
        self.checkpoints = Checkpoints(
            self.folder.states, accelerator, self.model, self.scored, computes, config.run.keep
        )
        self.commit = provenance.commit()  # now: the files may change while the run goes on

    # What is learned of what

    def open_tables(self) -> Dict[str, AnyTable]:
        """The splits, by name."""
        raise NotImplementedError

    def make_plan(self) -> Plan:
        """How the training split is cut into updates."""
        raise NotImplementedError

    def check(self) -> None:
        """Refuse options that do not go with the data."""
        raise NotImplementedError

    def build(self) -> torch.nn.Module:
        """The model, with weights by the run's seed."""
        raise NotImplementedError

    def ready(self, model: torch.nn.Module) -> None:
        """Make what depends on the model, which is on its device by now."""

    def adapt(self, model: torch.nn.Module) -> torch.nn.Module:
        """What is trained of the model: all of it."""
        return model

    def whole(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model that is exported, behind the one that is trained."""
        return model

    def batches(self, update: int) -> Iterator[Any]:
        """This process's batches from an update to the end of the run."""
        raise NotImplementedError

    def loss(self, batch: Any) -> torch.Tensor:
        """What is minimised, of one batch on the device; by `self.model`, in training mode."""
        raise NotImplementedError

    def count(self, batch: Any) -> int:
        """How many samples are in a batch."""
        raise NotImplementedError

    def score(self, model: torch.nn.Module, split: str, mixed_precision: bool) -> Dict[str, Any]:
        """Figures of a model on a split, every sample counted once."""
        raise NotImplementedError

    def show(self, figures: Dict[str, Any]) -> str:
        """The most important figures, for a line on the screen."""
        raise NotImplementedError

    def conclude(self, model: torch.nn.Module, scores: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
        """Set on the model what its scores decide, on all processes.

        Args:
            model: What is exported.
            scores: Its figures by split; further ones may be added.

        Returns:
            What the summary says of it.
        """
        return {}

    def leave(self, model: torch.nn.Module) -> None:
        """Write what else the run's folder is to hold: pictures of what the model sees."""

    def model_args(self, model: torch.nn.Module) -> Dict[str, Any]:
        """Arguments of the architecture that the config of the exported model has to name."""
        raise NotImplementedError

    # Before it starts

    def computes(self) -> Dict[str, Any]:
        """What decides the result of the run; the same for a run that goes on."""
        found = computed(output.plain(asdict(self.config)), self.plan.processes)
        return {**found, "samples": self.plan.samples, "sharded": self.sharded}

    def description(self) -> str:
        """What ``--run.dry-run`` prints."""
        plan, groups = self.plan, self.optimizer.param_groups
        noun = self.config.data.noun
        splits = ", ".join(f"{name} {len(table):,}" for name, table in self.tables.items())
        return "\n".join(
            [
                output.to_text(output.plain(asdict(self.config))),
                schedule.describe_groups(groups),
                f"{noun}s: {splits}; {len(self.labels)} "
                f"{'attributes' if self.multi_label else 'classes'}",
                f"an epoch: {plan.updates:,} updates of {plan.batch_size} {self.batch_unit} x "
                f"{plan.processes} processes x {plan.accumulate} passes; {plan.total:,} in all",
                f"starts from: {self.source}",
            ]
        )

    def _starting_weights(self, model: torch.nn.Module) -> str:
        """Load ``--run.init``; what the run starts from, unless it has a state of its own."""
        if self.config.run.init is not None:
            return f"--run.init {load_init(model, self.config.run.init)}"
        return self.pretrained_source if self.config.model.pretrained else "scratch"

    # Going on

    def restore(self) -> None:
        """Go on from the run's own last state, or from that of ``--run.resume``."""
        self.folder.claim(self.config.run.overwrite)
        start_trackers(self.accelerator)
        found = self.checkpoints.load(self.config.run.resume)
        if found is not None:
            self.progress, self.source = found
        self.accelerator.print(f"starts from: {self.source}")
        self.folder.trim(self.progress.update)
        session = {
            "starts_from": self.source,
            "update": self.progress.update,
            "commit": self.commit,
            "environment": output.environment(self.accelerator),
        }
        self.progress = replace(self.progress, sessions=[*self.progress.sessions, session])

    # Training

    def fit(self, stop: Stop) -> None:
        """Train to the end of the last epoch, or until a signal."""
        self.restore()
        clock = Clock()
        begun = clock.started - self.progress.seconds  # of all sessions of the run
        valid_split = self.config.data.splits[1]
        sums, process = self.progress.loss_sums, self.accelerator.process_index
        own = sums[process] if len(sums) == self.plan.processes else sum(sums) / len(sums)
        loss_sum = torch.tensor(own, device=self.accelerator.device)
        batches = self.batches(self.progress.update)
        every = self.config.run.save_every or self.plan.updates
        self.model.train()
        bar = self._bar()
        while self.progress.update < self.plan.total:
            update = self.progress.update
            loss, lr = self.update(update, batches, clock)
            loss_sum += loss
            bar.update()
            done = update + 1
            ends = done % self.plan.updates == 0
            logs = ends or done % self.config.run.log_every == 0
            # To ask all processes waits for them: not in every update.
            signal = stop.asked() if logs or self.plan.processes == 1 else None
            saves = ends or signal is not None or done % every == 0
            if logs or saves:
                mean = self._finite(loss, done)  # a state of weights that are lost helps nobody
                if logs:
                    self._log(done, mean, lr, clock, bar)
            self.progress = replace(self.progress, update=done)
            if ends:
                self._end_epoch(valid_split, loss_sum / self.plan.updates)
                loss_sum.zero_()
            self.progress = replace(self.progress, seconds=time.perf_counter() - begun)
            if saves:
                everyone: Any = self.accelerator.gather(loss_sum.view(1))
                self.progress = replace(self.progress, loss_sums=everyone.tolist())
                self.checkpoints.save(self.progress)
            if signal is not None:
                self.accelerator.print(f"state saved after {done} updates; start the same "
                                       "command again to go on.", file=sys.stderr)  # fmt: skip
                self.accelerator.end_training()
                raise SystemExit(128 + signal)
            if ends or saves:
                clock = Clock()
        bar.close()

    def update(
        self, update: int, batches: Iterator[Any], clock: Clock
    ) -> Tuple[torch.Tensor, float]:
        """One optimiser step; its mean loss over this process's passes, and its learning rate."""
        config, plan = self.config.optim, self.plan
        # By hand: a scheduler prepared by Accelerate takes one step a process.
        warmup = round(config.warmup_epochs * plan.updates)
        lr = schedule.lr_at(update, plan.total, warmup, config.lr)
        schedule.set_lr(self.optimizer.param_groups, lr)
        passes = plan.passes_of(update)
        total = torch.zeros((), device=self.accelerator.device)
        for number in range(passes):
            batch = send_to_device(next(batches), self.accelerator.device, non_blocking=True)
            clock.samples += self.count(batch)
            # Dropout and mixup: other ones in every pass and process, the same after a resume.
            seed_all(self.config.run.seed, update, number, self.accelerator.process_index)
            last = number == passes - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                # By the number of passes that this update has, which at the tail are fewer.
                loss = self.loss(batch) / passes
                self.accelerator.backward(loss)
            total += loss.detach()
        if config.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scored.update(update + 1)
        return total, lr

    def _mean(self, value: torch.Tensor) -> torch.Tensor:
        reduced: Any = self.accelerator.reduce(value.clone(), reduction="mean")
        return reduced

    def _bar(self) -> Any:
        # None: shown on a terminal only
        hide = None if self.accelerator.is_main_process else True
        return tqdm(
            total=self.plan.total, initial=self.progress.update, disable=hide, unit="update"
        )

    def _finite(self, loss: torch.Tensor, update: int) -> float:
        mean = self._mean(loss).item()
        if not math.isfinite(mean):
            raise InvalidInputError(
                f"loss {mean} in update {update}; try a lower --optim.lr, --optim.clip-grad 1, or "
                "--run.mixed-precision no. The last state is of before."
            )
        return mean

    def _log(self, update: int, loss: float, lr: float, clock: "Clock", bar: Any) -> None:
        rate = clock.rate() * self.plan.processes
        name = f"{self.unit}_per_second"
        bar.set_postfix({"loss": f"{loss:.4f}", name: f"{rate:.0f}"})
        self.folder.log({"update": update, "loss": loss, "lr": lr, name: round(rate, 1)})

    def _end_epoch(self, split: str, loss: torch.Tensor) -> None:
        update = self.progress.update
        model = self.scored.whole()
        scores = self.evaluate(model, split, mixed_precision=True)
        mean = self._mean(loss).item()
        row = {"update": update, "epoch": update // self.plan.updates, "train_loss": mean}
        figures = {k: v for k, v in scores.items() if not isinstance(v, dict)}
        self.folder.log({**row, "valid": figures})
        metric = self.config.run.best
        if self.progress.best is None or figures[metric] > self.progress.best:
            self.progress = replace(self.progress, best=figures[metric], best_update=update)
            self.folder.save_best(model, {**row, **figures})
        self.accelerator.print(
            f"epoch {row['epoch']}/{self.plan.epochs}: loss {mean:.4f}, valid {self.show(scores)}"
        )
        self.model.train()

    # Evaluation and the end

    def evaluate(self, model: torch.nn.Module, split: str, mixed_precision: bool) -> Dict[str, Any]:
        """Figures of the main process's model on a split."""
        # Each process has its own BatchNorm statistics: all evaluate the main one's.
        for tensor in model.state_dict().values():
            broadcast(tensor)
        return self.score(model, split, mixed_precision)

    def finish(self) -> None:
        """Score what is exported, and write it with everything that a reader of it needs."""
        export = output.Export(self.folder, self.config)
        scored = self.scored.whole()
        model = self.whole(scored)
        export.round(model)  # so the scores are those of the export
        splits = dict.fromkeys(self.config.data.splits[1:])  # one may serve twice
        with output.full_precision():
            scores = {s: self.evaluate(scored, s, mixed_precision=False) for s in splits}
        concluded = self.conclude(model, scores)
        if self.accelerator.is_main_process:
            export.write_model(model, self.model_args(model))
            self.leave(model)
            export.write_summary(
                model, self.tables, self.plan, self.progress, {**concluded, **scores}
            )
            last = self.config.data.splits[-1]
            print(f"{last}: {self.show(scores[last])}; {self.folder.path}")
