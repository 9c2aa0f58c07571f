"""The frames of a video file, numbered in the order in which they are shown.

Frames are numbered by their presentation times, which are read from the packets without decoding
them. A number therefore means the same frame for every way of reading: with B-frames, with variable
frame rates, and after seeking. Where the times are unreliable, frames are numbered in the order in
which a decoder returns them, and are read in that order (:mod:`.frames`).
"""

import io
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, List, Optional, Tuple, Union

import numpy as np

from ...errors import DataError
from ...files import check_regular
from ..images import MAX_PIXELS, check_size

#: Files with these endings, in any case, are videos.
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".vob", ".ts",
     ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".ogv", ".3gp", ".3g2")
)  # fmt: skip
#: FFmpeg's names of the container formats that are read, whatever a file's ending: those of
#: VIDEO_SUFFIXES, and of files with sound alone.
FORMATS = ("mov", "mp4", "matroska", "webm", "avi", "mpeg", "mpegts", "mpegvideo", "m4v", "asf",
           "flv", "ogg", "wav", "w64", "mp3", "flac", "aac", "aiff")  # fmt: skip
#: A video: a file, or its bytes.
Source = Union[Path, bytes]
#: Files whose index stays in memory, so that the next epoch need not read their packets again.
_CACHED_FILES = 16_384
#: Frames that are decoded to compare their times with those of the packets.
_COMPARED_FRAMES = 16
#: Share of the frames whose times are changed so that they ascend, up to which the others count.
_MOST_WRONG = 0.1


def is_video(path: Path) -> bool:
    """Return whether a file's name has the ending of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True, eq=False)
class Video:
    """A video with numbered frames, none of them decoded.

    Attributes:
        name: The video's name in messages.
        source: The file, or its bytes.
        times: Presentation time of every frame, ascending, in units of ``time_base``, int64 (N,).
        keyframes: Presentation times at which decoding can start, ascending.
        time_base: Length of one unit of time, in seconds.
        counted: Whether frames are numbered in the order in which the decoder returns them, because
            their times are unreliable. Reading then starts at the beginning of the file.
        stream: Number of the pictures' stream among all streams of the file.
        pixel_aspect: How many times as wide as high the pixels are to be shown, before the picture
            is turned. Discs and tapes have such pixels; frames are read as they are stored.
    """

    name: str
    source: Source = field(repr=False)
    times: np.ndarray = field(repr=False)
    keyframes: np.ndarray = field(repr=False)
    time_base: Fraction
    counted: bool = False
    stream: int = 0
    pixel_aspect: Fraction = Fraction(1)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.times)

    @property
    def seconds(self) -> np.ndarray:
        """Return the time of each frame in seconds after the first frame, float64 (N,)."""
        return (self.times - self.times[0]) * float(self.time_base)

    @property
    def fps(self) -> float:
        """Return the average number of frames per second; 25 for a single frame."""
        length = self.seconds[-1]
        return float((len(self) - 1) / length) if length > 0 else 25.0


def pyav() -> Any:
    """Return the module ``av``.

    Raises:
        DataError: If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DataError(
            'PyAV, which reads videos, is not installed: pip install "se_zoo[video]".'
        ) from error
    return av


def open_container(source: Source) -> Any:
    """Open a file, or its bytes, with PyAV.

    The content decides on the format, and only those of FORMATS are opened: FFmpeg also knows
    playlists and other texts that name further files and addresses.

    Raises:
        OSError: If it is no regular file, or FFmpeg cannot open it.
    """
    if isinstance(source, Path):
        check_regular(source)
    allowed = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    file = str(source) if isinstance(source, Path) else io.BytesIO(source)
    return pyav().open(file, options=allowed)


def video_stream(container: Any) -> Any:
    """Return a file's first video stream, set up for decoding in one thread.

    The cover of a song, which FFmpeg lists as a video stream, is none.

    Raises:
        ValueError: If there is none, or its pictures are too large or in an unknown codec.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise ValueError("it has no pictures")
    stream = streams[0]
    if stream.codec_context is None:
        raise ValueError("its pictures are in an unknown codec")
    check_size(stream.codec_context.width, stream.codec_context.height)
    # PyAV can deadlock when a file is closed while a decoder thread waits for the interpreter.
    # Loader processes decode in parallel instead.
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # a header may be wrong
    return stream


def _is_cover(stream: Any) -> bool:
    kind = getattr(stream, "disposition", None)  # old versions of PyAV do not know it
    return kind is not None and bool(kind & type(kind).attached_pic)


def pixel_aspect(stream: Any) -> Fraction:
    """Return how many times as wide as high the pixels of a video stream are to be shown."""
    return Fraction(stream.sample_aspect_ratio or 1)


def open_video(source: Source, name: str = "") -> Video:
    """Read the times of a video's frames, which number them.

    Args:
        source: The file, or its bytes.
        name: The video's name in messages; by default the file's path.

    Returns:
        The video; no frame of it is kept in memory.

    Raises:
        DataError: If PyAV is not installed, or the file does not exist, cannot be read, or has no
            frames.
    """
    av = pyav()
    name = name or (str(source) if isinstance(source, Path) else "the video")
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"no such file: {name}")
    try:
        if isinstance(source, Path):
            known = source.stat()
            found = index_file(source, known.st_mtime_ns, known.st_size)
        else:
            found = _index(source)
    except _NoFrames as error:
        raise DataError(f"{name} {error}") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read as a video: {error}") from error
    return Video(name, source, *found)


#: All of a :class:`Video` behind its source.
_Index = Tuple[np.ndarray, np.ndarray, Fraction, bool, int, Fraction]


class _NoFrames(Exception):
    """The file can be read, but has no frames."""


@lru_cache(maxsize=_CACHED_FILES)
def index_file(path: Path, _changed: int, _size: int) -> _Index:
    """Index a file; modification time and size are part of the cache's key."""
    return _index(path)


def _index(source: Source) -> _Index:
    times: List[int] = []
    keyframes: List[int] = []
    reliable = True
    with open_container(source) as container:
        if all(map(_is_cover, container.streams.video)):
            raise _NoFrames("has only sound, no pictures.")
        stream = video_stream(container)
        base = Fraction(stream.time_base)
        for packet in container.demux(stream):
            discarded = getattr(packet, "is_discard", False)  # cut off by an edit list
            if packet.size == 0 or discarded:  # an empty packet marks the end
                continue
            if packet.pts is None:
                reliable = False
                continue
            times.append(packet.pts)
            if packet.is_keyframe:
                keyframes.append(packet.pts)
        # AVI stores no presentation times. FFmpeg invents them in the order of storing, and keeps
        # them in files that are copied from an AVI.
        reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
        unsorted = len(set(times)) < len(times) or not keyframes or min(times) < min(keyframes)
        reliable = reliable and not (reordered or unsorted) and not _times_differ(source, times)
        if reliable:
            # A program stream has no index, so seeking in it is imprecise: start at the beginning.
            imprecise = container.format.name == "mpeg"
            ascending = np.sort(np.array(times, dtype=np.int64))
            starts = ascending[:1] if imprecise else np.sort(np.array(keyframes, dtype=np.int64))
            return ascending, starts, base, False, stream.index, pixel_aspect(stream)
    return _index_by_decoding(source, base)


def _times_differ(source: Source, times: List[int]) -> bool:
    """Return whether the first decoded frames have other times than the first packets.

    If they do, the times of the packets are not presentation times.
    """
    expected = sorted(times)[:_COMPARED_FRAMES]
    decoded: List[Any] = []
    with open_container(source) as container:
        stream = video_stream(container)
        if not stream.codec_context.has_b_frames:
            return False
        try:
            for frame in container.decode(stream):
                decoded.append(frame.pts)
                if len(decoded) == len(expected):
                    break
        except pyav().FFmpegError:
            return False  # the file is damaged; reading its frames reports that
    return decoded != expected


def _index_by_decoding(source: Source, base: Fraction) -> _Index:
    """Decode all frames and number them in the decoder's order."""
    decoded: List[int] = []
    known = True
    with open_container(source) as container:
        stream = video_stream(container)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        place = stream.index, pixel_aspect(stream)
        for frame in container.decode(stream):
            known = known and frame.pts is not None
            decoded.append(frame.pts if frame.pts is not None else -1)
    if not decoded:
        raise _NoFrames("has no frames.")
    times = np.array(decoded, dtype=np.int64)
    if len(times) > 1 and np.diff(times).min() <= 0:
        mended = _ascending(times) if known else None
        if mended is None:  # unusable: space them by the frame rate
            steps = np.round(np.arange(len(times)) / float(rate * base)).astype(np.int64)
            mended = max(0, decoded[0]) + steps
        times = mended
    return times, times[:1], base, True, *place


def _ascending(times: np.ndarray) -> Optional[np.ndarray]:
    """Return times of which few do not ascend so that all do; the others stay as they are.

    A repeated time becomes the smallest unit later. Cameras and browsers of variable frame rate
    write such times; if all frames were spaced evenly instead, they would leave their sound.

    Args:
        times: Times of two or more frames in the decoder's order, int64 (N,).

    Returns:
        Ascending times, int64 (N,); None if more than a tenth of them would change, or one by more
        than the usual distance of frames, as where the clock starts again.
    """
    places, steps = np.arange(len(times)), np.diff(times)
    ascending: np.ndarray = np.maximum.accumulate(times - places) + places
    changes, usual = ascending - times, np.median(steps[steps > 0]) if steps.max() > 0 else 0
    few = (changes > 0).mean() <= _MOST_WRONG
    return ascending if few and changes.max() <= usual else None
