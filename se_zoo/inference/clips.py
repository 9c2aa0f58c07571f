"""Read frames of a video for a clip model, cut and normalise them, and explain them."""

from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from PIL import Image

from ..data.images import seen_size
from ..data.photos import cut_box
from ..data.video.frames import read_frames
from ..data.video.index import Video, open_video
from ..data.video.sampling import at_rate, clip_indices, evaluation_indices
from ..errors import InvalidInputError
from ..explanations import Explanation
from ..explanations.draw.clips import SLOWEST
from ..models.clip.config import ClipConfig, resolve_clip_config
from .images import Box

#: Highest rate at which clips are shown, in frames a second. Wrong time stamps give others.
_FASTEST = 500.0
#: Least width of drawn frames, in pixels, whatever the model's input size.
_DRAWN_WIDTH = 260


def clip_of(video: Video, config: ClipConfig, start: Optional[float] = None) -> List[int]:
    """Return the frames of a video that make one clip for a model, as in evaluation.

    Args:
        video: The video.
        config: What the model takes.
        start: Second at which the clip starts; by default it is in the middle of the video.

    Returns:
        Numbers of the frames.

    Raises:
        InvalidInputError: If the video has no such second.
    """
    seconds = video.seconds
    frames = at_rate(seconds, config.fps, video.name)
    how = config.num_frames, config.frame_stride
    if start is None:
        return [frames[i] for i in evaluation_indices(len(frames), *how, config.sampling)[0]]
    later = [i for i in frames if seconds[i] >= start]
    if start < 0 or not later:
        raise InvalidInputError(
            f"--start {start} is outside the video: its last frame is at second {seconds[-1]:.2f}."
        )
    if config.sampling == "dense":
        return [later[i] for i in clip_indices(len(later), *how, offset=0.0)]
    return [later[i] for i in evaluation_indices(len(later), *how, config.sampling)[0]]


def load_clip(model: Any, path: Union[str, Path], start: Optional[float] = None) -> torch.Tensor:
    """Load a clip of a video as a model takes it.

    Args:
        model: A clip model.
        path: The video.
        start: Second at which the clip starts; by default it is in the middle of the video.

    Returns:
        Normalised clip, (1, 3, T, H, W) float32.

    Raises:
        InvalidInputError: If the model does not take clips, or the video has no such second.
        DataError: If the video cannot be read.
    """
    from ..models.clip.transforms import Views, as_frames

    config = resolve_clip_config(model)
    frames, _ = read_clip(open_video(Path(path)), config, start)
    return Views(config)(as_frames(frames))


def read_clip(
    video: Video, config: ClipConfig, start: Optional[float] = None, crop: Optional[Box] = None
) -> Tuple[np.ndarray, List[int]]:
    """Read the frames that :func:`clip_of` chooses.

    Args:
        video: The video.
        config: What the model takes.
        start: Second at which the clip starts; by default it is in the middle of the video.
        crop: Box to cut out of every frame; see :func:`~se_zoo.data.photos.cut_box`.

    Returns:
        Frames, (T, H, W, 3) uint8, and their numbers.

    Raises:
        InvalidInputError: If the video has no such second, or the crop lies outside the frames.
        DataError: If a frame cannot be decoded.
    """
    numbers = clip_of(video, config, start)
    frames = read_frames(video, numbers)
    if crop is not None:
        cut = [np.asarray(cut_box(Image.fromarray(f), crop, video.name)) for f in frames]
        frames = np.stack(cut)
    return frames, numbers


def explain_frames(
    model: Any,
    frames: np.ndarray,
    targets: Optional[Sequence[Union[int, str]]] = None,
    method: Optional[str] = None,
    versus: Union[int, str, None] = None,
) -> Tuple[Explanation, np.ndarray]:
    """Explain one clip.

    Args:
        model: A clip model in eval mode.
        frames: (T, H, W, 3) uint8, of any size.
        targets: Labels or class indices; by default what the model predicts.
        method: Which map; see :func:`se_zoo.explain`.
        versus: The other class of a difference map.

    Returns:
        The explanation, and the part of the frames that the model saw, (1, T, H', W', 3) uint8,
        large enough to draw on.

    Raises:
        InvalidInputError: If the model does not take clips, or not such a clip.
    """
    from ..models.clip.transforms import Views, as_frames

    config = resolve_clip_config(model)
    height, width = config.size
    clip = Views(config)(as_frames(frames))  # as recipes evaluate clips
    explanation = model.explain(
        clip, None if targets is None else list(targets), method, versus=versus
    )
    box = seen_box(frames, config)
    zoom = max(1, -(-_DRAWN_WIDTH // width))
    size = (width * zoom, height * zoom)
    drawn: List[np.ndarray] = [
        np.asarray(Image.fromarray(f).crop(box).resize(size, Image.Resampling.LANCZOS))
        for f in frames
    ]
    return explanation, np.stack(drawn)[None]


def clip_rate(video: Video, config: ClipConfig, numbers: Sequence[int]) -> float:
    """Return the frames a second at which a clip of a video is shown as fast as the video.

    Args:
        video: The video.
        config: What the model takes.
        numbers: Numbers of the clip's frames.

    Returns:
        Frames a second.
    """
    rate = (config.fps or video.fps) / config.frame_stride
    span = float(video.seconds[numbers[-1]] - video.seconds[numbers[0]])
    shown = (len(numbers) - 1) / span if span > 0 else rate
    return min(max(shown, SLOWEST), _FASTEST)


def seen_box(frames: np.ndarray, config: ClipConfig) -> Box:
    """Return the box of a frame that a clip model sees: its centre.

    Args:
        frames: (T, H, W, 3) uint8.
        config: What the model takes.

    Returns:
        x0, y0, x1, y1 in pixels.
    """
    height, width = frames.shape[1:3]
    across, down = seen_size((width, height), config.size, config.crop_pct)
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down
