"""Tables of videos; a sample is a video, or a part of one, that is not decoded yet.

Whoever reads a sample chooses its frames (:mod:`se_zoo.data.video.sampling`), because the choice
depends on the model and, in training, on random numbers. Only these frames are decoded.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ...errors import DataError
from ..config import ClipDataConfig
from ..video.frames import Decoder, each_frame, inspect_frames, read_frames
from ..video.index import Video, open_video
from ..video.sampling import at_rate
from .content import Content
from .table import Finding, Table


@dataclass(frozen=True)
class Footage:
    """A video, or a part of one.

    Attributes:
        video: The whole video.
        first: First frame of the part.
        count: Number of frames of the part, at least one.
        crop: x0, y0, x1, y1 in pixels, cut out of every frame; None keeps whole frames.
        decoder: The decoding library.
    """

    video: Video
    first: int
    count: int
    crop: Optional[Tuple[int, int, int, int]] = None
    decoder: Decoder = "pyav"

    def at_rate(self, fps: Optional[float]) -> List[int]:
        """Return the frames of the part, resampled to another frame rate.

        Args:
            fps: Frames per second; None returns every frame.

        Returns:
            Frame numbers in the video, ascending; they repeat if the video has fewer frames per
            second.
        """
        if fps is None:
            return list(range(self.first, self.first + self.count))
        seconds = self.video.seconds[self.first : self.first + self.count]
        return [self.first + place for place in at_rate(seconds, fps, self.video.name)]

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """Decode frames.

        Args:
            numbers: Frame numbers in the video, in any order.

        Returns:
            Upright RGB frames, cropped, (N, H, W, 3) uint8.

        Raises:
            DataError: If a frame cannot be decoded, or the crop reaches outside the frame.
        """
        frames = read_frames(self.video, numbers, self.decoder)
        return frames if self.crop is None else self._cut(frames)

    def blocks(self, numbers: Sequence[int], most: int = 32) -> Iterator[np.ndarray]:
        """Decode frames block by block, for lists of frames that would fill the memory.

        Args:
            numbers: Frame numbers in the video, ascending, each once.
            most: Frames of a block.

        Yields:
            Upright RGB frames, cropped, (N, H, W, 3) uint8.

        Raises:
            DataError: If a frame cannot be decoded, or the crop reaches outside the frame.
        """
        frames = each_frame(self.video, numbers, self.decoder)
        for first in frames:
            block = np.stack([first.copy(), *(f.copy() for f in islice(frames, most - 1))])
            yield block if self.crop is None else self._cut(block)

    def _cut(self, frames: np.ndarray) -> np.ndarray:
        assert self.crop is not None
        x0, y0, x1, y1 = self.crop
        height, width = frames.shape[1:3]
        if x1 > width or y1 > height:
            raise DataError(
                f"the crop {x0} {y0} {x1} {y1} reaches outside {self.video.name}, which has "
                f"{width} x {height} pixels."
            )
        return frames[:, y0:y1, x0:x1]


class ClipTable(Table):
    """Videos with targets; ``table[i]`` is a :class:`Footage` and its target."""

    noun = "video"

    config: ClipDataConfig

    def __init__(
        self,
        name: str,
        content: Content,
        config: ClipDataConfig,
        rows: Optional[Sequence[int]] = None,
    ):
        super().__init__(name, content, rows)
        self.config = config

    def with_content(self, content: Content, rows: Sequence[int]) -> "ClipTable":
        """Return a table of the same kind with other content."""
        return ClipTable(self.name, content, self.config, rows)

    def sample(self, row: int) -> Footage:
        """Return a video with numbered frames, none of them decoded.

        Raises:
            DataError: If the video is missing, unreadable or too short, or ends before its part
                begins.
        """
        stored, where = self._stored(row), self.where(row)
        try:
            source = self.stored.source(stored)
        except FileNotFoundError as error:
            raise DataError(f"{where}: no such file") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{where}: {error}") from error
        if isinstance(source, Path) and not source.is_file():
            raise DataError(f"{where}: no such file")
        video = open_video(source, where)
        first, count = 0, len(video)
        if self.content.parts is not None:
            first, count = self._part(video, *self.content.parts[stored])
        if count < self.config.min_frames:
            raise DataError(
                f"{where} has {count} frames, fewer than min_frames ({self.config.min_frames})."
            )
        return Footage(video, first, count, self.config.crop, self.config.decoder)

    def _part(self, video: Video, start: float, end: float) -> Tuple[int, int]:
        """Return first frame and number of frames that are shown in [start, end) seconds."""
        # Times in files and tables are rounded, by at most half a millisecond.
        seconds = video.seconds + 5e-4
        first, after = np.searchsorted(seconds, [start, end]).tolist()
        if after <= first:
            raise DataError(
                f"{video.name} is {seconds[-1]:.2f} seconds long; it has no frame from second "
                f"{start} to {end}. Correct start and end."
            )
        return first, after - first

    def inspect(self, row: int) -> Finding:
        """Decode all frames of a sample strictly, so that damage is not concealed."""
        try:
            footage = self.sample(row)
            height, width = inspect_frames(footage.video, footage.first, footage.count)
            if footage.crop is not None:
                footage.read([footage.first])  # raises if the crop reaches outside
            digest = _digest(footage)
        except (DataError, OSError) as error:
            return Finding(row, error=str(error))
        return Finding(row, digest, (width, height), frames=footage.count)

    def inspect_quickly(self, row: int) -> Finding:
        """Read a sample's packets and decode its first and last frame."""
        try:
            footage = self.sample(row)
            footage.read([footage.first, footage.first + footage.count - 1])
        except DataError as error:
            return Finding(row, error=str(error))
        return Finding(row, frames=footage.count)


def _digest(footage: Footage) -> bytes:
    """Return a hash of the file and of the part, as two parts of a file are not duplicates."""
    part, source = f"{footage.first} {footage.count}".encode(), footage.video.source
    if isinstance(source, bytes):
        return hashlib.blake2b(source + part, digest_size=16).digest()
    known = source.stat()
    file = _file_digest(source, known.st_mtime_ns, known.st_size)
    return hashlib.blake2b(file + part, digest_size=16).digest()


@lru_cache(maxsize=1024)
def _file_digest(path: Path, _changed: int, _size: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.digest()
