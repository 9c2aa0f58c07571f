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
from typing import Any, Collection, Dict, List, Optional, Tuple, Type

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast
from tqdm import tqdm

from .. import provenance
from ..data import ImageTable
from ..errors import InvalidInputError
from . import loader, output, schedule
from .build import build_model, load_init
from .checkpoints import Checkpoints
from .config import Config
from .ema import Scored, ShardedScored
from .evaluate import evaluate, laid_out, lay_out
from .loss import criterion_of, mixed
from .order import Plan, seed_all
from .start import (
    agree,
    check_input,
    check_options,
    check_task,
    make_accelerator,
    open_all,
    settle_sharding,
    start_trackers,
)
from .state import Progress
from .stop import Stop

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


def train(
    config: Config,
    tag: str = "",
    trainer_class: Optional[Type["Trainer"]] = None,
    last: bool = True,
) -> Path:
    """Train, evaluate and export; go on where the same run was interrupted.

    Args:
        config: The run.
        tag: Data set for which the zoo declares own tags (``celeba``), so that the model is made
            as the registry makes it.
        trainer_class: What trains; :class:`Trainer` by default.
        last: Leave the group of processes behind; False if another run follows.

    Returns:
        The run's folder.

    Raises:
        InvalidInputError: For options that cannot work together.
        DataError: For data that lacks columns or splits.
        StateError: If the folder holds another run.
        SystemExit: After SIGTERM or SIGINT, when the state is saved; the message says how to go on.
    """
    accelerator = make_accelerator(config)
    check_options(config, accelerator)
    settle_sharding(accelerator)
    trainer = (trainer_class or Trainer)(config, tag, accelerator)
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
    """Images a second of this process, between two moments at which the device is waited for."""

    def __init__(self) -> None:
        self.started, self.images = time.perf_counter(), 0

    def rate(self) -> float:
        """Images a second since the last reading."""
        now = time.perf_counter()
        rate = self.images / (now - self.started)
        self.started, self.images = now, 0
        return rate


class Trainer:
    """A run: model, data and optimiser, prepared; see :func:`train`."""

    def __init__(self, config: Config, tag: str, accelerator: Accelerator):
        self.config, self.tag, self.accelerator = config, tag, accelerator
        self.folder = output.RunFolder(config.run.output, accelerator)
        with accelerator.main_process_first():  # the others then read what it cached
            tables = open_all(config.data, accelerator.is_main_process)
        self.tables = agree(tables, accelerator)
        for line in output.left_out(self.tables):
            accelerator.print(line, file=sys.stderr)
        if not config.run.dry_run:
            self.folder.check(config.run.overwrite)
        first = self.tables[config.data.splits[0]]
        self.labels, self.multi_label = first.labels, first.multi_label
        self.plan = Plan(
            len(first), config.optim.batch_size, accelerator.num_processes,
            config.optim.accumulate, config.optim.epochs, config.run.seed,
        )  # fmt: skip
        check_task(config, self.plan, self.labels, self.multi_label)
        self.criterion, self.mix = criterion_of(config, first, accelerator.device)
        seed_all(config.run.seed)
        model = build_model(config.model, self.labels, self.multi_label, tag)
        self.source = self._starting_weights(model)
        model = model.to(accelerator.device)
        if config.run.channels_last:
            lay_out(model)
        self.transforms = loader.transforms(model, config)
        check_input(model, config, accelerator.device)
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
        self.decoded: Dict[str, loader.Decoded] = {}

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
                f"an epoch: {plan.updates:,} updates of {plan.batch_size} {noun}s x "
                f"{plan.processes} processes x {plan.accumulate} passes; {plan.total:,} in all",
                f"starts from: {self.source}",
            ]
        )

    def _starting_weights(self, model: torch.nn.Module) -> str:
        """Load ``--run.init``; what the run starts from, unless it has a state of its own."""
        if self.config.run.init is not None:
            return f"--run.init {load_init(model, self.config.run.init)}"
        return "timm's weights" if self.config.model.pretrained else "scratch"

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

    def adapt(self, model: torch.nn.Module) -> torch.nn.Module:
        """What is trained of the model: all of it."""
        return model

    def whole(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model that takes images, behind the one that is trained."""
        return model

    def sample_transforms(self) -> Tuple[Any, Any]:
        """What becomes of a sample in training and in evaluation."""
        return self.transforms

    def samples(self, split: str) -> loader.Samples:
        """A split, decoded once if it is small."""
        table = self.tables[split]
        if not isinstance(table, ImageTable):
            return table  # videos are decoded by the clip
        if split not in self.decoded:
            self.decoded[split] = loader.Decoded(table)
        return self.decoded[split]

    def fit(self, stop: Stop) -> None:
        """Train to the end of the last epoch, or until a signal."""
        self.restore()
        clock = Clock()
        begun = clock.started - self.progress.seconds  # of all sessions of the run
        train_split, valid_split = self.config.data.splits[:2]
        sums, process = self.progress.loss_sums, self.accelerator.process_index
        own = sums[process] if len(sums) == self.plan.processes else sum(sums) / len(sums)
        loss_sum = torch.tensor(own, device=self.accelerator.device)
        batches = iter(
            loader.training_batches(
                self.samples(train_split), self.sample_transforms()[0], self.config, self.plan,
                process, self.progress.update,
            )
        )  # fmt: skip
        every = self.config.run.save_every or self.plan.updates
        self.model.train()
        bar = self._bar()
        while self.progress.update < self.plan.total:
            update = self.progress.update
            loss, lr = self.update(update, batches)
            loss_sum += loss
            clock.images += self.plan.passes_of(update) * self.plan.batch_size
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

    def update(self, update: int, batches: Any) -> Tuple[torch.Tensor, float]:
        """One optimiser step; its mean loss over this process's passes, and its learning rate."""
        config, plan = self.config.optim, self.plan
        # By hand: a scheduler prepared by Accelerate takes one step a process.
        warmup = round(config.warmup_epochs * plan.updates)
        lr = schedule.lr_at(update, plan.total, warmup, config.lr)
        schedule.set_lr(self.optimizer.param_groups, lr)
        passes = plan.passes_of(update)
        total = torch.zeros((), device=self.accelerator.device)
        for number in range(passes):
            images, targets = self._to_device(next(batches))
            # Dropout and mixup: other ones in every pass and process, the same after a resume.
            seed_all(self.config.run.seed, update, number, self.accelerator.process_index)
            if self.mix is not None:
                images, targets = mixed(self.mix, images, targets)
            last = number == passes - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    logits = self.model(images)
                # By the number of passes that this update has, which at the tail are fewer.
                loss = self.criterion(logits.float(), targets) / passes
                self.accelerator.backward(loss)
            total += loss.detach()
        if config.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scored.update(update + 1)
        return total, lr

    def _to_device(self, batch: List[torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor]:
        images, targets = (t.to(self.accelerator.device, non_blocking=True) for t in batch)
        return laid_out(images, self.config), targets

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
        bar.set_postfix(loss=f"{loss:.4f}", images_per_second=f"{rate:.0f}")
        self.folder.log(
            {"update": update, "loss": loss, "lr": lr, "images_per_second": round(rate, 1)}
        )

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
            f"epoch {row['epoch']}/{self.plan.epochs}: loss {mean:.4f}, "
            f"valid accuracy {figures['accuracy']:.2%}, "
            f"balanced {figures['balanced_accuracy']:.2%}"
        )
        self.model.train()

    # Evaluation and the end

    def evaluate(self, model: torch.nn.Module, split: str, mixed_precision: bool) -> Dict[str, Any]:
        """Figures of a model on a split, every image counted once."""
        # Each process has its own BatchNorm statistics: all evaluate the main one's.
        for tensor in model.state_dict().values():
            broadcast(tensor)
        return evaluate(
            model, self.samples(split), self.sample_transforms()[1], self.config,
            self.labels, self.multi_label, self.accelerator, mixed_precision,
        )  # fmt: skip

    def finish(self) -> None:
        """Score what is exported, and write it with everything that a reader of it needs."""
        export = output.Export(self.folder, self.config, self.tag)
        scored = self.scored.whole()
        model = self.whole(scored)
        export.round(model)  # so the scores are those of the export
        splits = dict.fromkeys(self.config.data.splits[1:])  # one may serve twice
        with output.full_precision():
            scores = {s: self.evaluate(scored, s, mixed_precision=False) for s in splits}
        if self.accelerator.is_main_process:
            table = self.tables[self.config.data.splits[-1]]
            shown = loader.some_inputs(table, self.transforms[1], 6)
            output.draw_samples(self.folder.path / "samples.png", model, shown)
            export.write(model, self.tables, self.plan, self.progress, scores)
