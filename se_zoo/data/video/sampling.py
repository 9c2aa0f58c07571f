"""Which frames of a video make a clip."""

from typing import List, Literal, Optional, Sequence, Union

import numpy as np
import torch

Sampling = Literal["dense", "segments", "uniform"]


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


def segment_indices(frames: int, offsets: Sequence[float]) -> List[int]:
    """One frame of each of as many equal parts of the video as there are offsets (temporal segment
    networks, Wang et al., arXiv 1608.00859, section 3.1).

    Args:
        frames: Frames of the video.
        offsets: Where in its part each frame lies, in [0, 1); 0.5 is the middle.

    Returns:
        Ascending numbers; those of a very short video repeat.
    """
    parts = len(offsets)
    return [min(frames - 1, int((i + offset) * frames / parts)) for i, offset in enumerate(offsets)]


def training_indices(
    frames: int, num_frames: int, stride: int, sampling: Sampling = "dense"
) -> List[int]:
    """Frames of a training clip, by torch's default generator; ``uniform`` draws nothing."""
    if sampling == "dense":
        return clip_indices(frames, num_frames, stride, float(torch.rand(())))
    if sampling == "segments":
        return segment_indices(frames, torch.rand(num_frames).tolist())
    return segment_indices(frames, [0.5] * num_frames)


def evaluation_indices(
    frames: int, num_frames: int, stride: int, sampling: Sampling = "dense", clips: int = 1
) -> List[List[int]]:
    """Frames of ``clips`` clips, evenly spaced over the video; one is its middle."""
    if sampling == "dense":
        offsets = [0.5] if clips == 1 else [i / (clips - 1) for i in range(clips)]
        return [clip_indices(frames, num_frames, stride, offset) for offset in offsets]
    return [segment_indices(frames, [(i + 0.5) / clips] * num_frames) for i in range(clips)]


def at_rate(seconds: Union[Sequence[float], np.ndarray], fps: Optional[float]) -> List[int]:
    """Frames of a video as if it had ``fps`` frames a second: those nearest in time.

    Args:
        seconds: When each frame is shown, ascending.
        fps: Frames a second; None takes every frame once, however they are spaced.

    Returns:
        Places among ``seconds``, ascending; they repeat where the video has fewer frames a second.
    """
    count = len(seconds)
    if fps is None or count < 2:
        return list(range(count))
    times = np.asarray(seconds, dtype=np.float64)
    shown = (times[-1] - times[0]) * count / (count - 1)  # the last frame has a duration too
    ticks = times[0] + np.arange(max(1, round(shown * fps))) / fps
    after = np.searchsorted(times, ticks).clip(max=count - 1)
    before = (after - 1).clip(min=0)
    nearer = ticks - times[before] <= times[after] - ticks
    return np.where(nearer, before, after).tolist()
