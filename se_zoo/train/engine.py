"""The training loop: any number of processes, interrupted at any moment, the same result."""

import math
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, NoReturn, Tuple, Type

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from tqdm import tqdm

from ..errors import InvalidInputError
from . import schedule
from .config import AnyConfig
from .preflight import check_options, configure_fsdp, make_accelerator
from .resume.order import Plan, seed_all
from .resume.stop import Stop
from .trainer import Trainer


def run(config: AnyConfig, tag: str, trainer_class: Type[Trainer], last: bool = True) -> Path:
    """Train, evaluate and export; see :func:`se_zoo.train.train`."""
    accelerator = make_accelerator(config)
    check_options(config, accelerator)
    configure_fsdp(accelerator)
    trainer = trainer_class(config, tag, accelerator)
    if config.run.dry_run:
        accelerator.print(trainer.dry_run_report())
        return config.run.output
    try:
        with Stop(accelerator) as stop:
            trainer.restore()
            TrainingLoop(trainer, stop).run()
        trainer.export()
    finally:
        trainer.folder.release()
    # Without this the other processes leave the gloo group at once, which can hang (torch 2.6).
    accelerator.wait_for_everyone()
    if last:
        accelerator.end_training()
    else:
        for tracker in accelerator.trackers:
            tracker.finish()
    return config.run.output


class _Clock:
    """Measures the samples per second of this process."""

    started: float
    samples: int

    def __init__(self) -> None:
        self.started, self.samples = time.perf_counter(), 0

    def rate(self) -> float:
        """Return the samples per second since the last call.

        Read it only after waiting for the device, or work in progress counts as done.
        """
        now = time.perf_counter()
        rate = self.samples / (now - self.started)
        self.started, self.samples = now, 0
        return rate


class TrainingLoop:
    """Trains from the progress of a trainer to the end of the last epoch, or until a signal.

    Args:
        trainer: Its progress is advanced; it has been restored.
        stop: It says whether a signal has been received.
    """

    trainer: Trainer
    stop: Stop
    plan: Plan
    accelerator: Accelerator
    clock: "_Clock"
    started: float
    loss_sum: torch.Tensor
    batches: Iterator[Any]
    bar: Any

    def __init__(self, trainer: Trainer, stop: Stop):
        self.trainer, self.stop = trainer, stop
        self.plan, self.accelerator = trainer.plan, trainer.accelerator
        self.clock = _Clock()
        self.started = self.clock.started - trainer.progress.seconds  # as if without interruptions
        self.loss_sum = torch.tensor(self._own_loss_sum(), device=self.accelerator.device)
        self.batches = trainer.batches(trainer.progress.update)
        self.bar = tqdm(
            total=self.plan.total,
            initial=trainer.progress.update,
            disable=None if self.accelerator.is_main_process else True,  # None: terminals only
            unit="update",
        )

    def _own_loss_sum(self) -> float:
        """Return this process's sum of the epoch's losses before the run was interrupted."""
        sums = self.trainer.progress.loss_sums
        if len(sums) == self.plan.processes:
            return sums[self.accelerator.process_index]
        return sum(sums) / len(sums)

    def run(self) -> None:
        """Train to the end of the last epoch.

        Raises:
            SystemExit: After a signal, when the checkpoint is written.
            InvalidInputError: If the loss is not finite.
        """
        self.trainer.train_mode()
        if not self.trainer.progress.evaluated:
            self._end_epoch()
            self._save()
            self.clock = _Clock()  # so that the time for these is not counted
        while self.trainer.progress.update < self.plan.total:
            loss, lr = self._train_step(self.trainer.progress.update)
            self.loss_sum += loss
            self.bar.update()
            self._end_update(loss, lr)
        self.bar.close()

    def _train_step(self, number: int) -> Tuple[torch.Tensor, float]:
        """Make one optimizer step; return this process's mean loss and the learning rate."""
        trainer, optim = self.trainer, self.trainer.config.optim
        # Set by hand, because a scheduler that Accelerate prepares steps once per process.
        warmup = round(optim.warmup_epochs * self.plan.updates)
        lr = schedule.lr_at(number, self.plan.total, warmup, optim.lr)
        schedule.set_lr(trainer.optimizer.param_groups, lr)
        passes = self.plan.passes_of(number)
        total = torch.zeros((), device=self.accelerator.device)
        for index in range(passes):
            batch = send_to_device(next(self.batches), self.accelerator.device, non_blocking=True)
            self.clock.samples += trainer.count(batch)
            # Dropout and mixup differ in every pass and process, and are the same after a resume.
            seed_all(trainer.config.run.seed, number, index, self.accelerator.process_index)
            last = index == passes - 1
            with nullcontext() if last else self.accelerator.no_sync(trainer.model):
                # The last update of an epoch may have fewer passes than --optim.accumulate.
                loss = trainer.loss(batch) / passes
                self.accelerator.backward(loss)
            total += loss.detach()
        if optim.clip_grad is not None:
            self.accelerator.clip_grad_norm_(trainer.model.parameters(), optim.clip_grad)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        trainer.eval_weights.average(number + 1)
        return total, lr

    def _end_update(self, loss: torch.Tensor, lr: float) -> None:
        """Count an update that was made; then log, evaluate, save and stop as far as it is due."""
        trainer, options = self.trainer, self.trainer.config.run
        done = trainer.progress.update + 1
        ends_epoch = done % self.plan.updates == 0
        logs = ends_epoch or done % options.log_every == 0
        signal = self.stop.asked(done) if logs or self.stop.due(done) else None
        save_every = options.save_every or self.plan.updates
        saves = ends_epoch or signal is not None or done % save_every == 0
        if logs or saves:
            mean = self._finite_mean(loss, done)  # so that no diverged weights are saved
            if logs:
                self._log(done, mean, lr)
        # After a signal there may be no time to evaluate; the next start makes up for it.
        evaluates = ends_epoch and signal is None
        trainer.progress = replace(
            trainer.progress, update=done, evaluated=evaluates or not ends_epoch
        )
        if evaluates:
            self._end_epoch()
            signal = self.stop.asked(done)
        seconds = time.perf_counter() - self.started
        trainer.progress = replace(trainer.progress, seconds=seconds)
        if saves:
            self._save()
        if signal is not None:
            self._exit(signal)
        if ends_epoch or saves:
            self.clock = _Clock()  # so that the time for these is not counted

    def _end_epoch(self) -> None:
        """Evaluate on the validation split, log the epoch, and keep the best weights."""
        trainer, update = self.trainer, self.trainer.progress.update
        model = trainer.eval_weights.to_model()
        scores = trainer.evaluate(model, trainer.config.data.splits[1], mixed_precision=True)
        mean = self._mean(self.loss_sum / self.plan.updates).item()
        self.loss_sum.zero_()
        row = {"update": update, "epoch": update // self.plan.updates, "train_loss": mean}
        figures = {k: v for k, v in scores.items() if not isinstance(v, dict)}
        trainer.folder.log({**row, "valid": figures})
        trainer.progress = replace(trainer.progress, evaluated=True)
        value, best = figures[trainer.config.run.best], trainer.progress.best
        if best is None or value > best:
            trainer.progress = replace(trainer.progress, best=value, best_update=update)
            # --run.init of these weights needs the labels; an unfinished run has no summary.
            told = {**row, **figures, "labels": list(trainer.labels)}
            trainer.folder.save_best(model, told)
        self.accelerator.print(
            f"epoch {row['epoch']}/{self.plan.epochs}: loss {mean:.4f}, "
            f"valid {trainer.format_figures(scores)}"
        )
        trainer.train_mode()

    def _save(self) -> None:
        """Write a checkpoint."""
        sums: Any = self.accelerator.gather(self.loss_sum.view(1))
        self.trainer.progress = replace(self.trainer.progress, loss_sums=sums.tolist())
        self.trainer.checkpoints.save(self.trainer.progress)

    def _exit(self, signal: int) -> NoReturn:
        """Leave the run after a signal, with the exit status that shells expect."""
        without = "without --run.overwrite " if self.trainer.config.run.overwrite else ""
        self.accelerator.print(
            f"checkpoint saved after {self.trainer.progress.update} updates; run the same command "
            f"{without}again to continue.",
            file=sys.stderr,
        )
        self.accelerator.end_training()
        raise SystemExit(128 + signal)

    def _mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a value over all processes."""
        reduced: Any = self.accelerator.reduce(value.clone(), reduction="mean")
        return reduced

    def _finite_mean(self, loss: torch.Tensor, update: int) -> float:
        """Return the mean loss over all processes; refuse one that is not finite."""
        mean = self._mean(loss).item()
        if not math.isfinite(mean):
            raise InvalidInputError(
                f"loss {mean} in update {update}; try a lower --optim.lr, --optim.clip-grad 1, or "
                "--run.mixed-precision no. The last checkpoint predates this update."
            )
        return mean

    def _log(self, update: int, loss: float, lr: float) -> None:
        """Log an update, with the speed since the last one that was logged."""
        rate = self.clock.rate() * self.plan.processes
        name = f"{self.trainer.unit}_per_second"
        self.bar.set_postfix({"loss": f"{loss:.4f}", name: f"{rate:.0f}"})
        self.trainer.folder.log({"update": update, "loss": loss, "lr": lr, name: round(rate, 1)})
