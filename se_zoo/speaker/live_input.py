"""Read a running video: its frames at 25 a second, each with the sound of its time."""

import sys
from collections import deque
from pathlib import Path
from typing import Any, Callable, Deque, Iterator, List, Optional, Tuple

import numpy as np

from ..data.faces.mfcc import RATE
from ..data.faces.sound import LONGEST_GAP, Channels, SoundAligner, SoundTrack, sound_kind
from ..data.video.frames import Rgb
from ..data.video.index import FORMATS, pyav, video_stream
from ..errors import DataError
from .face_filter import FPS

#: Frames that wait for their sound at most; then it counts as silence.
_PATIENCE = 2 * FPS
_SAMPLES = RATE // FPS


def read_running(
    source: str, audio: int = 0, said: Callable[[str], Any] = lambda text: None
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Read a video once, from its beginning to its end, as it comes.

    Packets that are damaged are left out. If the two channels of the sound cancel each other, the
    left one is taken, from when this is heard.

    Args:
        source: A file, a pipe, or ``-`` for the standard input.
        audio: Number of the sound track, from 0.
        said: Called with what a user should know: which sound is taken, and what is damaged.

    Yields:
        A frame, (H, W, 3) uint8 RGB, and 640 samples, int16 at 16 kHz.

    Raises:
        DataError: If it cannot be read, or has no pictures or no such sound.
    """
    av = pyav()
    damaged = left = missed = False
    try:
        # FFmpeg also knows playlists, which name further files and addresses.
        allowed = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
        with _opened(source) as file, av.open(file, options=allowed) as container:
            streams = (video_stream(container), _sound_stream(container, source, audio))
            count, kind = len(container.streams.audio), sound_kind(streams[1])
            said(str(SoundTrack(audio, count, kind, silent=False, cancels=False)))
            joined = _Joined(two=streams[1].layout.nb_channels == 2)
            for packet in container.demux(*streams):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError as error:
                    if not damaged:
                        said(f"{source} is damaged in parts, which are left out: {error}")
                    damaged = True
                    continue
                for frame in frames:
                    add = joined.add_picture if packet.stream is streams[0] else joined.add_sound
                    add(frame)
                if joined.left and not left:
                    said(str(SoundTrack(audio, count, kind, silent=False, cancels=True)))
                    left = True
                yield from joined.ready()
                if joined.missed and not missed:
                    said(f"the sound of {source} ends, or comes too late: it counts as silence")
                    missed = True
            if joined.last is None:
                raise DataError(f"{source} has no pictures that can be decoded.")
            yield from joined.rest()
    except DataError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{source} cannot be read: {error}") from error


def _opened(source: str) -> Any:
    """Open a file, a pipe or the standard input, unbuffered.

    A buffer would wait until it is full, for seconds of a video of few bits.
    """
    if source == "-":
        return getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return Path(source).open("rb", buffering=0)


def _sound_stream(container: Any, source: str, audio: int) -> Any:
    """Return a sound track of an open file; refuse a number that it has not."""
    found = container.streams.audio
    if not 0 <= audio < len(found):
        raise DataError(f"{source} has {len(found)} sound tracks; --audio {audio} is none of them.")
    if found[audio].codec_context is None:
        raise DataError(f"the sound of {source} is in an unknown codec.")
    return found[audio]


class _Joined:
    """Pictures at 25 a second, by the frames nearest in time, and the sound of each.

    Args:
        two: Whether the sound has two channels.
    """

    def __init__(self, two: bool = False) -> None:
        self.rgb = Rgb()
        self.waiting: Deque[np.ndarray] = deque()  # pictures whose sound may still come
        self.early: List[Any] = []  # sound before the first picture
        self.channels = Channels() if two else None
        self.left = False  # whether the left channel is taken alone
        self.begins = 0.0  # time of the first picture on the clock of the file
        self.sound: Optional[SoundAligner] = None
        self.samples = np.zeros(0, np.int16)
        self.late = 0  # samples to drop: silence was taken for them
        self.missed = False  # whether frames did not wait for their sound any more
        self.last: Optional[Tuple[float, np.ndarray]] = None
        self.ticks = 0
        self.step = 1 / FPS

    def add_picture(self, frame: Any) -> None:
        picture = self.rgb.upright(frame).copy()
        if self.sound is None:
            self.begins = float(frame.time or 0.0)
            kind = ("s16", "mono") if self.channels is None else ("s16p", "stereo")
            self.sound = SoundAligner(self.begins, *kind, RATE)
            for early in self.early:
                self.add_sound(early)
            self.early = []
        time = self._time(frame)
        if self.last is not None:
            self.step = max(0.0, time - self.last[0]) or self.step
            self._until((self.last[0] + time) / 2)
        self.last = (time, picture)

    def _time(self, frame: Any) -> float:
        """Return the time of a picture, in seconds after the first one.

        Raises:
            ValueError: If it is more than LONGEST_GAP after the last one.
        """
        after = 0.0 if self.last is None else self.last[0] + self.step
        if frame.time is None:
            return after
        if self.last is not None and frame.time - self.begins < self.last[0] - 1:
            self.begins = frame.time - after  # another recording, whose clock starts again
        time = float(frame.time) - self.begins
        if time - after > LONGEST_GAP:  # the last picture would be repeated until memory is full
            raise ValueError(
                f"its time stamps leave out {(time - after) / 3600:,.0f} hours; start it again"
            )
        return time

    def _until(self, time: float) -> None:
        """Show the last picture at all ticks before a time."""
        while self.last is not None and self.ticks / FPS < time:
            self.waiting.append(self.last[1])
            self.ticks += 1

    def add_sound(self, frame: Any) -> None:
        if self.sound is None:
            self.early.append(frame)
            return
        heard = [self.samples]
        for part in self.sound.add(frame):
            samples = self._mixed(part)[self.late :]
            self.late -= part.shape[1] - len(samples)
            heard.append(samples)
        self.samples = np.concatenate(heard)

    def _mixed(self, part: np.ndarray) -> np.ndarray:
        """Return one channel, (N,): the mean of two, or the left one if they cancel each other."""
        if self.channels is None:
            return part[0]
        if not self.channels.known:
            self.channels.add(part)
            self.left = self.channels.cancel
        if self.left:
            return part[0]
        return np.rint(part.mean(0)).astype(np.int16)

    def ready(self) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield the frames whose sound is there, or has not come for too long."""
        while self.waiting and (len(self.samples) >= _SAMPLES or len(self.waiting) > _PATIENCE):
            self.missed = self.missed or len(self.samples) < _SAMPLES
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
