"""Sampling clips: choosing which frames of a video a model sees."""

from typing import List, Literal, Optional, Sequence, Union

import numpy as np
import torch

from ...errors import DataError

#: Most frames that a video is resampled to: those of a week, at 25 a second.
_MOST_FRAMES = 7 * 86_400 * 25
Sampling = Literal["dense", "segments", "uniform"]


def clip_indices(frames: int, num_frames: int, stride: int, offset: float = 0.5) -> List[int]:
    """Choose the frames of one clip, evenly spaced with a fixed stride.

    A video that is too short for the clip is sampled evenly over its whole length; frames of a very
    short video repeat.

    Args:
        frames: Number of frames of the video.
        num_frames: Number of frames of the clip.
        stride: Distance between two frames of the clip.
        offset: Start of the clip, from 0 (beginning of the video) to 1 (as late as it fits).

    Returns:
        Frame numbers, ascending.
    """
    span = (num_frames - 1) * stride + 1
    if span > frames:
        return [round(i * (frames - 1) / max(1, num_frames - 1)) for i in range(num_frames)]
    start = round(offset * (frames - span))
    return [start + i * stride for i in range(num_frames)]


def segment_indices(frames: int, offsets: Sequence[float]) -> List[int]:
    """Choose one frame from each of several equal segments of a video.

    The method is that of temporal segment networks (Wang et al., arXiv 1608.00859, section 3.1).

    Args:
        frames: Number of frames of the video.
        offsets: Place of the frame in each segment, in [0, 1); 0.5 is the middle.

    Returns:
        One frame number per offset, ascending; frames of a very short video repeat.
    """
    parts = len(offsets)
    return [min(frames - 1, int((i + offset) * frames / parts)) for i, offset in enumerate(offsets)]


def training_indices(
    frames: int, num_frames: int, stride: int, sampling: Sampling = "dense"
) -> List[int]:
    """Choose the frames of a training clip at random.

    ``dense`` draws the start of the clip, ``segments`` a frame in each segment; ``uniform`` always
    takes the middles of the segments.

    Args:
        frames: Number of frames of the video.
        num_frames: Number of frames of the clip.
        stride: Distance between two frames of a dense clip.
        sampling: How to choose; random numbers come from torch's default generator.

    Returns:
        Frame numbers, ascending.
    """
    if sampling == "dense":
        return clip_indices(frames, num_frames, stride, float(torch.rand(())))
    if sampling == "segments":
        return segment_indices(frames, torch.rand(num_frames).tolist())
    return segment_indices(frames, [0.5] * num_frames)


def evaluation_indices(
    frames: int, num_frames: int, stride: int, sampling: Sampling = "dense", clips: int = 1
) -> List[List[int]]:
    """Choose the frames of one or more evaluation clips; a single clip is the middle of the video.

    Args:
        frames: Number of frames of the video.
        num_frames: Number of frames of a clip.
        stride: Distance between two frames of a dense clip.
        sampling: How to choose; ``segments`` and ``uniform`` are the same here.
        clips: Number of clips, evenly spaced over the video.

    Returns:
        Frame numbers of each clip, ascending.
    """
    if sampling == "dense":
        offsets = [0.5] if clips == 1 else [i / (clips - 1) for i in range(clips)]
        return [clip_indices(frames, num_frames, stride, offset) for offset in offsets]
    return [segment_indices(frames, [(i + 0.5) / clips] * num_frames) for i in range(clips)]


def at_rate(
    seconds: Union[Sequence[float], np.ndarray], fps: Optional[float], name: str = "a video"
) -> List[int]:
    """Resample a video to another frame rate, by the frames nearest in time.

    Args:
        seconds: Time of each frame in seconds, ascending.
        fps: Frames per second to return; None returns every frame once.
        name: The video's name in messages.

    Returns:
        Places in ``seconds``, ascending; they repeat if the video has fewer frames per second.

    Raises:
        DataError: If these would be the frames of more than a week, as after a wrong time stamp.
    """
    count = len(seconds)
    if fps is None or count < 2:
        return list(range(count))
    times = np.asarray(seconds, dtype=np.float64)
    length = (times[-1] - times[0]) * count / (count - 1)  # the last frame has a duration too
    if not length * fps <= _MOST_FRAMES:
        raise DataError(
            f"the time stamps of {name} span {length / 3600:,.0f} hours, too many: correct the "
            "table that has them, or encode the video anew, for example with ffmpeg."
        )
    ticks = times[0] + np.arange(max(1, round(length * fps))) / fps
    after = np.searchsorted(times, ticks).clip(max=count - 1)
    before = (after - 1).clip(min=0)
    nearer = ticks - times[before] <= times[after] - ticks
    return np.where(nearer, before, after).tolist()
