"""Clips through an image backbone, frame by frame: temporal mean, one gate for the clip.

The features keep a time axis, so every frame has a map of its own. They are averaged over time
before the backbone's own head, whose pooling, norm and classifier therefore stay as exact, or not,
as they are for images.
"""

from typing import Any, Dict, Optional, Tuple

import torch
from torch import nn

from ...errors import UnsupportedBackboneError
from ...layers import FrameLayout
from ..layout_probe import name_of, probe_layout
from ..sehead import SEHeadMixin, attach_se
from .head import ClipSEHead


class FramewiseMixin(ClipSEHead):
    """An image class of timm that takes clips of any number of frames."""

    class_prefix = "Framewise"

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features of every frame, (B, T, *frame) in the backbone's own layout."""
        x = self.as_clips(x)
        frames = x.transpose(1, 2).flatten(0, 1)
        features = super().forward_features(frames)  # type: ignore[misc]
        return features.unflatten(0, (x.shape[0], x.shape[2]))

    def classify(self, gated: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        kwargs = {"pre_logits": True} if pre_logits else {}
        return super(SEHeadMixin, self).forward_head(gated.mean(1), **kwargs)  # type: ignore[misc]

    def forward_intermediates(self, *args: Any, **kwargs: Any) -> Any:
        """Not for clips.

        Raises:
            NotImplementedError: Always; squeeze the image backbone instead.
        """
        raise NotImplementedError("Intermediate features are for image models, not for clips.")


def attach_framewise_se(
    model: nn.Module,
    clip: Dict[str, Any],
    se_args: Dict[str, Any],
    img_size: Optional[Tuple[int, int]] = None,
) -> nn.Module:
    """Turn a timm image model into its framewise SE variant, in place.

    Args:
        model: The image model.
        clip: See :meth:`ClipSEHead.set_clip`.
        se_args: ``gate``, ``reduction`` and ``multi_label``.
        img_size: What the model was created with as ``img_size``.

    Raises:
        UnsupportedBackboneError: If the backbone cannot be squeezed, or gives a list of features.
    """
    layout, channels = probe_layout(model, img_size)
    if type(model).__name__ in ("CoaT", "EfficientViM"):
        raise UnsupportedBackboneError(
            f"{name_of(model)} gives a list of features, which framewise_sehead does not take."
        )
    attach_se(model, FrameLayout(layout), channels, head=FramewiseMixin, **se_args)
    model.set_clip(**clip)  # type: ignore[operator]
    return model
