"""Which frames of a video make a clip."""

from bisect import bisect_left
from typing import List, Literal, Optional, Sequence

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


def at_rate(seconds: Sequence[float], fps: Optional[float]) -> List[int]:
    """Frames of a video as if it had ``fps`` frames a second: those nearest in time.

    Args:
        seconds: When each frame is shown, ascending.
        fps: Frames a second; None takes every frame once, however they are spaced.

    Returns:
        Places among ``seconds``, ascending; they repeat where the video has fewer frames a second.
    """
    if fps is None or len(seconds) < 2:
        return list(range(len(seconds)))
    first, last = seconds[0], seconds[-1]
    shown = (last - first) * len(seconds) / (len(seconds) - 1)  # the last frame has a duration too
    chosen = []
    for tick in range(max(1, round(shown * fps))):
        time = first + tick / fps
        after = min(bisect_left(seconds, time), len(seconds) - 1)
        before = max(after - 1, 0)
        nearer = before if time - seconds[before] <= seconds[after] - time else after
        chosen.append(nearer)
    return chosen
