"""Run clips through an image backbone frame by frame, with one gate for the whole clip.

The features keep a time axis, so every frame has its own map. They are averaged over time before
the backbone's own head. Contribution maps are therefore exact where they are exact for images.
"""

from typing import Any, Dict

import torch
from torch import nn

from ...errors import UnsupportedBackboneError
from ...layers import FrameLayout
from ..attach import attach_se
from ..layout_probe import list_layout, name_of, probe_once
from ..sehead import SEHeadMixin
from .head import ClipSEHead


class _FramewiseMixin(ClipSEHead):
    """Let an image class of timm take clips of any number of frames."""

    class_prefix = "Framewise"

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of every frame, (B, T, *), each in the backbone's own layout."""
        x = self.as_clips(x)
        frames = x.transpose(1, 2).flatten(0, 1)
        features = super().forward_features(frames)  # type: ignore[misc]
        return features.unflatten(0, (x.shape[0], x.shape[2]))

    def classify(self, gated: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Run the backbone's own head on gated features; see :meth:`SEHeadMixin.classify`."""
        kwargs = {"pre_logits": True} if pre_logits else {}
        return super(SEHeadMixin, self).forward_head(gated.mean(1), **kwargs)  # type: ignore[misc]

    def forward_intermediates(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: intermediate features are for image models.

        Raises:
            NotImplementedError: Always; squeeze the image backbone instead.
        """
        raise NotImplementedError("Intermediate features are for image models, not for clips.")


def attach_framewise_se(
    clip: Dict[str, Any],
    backbone: str,
    model: nn.Module,
    se_args: Dict[str, Any],
    args: Dict[str, Any],
) -> nn.Module:
    """Turn a timm image model into an SE model of clips, in place.

    Args:
        clip: Arguments of :meth:`ClipSEHead.set_clip`.
        backbone: Name of the image model.
        model: The image model.
        se_args: Arguments of the SE head; see :func:`se_zoo.models.attach.attach_se`.
        args: Arguments that the image model was created with.

    Returns:
        The model.

    Raises:
        UnsupportedBackboneError: If the backbone cannot be squeezed, or returns a list of features.
    """
    layout, channels = probe_once(backbone, args, model)
    if list_layout(model) is not None:
        raise UnsupportedBackboneError(
            f"{name_of(model)} returns a list of features, which framewise_sehead does not take."
        )
    attach_se(model, FrameLayout(layout), channels, head=_FramewiseMixin, **se_args)
    model.set_clip(**clip)  # type: ignore[operator]
    return model
