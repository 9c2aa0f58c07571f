"""Streams: splits that are read during training and are never stored as a whole."""

import io
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Tuple

import torch
from PIL import Image

from ...errors import DataError
from ..config import DataConfig
from ..images import read_rgb
from .content import Reach, reach_of, read_cell
from .fingerprint import digest_of, files_digest
from .layout import layout_of
from .parquet import check_attribute_types, load_rows
from .table import Target
from .validate import check_columns, check_same_classes, split_name

#: Rows that are read at a time.
_CHUNK = 64


class Row(NamedTuple):
    """An image that is not decoded yet."""

    place: int
    """Number of the row in the order of reading, from 0."""
    cell: Dict[str, Any]
    """The encoded image: its ``bytes``, or a ``path`` to read them from."""
    target: Target


class ImageStream:
    """Images with targets, read one after the other.

    Attributes:
        name: The split's name in messages.
        labels: Names of the classes or attributes, in the order of the targets.
        multi_label: Whether a target is several yes-or-no answers.
        size: Number of images.
    """

    reach: "Reach"
    name: str
    config: DataConfig
    rows: Any
    labels: Tuple[str, ...]
    multi_label: bool
    size: int

    def __init__(
        self, name: str, config: DataConfig, rows: Any, labels: Tuple[str, ...], size: int
    ):
        self.name, self.config, self.rows = name, config, rows
        self.labels, self.multi_label, self.size = labels, bool(config.attributes), size
        self.reach = reach_of(config)

    def __len__(self) -> int:
        """Return the number of images."""
        return self.size

    def __iter__(self) -> Iterator[Row]:
        """Read the rows in their stored order.

        Yields:
            Rows whose images are not decoded.

        Raises:
            DataError: If there are more or fewer rows than ``size``, or a label is missing or not a
                class.
        """
        return self._read(self.rows)

    def shuffled(self, seed: int) -> Iterator[Row]:
        """Read the rows in a random order that depends on the seed alone.

        Files are shuffled, and rows within a buffer of ``shuffle_buffer`` images.

        Args:
            seed: The seed.

        Returns:
            An iterator of rows whose images are not decoded.

        Raises:
            DataError: If there are more or fewer rows than ``size``, or a label is missing or not a
                class.
        """
        options: Dict[str, Any] = {}
        # datasets 5 reads ten files in turn by default, and at the end waits five seconds for its
        # threads. No more files than there are avoids the wait for a single file.
        if "max_buffer_input_shards" in signature(self.rows.shuffle).parameters:
            options = {"max_buffer_input_shards": min(10, self.rows.num_shards)}
        rows = self.rows.shuffle(seed=seed, buffer_size=self.config.shuffle_buffer, **options)
        return self._read(rows)

    def decode(self, row: Row) -> Image.Image:
        """Decode a row's image.

        Args:
            row: A row of this stream.

        Returns:
            An upright RGB image.

        Raises:
            DataError: If the image is missing or corrupt; the message names split and row.
        """
        try:
            return read_rgb(io.BytesIO(read_cell(row.cell, self.reach)))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.name}, row {row.place} in the order of reading: {error}"
            ) from error

    def fingerprint(self, split: str) -> Dict[str, str]:
        """Return digests by which a change of the data is noticed.

        Args:
            split: Name of the split.

        Returns:
            Digests of the class names and of the file; for Hub data, of its description.
        """
        file = Path(self.config.path) / f"{split}.parquet"
        if file.is_file():
            content = files_digest([(file.name, file)])
        else:
            info = self.rows.info
            content = digest_of(self.size, info.download_size, info.dataset_size, info.features)
        return {"class names": digest_of(*self.labels), "files": content}

    def _read(self, rows: Any) -> Iterator[Row]:
        # In a loader process, plain iteration leaves out the rows that datasets assigns to other
        # processes; iter(batch_size) reads all rows.
        place = 0
        for chunk in rows.iter(batch_size=_CHUNK):
            for cell, target in zip(chunk[self.config.image], self._targets(chunk), strict=True):
                if place == self.size:
                    raise DataError(
                        f"{self.name} has more than the {self.size} images that its description "
                        "says; set a limit."
                    )
                yield Row(place, cell, target)
                place += 1
        if place < self.size:
            raise DataError(
                f"{self.name} ended after {place} of {self.size} images; set the limit to {place} "
                "or less."
            )

    def _targets(self, chunk: Dict[str, Any]) -> Iterator[Target]:
        if self.multi_label:
            columns = [chunk[name] for name in self.config.attributes]
            if any(value is None for column in columns for value in column):
                raise DataError(
                    f"{self.name} has rows without a value for some attribute; fill them in, or "
                    "leave them out."
                )
            yield from torch.tensor(columns, dtype=torch.float32).T
            return
        for value in chunk[self.config.label or ""]:
            if value is None or not 0 <= value < len(self.labels):
                raise DataError(
                    f"{self.name} holds the label {value}, which is not one of its "
                    f"{len(self.labels)} classes. -1 marks an image without a label; leave such "
                    "rows out."
                )
            yield int(value)


def open_stream(config: DataConfig, split: str) -> ImageStream:
    """Open a split of a Hub data set or of parquet files as a stream, and check its columns.

    Args:
        config: The data set.
        split: Name of the split.

    Returns:
        The stream; no image is decoded.

    Raises:
        DataError: If the data has another layout, its splits or columns are not as declared, its
            classes have no declared names, or the number of images is unknown.
    """
    layout = layout_of(config)
    if layout not in ("hub", "parquet"):
        raise DataError(
            f"streaming is for Hub data and parquet files, and {config.path} is neither; leave "
            "streaming out."
        )
    where = split_name(split, config)
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
            expected = _classes(config, _load(config, train), split_name(train, config))
            check_same_classes(labels, expected, where, "Write all splits with one ClassLabel.")
    import datasets

    wanted = [config.image, *(config.attributes or [config.label])]
    if not isinstance(rows.features[config.image], datasets.Image):
        raise DataError(
            f"column {config.image} of {where} holds no images but {rows.features[config.image]}. "
            "Set image to the column of the images."
        )
    rows = rows.select_columns(wanted).cast_column(config.image, datasets.Image(decode=False))
    if config.limit_of(split) is not None:
        rows = rows.take(size)
    return ImageStream(where, config, rows, labels, size)


def _load(config: DataConfig, split: str) -> Any:
    """Load the split as a ``datasets.IterableDataset`` with known columns."""
    rows = load_rows(config, split)
    return rows._resolve_features() if rows.features is None else rows  # this reads the first row


def _size(config: DataConfig, split: str, rows: Any, where: str) -> int:
    """Return the number of images that the data's description says, or the limit if it is lower."""
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
        raise DataError(f"limit is {limit}, but {where} has {count} images; lower the limit.")
    return min(n for n in (count, limit) if n)


def _classes(config: DataConfig, rows: Any, where: str) -> Tuple[str, ...]:
    names = getattr(rows.features[config.label], "names", None)
    if names is None:
        raise DataError(
            f"column {config.label} of {where} is not a ClassLabel, so its classes are unknown "
            "until all rows are read; leave streaming out."
        )
    return tuple(names)


def decode_first(stream: ImageStream, count: int) -> None:
    """Decode the first images of a stream.

    Raises:
        DataError: If one cannot be decoded.
    """
    for row in islice(stream, min(count, stream.size)):
        stream.decode(row)
