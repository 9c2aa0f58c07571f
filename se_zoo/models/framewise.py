"""Clips through an image backbone, frame by frame: temporal mean, one gate for the clip.

The features keep a time axis, so every frame has a map of its own. They are averaged over time
before the backbone's own head, whose pooling, norm and classifier therefore stay as exact, or not,
as they are for images.
"""

from typing import Any, Dict, Optional, Tuple, Type

import torch
from torch import nn

from ..errors import InvalidInputError, UnsupportedBackboneError
from ..layers import FrameLayout, SqueezeExcite
from .probe import name_of, probe_layout
from .sehead import SEHeadMixin, plain_class

_CLASSES: Dict[type, type] = {}


class FramewiseMixin(SEHeadMixin):
    """An image class of timm that takes clips, (B, C, T, H, W).

    Attributes:
        num_frames: Frames of the clips that the model is made for; any number works.
        frame_stride: Of so many frames of a video, one is taken into a clip.
    """

    takes_clips = True
    num_frames: int
    frame_stride: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of clips (B, C, T, H, W); an image (B, C, H, W) is a clip of one frame."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features of every frame, (B, T, *frame) in the backbone's own layout."""
        if x.dim() == 4:
            x = x.unsqueeze(2)
        if x.dim() != 5:
            raise InvalidInputError(
                f"{type(self).__name__} takes clips (B, C, T, H, W) or images (B, C, H, W), got "
                f"{tuple(x.shape)}."
            )
        frames = x.transpose(1, 2).flatten(0, 1)
        features = super().forward_features(frames)  # type: ignore[misc]
        return features.unflatten(0, (x.shape[0], x.shape[2]))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Gate, mean over time, and the backbone's own head."""
        return self.classify(self.gated(x), pre_logits)  # type: ignore[arg-type]

    def classify(self, gated: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        kwargs = {"pre_logits": True} if pre_logits else {}
        return super(SEHeadMixin, self).forward_head(gated.mean(1), **kwargs)  # type: ignore[misc]

    def forward_intermediates(self, *args: Any, **kwargs: Any) -> Any:
        """Not for clips.

        Raises:
            NotImplementedError: Always; squeeze the image backbone instead.
        """
        raise NotImplementedError("Intermediate features are for image models, not for clips.")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _rebuild, (plain_class(type(self)),), self.__dict__.copy()


def framewise_class(cls: type) -> type:
    """The framewise SE class of a timm class; made once."""
    if cls not in _CLASSES:
        name, bases = f"Framewise{cls.__name__}SE", (FramewiseMixin, cls)
        _CLASSES[cls] = type(name, bases, {"__module__": __name__})
    return _CLASSES[cls]


def _rebuild(cls: type) -> nn.Module:
    made: Type[nn.Module] = framewise_class(cls)
    return made.__new__(made)


def attach_framewise_se(
    model: nn.Module,
    num_frames: int,
    frame_stride: int,
    se_args: Dict[str, Any],
    img_size: Optional[Tuple[int, int]] = None,
) -> nn.Module:
    """Turn a timm image model into its framewise SE variant, in place.

    Args:
        model: The image model.
        num_frames: Frames of the clips that it is made for.
        frame_stride: Every so many frames of a video one is taken.
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
    parameter = next(model.parameters())
    kept = {k: se_args[k] for k in ("reduction", "gate")}
    block = SqueezeExcite(channels, **kept, device=parameter.device, dtype=parameter.dtype)
    model.__class__ = framewise_class(type(model))
    model.se = block.train(model.training)
    settings: Dict[str, Any] = {
        "se_layout": FrameLayout(layout), "se_args": kept, "multi_label": se_args["multi_label"],
        "num_frames": num_frames, "frame_stride": frame_stride,
    }  # fmt: skip
    for name, value in settings.items():
        setattr(model, name, value)
    return model
