"""A split as a map-style data set of (image, target), whatever its layout on disk."""

import hashlib
import io
from typing import Any, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from PIL import Image
from torch.utils.data import Dataset
from typing_extensions import Self

from ...errors import DataError
from ..images import read_rgb
from .content import Content

Target = Union[int, torch.Tensor]


class Finding(NamedTuple):
    """What came of decoding one sample."""

    row: int
    digest: bytes = b""
    size: Optional[Tuple[int, int]] = None
    """Width and height, upright."""
    error: str = ""
    frames: int = 1
    """Of a video, or of the part of it that is the sample."""


class Table(Dataset[Tuple[Any, Target]]):
    """Samples with targets; may be pickled, so that loader processes of any kind can have it.

    Attributes:
        name: What messages call it.
        labels: Names of the classes or attributes, in the order of the targets.
        multi_label: Whether a target is several yes-or-no answers.
        targets: All of them, long (N,) or float (N, A) of 0 and 1.
        stored: Where the encoded samples are read from.
        rows: Their places in ``stored``; None: all of them.
        skipped: What was left out on the user's wish, and why.
        lost: Classes of which nothing is left since.
    """

    noun = "sample"

    def __init__(self, name: str, content: Content, rows: Optional[Sequence[int]] = None):
        self.name, self.content, self.rows = name, content, rows
        self.stored, self.labels, self.targets, _ = content
        self.multi_label = self.targets.ndim == 2
        self.size = len(self.targets)
        self.skipped: Tuple[str, ...] = ()
        self.lost: Tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tuple[Any, Target]:
        """A sample and its class, or float (A,).

        Raises:
            IndexError: Outside of the table.
            DataError: For a missing or corrupt sample, with split, row and file.
        """
        row = self._row(index)
        # A clone, so that what a caller does to its target stays out of the table.
        target = self.targets[row].clone() if self.multi_label else int(self.targets[row])
        return self.sample(row), target

    def sample(self, row: int) -> Any:
        """A sample without its target.

        Raises:
            DataError: For a missing or corrupt sample, with split, row and file.
        """
        raise NotImplementedError

    def inspect(self, row: int) -> Finding:
        """Decode a sample; what is wrong with it is a finding, not an end."""
        raise NotImplementedError

    def glance(self, row: int) -> Finding:
        """Look at as little of a sample as tells whether it can be used."""
        return self.inspect(row)

    def where(self, row: int) -> str:
        """Split, row and file, for messages."""
        stored = self._stored(row)
        file = self.stored.name(stored)
        return f"{self.name}, row {stored}{f' ({file})' if file else ''}"

    def spread(self, count: int) -> Self:
        """The table of so many rows, evenly spaced: the first ones may be all of one class."""
        return self.of_rows([i * self.size // count for i in range(count)])

    def of_rows(self, chosen: Sequence[int]) -> Self:
        """The table of some of its rows."""
        content = self.content._replace(targets=self.targets[list(chosen)])
        table = self.with_content(content, [self._stored(row) for row in chosen])
        table.skipped, table.lost = self.skipped, self.lost
        return table

    def restored(self, rows: Optional[Sequence[int]], skipped: Tuple[str, ...]) -> Self:
        """The table as another process has it: of these places in ``stored`` (None: all)."""
        if rows is None:
            return self
        places = {self._stored(row): row for row in range(len(self))}
        found = self.of_rows([places[row] for row in rows])
        found.skipped = skipped
        return found

    def with_content(self, content: Content, rows: Sequence[int]) -> Self:
        """Another table of the same kind."""
        return type(self)(self.name, content, rows)

    def _stored(self, row: int) -> int:
        return row if self.rows is None else self.rows[row]

    def _row(self, index: int) -> int:
        if not -self.size <= index < self.size:
            raise IndexError(f"{self.name} has {self.size} rows, there is no row {index}")
        return index % self.size


class ImageTable(Table):
    """Images with targets."""

    noun = "image"

    def sample(self, row: int) -> Image.Image:
        """An upright RGB image."""
        data = self.encoded(row)
        try:
            return read_rgb(io.BytesIO(data))
        except ValueError as error:
            raise DataError(f"{self.where(row)}: {error}") from error

    def encoded(self, row: int) -> bytes:
        """The image as it is stored.

        Raises:
            DataError: If it is missing, with split, row and file.
        """
        try:
            return self.stored.read(self._stored(row))
        except FileNotFoundError as error:
            raise DataError(f"{self.where(row)}: no such file") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{self.where(row)}: {error}") from error

    def inspect(self, row: int) -> Finding:
        try:
            data = self.encoded(row)
            size = read_rgb(io.BytesIO(data)).size
        except DataError as error:
            return Finding(row, error=str(error))
        except ValueError as error:
            return Finding(row, error=f"{self.where(row)}: {error}")
        return Finding(row, hashlib.blake2b(data, digest_size=16).digest(), size)
