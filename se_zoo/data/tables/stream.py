"""A split that is read in its order while it is trained on, and is never on the disk as a whole."""

import io
from inspect import signature
from itertools import islice
from typing import Any, Dict, Iterator, NamedTuple, Tuple

import torch
from PIL import Image

from ...errors import DataError
from ..config import DataConfig
from ..images import read_rgb
from .content import read_cell
from .layout import layout_of
from .parquet import check_attribute_types, load_rows
from .table import Target
from .validate import check_columns, check_same_classes, described

#: Rows that are asked for at a time.
CHUNK = 64


class Row(NamedTuple):
    """An image that is not decoded yet."""

    place: int
    """In the order in which the rows came."""
    cell: Dict[str, Any]
    """``bytes``, or a ``path`` to read them from."""
    target: Target


class ImageStream:
    """Images with targets, one after the other.

    Attributes:
        name: What messages call it.
        labels: Names of the classes or attributes, in the order of the targets.
        multi_label: Whether a target is several yes-or-no answers.
        size: Number of images.
    """

    def __init__(
        self, name: str, config: DataConfig, rows: Any, labels: Tuple[str, ...], size: int
    ):
        self.name, self.config, self.rows = name, config, rows
        self.labels, self.multi_label, self.size = labels, bool(config.attributes), size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Row]:
        """The rows as they are stored.

        Raises:
            DataError: If they are fewer than declared, or a label is no class.
        """
        return self._read(self.rows)

    def shuffled(self, seed: int) -> Iterator[Row]:
        """The rows in an order that depends on the seed alone: files are shuffled, and rows within
        a buffer of ``shuffle_buffer``.

        Raises:
            DataError: As `__iter__`.
        """
        how: Dict[str, Any] = {}
        # datasets 5 reads several files in turn, and then waits five seconds for its threads; one
        # file has no turns.
        if "max_buffer_input_shards" in signature(self.rows.shuffle).parameters:
            how = {"max_buffer_input_shards": min(10, self.rows.num_shards)}
        rows = self.rows.shuffle(seed=seed, buffer_size=self.config.shuffle_buffer, **how)
        return self._read(rows)

    def decode(self, row: Row) -> Image.Image:
        """An upright RGB image.

        Raises:
            DataError: For a missing or corrupt image, with split and row.
        """
        try:
            return read_rgb(io.BytesIO(read_cell(row.cell)))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.name}, row {row.place} as it was read: {error}") from error

    def _read(self, rows: Any) -> Iterator[Row]:
        # By iter(batch_size): plain iteration in a loader process would leave out the rows that
        # datasets thinks are another process's.
        place = 0
        for chunk in rows.iter(batch_size=CHUNK):
            for cell, target in zip(chunk[self.config.image], self._targets(chunk), strict=True):
                if place == self.size:
                    raise DataError(f"{self.name} has more than the {self.size} images declared.")
                yield Row(place, cell, target)
                place += 1
        if place < self.size:
            raise DataError(f"{self.name} ended after {place} of {self.size} images.")

    def _targets(self, chunk: Dict[str, Any]) -> Iterator[Target]:
        if self.multi_label:
            columns = [chunk[name] for name in self.config.attributes]
            if any(value is None for column in columns for value in column):
                raise DataError(f"{self.name} has rows without a value for some attribute.")
            yield from torch.tensor(columns, dtype=torch.float32).T
            return
        for value in chunk[self.config.label or ""]:
            if value is None or not 0 <= value < len(self.labels):
                raise DataError(
                    f"{self.name} holds the label {value}, which is none of its "
                    f"{len(self.labels)} classes (-1 marks an image without a label)."
                )
            yield int(value)


def open_stream(config: DataConfig, split: str) -> ImageStream:
    """A split of a Hub data set or of parquet files, its columns checked.

    Raises:
        DataError: For other layouts, for columns or splits that are not as declared, for classes
            without declared names, and if the number of images is not known.
    """
    layout = layout_of(config)
    if layout not in ("hub", "parquet"):
        raise DataError(f"streaming is for Hub data and parquet files; {config.path} is neither.")
    where = described(split, config)
    rows = _load(config, split)
    check_columns(rows.column_names, config, where)
    size = _size(config, split, rows, where)
    if config.attributes:
        labels = config.attributes
        check_attribute_types(rows.features, config, where)
    else:
        labels = _classes(config, rows, where)
        train = config.splits[0]
        if split != train:
            expected = _classes(config, _load(config, train), described(train, config))
            check_same_classes(labels, expected, where, "Write all splits with one ClassLabel.")
    import datasets

    wanted = [config.image, *(config.attributes or [config.label])]
    if not isinstance(rows.features[config.image], datasets.Image):
        raise DataError(
            f"column {config.image} of {where} holds no images but {rows.features[config.image]}."
        )
    rows = rows.select_columns(wanted).cast_column(config.image, datasets.Image(decode=False))
    if config.limit_of(split) is not None:
        rows = rows.take(size)
    return ImageStream(where, config, rows, labels, size)


def _load(config: DataConfig, split: str) -> Any:
    """The split as a ``datasets.IterableDataset`` that knows its columns."""
    rows = load_rows(config, split)
    return rows._resolve_features() if rows.features is None else rows  # reads the first row


def _size(config: DataConfig, split: str, rows: Any, where: str) -> int:
    """Number of images: as the data set's description says, no more than the limit."""
    known = (rows.info.splits or {}).get(split)
    count = known.num_examples if known else None
    train = split == config.splits[0]
    limit = config.limit_of(split)
    if layout_of(config) == "parquet":
        import pyarrow.parquet

        count = pyarrow.parquet.read_metadata(f"{config.path}/{split}.parquet").num_rows
    if not count and limit is None:
        raise DataError(
            f"the description of {config.path} does not say how many images {where} has; set "
            f"{'limit' if train else 'limit_eval'} to their number."
        )
    if train and count and limit is not None and limit > count:
        raise DataError(f"limit is {limit}, but {where} has {count} images.")
    return min(n for n in (count, limit) if n)


def _classes(config: DataConfig, rows: Any, where: str) -> Tuple[str, ...]:
    names = getattr(rows.features[config.label], "names", None)
    if names is None:
        raise DataError(
            f"column {config.label} of {where} is no ClassLabel, so its classes are known only "
            "when all rows are read; leave streaming out."
        )
    return tuple(names)


def look(stream: ImageStream, count: int) -> None:
    """Decode the first images.

    Raises:
        DataError: Of the first one that cannot be.
    """
    for row in islice(stream, min(count, stream.size)):
        stream.decode(row)
