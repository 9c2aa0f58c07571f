"""Tables: splits as map-style data sets of (sample, target), independent of their layout."""

import hashlib
import io
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from PIL import Image
from torch.utils.data import Dataset
from typing_extensions import Self

from ...errors import DataError
from ..images import read_rgb
from .content import Content
from .fingerprint import digest_of

Target = Union[int, torch.Tensor]


class Finding(NamedTuple):
    """The result of decoding one sample, or the error."""

    row: int
    digest: bytes = b""
    """Hash of the encoded sample, to find duplicates."""
    size: Optional[Tuple[int, int]] = None
    """Width and height of the upright sample, in pixels."""
    error: str = ""
    """Why the sample cannot be used; empty if it can."""
    frames: int = 1
    """Number of frames of the sample."""


class Table(Dataset[Tuple[Any, Target]]):
    """Samples with targets. Tables can be pickled, for loader processes of any kind.

    Attributes:
        name: The split's name in messages.
        labels: Names of the classes or attributes, in the order of the targets.
        multi_label: Whether a target is several yes-or-no answers.
        targets: Targets of all rows: class indices, int64 (N,), or attributes of 0 and 1, float32
            (N, A).
        stored: Source of the encoded samples.
        rows: Place of each row in ``stored``; None if the table has all of them in order.
        skipped: Errors of the samples that were skipped (``broken="skip"``).
        lost: Classes without a sample left after skipping.
        unskipped: The table before samples were skipped; None if none were looked for.
    """

    #: What messages call a sample.
    noun = "sample"

    name: str
    content: Content
    rows: Optional[Sequence[int]]
    stored: Any
    labels: Tuple[str, ...]
    targets: torch.Tensor
    multi_label: bool
    size: int

    def __init__(self, name: str, content: Content, rows: Optional[Sequence[int]] = None):
        self.name, self.content, self.rows = name, content, rows
        self.stored, self.labels, self.targets, _ = content
        self.multi_label = self.targets.ndim == 2
        self.size = len(self.targets)
        self.skipped: Tuple[str, ...] = ()
        self.lost: Tuple[str, ...] = ()
        self.unskipped: Optional[Self] = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.size

    def __getitem__(self, index: int) -> Tuple[Any, Target]:
        """Return a sample and its target: a class index, or attributes of 0 and 1, float32 (A,).

        Raises:
            IndexError: If the table has no such row.
            DataError: If the sample is missing or corrupt; the message names split, row and file.
        """
        row = self._row(index)
        # A clone, because callers may change their target in place.
        target = self.targets[row].clone() if self.multi_label else int(self.targets[row])
        return self.sample(row), target

    def sample(self, row: int) -> Any:
        """Return a sample without its target.

        Args:
            row: Row of the table.

        Returns:
            What the kind of table says: an image, a :class:`~se_zoo.data.Footage`, a
            :class:`~se_zoo.data.FaceTrack`.

        Raises:
            DataError: If the sample is missing or corrupt; the message names split, row and file.
        """
        raise NotImplementedError

    def inspect(self, row: int) -> Finding:
        """Decode a sample; an error is returned, not raised.

        Args:
            row: Row of the table.

        Returns:
            The finding.
        """
        raise NotImplementedError

    def inspect_quickly(self, row: int) -> Finding:
        """Decode as little of a sample as shows whether it can be used.

        Args:
            row: Row of the table.

        Returns:
            The finding, without digest.
        """
        return self.inspect(row)

    def where(self, row: int) -> str:
        """Return split, row and file of a sample, for messages.

        Args:
            row: Row of the table.
        """
        stored = self._stored(row)
        file = self.stored.name(stored)
        return f"{self.name}, row {stored}{f' ({file})' if file else ''}"

    def fingerprint(self, split: str) -> Dict[str, str]:
        """Return digests by which a change of the data is noticed.

        Args:
            split: Name of the split.

        Returns:
            Digests of the class names, of the labels of all rows, and of the files: of their
            contents, or for more than 2 GiB of their sizes and times of change.
        """
        if self.unskipped is not None:
            return self.unskipped.fingerprint(split)
        stored = [self._stored(row) for row in range(self.size)]
        return {**self.declared(), "files": self.stored.fingerprint(stored)}

    def declared(self) -> Dict[str, str]:
        """Return digests of what the table says of its rows; no file of a row is opened.

        Returns:
            Digests of the class names, and of the labels of all rows.
        """
        parts = digest_of(self.content.parts) if self.content.parts else ""
        return {
            "class names": digest_of(*self.labels),
            "labels": digest_of(self.targets.numpy().tobytes(), parts),
        }

    def spread(self, count: int) -> Self:
        """Return a table of evenly spaced rows; the first rows may all be of one class.

        Args:
            count: Number of rows.
        """
        return self.of_rows([i * self.size // count for i in range(count)])

    def of_rows(self, chosen: Sequence[int]) -> Self:
        """Return a table of some rows.

        Args:
            chosen: Rows of this table, in the order of the new one.
        """
        content = self.content._replace(targets=self.targets[list(chosen)])
        table = self.with_content(content, [self._stored(row) for row in chosen])
        table.skipped, table.lost = self.skipped, self.lost
        return table

    def restored(self, rows: Optional[Sequence[int]], skipped: Tuple[str, ...]) -> Self:
        """Return the table with the same rows as another process's table.

        Args:
            rows: The other table's ``rows``; None returns this table unchanged.
            skipped: The other table's ``skipped``.
        """
        if rows is None:
            return self
        places = {self._stored(row): row for row in range(len(self))}
        table = self.of_rows([places[row] for row in rows])
        table.skipped = skipped
        return table

    def with_content(self, content: Content, rows: Sequence[int]) -> Self:
        """Return a table of the same kind with other content.

        Args:
            content: The content, with the targets of the rows alone.
            rows: Place of each row in ``content.stored``.
        """
        return type(self)(self.name, content, rows)

    def _stored(self, row: int) -> int:
        """Return the place of a row in ``stored``."""
        return row if self.rows is None else self.rows[row]

    def _row(self, index: int) -> int:
        """Return an index, which may be negative, as a row."""
        if not -self.size <= index < self.size:
            raise IndexError(f"{self.name} has {self.size} rows; there is no row {index}")
        return index % self.size


class ImageTable(Table):
    """Images with targets; ``table[i]`` is an upright RGB image and its target."""

    noun = "image"

    def sample(self, row: int) -> Image.Image:
        """Return an upright RGB image.

        Args:
            row: Row of the table.

        Raises:
            DataError: If the image is missing or corrupt; the message names split, row and file.
        """
        data = self.encoded(row)
        try:
            return read_rgb(io.BytesIO(data))
        except ValueError as error:
            raise DataError(f"{self.where(row)}: {error}") from error

    def encoded(self, row: int) -> bytes:
        """Return the encoded image.

        Args:
            row: Row of the table.

        Returns:
            The bytes of its file.

        Raises:
            DataError: If the image is missing; the message names split, row and file.
        """
        try:
            return self.stored.read(self._stored(row))
        except FileNotFoundError as error:
            raise DataError(f"{self.where(row)}: no such file") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{self.where(row)}: {error}") from error

    def inspect(self, row: int) -> Finding:
        """Decode an image; an error is returned, not raised."""
        try:
            data = self.encoded(row)
            size = read_rgb(io.BytesIO(data)).size
        except DataError as error:
            return Finding(row, error=str(error))
        except ValueError as error:
            return Finding(row, error=f"{self.where(row)}: {error}")
        return Finding(row, hashlib.blake2b(data, digest_size=16).digest(), size)
