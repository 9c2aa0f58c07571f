"""Frames of a numbered video: exactly those that are asked for."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Literal, Optional, Sequence, Tuple

import numpy as np

from ...errors import DataError
from .index import Video, open_container, pyav, video_stream

Decoder = Literal["pyav", "torchcodec"]
#: Frames that torchcodec decodes at a time.
_AT_ONCE = 32


def read_frames(video: Video, indices: Sequence[int], decoder: Decoder = "pyav") -> np.ndarray:
    """Frames by number, upright, as (N, H, W, 3) uint8; a number may occur several times.

    Args:
        video: See :func:`~se_zoo.data.video.index.open_video`.
        indices: Numbers of frames, in any order.
        decoder: What decodes; both give the same frames.

    Raises:
        DataError: If a frame cannot be decoded, naming it, or torchcodec cannot be had.
        IndexError: If there is no such frame.
    """
    wanted = sorted(set(indices))
    pictures: Optional[np.ndarray] = None
    # Made in its place: copies of large arrays take as long as the decoding of small videos.
    for place, picture in enumerate(each_frame(video, wanted, decoder)):
        if pictures is None:
            pictures = np.empty((len(wanted), *picture.shape), np.uint8)
        pictures[place] = picture
    assert pictures is not None
    if wanted == list(indices):
        return pictures
    places = {number: place for place, number in enumerate(wanted)}
    return pictures[[places[i] for i in indices]]


def each_frame(
    video: Video, numbers: Sequence[int], decoder: Decoder = "pyav"
) -> Iterator[np.ndarray]:
    """One after the other, so that they need not all be in memory; (H, W, 3) uint8.

    Args:
        video: As in :func:`read_frames`.
        numbers: Ascending, each once.
        decoder: Likewise.

    Raises:
        DataError: As :func:`read_frames`.
        IndexError: Likewise.
    """
    if not len(numbers) or min(numbers) < 0 or max(numbers) >= len(video):
        raise IndexError(f"{video.name} has frames 0 to {len(video) - 1}, not {list(numbers)}.")
    found = _by_torchcodec if decoder == "torchcodec" else _by_pyav
    shape: Optional[Tuple[int, ...]] = None
    for picture in found(video, list(numbers)):
        shape = shape or picture.shape
        if picture.shape != shape:
            sizes = sorted([picture.shape[:2], shape[:2]])
            raise DataError(f"{video.name} changes its size: {sizes}.")
        yield picture


def inspect_frames(video: Video, first: int, count: int) -> Tuple[int, int]:
    """Decode a part of a video by a decoder that repairs nothing; others repair what they can, and
    show something else.

    Args:
        video: The video.
        first: The first frame of the part.
        count: Its frames.

    Returns:
        Height and width.

    Raises:
        DataError: If it is damaged, a frame is missing, or the size changes.
    """
    before = np.searchsorted(video.keyframes, video.times[first], side="right")
    if before > 1 and not video.counted:
        with suppress(DataError):  # or it was no place to start from: then from the beginning
            return _inspect(video, first, count, int(video.keyframes[before - 1]))
    return _inspect(video, first, count, None)


def _inspect(video: Video, first: int, count: int, start: Optional[int]) -> Tuple[int, int]:
    """The same from a keyframe on, or from the beginning."""
    seen, height, width, turned = 0, 0, 0, False
    low, high = video.times[first], video.times[first + count - 1]
    try:
        with open_container(video.source) as container:
            stream = video_stream(container)
            stream.codec_context.options = {"err_detect": "explode"}
            if start is not None:
                container.seek(start, stream=stream)
            for place, frame in enumerate(_strict(container, stream, start)):
                now = video.times[min(place, len(video) - 1)] if video.counted else frame.pts
                if now > high or (video.counted and place >= first + count):
                    break
                if now >= low:
                    if seen and (frame.height, frame.width) != (height, width):
                        raise DataError(f"{video.name} changes its size.")
                    seen, height, width = seen + 1, frame.height, frame.width
                    turned = round(getattr(frame, "rotation", 0) / 90) % 2 == 1
    except (pyav().FFmpegError, OSError) as error:
        raise DataError(f"{video.name} is damaged: {error}") from error
    if seen < count:
        raise DataError(f"{video.name} is damaged: {count - seen} of {count} frames are missing.")
    return (width, height) if turned else (height, width)


def _strict(container: Any, stream: Any, start: Optional[int]) -> Iterator[Any]:
    """Frames, packet by packet. What cannot be decoded in front of the first picture, or of the
    keyframe that was sought, builds on what is not there: no damage."""
    shown = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except pyav().FFmpegError:
            leading = start is not None and packet.pts is not None and packet.pts < start
            if not shown or leading:
                continue
            raise
        for frame in frames:
            if frame.pts is not None:
                shown = True
                yield frame


def _by_pyav(video: Video, numbers: List[int]) -> Iterator[np.ndarray]:
    av, rgb = pyav(), _Rgb()
    try:
        with open_container(video.source) as container:
            stream = video_stream(container)
            for frame in _select(video, numbers, container, stream):
                yield rgb.upright(frame)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{video.name} cannot be decoded: {error}") from error


def _select(video: Video, numbers: List[int], container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames by number, ascending.

    Raises:
        DataError: If one does not come, or they come out of order.
    """
    if video.counted:
        yield from _counted(video, numbers, container, stream)
        return
    for start, group in _groups(video, numbers):
        if start is not None:
            container.seek(start, stream=stream)
        done = 0
        try:
            for frame in _timed(video, group, container.decode(stream), start):
                yield frame
                done += 1
        except DataError:
            if start is None:
                raise
            # A file without an index is sought in by guessing; so from its beginning.
            with open_container(video.source) as again:
                yield from _timed(video, group[done:], again.decode(video_stream(again)))


def _counted(video: Video, numbers: List[int], container: Any, stream: Any) -> Iterator[Any]:
    wanted = iter([*numbers, -1])
    next_one = next(wanted)
    for number, frame in enumerate(container.decode(stream)):
        if number == next_one:
            yield frame
            next_one = next(wanted)
            if next_one < 0:
                return
    raise _missing(video, next_one)


def _timed(
    video: Video, numbers: List[int], frames: Iterator[Any], start: Optional[int] = None
) -> Iterator[Any]:
    """Frames by their times; ``start`` is the keyframe that was sought."""
    wanted = iter([*numbers, -1])
    next_one = next(wanted)
    before: Optional[int] = None
    for frame in frames:
        if frame.pts is None:
            continue
        if before is not None and frame.pts <= before:
            raise DataError(
                f"{video.name} shows its frames in another order than their times say; write it "
                "anew, for example with ffmpeg as .mp4."
            )
        if start is not None and (before is None or before < start) and frame.pts > start:
            break  # the decoder threw the keyframe away: it was none to start from
        before = frame.pts
        if frame.pts > video.times[next_one]:
            break
        if frame.pts == video.times[next_one]:
            yield frame
            next_one = next(wanted)
            if next_one < 0:
                return
    raise _missing(video, next_one)


def _missing(video: Video, number: int) -> DataError:
    return DataError(f"{video.name}: frame {number} of {len(video)} cannot be decoded.")


def _groups(video: Video, numbers: List[int]) -> List[Tuple[Optional[int], List[int]]]:
    """Numbers by the last keyframe before them (None: the beginning), so that nothing in between
    is decoded."""
    starts = np.searchsorted(video.keyframes, video.times[numbers], side="right")
    groups: Dict[int, List[int]] = {}
    for number, start in zip(numbers, starts.tolist(), strict=True):
        groups.setdefault(max(start, 1), []).append(number)
    return [
        (int(video.keyframes[start - 1]) if start > 1 else None, group)
        for start, group in groups.items()
    ]


class _Rgb:
    """Decoded frames as pictures."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()  # one for all: each sets up its own tables

    def upright(self, frame: Any) -> np.ndarray:
        """A picture as it is meant to be seen, (H, W, 3): cameras that are held upright write it
        lying down. It is a view that lives as long as the next frame is not asked for."""
        rgb = self._reformatter.reformat(frame, format="rgb24")
        plane: Any = rgb.planes[0]
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # lines are padded
        picture = lines[: rgb.height, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        return np.rot90(picture, turns) if turns else picture


_NO_TORCHCODEC = (
    "the decoder torchcodec needs its package (pip install torchcodec) and FFmpeg's libraries "
    "(apt install ffmpeg); pyav needs neither."
)


def _by_torchcodec(video: Video, numbers: List[int]) -> Iterator[np.ndarray]:
    if video.counted:
        raise DataError(f"{video.name} has time stamps that torchcodec cannot use; take pyav.")
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore
    except (ImportError, RuntimeError) as error:
        raise DataError(_NO_TORCHCODEC) from error
    source = str(video.source) if isinstance(video.source, Path) else video.source
    try:
        decoder = VideoDecoder(
            source, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
        )
        if len(decoder) != len(video):
            raise DataError(
                f"{video.name}: torchcodec sees {len(decoder)} frames, PyAV {len(video)}; take "
                "pyav."
            )
        for begin in range(0, len(numbers), _AT_ONCE):
            yield from decoder.get_frames_at(numbers[begin : begin + _AT_ONCE]).data.numpy()
    except DataError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        if "libtorchcodec" in str(error):  # the package imports without them
            raise DataError(_NO_TORCHCODEC) from error
        raise DataError(f"{video.name} cannot be decoded: {error}") from error
