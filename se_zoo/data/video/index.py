"""Video files, numbered frame by frame, in the order in which they are shown.

Frames are numbered by their presentation times, which are read from the packets without decoding
them. So a number means the same frame for every way of reading, with B-frames, with variable frame
rates, and after seeking. Where the times cannot be relied on, frames are numbered as a decoder
gives them out, and read that way (:mod:`.frames`).
"""

import io
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, List, Tuple, Union

import numpy as np

from ...errors import DataError

#: Files with these endings, in any case, are videos.
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
)
#: Where a video is: a file, or its bytes.
Source = Union[Path, bytes]
#: Files whose numbers are kept, so that the next epoch need not read all their packets again.
_KEPT = 16_384
#: Frames by which the times of a file are tried.
_TRIED = 16


def is_video(path: Path) -> bool:
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True, eq=False)
class Video:
    """What is known of a video's frames.

    Attributes:
        name: What messages call it.
        source: The file, or its bytes.
        times: Presentation time of every frame, ascending, in units of ``time_base``, int64 (N,).
        keyframes: Presentation times from which decoding can start, ascending.
        time_base: Seconds of one unit.
        counted: Whether the frames are numbered as the decoder gives them out, because their times
            are not to be relied on; reading then starts at the beginning.
    """

    name: str
    source: Source = field(repr=False)
    times: np.ndarray = field(repr=False)
    keyframes: np.ndarray = field(repr=False)
    time_base: Fraction
    counted: bool = False

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.times)

    @property
    def seconds(self) -> np.ndarray:
        """When each frame is shown, counted from the first, float64 (N,)."""
        return (self.times - self.times[0]) * float(self.time_base)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        length = self.seconds[-1]
        return float((len(self) - 1) / length) if length > 0 else 25.0  # of one frame there is none


def pyav() -> Any:
    """The module ``av``.

    Raises:
        DataError: If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DataError('Reading videos needs PyAV: pip install "se_zoo[video]".') from error
    return av


def open_container(source: Source) -> Any:
    """The file, or its bytes, for PyAV."""
    return pyav().open(str(source) if isinstance(source, Path) else io.BytesIO(source))


def video_stream(container: Any) -> Any:
    """A file's pictures, set up to be decoded."""
    stream = container.streams.video[0]
    # Decoder threads report through Python: one that waits for the interpreter while the file is
    # being closed waits for ever. Loader processes are what decodes in parallel.
    stream.codec_context.thread_count = 1
    return stream


def open_video(source: Source, name: str = "") -> Video:
    """Number a video's frames.

    Args:
        source: A file, or the bytes of one.
        name: What messages call it; by default the file's path.

    Raises:
        DataError: If PyAV is not installed, the file cannot be read, or it shows no frames.
    """
    av = pyav()
    name = name or (str(source) if isinstance(source, Path) else "the video")
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"no such file: {name}")
    try:
        if isinstance(source, Path):
            known = source.stat()
            times, keyframes, base, counted = _of_file(source, known.st_mtime_ns, known.st_size)
        else:
            times, keyframes, base, counted = _number(source)
    except _NothingToSee as error:
        raise DataError(f"{name} {error}") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read as a video: {error}") from error
    return Video(name, source, times, keyframes, base, counted)


_Numbers = Tuple[np.ndarray, np.ndarray, Fraction, bool]


class _NothingToSee(Exception):
    """A file that can be read and shows nothing."""


@lru_cache(maxsize=_KEPT)
def _of_file(path: Path, _changed: int, _size: int) -> _Numbers:
    return _number(path)


def _number(source: Source) -> _Numbers:
    """Times, keyframes, time base, and whether they were counted."""
    times: List[int] = []
    keyframes: List[int] = []
    reliable = True
    with open_container(source) as container:
        if not container.streams.video:
            raise _NothingToSee("has no pictures, only sound.")
        stream = container.streams.video[0]
        base = Fraction(stream.time_base)
        for packet in container.demux(stream):
            cut_off = getattr(packet, "is_discard", False)  # by an edit list
            if packet.size == 0 or cut_off:  # an empty one is the end
                continue
            if packet.pts is None:
                reliable = False
                continue
            times.append(packet.pts)
            if packet.is_keyframe:
                keyframes.append(packet.pts)
        # AVI has no times of showing: FFmpeg makes them up in the order of storing, and files that
        # were copied from one carry these on. A program stream has no index, so seeking in it is
        # guessing.
        reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
        unsorted = len(set(times)) < len(times) or not keyframes or min(times) < min(keyframes)
        reliable = reliable and not (reordered or unsorted) and not _shown_otherwise(source, times)
        if reliable:
            guessing = container.format.name == "mpeg"
            ascending = np.sort(np.array(times, dtype=np.int64))
            starts = ascending[:1] if guessing else np.sort(np.array(keyframes, dtype=np.int64))
            return ascending, starts, base, False
    return _count(source, base)


def _shown_otherwise(source: Source, times: List[int]) -> bool:
    """Whether the first pictures that a decoder gives out have other times than the first packets:
    then the times are not those of showing."""
    expected = sorted(times)[:_TRIED]
    found: List[Any] = []
    with open_container(source) as container:
        stream = video_stream(container)
        if not stream.codec_context.has_b_frames:
            return False
        try:
            for frame in container.decode(stream):
                found.append(frame.pts)
                if len(found) == len(expected):
                    break
        except pyav().FFmpegError:
            return False  # damage is another matter, and said where frames are read
    return found != expected


def _count(source: Source, base: Fraction) -> _Numbers:
    """The frames as a decoder gives them out: all of them are decoded."""
    found: List[int] = []
    with open_container(source) as container:
        stream = video_stream(container)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        for frame in container.decode(stream):
            found.append(frame.pts if frame.pts is not None else -1)
    if not found:
        raise _NothingToSee("shows no frames.")
    times = np.array(found, dtype=np.int64)
    if len(times) > 1 and np.diff(times).min() <= 0:  # of no use: as many a second as it says
        steps = np.round(np.arange(len(times)) / float(rate * base)).astype(np.int64)
        times = max(0, found[0]) + steps
    return times, times[:1], base, True
