"""Define what every clip classifier with an SE head has, whatever its backbone."""

from typing import Any, Dict, Tuple, get_args

import torch

from ...data.video.sampling import Sampling
from ...errors import InvalidInputError
from ..sehead import SEHeadMixin


class ClipSEHead(SEHeadMixin):
    """Let an SE model take clips, (B, C, T, H, W); an image (B, C, H, W) is a clip of one frame.

    Attributes:
        num_frames: Frames of the clips that the model is made for.
        frame_stride: Distance of a clip's frames in the video, in frames.
        fps: Frame rate that a video is brought to first, in frames a second; 0 keeps its own.
        sampling: Which frames make a clip; see :class:`~se_zoo.ClipConfig`.
    """

    takes_clips = True
    noun = "video"
    num_frames: int
    frame_stride: int
    fps: float = 0.0
    sampling: Sampling = "dense"

    def set_clip(
        self, num_frames: int, frame_stride: int, fps: float, sampling: Sampling = "dense"
    ) -> None:
        """Set which clips the model is made for; the arguments are the attributes.

        Args:
            num_frames: 1 or more.
            frame_stride: 1 or more.
            fps: 0 or more.
            sampling: ``"dense"``, ``"segments"`` or ``"uniform"``.

        Raises:
            InvalidInputError: If a value is out of its range.
        """
        if min(num_frames, frame_stride) < 1 or fps < 0:
            raise InvalidInputError(
                f"num_frames ({num_frames}) and frame_stride ({frame_stride}) must be 1 or more, "
                f"and fps ({fps}) must be 0 (a video's own) or more."
            )
        if sampling not in get_args(Sampling):
            raise InvalidInputError(
                f"sampling must be one of {', '.join(get_args(Sampling))}, not {sampling!r}."
            )
        self.num_frames, self.frame_stride, self.fps = num_frames, frame_stride, float(fps)
        self.sampling = sampling

    @property
    def clip_args(self) -> Dict[str, Any]:
        """Arguments of :meth:`set_clip` that describe the model's clips."""
        found = {"num_frames": self.num_frames, "frame_stride": self.frame_stride}
        return {**found, "fps": self.fps, "sampling": self.sampling}

    def save_args(self) -> Dict[str, Any]:
        """Return the arguments of the architecture that make the model again, as it is now."""
        return {**super().save_args(), **self.clip_args}

    def input_shape(self) -> Tuple[int, ...]:
        """Return the shape of one clip, (C, T, H, W)."""
        channels, *size = super().input_shape()
        return (channels, self.num_frames, *size)

    def as_clips(self, x: torch.Tensor) -> torch.Tensor:
        """Return clips, or images as clips of one frame.

        Args:
            x: Clips (B, C, T, H, W) or images (B, C, H, W).

        Returns:
            Clips, (B, C, T, H, W).

        Raises:
            InvalidInputError: If x has another number of axes.
        """
        if x.dim() == 4:
            x = x.unsqueeze(2)
        if x.dim() != 5:
            raise InvalidInputError(
                f"{type(self).__name__} takes clips (B, C, T, H, W) or images (B, C, H, W), got "
                f"{tuple(x.shape)}."
            )
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of clips (B, C, T, H, W), (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_head(self, x: Any, pre_logits: bool = False) -> torch.Tensor:
        """Apply gate and pooling, and the classifier unless ``pre_logits``.

        Args:
            x: Result of ``forward_features``.
            pre_logits: Return what the classifier would read.

        Returns:
            Logits, (B, num_classes), or with ``pre_logits`` (B, num_features).
        """
        return self.classify(self.gated(x), pre_logits)
