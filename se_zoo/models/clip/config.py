"""What a clip model takes: the counterpart of timm's ``resolve_data_config``."""

from typing import Any, NamedTuple, Optional, Tuple

from torch import nn

from ...data.video.sampling import Sampling
from ...errors import InvalidInputError


class ClipConfig(NamedTuple):
    """How frames of a video become the input of a clip model.

    Attributes:
        size: (H, W) in pixels.
        num_frames: Frames of a clip, T.
        frame_stride: Of so many frames, one is taken.
        fps: Frames a second that a video is brought to before, by repeating or leaving out frames;
            None: its own.
        sampling: Which frames make a clip: ``"dense"``, at the stride; ``"segments"`` or
            ``"uniform"``, one of each of ``num_frames`` equal parts of the video.
        mean: Per channel, of values in [0, 1].
        std: Likewise.
        crop_pct: Share of the resized frame's shorter side that the centre crop keeps.
        interpolation: Of the resizing.
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
    """What a clip model takes.

    Raises:
        InvalidInputError: If it is no clip model of this zoo.
    """
    if not getattr(model, "takes_clips", False):
        raise InvalidInputError(
            f"{type(model).__name__} takes images; use timm's resolve_data_config, or a clip model "
            "(r3d_18_sehead, ..., framewise_sehead)."
        )
    cfg: Any = model.pretrained_cfg
    mean, std = model.image_stats()  # type: ignore[operator]
    return ClipConfig(
        size=tuple(cfg["input_size"][-2:]),
        num_frames=int(model.num_frames),  # type: ignore[arg-type]
        frame_stride=int(model.frame_stride),  # type: ignore[arg-type]
        fps=float(model.fps) or None,  # type: ignore[arg-type]
        sampling=model.sampling,  # type: ignore[arg-type]
        mean=mean,
        std=std,
        crop_pct=cfg.get("crop_pct") or 0.875,
        interpolation=cfg.get("interpolation") or "bilinear",
    )
