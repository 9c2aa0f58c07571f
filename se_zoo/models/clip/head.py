"""What every clip classifier with an SE head has in common, wherever its backbone comes from."""

from typing import Any, Dict, get_args

import torch

from ...data.video.sampling import Sampling
from ...errors import InvalidInputError
from ..sehead import SEHeadMixin


class ClipSEHead(SEHeadMixin):
    """Takes clips, (B, C, T, H, W); an image (B, C, H, W) is a clip of one frame.

    Attributes:
        num_frames: Frames of the clips that the model is made for.
        frame_stride: Of so many frames of a video, one is taken into a clip.
        fps: Frames a second that a video is brought to before; 0: its own.
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
        """Say which clips the model is made for.

        Raises:
            ValueError: For numbers that cannot be.
        """
        if min(num_frames, frame_stride) < 1 or fps < 0:
            raise ValueError(
                f"num_frames ({num_frames}) and frame_stride ({frame_stride}) must be 1 or more, "
                f"and fps ({fps}) must be 0 (a video's own) or more."
            )
        if sampling not in get_args(Sampling):
            raise ValueError(f"sampling is one of {', '.join(get_args(Sampling))}: {sampling!r}.")
        self.num_frames, self.frame_stride, self.fps = num_frames, frame_stride, float(fps)
        self.sampling = sampling

    @property
    def clip_args(self) -> Dict[str, Any]:
        """The same, as arguments that make such a model again."""
        found = {"num_frames": self.num_frames, "frame_stride": self.frame_stride}
        return {**found, "fps": self.fps, "sampling": self.sampling}

    def as_clips(self, x: torch.Tensor) -> torch.Tensor:
        """The input as clips, (B, C, T, H, W).

        Raises:
            InvalidInputError: If it has another number of axes.
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
        """Logits of clips (B, C, T, H, W), (B, num_classes)."""
        return self.forward_head(self.forward_features(x))  # type: ignore[attr-defined]

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Gate, pooling, and the classifier unless ``pre_logits``."""
        return self.classify(self.gated(x), pre_logits)  # type: ignore[arg-type]
