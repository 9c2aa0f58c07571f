"""Batches from a table: samples are transformed with random numbers of their own."""

import sys
from itertools import islice
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple, Union

import torch
from timm.data.transforms_factory import create_transform
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..data import ClipDataConfig, ImageStream, ImageTable, Table
from ..errors import DataError, InvalidInputError
from ..models.input_size import data_config
from ..text import one_line
from ..transform import evaluation_transform
from .config import AugmentConfig, Config
from .resume.order import Batches, Key, Plan, seed_cpu
from .streamed import streamed_evaluation, streamed_training
from .workers import loader_options

#: Splits that take no more memory are decoded once, because decoding small images is a good part of
#: an epoch's CPU work. PIL holds 4 bytes per pixel.
_DECODED_BYTES_LIMIT = 2**30
#: Broken images in a row after which there must be another reason than a few bad files.
_REPLACED = 100


class Replacing(Dataset[Tuple[Any, Any]]):
    """A table in which the next readable image takes the place of a broken one, with its target.

    So an epoch has as many samples as without broken images, and an interrupted run continues with
    the same ones. Each broken image is named on stderr and in a file, once.

    Args:
        table: The table.
        log: The file; lines are added to it.
    """

    table: ImageTable
    log: Path
    noted: Set[str]

    def __init__(self, table: ImageTable, log: Path):
        self.table, self.log = table, log
        self.noted = set()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Tuple[Any, Any]:
        """Return the first readable image from an index on.

        Raises:
            DataError: If the next hundred images are broken, too.
        """
        count = min(len(self), _REPLACED)
        for row in range(index, index + count):
            try:
                return self.table[row % len(self)]
            except DataError as error:
                self._note(one_line(error))
        raise DataError(
            f"{count} images of {self.table.name} in a row cannot be read; see {self.log}"
        )

    def _note(self, line: str) -> None:
        """Name a broken image, unless this run did so before."""
        if line in self.noted:
            return
        self.noted.add(line)
        print(f"replaced by the next image: {line}", file=sys.stderr)
        known = self.log.read_text("utf-8").splitlines() if self.log.is_file() else []
        # There is no folder yet while statistics of folded norms are measured.
        if line not in known and self.log.parent.is_dir():
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")


def _all_of(table: Union[ImageTable, Replacing]) -> Optional[List[Any]]:
    """Return all images and targets, or None if they take too much memory."""
    kept, taken = [], 0
    for index in range(len(table)):
        width, height = (sample := table[index])[0].size
        taken += 4 * width * height
        # By the first one alone, most large data sets are known to be so; sizes may differ.
        if taken > _DECODED_BYTES_LIMIT or (not kept and taken * len(table) > _DECODED_BYTES_LIMIT):
            return None
        kept.append(sample)
    return kept


class Decoded(Dataset[Tuple[Any, Any]]):
    """A table's images and targets, kept decoded if they fit into memory."""

    table: Union[ImageTable, Replacing]
    kept: Any

    def __init__(self, table: Union[ImageTable, Replacing]):
        self.table = table
        self.kept = _all_of(table)

    def __getstate__(self) -> Dict[str, Any]:
        """Leave out the images: workers that are spawned, not forked, would each get a copy."""
        return {**self.__dict__, "kept": None}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Tuple[Any, Any]:
        return self.table[index] if self.kept is None else self.kept[index]


#: A split as an epoch reads it.
Samples = Union[Decoded, Table, ImageStream]


class Augmented(Dataset[Tuple[torch.Tensor, Any]]):
    """Training samples by (epoch, index), each augmented by random numbers of its own.

    So a sample is augmented alike in any process or worker, however often the run was interrupted.
    """

    samples: Union[Table, Decoded]
    transform: Any
    seed: int

    def __init__(self, samples: Union[Table, Decoded], transform: Any, seed: int):
        self.samples, self.transform, self.seed = samples, transform, seed

    def __getitem__(self, key: Key) -> Tuple[torch.Tensor, Any]:  # type: ignore[override]
        image, target = self.samples[key[1]]
        seed_cpu(self.seed, *key)
        return self.transform(image), target


class Plain(Dataset[Tuple[torch.Tensor, Any]]):
    """Evaluation samples of one process, without augmentation: every ``processes``-th sample."""

    transform: Any
    indices: range
    samples: Union[Table, Decoded]

    def __init__(
        self,
        samples: Union[Table, Decoded],
        transform: Any,
        process: int,
        processes: int,
    ):
        self.samples, self.transform = samples, transform
        self.indices = range(process, len(samples), processes)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Tuple[torch.Tensor, Any]:
        image, target = self.samples[self.indices[position]]
        return self.transform(image), target


def image_transforms(model: nn.Module, augment: AugmentConfig) -> Tuple[Any, Any]:
    """Return timm's transforms for training and for evaluation, with the model's input settings.

    Raises:
        InvalidInputError: If timm does not know the augmentation.
    """
    config: Dict[str, Any] = data_config(model)
    options = {
        **config,
        "is_training": True,
        "scale": augment.scale,
        "ratio": augment.ratio,
        "hflip": augment.hflip,
        "color_jitter": augment.color_jitter,
        "auto_augment": augment.auto_augment,
        "re_prob": augment.reprob,
        "interpolation": "bilinear",
    }
    try:
        training = create_transform(**options)
    except (AssertionError, ValueError) as error:  # timm asserts that it knows the policy
        raise InvalidInputError(
            f"timm cannot make the augmentation ({error or 'unknown policy'}); check "
            f"--augment.auto-augment {augment.auto_augment} and the other --augment options."
        ) from error
    return training, evaluation_transform(config)


def training_batches(
    samples: Samples, transform: Any, config: Config, plan: Plan, process: int, start: int
) -> "DataLoader[Any]":
    """Return the batches of one process from update ``start`` to the end of the run.

    One loader yields all epochs, so that its workers keep working during an evaluation.
    """
    if isinstance(samples, ImageStream):
        return streamed_training(samples, transform, config, plan, process, start)
    return DataLoader(
        Augmented(samples, transform, config.run.seed),
        batch_sampler=Batches(plan, process, start),
        **loader_options(config.run),
    )


def evaluation_batches(
    samples: Samples, transform: Any, config: Config, process: int, processes: int
) -> "DataLoader[Any]":
    """Return the batches of one process's share of a split, in order and complete."""
    if isinstance(samples, ImageStream):
        return streamed_evaluation(samples, transform, config, process, processes)
    return DataLoader(
        Plain(samples, transform, process, processes),
        batch_size=max(1, config.optim.batch_size // _views(config)),
        **loader_options(config.run),
    )


def _views(config: Config) -> int:
    """Return how many inputs of the model an evaluation sample has."""
    data = config.data
    return data.clips * data.crops if isinstance(data, ClipDataConfig) else 1


def sample_inputs(
    table: Union[Table, ImageStream], transform: Any, count: int
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return a few samples as input of the model.

    Args:
        table: The split. Of a table, samples evenly spaced are taken; of a stream, the first.
        transform: The transform for evaluation.
        count: How many samples; fewer if the split is smaller.

    Returns:
        Inputs, (B, C, H, W), or for clips (B, C, T, H, W), the middle view of each; and their
        targets, class indices (B,) or attributes of 0 and 1 (B, A).
    """
    count = min(count, len(table))
    if isinstance(table, ImageStream):
        rows = list(islice(table, count))
        inputs = [transform(table.decode(row)) for row in rows]
        targets = [torch.as_tensor(row.target) for row in rows]
    else:
        samples = [(transform(sample), torch.as_tensor(t)) for sample, t in table.spread(count)]
        inputs = [x[len(x) // 2] if x.dim() == 5 else x for x, _ in samples]
        targets = [target for _, target in samples]
    return torch.stack(inputs), torch.stack(targets)
