"""Read a running video: its frames at 25 a second, each with the sound of its time."""

import sys
from collections import deque
from pathlib import Path
from typing import Any, Deque, Iterator, List, Optional, Tuple

import numpy as np

from ..data.faces.mfcc import RATE
from ..data.faces.sound import SoundAligner
from ..data.video.frames import Rgb
from ..data.video.index import FORMATS, pyav, video_stream
from ..errors import DataError
from .face_filter import FPS

#: Frames that wait for their sound at most; then it counts as silence.
_PATIENCE = 2 * FPS
_SAMPLES = RATE // FPS


def read_running(source: str, audio: int = 0) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Read a video once, from its beginning to its end, as it comes.

    Args:
        source: A file, a pipe, or ``-`` for the standard input.
        audio: Number of the sound track, from 0.

    Yields:
        A frame, (H, W, 3) uint8 RGB, and 640 samples, int16 at 16 kHz.

    Raises:
        DataError: If it cannot be read, or has no pictures or no such sound.
    """
    av = pyav()
    try:
        file: Any = sys.stdin.buffer if source == "-" else Path(source).open("rb")
        # FFmpeg also knows playlists, which name further files and addresses.
        allowed = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
        with file, av.open(file, options=allowed) as container:
            if audio >= len(container.streams.audio):
                raise DataError(
                    f"{source} has {len(container.streams.audio)} sound tracks; --audio {audio} "
                    "is none of them."
                )
            streams = (video_stream(container), container.streams.audio[audio])
            joined = _Joined()
            for packet in container.demux(*streams):
                for frame in packet.decode():
                    add = joined.add_picture if packet.stream is streams[0] else joined.add_sound
                    add(frame)
                yield from joined.ready()
            yield from joined.rest()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{source} cannot be read: {error}") from error


class _Joined:
    """Pictures at 25 a second, by the frames nearest in time, and the sound of each."""

    def __init__(self) -> None:
        self.rgb = Rgb()
        self.waiting: Deque[np.ndarray] = deque()  # pictures whose sound may still come
        self.early: List[Any] = []  # sound before the first picture
        self.sound: Optional[SoundAligner] = None
        self.samples = np.zeros(0, np.int16)
        self.late = 0  # samples to drop: silence was taken for them
        self.last: Optional[Tuple[float, np.ndarray]] = None
        self.ticks = 0
        self.step = 1 / FPS

    def add_picture(self, frame: Any) -> None:
        picture = self.rgb.upright(frame).copy()
        if self.sound is None:
            self.sound = SoundAligner(float(frame.time or 0.0), "s16", "mono", RATE)
            for early in self.early:
                self.add_sound(early)
        time = (
            self.last[0] + self.step if frame.time is None and self.last is not None
            else float(frame.time or 0.0) - self.sound.begins
        )  # fmt: skip
        if self.last is not None:
            self.step = max(0.0, time - self.last[0]) or self.step
            self._until((self.last[0] + time) / 2)
        self.last = (time, picture)

    def _until(self, time: float) -> None:
        """Show the last picture at all ticks before a time."""
        while self.last is not None and self.ticks / FPS < time:
            self.waiting.append(self.last[1])
            self.ticks += 1

    def add_sound(self, frame: Any) -> None:
        if self.sound is None:
            self.early.append(frame)
            return
        for part in self.sound.add(frame):
            samples = part[0][self.late :]
            self.late -= part.shape[1] - len(samples)
            self.samples = np.concatenate([self.samples, samples])

    def ready(self) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield the frames whose sound is there, or has not come for too long."""
        while self.waiting and (len(self.samples) >= _SAMPLES or len(self.waiting) > _PATIENCE):
            yield self._next()

    def rest(self) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield all frames that are left."""
        if self.last is not None:
            self._until(self.last[0] + self.step / 2)
        while self.waiting:
            yield self._next()

    def _next(self) -> Tuple[np.ndarray, np.ndarray]:
        samples, self.samples = self.samples[:_SAMPLES], self.samples[_SAMPLES:]
        lacking = _SAMPLES - len(samples)
        self.late += lacking
        return self.waiting.popleft(), np.pad(samples, (0, lacking))
