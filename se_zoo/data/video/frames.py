"""Decoding frames of a video by their numbers."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Literal, Optional, Sequence, Tuple

import numpy as np

from ...errors import DataError
from .index import Video, open_container, pyav, video_stream

Decoder = Literal["pyav", "torchcodec"]
#: Frames that torchcodec decodes at a time.
_BATCH = 32


def read_frames(video: Video, indices: Sequence[int], decoder: Decoder = "pyav") -> np.ndarray:
    """Decode frames by their numbers.

    Args:
        video: The video, from :func:`~se_zoo.data.video.index.open_video`.
        indices: Frame numbers in any order; a number may occur several times.
        decoder: The decoding library; both return the same frames.

    Returns:
        Upright RGB frames in the order of ``indices``, (N, H, W, 3) uint8.

    Raises:
        DataError: If a frame cannot be decoded, or torchcodec is chosen and cannot be used.
        IndexError: If the video has no frame with such a number.
    """
    wanted = sorted(set(indices))
    pictures: Optional[np.ndarray] = None
    # Frames are written into the result. To stack them afterwards would copy all pixels, which
    # takes as long as decoding a small video.
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
    """Decode frames one after the other, to keep only one in memory.

    Args:
        video: The video, from :func:`~se_zoo.data.video.index.open_video`.
        numbers: Frame numbers, ascending, each once.
        decoder: The decoding library.

    Yields:
        Upright RGB frames, (H, W, 3) uint8. A frame is valid until the next one is requested.

    Raises:
        DataError: If a frame cannot be decoded, or torchcodec is chosen and cannot be used.
        IndexError: If ``numbers`` is empty, or the video has no frame with such a number.
    """
    if not len(numbers) or min(numbers) < 0 or max(numbers) >= len(video):
        raise IndexError(f"{video.name} has frames 0 to {len(video) - 1}, not {list(numbers)}.")
    decode = _by_torchcodec if decoder == "torchcodec" else _by_pyav
    shape: Optional[Tuple[int, ...]] = None
    for picture in decode(video, list(numbers)):
        shape = shape or picture.shape
        if picture.shape != shape:
            sizes = sorted([picture.shape[:2], shape[:2]])
            raise DataError(
                f"{video.name} changes its size, (height, width): {sizes}. Encode it anew in one "
                "size."
            )
        yield picture


def inspect_frames(video: Video, first: int, count: int) -> Tuple[int, int]:
    """Decode a part of a video strictly; decoders usually conceal damage by inventing pixels.

    Args:
        video: The video.
        first: First frame of the part.
        count: Number of frames of the part.

    Returns:
        Height and width of the upright frames, in pixels.

    Raises:
        DataError: If it is damaged, a frame is missing, or the size changes.
    """
    before = np.searchsorted(video.keyframes, video.times[first], side="right")
    if before > 1 and not video.counted:
        with suppress(DataError):  # decoding cannot start at every keyframe: try the beginning too
            return _inspect(video, first, count, int(video.keyframes[before - 1]))
    return _inspect(video, first, count, None)


def _inspect(video: Video, first: int, count: int, start: Optional[int]) -> Tuple[int, int]:
    """Decode a part strictly, from the keyframe at time ``start`` or from the beginning (None)."""
    seen, height, width, turned = 0, 0, 0, False
    low, high = video.times[first], video.times[first + count - 1]
    try:
        with open_container(video.source) as container:
            stream = video_stream(container)
            options = stream.codec_context.options
            stream.codec_context.options = {**options, "err_detect": "explode"}
            if start is not None:
                container.seek(start, stream=stream)
            for place, frame in enumerate(_strict(container, stream, start)):
                now = video.times[min(place, len(video) - 1)] if video.counted else frame.pts
                if now > high or (video.counted and place >= first + count):
                    break
                if now >= low:
                    if seen and (frame.height, frame.width) != (height, width):
                        raise DataError(
                            f"{video.name} changes its size. Encode it anew in one size."
                        )
                    seen, height, width = seen + 1, frame.height, frame.width
                    turned = orientation(frame)[0]
    except (pyav().FFmpegError, OSError) as error:
        raise DataError(f"{video.name} is damaged: {error}") from error
    if seen < count:
        raise DataError(f"{video.name} is damaged: {count - seen} of {count} frames are missing.")
    return (width, height) if turned else (height, width)


def _strict(container: Any, stream: Any, start: Optional[int]) -> Iterator[Any]:
    """Decode packet by packet and raise PyAV's error at the first damaged one.

    Packets that fail before the first picture, or before the keyframe at ``start``, are skipped:
    they refer to frames that were not decoded, which is not damage.
    """
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
    """Decode frames with PyAV, ascending."""
    av, rgb = pyav(), Rgb()
    try:
        with open_container(video.source) as container:
            stream = video_stream(container)
            for frame in _select(video, numbers, container, stream):
                yield rgb.upright(frame)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{video.name} cannot be decoded: {error}") from error


def _select(video: Video, numbers: List[int], container: Any, stream: Any) -> Iterator[Any]:
    """Decode frames by number, ascending.

    Raises:
        DataError: If a frame is missing, or the frames are out of order.
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
        except (DataError, pyav().FFmpegError):
            if start is None:
                raise
            # Seeking is imprecise in a file without an index, and where it ends between keyframes
            # the decoder may fail: decode from the beginning.
            with open_container(video.source) as again:
                yield from _timed(video, group[done:], again.decode(video_stream(again)))


def _counted(video: Video, numbers: List[int], container: Any, stream: Any) -> Iterator[Any]:
    """Select frames by counting them as the decoder returns them."""
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
    """Select frames by their times; ``start`` is the time of the keyframe that was sought."""
    wanted = iter([*numbers, -1])
    next_one = next(wanted)
    before: Optional[int] = None
    for frame in frames:
        if frame.pts is None:
            continue
        if before is not None and frame.pts <= before:
            raise DataError(
                f"the frames of {video.name} are not in the order of their time stamps; encode it "
                "anew, for example as .mp4 with ffmpeg."
            )
        if start is not None and (before is None or before < start) and frame.pts > start:
            break  # the decoder dropped the keyframe: decoding cannot start there
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
    """Group frame numbers by the keyframe to decode them from (None: the beginning).

    Nothing between the groups is decoded.
    """
    starts = np.searchsorted(video.keyframes, video.times[numbers], side="right")
    groups: Dict[int, List[int]] = {}
    for number, start in zip(numbers, starts.tolist(), strict=True):
        groups.setdefault(max(start, 1), []).append(number)
    return [
        (int(video.keyframes[start - 1]) if start > 1 else None, group)
        for start, group in groups.items()
    ]


class Rgb:
    """Conversion of decoded frames to RGB."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()  # shared: each one sets up tables

    def upright(self, frame: Any) -> np.ndarray:
        """Return an upright RGB picture, (H, W, 3) uint8.

        Phones store upright videos rotated, with the rotation beside the pixels. The result is a
        view that is valid until the next frame is converted.
        """
        rgb = self._reformatter.reformat(frame, format="rgb24")
        plane: Any = rgb.planes[0]
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # lines are padded
        picture = lines[: rgb.height, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)
        transposed, left_right, upside_down = orientation(frame)
        if transposed:
            picture = picture.transpose(1, 0, 2)
        return picture[:: -1 if upside_down else 1, :: -1 if left_right else 1]


def orientation(frame: Any) -> Tuple[bool, bool, bool]:
    """Return how a decoded frame is made upright, by the file's display matrix.

    PyAV's ``rotation`` takes a mirrored picture for a turned one.

    Args:
        frame: PyAV's frame.

    Returns:
        Whether rows and columns are exchanged first, then the columns and the rows reversed.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    # A point (x, y) is shown at (a x + c y, b x + d y); ISO 14496-12, section 8.3.2.
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    if abs(a) + abs(d) < abs(b) + abs(c):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


_NO_TORCHCODEC = (
    "the decoder torchcodec cannot be used: it needs its package (pip install torchcodec) and "
    "FFmpeg's libraries (apt install ffmpeg). Install both, or set decoder to pyav."
)


def _by_torchcodec(video: Video, numbers: List[int]) -> Iterator[np.ndarray]:
    """Decode frames with torchcodec, ascending."""
    if video.counted:
        raise DataError(
            f"torchcodec cannot use the time stamps of {video.name}; set decoder to pyav."
        )
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore
    except (ImportError, RuntimeError) as error:
        raise DataError(_NO_TORCHCODEC) from error
    source = str(video.source) if isinstance(video.source, Path) else video.source
    try:
        decoder = VideoDecoder(
            source,
            stream_index=video.stream,  # it would take the largest pictures of the file
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
        )
        if len(decoder) != len(video):
            raise DataError(
                f"{video.name}: torchcodec finds {len(decoder)} frames, PyAV {len(video)}; set "
                "decoder to pyav."
            )
        for begin in range(0, len(numbers), _BATCH):
            yield from decoder.get_frames_at(numbers[begin : begin + _BATCH]).data.numpy()
    except DataError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        if "libtorchcodec" in str(error):  # FFmpeg's libraries are missing
            raise DataError(_NO_TORCHCODEC) from error
        raise DataError(f"{video.name} cannot be decoded: {error}") from error
