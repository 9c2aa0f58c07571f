"""Training of classifiers: images or clips in, classes or attributes out."""

import functools
import itertools
import sys
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F

from ..data import ClipDataConfig, ImageTable
from ..errors import InvalidInputError
from ..inference.offset import measure_offset
from ..models import resolve_clip_config
from ..models.build import saved_args
from ..models.input_size import data_config, input_channels
from ..models.sehead import SE_DEFAULTS
from ..statistics import best_thresholds
from . import loader
from .batch_norm import BATCHES, unfold_norms
from .clip_samples import clip_transforms
from .config import Config
from .evaluate import evaluate, in_memory_format
from .gate_alone import LEAST, measure_gate_alone
from .loss import apply_mixup, make_loss
from .metrics import thresholded
from .model import build_model, model_args
from .preflight import AnyTable, check_input, check_shares, check_task, open_splits
from .resume.order import Plan
from .run_folder import REPLACED
from .samples import draw_samples
from .trainer import Trainer


class ClassifierTrainer(Trainer):
    """An image classifier's run; see :class:`~se_zoo.train.trainer.Trainer`."""

    config: Config

    criterion: Any
    mixup: Any
    transforms: Tuple[Any, Any]

    def open_tables(self) -> Dict[str, AnyTable]:
        """Open the splits, by name."""
        return open_splits(self.config.data, self.accelerator.is_main_process)

    def make_plan(self) -> Plan:
        """Return how the training split is divided into updates."""
        optim = self.config.optim
        return Plan(
            len(self.tables[self.config.data.splits[0]]), optim.batch_size,
            self.accelerator.num_processes, optim.accumulate, optim.epochs, self.config.run.seed,
        )  # fmt: skip

    def check(self) -> None:
        """Refuse options that do not fit the data, and make the loss."""
        check_task(self.config, self.plan, self.labels, self.multi_label)
        check_shares(self.config, self.tables, self.plan.processes)
        first = self.tables[self.config.data.splits[0]]
        self.criterion, self.mixup = make_loss(self.config, first, self.accelerator.device)

    def build_model(self) -> torch.nn.Module:
        """Return the model of the configuration, with a classifier for the labels."""
        return build_model(self.config.model, self.labels, self.multi_label, self.tag)

    def prepare_inputs(self, model: torch.nn.Module) -> None:
        """Make the transforms, and check that the model takes what they return."""
        self.transforms = self.make_transforms(model)
        self.check_input(model)
        self.decoded: Dict[str, loader.Decoded] = {}
        #: Tally of the last evaluation of each split, for the thresholds.
        self.tallies: Dict[str, Optional[torch.Tensor]] = {}

    def make_transforms(self, model: torch.nn.Module) -> Tuple[Any, Any]:
        """Return the transforms of a sample for training and for evaluation."""
        return loader.image_transforms(model, self.config.augment)

    def check_input(self, model: torch.nn.Module) -> None:
        """Check that the model takes RGB images, and half size if it is to train on that too."""
        channels = input_channels(model)[0]
        if channels != 3:
            raise InvalidInputError(
                f"--model.name {self.config.model.name} was made for images of {channels} "
                "channel(s), and the recipes read RGB; leave in_chans out of --model.args."
            )
        if self.config.augment.half_size_epochs:
            channels, height, width = data_config(model)["input_size"]
            half = torch.zeros(1, channels, height // 2, width // 2, device=self.accelerator.device)
            hint = "; --augment.half-size-epochs 0 leaves out the epochs at half size"
            check_input(model, half, self.config, "images", hint)

    def unfold(self, model: torch.nn.Module, folded: Sequence[Any]) -> str:
        """Measure the statistics of folded BatchNorms on the first training batches."""
        batches = itertools.islice(self.batches(0), BATCHES)
        place = self.accelerator.device
        shape = functools.partial(in_memory_format, config=self.config)
        unfold_norms(model, folded, (shape(images.to(place)) for images, *_ in batches))
        return (
            f"their statistics were measured on {BATCHES} batches, and the predictions are the same"
        )

    def sample_transforms(self) -> Tuple[Any, Any]:
        """Return the transforms of what :meth:`samples` holds, for training and for evaluation."""
        return self.transforms

    def samples(self, split: str) -> loader.Samples:
        """Return a split; images are decoded only once if they fit into memory."""
        table = self.tables[split]
        if not isinstance(table, ImageTable):
            return table  # streams and videos
        if split not in self.decoded:
            trains = split == self.config.data.splits[0]
            replaces = trains and getattr(self.config.data, "broken", "") == "skip"
            log = self.folder.path / REPLACED
            self.decoded[split] = loader.Decoded(
                loader.Replacing(table, log) if replaces else table
            )
        return self.decoded[split]

    def batches(self, update: int) -> Iterator[Any]:
        """Return this process's batches from an update to the end of the run."""
        return iter(
            loader.training_batches(
                self.samples(self.config.data.splits[0]), self.sample_transforms()[0], self.config,
                self.plan, self.accelerator.process_index, update,
            )
        )  # fmt: skip

    def count(self, batch: Any) -> int:
        """Return how many samples a batch has."""
        return len(batch[0])

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch (inputs, targets)."""
        images, targets = self.resized(batch[0]), batch[1]
        images = in_memory_format(images, self.config)
        if self.mixup is not None:
            images, targets = apply_mixup(self.mixup, images, targets)
        with self.accelerator.autocast():
            logits = self.model(images)
        return self.criterion(logits.float(), targets)

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images at the current epoch's size (``--augment.half-size-epochs``)."""
        if self.progress.update >= self.config.augment.half_size_epochs * self.plan.updates:
            return images
        return F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)

    def score(self, model: torch.nn.Module, split: str, mixed_precision: bool) -> Dict[str, Any]:
        """Return the figures of a model on a split."""
        figures, self.tallies[split] = evaluate(
            model, self.samples(split), self.sample_transforms()[1], self.config,
            self.labels, self.multi_label, self.accelerator, mixed_precision,
        )  # fmt: skip
        return figures

    def format_figures(self, figures: Dict[str, Any]) -> str:
        """Return accuracy and balanced accuracy as text."""
        return (
            f"accuracy {figures['accuracy']:.2%} (majority {figures['majority_accuracy']:.2%}), "
            f"balanced {figures['balanced_accuracy']:.2%}"
        )

    def conclude(self, model: Any, scores: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
        """Choose a threshold for each label of a multi-label model with an SE head.

        They are chosen on the validation split; the test split is then scored with them too.
        """
        if not self.config.model.se:
            return {}
        model.thresholds = None  # the architecture may have those of the zoo's weights
        valid, test = self.config.data.splits[1:]
        chosen_on, scored_on = self.tallies[valid], self.tallies[test]
        if chosen_on is None or scored_on is None:  # exclusive classes
            return {}
        if valid == test:
            # Thresholds chosen on the split that is scored would make its figures too good.
            why = f"none: {valid} is the split that is scored; name another one to validate on"
            return {"thresholds": None, "thresholds_from": why}
        thresholds = best_thresholds(chosen_on)
        model.thresholds = thresholds
        scores[test]["at_thresholds"] = thresholded(scored_on, thresholds, self.labels)
        how = f"the largest F1 on {valid}; of equal ones the nearest to one half"
        return {
            "thresholds": dict(zip(self.labels, thresholds, strict=True)),
            "thresholds_from": how,
        }

    def measure_maps(self, model: Any) -> Dict[str, Any]:
        """Measure on validation samples where the maps lie, and what the gate alone predicts."""
        if not self.config.model.se:
            return {}
        return {**self._measure_offset(model), **self._measure_gate(model)}

    def _measure_gate(self, model: Any) -> Dict[str, Any]:
        """Measure what the gate alone predicts; print a warning if that is most of the answer."""
        split = self.config.data.splits[1]
        count = 256 if self.config.data.noun == "image" else LEAST
        samples = loader.sample_inputs(self.tables[split], self.transforms[1], count)
        try:
            found = measure_gate_alone(model, *samples)
        except InvalidInputError as error:  # too few samples
            return {"gate_alone": None, "gate_alone_from": f"none: {error}"}
        if found.decides:
            print(
                f"warning: the gate alone keeps {found.kept:.0%} of the model's gain over chance "
                f"(average precision {found.alone:.3f} of {found.whole:.3f}; features alone "
                f"{found.features:.3f}, chance {found.chance:.3f}). Maps do not show what the gate "
                "reads from an image, so they miss most of the evidence.",
                file=sys.stderr,
            )
        return {
            "gate_alone": {
                k: round(v, 5) for k, v in {**found._asdict(), "kept": found.kept}.items()
            },
            "gate_alone_from": f"average precision of {split} samples, with the mean features of "
            "all samples (alone), and with their mean gate (features)",
        }

    def _measure_offset(self, model: Any) -> Dict[str, Any]:
        """Measure how far the maps lie beside the evidence.

        Only sideways, and only if mirrored samples are trained on: a model need not know samples
        upside down. The vertical offset is taken to be the same.
        """
        model.map_offset = (0.0, 0.0)  # the architecture may have that of the zoo's weights
        if not self.config.augment.hflip:
            return {"map_offset": None, "map_offset_from": "none: --augment.hflip is 0"}
        split = self.config.data.splits[1]
        count = 128 if self.config.data.noun == "image" else 32
        inputs, _ = loader.sample_inputs(self.tables[split], self.transforms[1], count)
        try:
            measured = measure_offset(model, [inputs], vertical=False)
        except InvalidInputError as error:  # too few samples, or a model that learned nothing
            return {"map_offset": None, "map_offset_from": f"none: {error}"}
        model.map_offset = measured.offset
        x = measured.horizontal
        how = (
            f"mirrored {split} samples ({measured.images}), left to right, and taken to be the "
            f"same downwards; mean correlation with the maps of mirrored samples {x.before:.3f} "
            f"before, {x.after:.3f} after"
        )
        return {"map_offset": list(measured.offset), "map_offset_from": how}

    def write_extra_files(self, model: torch.nn.Module) -> None:
        """Write ``samples.png``: explanations of right and wrong answers for test samples."""
        if self.config.model.se:
            table = self.tables[self.config.data.splits[-1]]
            tried = 12 if model.takes_clips else 48
            inputs, truth = loader.sample_inputs(table, self.transforms[1], tried)
            draw_samples(self.folder.path / "samples.png", model, inputs, truth)

    def model_args(self, model: Any) -> Dict[str, Any]:
        """Return the arguments of the architecture that the export's config.json must name."""
        # A tag of the zoo, such as tf_efficientnet_lite0_sehead.in1k, adds arguments of its own.
        made_with = getattr(model, "_model_args", {})
        args = {k: v for k, v in made_with.items() if k not in SE_DEFAULTS}
        args.update(model_args(self.config.model))
        if self.config.model.se:
            args["multi_label"] = model.is_multi_label()
            if model.thresholds is not None:
                args["thresholds"] = list(model.thresholds)
            if any(model.map_offset):
                args["map_offset"] = list(model.map_offset)
        # timm from 1.0.29 on records those of the run too, such as drop_rate.
        return saved_args(args)


class ClipTrainer(ClassifierTrainer):
    """A clip classifier's run."""

    def check(self) -> None:
        """Refuse options that do not fit the data, and make the loss."""
        super().check()
        if self.config.augment.half_size_epochs:
            raise InvalidInputError(
                "--augment.half-size-epochs is for images; leave it at 0 for clips."
            )

    def make_transforms(self, model: torch.nn.Module) -> Tuple[Any, Any]:
        """Return the transforms of a video for training and for evaluation."""
        data = self.config.data
        assert isinstance(data, ClipDataConfig)
        return clip_transforms(model, data, self.config.augment)

    def check_input(self, model: torch.nn.Module) -> None:
        """Check that the model takes clips of its configured length and size.

        Some architectures take only one.
        """
        takes = resolve_clip_config(model)
        clip = torch.zeros(1, 3, takes.num_frames, *takes.size, device=self.accelerator.device)
        check_input(model, clip, self.config, f"clips of {takes.num_frames} frames")
