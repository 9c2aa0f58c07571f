"""Video files, frame by frame: exactly the frames that are asked for, by their order of showing.

Frames are numbered by their presentation times, which are read from the packets without decoding
them. So a number means the same frame for every way of reading, with B-frames, with variable frame
rates, and after seeking.
"""

import io
from bisect import bisect_right
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple, Union

import numpy as np

from ..errors import DataError

#: Files with these endings, in any case, are videos.
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
)


#: Where a video is: a file, or its bytes.
Source = Union[Path, bytes]
Decoder = Literal["pyav", "torchcodec"]


def is_video(path: Path) -> bool:
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Video:
    """What is known of a video file without decoding it.

    Attributes:
        name: What messages call it.
        source: The file, or its bytes.
        times: Presentation time of every frame, ascending, in units of ``time_base``.
        keyframes: Presentation times from which decoding can start, ascending.
        time_base: Seconds of one unit.
        indexed: Whether the container can be sought in exactly.
    """

    name: str
    source: Source = field(repr=False)
    times: Tuple[int, ...]
    keyframes: Tuple[int, ...]
    time_base: Fraction
    indexed: bool = True

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.times)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        if len(self) < 2 or self.times[-1] == self.times[0]:
            return 25.0  # of a single frame there is none
        return float((len(self) - 1) / ((self.times[-1] - self.times[0]) * self.time_base))

    def seconds(self, frame: int) -> float:
        """When a frame is shown, counted from the first."""
        return float((self.times[frame] - self.times[0]) * self.time_base)


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise DataError('Reading videos needs PyAV: pip install "se_zoo[video]".') from error
    return av


def _open(source: Source) -> Any:
    return _av().open(str(source) if isinstance(source, Path) else io.BytesIO(source))


def open_video(source: Source, name: str = "") -> Video:
    """Number a video's frames.

    Args:
        source: A file, or the bytes of one.
        name: What messages call it; by default the file's path.

    Raises:
        DataError: If PyAV is not installed, the file cannot be read, or it shows no frames.
    """
    av = _av()
    name = name or (str(source) if isinstance(source, Path) else "the video")
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"no such file: {name}")
    times: List[int] = []
    keyframes: List[int] = []
    try:
        with _open(source) as container:
            if not container.streams.video:
                raise DataError(f"{name} has no pictures, only sound.")
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.pts is None or packet.size == 0:
                    continue
                times.append(packet.pts)
                if packet.is_keyframe:
                    keyframes.append(packet.pts)
            base = Fraction(stream.time_base)
            indexed = container.format.name != "mpeg"  # a program stream has no index
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read as a video: {error}") from error
    if not times:
        raise DataError(f"{name} shows no frames.")
    return Video(name, source, tuple(sorted(set(times))), tuple(sorted(keyframes)), base, indexed)


def read_frames(video: Video, indices: Sequence[int], decoder: Decoder = "pyav") -> np.ndarray:
    """Frames by number, upright, as (N, H, W, 3) uint8; a number may occur several times.

    Args:
        video: See :func:`open_video`.
        indices: Numbers of frames, in any order.
        decoder: What decodes; both give the same frames.

    Raises:
        DataError: If a frame cannot be decoded, naming it, or torchcodec cannot be had.
        IndexError: If there is no such frame.
    """
    if not len(indices) or min(indices) < 0 or max(indices) >= len(video):
        raise IndexError(f"{video.name} has frames 0 to {len(video) - 1}, not {list(indices)}.")
    if decoder == "torchcodec":
        return _read_torchcodec(video, indices)
    wanted = sorted(set(indices))
    pictures = _Pictures(video, [video.times[i] for i in wanted])
    _decode(video, _groups(video, pictures.times), pictures)
    if pictures.missing:  # files without an index are sought in by guessing
        _decode(video, [(None, pictures.times)], pictures)
    if pictures.missing:
        first = video.times.index(min(pictures.missing))
        raise DataError(f"{video.name}: frame {first} of {len(video)} cannot be decoded.")
    assert pictures.pixels is not None
    if wanted == list(indices):
        return pictures.pixels
    return pictures.pixels[[wanted.index(i) for i in indices]]


class _Pictures:
    """Decoded pictures by their times, (N, H, W, 3), made in their places: copies of large arrays
    take as long as the decoding of small videos."""

    def __init__(self, video: Video, times: List[int]):
        from av.video.reformatter import VideoReformatter

        self.video, self.times = video, times
        self.missing = set(times)
        self.pixels: Optional[np.ndarray] = None
        self._places = {time: place for place, time in enumerate(times)}
        self._reformatter = VideoReformatter()  # one for all: each sets up its own tables

    def add(self, frame: Any) -> None:
        """Keep a frame, if it is wanted."""
        if frame.pts not in self.missing:
            return
        picture = _upright(self._rgb(frame), getattr(frame, "rotation", 0))
        if self.pixels is None:
            self.pixels = np.empty((len(self.times), *picture.shape), np.uint8)
        if picture.shape != self.pixels.shape[1:]:
            sizes = sorted([picture.shape[:2], self.pixels.shape[1:3]])
            raise DataError(f"{self.video.name} changes its size: {sizes}.")
        self.pixels[self._places[frame.pts]] = picture
        self.missing.discard(frame.pts)

    def _rgb(self, frame: Any) -> np.ndarray:
        """A view of a frame's pixels, (H, W, 3), without the padding of its lines."""
        rgb = self._reformatter.reformat(frame, format="rgb24")
        plane: Any = rgb.planes[0]
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        return lines[: rgb.height, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)


#: A keyframe from which to decode (None: the beginning), and the times that are wanted from there.
Group = Tuple[Optional[int], List[int]]


def _groups(video: Video, times: List[int]) -> List[Group]:
    """Times by the last keyframe before them, so that nothing in between is decoded."""
    if not video.indexed:
        return [(None, times)]
    groups: Dict[Optional[int], List[int]] = {}
    for time in times:
        before = bisect_right(video.keyframes, time)
        groups.setdefault(video.keyframes[before - 1] if before > 1 else None, []).append(time)
    return list(groups.items())


def _decode(video: Video, groups: List[Group], pictures: _Pictures) -> None:
    """Fill in the pictures that are wanted."""
    av = _av()
    try:
        with _open(video.source) as container:
            stream = container.streams.video[0]
            # Decoder threads report through Python: one that waits for the interpreter while the
            # file is being closed waits for ever. Loader processes are what decodes in parallel.
            stream.codec_context.thread_count = 1
            for start, times in groups:
                if start is not None:
                    container.seek(start, stream=stream)
                wanted = set(times)
                for frame in container.decode(stream):
                    pictures.add(frame)
                    wanted.discard(frame.pts)
                    if not wanted or (frame.pts is not None and frame.pts > times[-1]):
                        break
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{video.name} cannot be decoded: {error}") from error


def _read_torchcodec(video: Video, indices: Sequence[int]) -> np.ndarray:
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore
    except (ImportError, RuntimeError) as error:
        raise DataError(_NO_TORCHCODEC) from error
    source = str(video.source) if isinstance(video.source, Path) else video.source
    try:
        decoder = VideoDecoder(
            source, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
        )
        frames = decoder.get_frames_at(list(indices)).data
    except (RuntimeError, ValueError, IndexError) as error:
        if "libtorchcodec" in str(error):  # the package imports without them
            raise DataError(_NO_TORCHCODEC) from error
        raise DataError(f"{video.name} cannot be decoded: {error}") from error
    if len(decoder) != len(video):
        raise DataError(
            f"{video.name}: torchcodec sees {len(decoder)} frames, PyAV {len(video)}; take pyav."
        )
    pictures: np.ndarray = frames.numpy()
    return pictures


_NO_TORCHCODEC = (
    "the decoder torchcodec needs its package (pip install torchcodec) and FFmpeg's libraries "
    "(apt install ffmpeg); pyav needs neither."
)


def _upright(pixels: np.ndarray, rotation: float) -> np.ndarray:
    """A picture as it is meant to be seen: cameras that are held upright write it lying down."""
    turns = round(rotation / 90) % 4
    return np.rot90(pixels, turns) if turns else pixels
