"""Describe the input of clip models: the counterpart of timm's ``resolve_data_config``."""

from typing import Any, NamedTuple, Optional, Tuple

from torch import nn

from ...data.video.sampling import Sampling
from ...errors import InvalidInputError


class ClipConfig(NamedTuple):
    """Describe how frames of a video become the input of a clip model.

    Attributes:
        size: (H, W) in pixels.
        num_frames: Frames of a clip, T.
        frame_stride: Distance of a clip's frames, in frames.
        fps: Frame rate that a video is brought to first, in frames a second, by repeating or
            leaving out frames; None keeps its own.
        sampling: Which frames make a clip: ``"dense"``, at the stride; ``"segments"`` or
            ``"uniform"``, one from each of ``num_frames`` equal parts of the video.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel, of values in [0, 1].
        crop_pct: Share of the resized frame's shorter side that the centre crop keeps.
        interpolation: How frames are resized: ``"bilinear"``, ``"bicubic"``, ...
    """

    size: Tuple[int, int]
    num_frames: int
    frame_stride: int
    fps: Optional[float]
    sampling: Sampling
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    crop_pct: float
    interpolation: str


def resolve_clip_config(model: nn.Module) -> ClipConfig:
    """Return how frames of a video become the input of a clip model.

    Args:
        model: A clip model with an SE head.

    Returns:
        What the model's config and attributes say.

    Raises:
        InvalidInputError: If the model does not take clips.
    """
    if not getattr(model, "takes_clips", False):
        raise InvalidInputError(
            f"{type(model).__name__} takes images; use timm's resolve_data_config, or a clip model "
            "(r3d_18_sehead, ..., framewise_sehead)."
        )
    cfg: Any = model.pretrained_cfg
    height, width = model.input_shape()[-2:]  # type: ignore[operator]
    mean, std = model.image_stats()  # type: ignore[operator]
    return ClipConfig(
        size=(height, width),
        num_frames=int(model.num_frames),  # type: ignore[arg-type]
        frame_stride=int(model.frame_stride),  # type: ignore[arg-type]
        fps=float(model.fps) or None,  # type: ignore[arg-type]
        sampling=model.sampling,  # type: ignore[arg-type]
        mean=mean,
        std=std,
        crop_pct=cfg.get("crop_pct") or 0.875,
        interpolation=cfg.get("interpolation") or "bilinear",
    )
