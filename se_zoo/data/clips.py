"""Tables of videos: a sample is a video, or a part of one, that is not decoded yet.

Which of its frames make a clip (:mod:`.sampling`) depends on the model and, in training, on random
numbers, so it is settled by whoever reads the sample, and only those frames are decoded.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..errors import DataError
from .config import ClipDataConfig
from .sampling import at_rate
from .sources import Content
from .tables import Finding, Table
from .videos import Decoder, Video, open_video, read_frames

#: Frames that are decoded at a time where all are looked at.
CHUNK = 64


@dataclass(frozen=True)
class Footage:
    """A video, or a part of one.

    Attributes:
        video: The whole.
        first: Its first frame that belongs to the part.
        count: Frames of the part, at least one.
        crop: x0 y0 x1 y1 in pixels that are cut out of every frame.
        decoder: What decodes.
    """

    video: Video
    first: int
    count: int
    crop: Optional[Tuple[int, int, int, int]] = None
    decoder: Decoder = "pyav"

    def at_rate(self, fps: Optional[float]) -> List[int]:
        """Numbers of its frames, as if the video had ``fps`` a second; None: all."""
        seconds = [self.video.seconds(i) for i in range(self.first, self.first + self.count)]
        return [self.first + place for place in at_rate(seconds, fps)]

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """Frames by their numbers in the video, upright, as (N, H, W, 3) uint8.

        Raises:
            DataError: If a frame cannot be decoded, or the crop is not inside.
        """
        frames = read_frames(self.video, numbers, self.decoder)
        if self.crop is None:
            return frames
        x0, y0, x1, y1 = self.crop
        height, width = frames.shape[1:3]
        if x1 > width or y1 > height:
            raise DataError(
                f"{self.video.name} has {width} x {height} pixels: the crop {x0} {y0} {x1} {y1} is "
                "not inside."
            )
        return frames[:, y0:y1, x0:x1]


class ClipTable(Table):
    """Videos with targets; ``table[i]`` is a :class:`Footage` and its target."""

    noun = "video"

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
        return ClipTable(self.name, content, self.config, rows)

    def sample(self, row: int) -> Footage:
        """A video whose frames are numbered, and not decoded yet.

        Raises:
            DataError: If it is missing, unreadable, too short, or ends before its part begins.
        """
        stored, where = self._stored(row), self.where(row)
        try:
            source = self.stored.source(stored)
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
                f"{where} has {count} frames, less than min_frames ({self.config.min_frames})."
            )
        return Footage(video, first, count, self.config.crop, self.config.decoder)

    def _part(self, video: Video, start: float, end: float) -> Tuple[int, int]:
        """First frame and number of frames that are shown in [start, end) seconds."""
        # Half a millisecond: files round times to it, and tables are written in decimals.
        seconds = np.array([video.seconds(i) for i in range(len(video))]) + 5e-4
        first, after = np.searchsorted(seconds, [start, end]).tolist()
        if after <= first:
            raise DataError(
                f"{video.name} is {seconds[-1]:.2f} seconds long and shows no frame from second "
                f"{start} to {end}."
            )
        return first, after - first

    def inspect(self, row: int) -> Finding:
        """Decode all frames of a sample."""
        try:
            footage = self.sample(row)
            height, width = _decode_all(footage)
            source = footage.video.source
            data = source.read_bytes() if isinstance(source, Path) else source
        except (DataError, OSError) as error:
            return Finding(row, error=str(error))
        part = f"{footage.first} {footage.count}".encode()  # two parts of a file are no double
        digest = hashlib.blake2b(data + part, digest_size=16).digest()
        return Finding(row, digest, (width, height), frames=footage.count)

    def glance(self, row: int) -> Finding:
        """Look at a sample's packets and decode its first and last frame."""
        try:
            footage = self.sample(row)
            footage.read([footage.first, footage.first + footage.count - 1])
        except DataError as error:
            return Finding(row, error=str(error))
        return Finding(row, frames=footage.count)


def _decode_all(footage: Footage) -> Tuple[int, int]:
    """Height and width; some frames at a time, so that a long video needs no more memory."""
    last = footage.first + footage.count
    shape = (0, 0)
    for begin in range(footage.first, last, CHUNK):
        frames = footage.read(range(begin, min(begin + CHUNK, last)))
        shape = frames.shape[1:3]
    return shape
