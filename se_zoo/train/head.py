"""Training the SE head alone: the backbone runs once over the images, then never again.

What it gives for every image, its last feature map, is kept on disk as fp16; the SE block and the
classifier are trained on that. It is the cheap way to an explanation out of an existing model.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data import ImageTable
from ..errors import InvalidInputError
from ..files import write_json
from . import loader
from .classify import ClassifierTrainer
from .model import fp16_state


class HeadOnly(nn.Module):
    """A model whose input is the result of its own ``forward_features``; only the SE block and the
    classifier learn."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        model.requires_grad_(False)
        for part in (model.se, model.get_classifier()):  # type: ignore[operator]
            part.requires_grad_(True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.model.forward_head(features)  # type: ignore[operator]

    def train(self, mode: bool = True) -> "HeadOnly":
        """As in torch; batch statistics stay those of the backbone."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class Cached(loader.Decoded):
    """Feature maps of a split in a memory-mapped file, with the split's targets."""

    def __init__(self, file: Path, table: ImageTable):
        self.table, self.file = table, file
        self.features = np.load(file, mmap_mode="r")

    def __getitem__(self, index: int) -> Tuple[Any, Any]:
        target = self.table.targets[index]
        return self.features[index], target if self.table.multi_label else int(target)


def as_tensor(features: np.ndarray) -> torch.Tensor:
    """One cached feature map, float32."""
    return torch.from_numpy(features.astype(np.float32))


class HeadTrainer(ClassifierTrainer):
    """A run on cached features; see :class:`se_zoo.train.engine.Trainer`."""

    def adapt(self, model: nn.Module) -> nn.Module:
        """Freeze the backbone, rounded as it will be exported, so that the features that are
        trained on are those that the export has."""
        if not hasattr(model, "se"):
            raise InvalidInputError("--model.no-se leaves no SE head to train alone.")
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise InvalidInputError("an SE head is too small to be spread with FSDP; use DDP.")
        if self.config.data.streaming:
            raise InvalidInputError("every image is read only once; leave --data.streaming out.")
        if self.config.augment.half_size_epochs:
            raise InvalidInputError("features have one size; leave --augment.half-size-epochs out.")
        if self.config.run.channels_last:
            raise InvalidInputError("features have no channels_last; add --run.no-channels-last.")
        model.load_state_dict(fp16_state(model))
        return HeadOnly(model)

    def whole(self, model: nn.Module) -> nn.Module:
        """The model behind the wrapper, which takes images."""
        return model.model  # type: ignore[return-value]

    def sample_transforms(self) -> Tuple[Any, Any]:
        """Features are not augmented."""
        return as_tensor, as_tensor

    def samples(self, split: str) -> loader.Decoded:
        """The split's features, from the cache or newly made."""
        if split not in self.decoded:
            file = self.config.run.output / "features" / f"{split}.npy"
            if self.accelerator.is_main_process:
                self._fill(split, file)
            self.accelerator.wait_for_everyone()
            self.decoded[split] = Cached(file, self._table(split))
        return self.decoded[split]

    def _table(self, split: str) -> ImageTable:
        table = self.tables[split]
        assert isinstance(table, ImageTable)  # adapt has refused streams
        return table

    def _fill(self, split: str, file: Path) -> None:
        made_from = self._made_from(split)
        note = file.with_suffix(".json")
        if file.is_file() and note.is_file() and json.loads(note.read_text("utf-8")) == made_from:
            return
        file.parent.mkdir(exist_ok=True)
        note.unlink(missing_ok=True)
        temporary = file.with_name(file.name + ".tmp")
        images = loader.Plain(self._table(split), self.transforms[1], 0, 1)  # each is read once
        batches = DataLoader(
            images, batch_size=self.plan.batch_size, num_workers=self.config.run.workers
        )
        model = self.whole(self.raw_model).eval()
        kept: Any = None
        done = 0
        for batch, _ in tqdm(batches, f"features of {split}", leave=False, disable=None):
            with torch.no_grad():
                found = model.forward_features(batch.to(self.accelerator.device))  # type: ignore[operator]
            features = found.half().cpu().numpy()
            if not np.isfinite(features).all():
                raise InvalidInputError("the backbone's features exceed the range of fp16.")
            if kept is None:
                shape = (len(images), *features.shape[1:])
                kept = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
            kept[done : done + len(features)] = features
            done += len(features)
        kept.flush()
        os.replace(temporary, file)
        write_json(note, made_from)  # last: without it the file is not trusted

    def _made_from(self, split: str) -> Dict[str, Any]:
        """What the features depend on."""
        digest = hashlib.sha256()
        model = self.whole(self.raw_model)
        head = ("se.", *(f"{n}." for n, m in model.named_modules() if m is model.get_classifier()))  # type: ignore[operator]
        for name, tensor in model.state_dict().items():
            if not name.startswith(head):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return {
            "backbone": digest.hexdigest(),
            "images": self.tables[split].name,
            "count": len(self.tables[split]),
            "transform": str(self.transforms[1]),
        }
