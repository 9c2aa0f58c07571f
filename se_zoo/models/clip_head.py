"""What every clip classifier with an SE head has in common, wherever its backbone comes from."""

import torch

from ..errors import InvalidInputError
from .sehead import SEHeadMixin


class ClipSEHead(SEHeadMixin):
    """Takes clips, (B, C, T, H, W); an image (B, C, H, W) is a clip of one frame.

    Attributes:
        num_frames: Frames of the clips that the model is made for.
        frame_stride: Of so many frames of a video, one is taken into a clip.
    """

    takes_clips = True
    num_frames: int
    frame_stride: int

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
