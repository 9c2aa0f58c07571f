"""A video's frames at the rate that speaker models know."""

from pathlib import Path
from typing import Iterator, List

import numpy as np

from ..data.video.frames import each_frame
from ..data.video.index import Video, open_video
from ..data.video.sampling import at_rate
from .tracker import FPS


class Pictures:
    """A video as if it had 25 frames a second; decoded anew by every loop, one frame in memory.

    Args:
        path: The file.

    Raises:
        DataError: If it cannot be read.
    """

    def __init__(self, path: Path):
        self.video: Video = open_video(path)
        self.numbers: List[int] = at_rate(self.video.seconds, FPS)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[np.ndarray]:
        distinct = sorted(set(self.numbers))
        decoded = iter(each_frame(self.video, distinct))
        current, picture = -1, np.zeros(0)
        for number in self.numbers:  # they repeat where the video has fewer frames a second
            if number != current:
                current, picture = number, next(decoded)
            yield picture

    @property
    def begins(self) -> float:
        """When the first frame is shown, in seconds of the file."""
        return float(self.video.times[0] * self.video.time_base)
