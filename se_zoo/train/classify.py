"""Training of classifiers: images or clips in, classes or attributes out."""

from typing import Any, Dict, Iterator, Optional, Tuple

import torch
import torch.nn.functional as F

from ..data import ImageTable
from ..models import SEHeadMixin
from ..statistics import best_thresholds
from . import loader
from . import run_folder as output
from .config import Config
from .engine import Trainer
from .evaluate import evaluate, laid_out
from .loss import criterion_of, mixed
from .metrics import thresholded
from .model import build_model, model_args
from .preflight import AnyTable, check_input, check_task, open_all
from .resume.order import Plan


class ClassifierTrainer(Trainer):
    """A classifier's run; see :class:`~se_zoo.train.engine.Trainer`."""

    config: Config

    def open_tables(self) -> Dict[str, AnyTable]:
        return open_all(self.config.data, self.accelerator.is_main_process)

    def make_plan(self) -> Plan:
        optim = self.config.optim
        return Plan(
            len(self.tables[self.config.data.splits[0]]), optim.batch_size,
            self.accelerator.num_processes, optim.accumulate, optim.epochs, self.config.run.seed,
        )  # fmt: skip

    def check(self) -> None:
        check_task(self.config, self.plan, self.labels, self.multi_label)
        first = self.tables[self.config.data.splits[0]]
        self.criterion, self.mix = criterion_of(self.config, first, self.accelerator.device)

    def build(self) -> torch.nn.Module:
        return build_model(self.config.model, self.labels, self.multi_label, self.tag)

    def ready(self, model: torch.nn.Module) -> None:
        self.transforms = loader.transforms(model, self.config)
        check_input(model, self.config, self.accelerator.device)
        self.decoded: Dict[str, loader.Decoded] = {}
        #: Of the last evaluation of each split, for thresholds.
        self.tallies: Dict[str, Optional[torch.Tensor]] = {}

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

    def batches(self, update: int) -> Iterator[Any]:
        return iter(
            loader.training_batches(
                self.samples(self.config.data.splits[0]), self.sample_transforms()[0], self.config,
                self.plan, self.accelerator.process_index, update,
            )
        )  # fmt: skip

    def count(self, batch: Any) -> int:
        return len(batch[0])

    def loss(self, batch: Any) -> torch.Tensor:
        images, targets = self.resized(batch[0]), batch[1]
        images = laid_out(images, self.config)
        if self.mix is not None:
            images, targets = mixed(self.mix, images, targets)
        with self.accelerator.autocast():
            logits = self.model(images)
        return self.criterion(logits.float(), targets)

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images at the current epoch's size (``--augment.half-size-epochs``)."""
        if self.progress.update >= self.config.augment.half_size_epochs * self.plan.updates:
            return images
        return F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)

    def score(self, model: torch.nn.Module, split: str, mixed_precision: bool) -> Dict[str, Any]:
        figures, self.tallies[split] = evaluate(
            model, self.samples(split), self.sample_transforms()[1], self.config,
            self.labels, self.multi_label, self.accelerator, mixed_precision,
        )  # fmt: skip
        return figures

    def show(self, figures: Dict[str, Any]) -> str:
        return (
            f"accuracy {figures['accuracy']:.2%} (majority {figures['majority_accuracy']:.2%}), "
            f"balanced {figures['balanced_accuracy']:.2%}"
        )

    def conclude(self, model: torch.nn.Module, scores: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
        """Give a multi-label model with an SE head a threshold a label, and score the test split
        with them."""
        if not isinstance(model, SEHeadMixin):
            return {}
        model.thresholds = None  # the architecture may have brought those of the zoo's weights
        valid, test = self.config.data.splits[1:]
        chosen_on, scored_on = self.tallies[valid], self.tallies[test]
        if chosen_on is None or scored_on is None:  # of exclusive classes
            return {}
        if valid == test:
            # Chosen on the split that is scored, they would flatter its figures.
            why = f"none: {valid} is the split that is scored; name another one to validate on"
            return {"thresholds": None, "thresholds_from": why}
        model.thresholds = best_thresholds(chosen_on)
        scores[test]["at_thresholds"] = thresholded(scored_on, model.thresholds, self.labels)
        how = f"the largest F1 on {valid}; of equal ones the nearest to one half"
        named = dict(zip(self.labels, model.thresholds, strict=True))
        return {"thresholds": named, "thresholds_from": how}

    def leave(self, model: torch.nn.Module) -> None:
        table = self.tables[self.config.data.splits[-1]]
        shown = loader.some_inputs(table, self.transforms[1], 6)
        output.draw_samples(self.folder.path / "samples.png", model, shown)

    def model_args(self, model: torch.nn.Module) -> Dict[str, Any]:
        args = model_args(self.config.model)
        if isinstance(model, SEHeadMixin):
            args["multi_label"] = model.is_multi_label()
            if model.thresholds is not None:
                args["thresholds"] = list(model.thresholds)
        return args
