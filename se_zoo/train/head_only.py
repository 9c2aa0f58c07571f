"""Training of the SE head alone: the backbone runs once over images or clips, then never again.

The last feature map of every sample is stored on disk as fp16; the SE block and the classifier are
trained on these. It is the cheap way to make an existing model explain itself.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Set, Tuple

import numpy as np
import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data import ImageTable, Table
from ..data.tables.parallel_check import without_broken
from ..errors import InvalidInputError
from ..files import replacing, write_json
from ..models.classifiers import classifiers_of
from ..models.layout_probe import list_layout
from ..models.save_model import fp16_state
from . import loader
from .batch_norm import freeze_norms
from .classifier_l1 import check_l1, classifier_l1
from .classify import ClassifierTrainer, ClipTrainer
from .model import classifier_prefixes, freeze_backbone
from .options import plain
from .preflight import AnyTable


class _HeadOnly(nn.Module):
    """A model that takes the result of its own ``forward_features``.

    Only the SE block and the classifier learn.

    Args:
        model: The model.
        l1: Whether the classifier has an L1 penalty, and so no weight decay.
    """

    def __init__(self, model: nn.Module, l1: bool = False):
        super().__init__()
        self.model, self.l1 = model, l1
        freeze_backbone(model)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K) of the backbone's features."""
        return self.model.forward_head(features)  # type: ignore[operator]

    def no_weight_decay(self) -> Set[str]:
        """Return the names of parameters without weight decay, as timm's models do."""
        parts = classifiers_of(self.model) if self.l1 else []
        weights = {id(getattr(part, "weight", None)) for part in parts}
        return {n for n, p in self.named_parameters() if id(p) in weights}

    def train(self, mode: bool = True) -> "_HeadOnly":
        """Set the training mode, as in torch, but keep the statistics of the BatchNorms."""
        super().train(mode)
        freeze_norms(self)
        return self


class _CachedFeatures(loader.Decoded):
    """Feature maps of a split in a memory-mapped file, with the split's targets."""

    table: Table
    file: Path
    features: Any

    def __init__(self, file: Path, table: Table):
        self.table, self.file = table, file
        self.features = np.load(file, mmap_mode="r")

    def __getstate__(self) -> Dict[str, Any]:
        """Leave out the map, of which a worker that is spawned would get a copy in memory."""
        return {**self.__dict__, "features": None}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        """Map the file again."""
        self.__dict__.update(state)
        self.features = np.load(self.file, mmap_mode="r")

    def __getitem__(self, index: int) -> Tuple[Any, Any]:
        target = self.table.targets[index]
        return self.features[index], target if self.table.multi_label else int(target)


def _as_tensor(features: np.ndarray) -> torch.Tensor:
    """Return the cached features of a sample as float32."""
    return torch.from_numpy(features.astype(np.float32))


def _random_view(features: np.ndarray) -> torch.Tensor:
    """Return the cached features of one of a video's views, drawn with torch's generator."""
    return _as_tensor(features[int(torch.randint(len(features), ()))])


class HeadTrainer(ClassifierTrainer):
    """A run on cached features; see :class:`se_zoo.train.trainer.Trainer`."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a module that trains the SE block and the classifier only.

        The backbone is rounded as it will be exported, so that the features that are trained on are
        those of the export.

        Raises:
            InvalidInputError: If an option does not work with cached features.
        """
        if not self.config.model.se:
            raise InvalidInputError("--model.no-se leaves no SE head to train alone.")
        if list_layout(model) is not None:
            raise InvalidInputError(
                f"{type(model).__name__} returns a list of features, which cannot be cached; train "
                "the whole model instead, or choose another --model.backbone."
            )
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise InvalidInputError("an SE head is too small to shard with FSDP; use DDP.")
        if self.config.data.streaming:
            raise InvalidInputError(
                "the features of every image are cached; leave --data.streaming out."
            )
        if self.config.augment.half_size_epochs:
            raise InvalidInputError(
                "cached features have one size; leave --augment.half-size-epochs out."
            )
        if self.config.run.channels_last:
            raise InvalidInputError(
                "cached features are not in channels_last; add --run.no-channels-last."
            )
        model.load_state_dict(fp16_state(model))
        l1 = self.config.optim.l1_classifier > 0
        if l1:
            check_l1(model, self.plan.batch_size)
        return _HeadOnly(model, l1)

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch (features, targets), with the penalty on the classifier."""
        found, l1 = super().loss(batch), self.config.optim.l1_classifier
        return found + l1 * classifier_l1(self.unwrap(self.raw_model), batch[0]) if l1 else found

    def open_tables(self) -> Dict[str, AnyTable]:
        """Open the splits; with ``--data.broken skip`` without the images that cannot be read."""
        tables, train = super().open_tables(), self.config.data.splits[0]
        table, skips = tables[train], getattr(self.config.data, "broken", "") == "skip"
        if skips and self.accelerator.is_main_process and isinstance(table, ImageTable):
            tables[train] = without_broken(table)
        return tables

    def _check_norms(self, model: nn.Module) -> None:
        """Do nothing: the BatchNorms of the backbone are not trained."""

    def unwrap(self, trained: nn.Module) -> nn.Module:
        """Return the model that takes images."""
        return trained.model  # type: ignore[return-value]

    def sample_transforms(self) -> Tuple[Any, Any]:
        """Return the transforms of cached features; they are not augmented."""
        return _as_tensor, _as_tensor

    def samples(self, split: str) -> loader.Decoded:
        """Return the features of a split, from the cache if they are there."""
        if split not in self.decoded:
            file = self.config.run.output / "features" / f"{split}.npy"
            if self.accelerator.is_main_process:
                self._fill_cache(split, file)
            self.accelerator.wait_for_everyone()
            self.decoded[split] = _CachedFeatures(file, self._table(split))
        return self.decoded[split]

    def _table(self, split: str) -> Table:
        """Return a split, which is not a stream."""
        table = self.tables[split]
        assert isinstance(table, Table)  # wrap refuses streams
        return table

    def features_of(self, model: Any, batch: torch.Tensor) -> torch.Tensor:
        """Return the backbone's features of a batch of transformed samples."""
        found: torch.Tensor = model.forward_features(batch)
        return found

    def _fill_cache(self, split: str, file: Path) -> None:
        """Write the features of a split, unless the file has those of the same backbone."""
        made_from = self._made_from(split)
        note = file.with_suffix(".json")
        if file.is_file() and note.is_file() and json.loads(note.read_text("utf-8")) == made_from:
            return
        file.parent.mkdir(exist_ok=True)
        note.unlink(missing_ok=True)
        with replacing(file) as temporary:
            self._write_features(split, temporary)
        write_json(note, made_from)  # last, because the file is only trusted with it

    def _write_features(self, split: str, file: Path) -> None:
        """Write the features of a split as fp16, in numpy's format."""
        images = loader.Plain(self._table(split), self.transforms[1], 0, 1)  # each is read once
        batches = DataLoader(
            images, batch_size=self.plan.batch_size, num_workers=self.config.run.workers
        )
        model = self.unwrap(self.raw_model).eval()
        stored: Any = None
        done = 0
        for batch, _ in tqdm(batches, f"features of {split}", leave=False, disable=None):
            with torch.no_grad():
                found = self.features_of(model, batch.to(self.accelerator.device))
            features = found.half().cpu().numpy()
            if not np.isfinite(features).all():
                raise InvalidInputError(
                    "the backbone's features exceed the range of fp16, in which they are cached; "
                    "train the whole model instead."
                )
            if stored is None:
                shape = (len(images), *features.shape[1:])
                stored = np.lib.format.open_memmap(file, "w+", np.float16, shape)
            stored[done : done + len(features)] = features
            done += len(features)
        stored.flush()

    def _made_from(self, split: str) -> Dict[str, Any]:
        """Return everything that the features depend on."""
        digest = hashlib.sha256()
        model = self.unwrap(self.raw_model)
        head = ("se.", *classifier_prefixes(model))
        for name, tensor in model.state_dict().items():
            if not name.startswith(head):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return {
            "model": plain(asdict(self.config.model)),  # padding and strides have no weights
            "backbone": digest.hexdigest(),
            "images": self.tables[split].name,
            "count": len(self.tables[split]),
            "data": self.tables[split].fingerprint(split),
            "transform": str(self.transforms[1]),
        }


class ClipHeadTrainer(HeadTrainer, ClipTrainer):
    """A run on the cached features of clips.

    The views that evaluation takes of each video are cached: ``--data.clips`` times
    ``--data.crops`` of them. An update trains on one view of a video, drawn at random; evaluation
    averages the probabilities of all.
    """

    def sample_transforms(self) -> Tuple[Any, Any]:
        """Return the transforms of a video's cached features."""
        return _random_view, _as_tensor

    def features_of(self, model: Any, batch: torch.Tensor) -> torch.Tensor:
        """Return the backbone's features of videos (B, V, C, T, H, W), with the axes B and V."""
        return super().features_of(model, batch.flatten(0, 1)).unflatten(0, batch.shape[:2])
