"""Video files, frame by frame: exactly the frames that are asked for, by their order of showing.

Frames are numbered by their presentation times, which are read from the packets without decoding
them. So a number means the same frame for every way of reading, with B-frames, with variable frame
rates, and after seeking.
"""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..errors import DataError

#: File name endings that are taken for videos.
SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".avi",
    ".mkv",
    ".webm",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".3gp",
)


def is_video(path: Path) -> bool:
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class Video:
    """What is known of a video file without decoding it.

    Attributes:
        path: The file.
        times: Presentation time of every frame, ascending, in units of ``time_base``.
        keyframes: Presentation times from which decoding can start, ascending.
        time_base: Seconds of one unit.
    """

    path: Path
    times: Tuple[int, ...]
    keyframes: Tuple[int, ...]
    time_base: Fraction

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


def open_video(path: Path) -> Video:
    """Number a file's frames.

    Raises:
        DataError: If PyAV is not installed, the file cannot be read, or it shows no frames.
    """
    av = _av()
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    times: List[int] = []
    keyframes: List[int] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no pictures, only sound.")
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.pts is None or packet.size == 0:
                    continue
                times.append(packet.pts)
                if packet.is_keyframe:
                    keyframes.append(packet.pts)
            base = Fraction(stream.time_base)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a video: {error}") from error
    if not times:
        raise DataError(f"{path} shows no frames.")
    return Video(path, tuple(sorted(set(times))), tuple(sorted(keyframes)), base)


def read_frames(video: Video, indices: Sequence[int]) -> np.ndarray:
    """Frames by number, upright, as (N, H, W, 3) uint8; a number may occur several times.

    Args:
        video: See :func:`open_video`.
        indices: Numbers of frames, in any order.

    Raises:
        DataError: If a frame cannot be decoded, naming it.
        IndexError: If there is no such frame.
    """
    if not len(indices) or min(indices) < 0 or max(indices) >= len(video):
        raise IndexError(f"{video.path} has frames 0 to {len(video) - 1}, not {list(indices)}.")
    wanted = sorted(set(indices))
    times = [video.times[i] for i in wanted]
    before = bisect_right(video.keyframes, times[0])
    found = _decode(video, times, video.keyframes[before - 1] if before > 1 else None)
    if len(found) < len(times):  # containers without an index are sought in by guessing
        found = _decode(video, times, None)
    missing = [i for i in wanted if video.times[i] not in found]
    if missing:
        raise DataError(f"{video.path}: frame {missing[0]} of {len(video)} cannot be decoded.")
    shapes = {picture.shape for picture in found.values()}
    if len(shapes) > 1:
        raise DataError(f"{video.path} changes its size: {sorted(shapes)}.")
    return np.stack([found[video.times[i]] for i in indices])


def _decode(video: Video, times: List[int], start: Optional[int]) -> Dict[int, np.ndarray]:
    """Pictures by their presentation times, decoded from a keyframe on, or from the beginning."""
    av, wanted = _av(), set(times)
    found: Dict[int, np.ndarray] = {}
    try:
        with av.open(str(video.path)) as container:
            stream = container.streams.video[0]
            # Decoder threads report through Python: one that waits for the interpreter while the
            # file is being closed waits for ever. Loader processes are what decodes in parallel.
            stream.codec_context.thread_count = 1
            if start is not None:
                container.seek(start, stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    found[frame.pts] = _upright(frame)
                if len(found) == len(wanted) or (frame.pts is not None and frame.pts > times[-1]):
                    break
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{video.path} cannot be decoded: {error}") from error
    return found


def _upright(frame: Any) -> np.ndarray:
    """A frame as it is meant to be seen: cameras that are held upright write it lying down."""
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def clip_indices(frames: int, num_frames: int, stride: int, offset: float = 0.5) -> List[int]:
    """Frames of one clip: ``num_frames``, every ``stride``-th, from a place in the video.

    Args:
        frames: Frames of the video.
        num_frames: Frames of the clip.
        stride: Distance of two of them. Where the video is too short for it, the frames are spread
            evenly over all of it, and those of a very short one repeat.
        offset: Where the clip starts, from 0 (beginning) to 1 (as late as it fits).

    Returns:
        Ascending numbers.
    """
    span = (num_frames - 1) * stride + 1
    if span > frames:
        return [round(i * (frames - 1) / max(1, num_frames - 1)) for i in range(num_frames)]
    start = round(offset * (frames - span))
    return [start + i * stride for i in range(num_frames)]
