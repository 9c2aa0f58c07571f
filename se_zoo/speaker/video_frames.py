"""A video's frames at the rate of speaker models."""

from pathlib import Path
from typing import Iterator, List

import numpy as np

from ..data.video.frames import each_frame
from ..data.video.index import Video, open_video
from ..data.video.sampling import at_rate
from .face_filter import FPS


class Pictures:
    """The frames of a video, resampled to 25 per second.

    Every iteration decodes the video again and keeps one frame in memory.

    Args:
        path: The file.
        name: The video's name in messages; by default its path.

    Raises:
        DataError: If it cannot be read.
    """

    def __init__(self, path: Path, name: str = ""):
        self.video: Video = open_video(path, name)
        self.numbers: List[int] = at_rate(self.video.seconds, FPS, self.video.name)

    def __len__(self) -> int:
        """Return the number of frames at 25 per second."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode the frames, upright RGB, (H, W, 3) uint8."""
        distinct = sorted(set(self.numbers))
        decoded = iter(each_frame(self.video, distinct))
        current, picture = -1, np.zeros(0)
        for number in self.numbers:  # repeated if the video has a lower rate
            if number != current:
                current, picture = number, next(decoded)
            yield picture

    @property
    def begins(self) -> float:
        """Return the time at which the first frame is shown, in seconds of the file."""
        return float(self.video.times[0] * self.video.time_base)
