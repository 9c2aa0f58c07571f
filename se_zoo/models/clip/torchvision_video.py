"""Give torchvision's clip classifiers an SE head and timm's interface.

The SE classes derive from torchvision's, so modules and state-dict names are torchvision's plus
``se.*``. Inputs are clips (B, 3, T, H, W); an image (B, 3, H, W) is a clip of one frame.
"""

from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.video.mvit import MViT
from torchvision.models.video.resnet import VideoResNet
from torchvision.models.video.s3d import S3D
from torchvision.models.video.swin_transformer import SwinTransformer3d

from ...errors import InvalidInputError
from ...layers import Layout
from ..attach import FAMILIES, attach_se
from .head import ClipSEHead


class _ClipMixin(ClipSEHead):
    """Add timm's interface to torchvision's clip classifiers.

    Attributes:
        grad_checkpointing: Whether activations are computed again in the backward pass, to use less
            memory.
        classifier_name: Name of the module that maps pooled features to logits.
        convolutional: Whether that module is a convolution.
        drop_rate: Dropout in front of the classifier.
        num_features: Channels of the features.
        stem_pattern: Regular expression of the names of the stem's parameters.
        block_pattern: Regular expression of those of the stages; its group is the stage's number.
    """

    grad_checkpointing: bool = False
    classifier_name: str
    convolutional: bool = False
    drop_rate: float = 0.0
    num_features: int
    stem_pattern: str
    block_pattern: str

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last feature map of clips (B, 3, T, H, W), in the backbone's own layout."""
        raise NotImplementedError

    def run(self, stage: Any, *args: Any) -> Any:
        """Run a stage, with checkpointing if it is on."""
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():  # type: ignore[attr-defined]
            return checkpoint(stage, *args, use_reentrant=False)
        return stage(*args)

    def get_classifier(self) -> nn.Module:
        """Return the linear layer or 1x1x1 convolution that computes the logits, as in timm."""
        return self.get_submodule(self.classifier_name)  # type: ignore[attr-defined]

    def reset_classifier(
        self,
        num_classes: int,
        global_pool: Optional[str] = None,
        *,
        multi_label: Optional[bool] = None,
    ) -> None:
        """Replace the classifier, as in timm.

        Args:
            num_classes: Number of classes; 0 removes the classifier.
            global_pool: None or ``"avg"``: the backbone's own pooling stays.
            multi_label: Whether the new classes are independent labels.

        Raises:
            InvalidInputError: If ``global_pool`` is another pooling.
        """
        if global_pool not in (None, "avg"):
            raise InvalidInputError(
                f"{type(self).__name__} has a fixed pooling; global_pool must be 'avg' or None, "
                f"not {global_pool!r}."
            )
        self.forget_labels(num_classes, multi_label)
        old = self.get_classifier()
        like: Dict[str, Any] = {"device": next(self.parameters()).device}  # type: ignore[attr-defined]
        new: nn.Module = nn.Identity()
        if num_classes and self.convolutional:
            new = nn.Conv3d(self.num_features, num_classes, 1, **like)
        elif num_classes:
            new = nn.Linear(self.num_features, num_classes, **like)
        parent, _, name = self.classifier_name.rpartition(".")
        setattr(self.get_submodule(parent), name, new.train(old.training))  # type: ignore[attr-defined]
        self.num_classes = num_classes

    @property
    def head_hidden_size(self) -> int:
        """Number of channels that the classifier reads, as in timm."""
        return self.num_features

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turn checkpointing of activations on or off, as in timm."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> "set[str]":
        """Return the names of parameters without weight decay, as in timm: none."""
        return set()

    def group_matcher(self, coarse: bool = False) -> Dict[str, Any]:
        """Return which parameters belong to the stem and to each stage, as in timm."""
        return {"stem": self.stem_pattern, "blocks": self.block_pattern}


class VideoResNetSE(_ClipMixin, VideoResNet):
    """R3D, MC3 and R(2+1)D (Tran et al., arXiv 1711.11248); features (B, 512, T', H', W')."""

    classifier_name: str = "fc"
    num_features: int = 512
    stem_pattern: str = r"^stem"
    block_pattern: str = r"^layer(\d+)"

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of clips (B, 3, T, H, W)."""
        x = self.stem(self.as_clips(x))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = self.run(stage, x)
        return x

    def classify(self, gated: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Run the backbone's own head on gated features; see :meth:`SEHeadMixin.classify`."""
        x = F.dropout(self.avgpool(gated).flatten(1), self.drop_rate, self.training)
        return x if pre_logits else self.fc(x)


class S3DSE(_ClipMixin, S3D):
    """S3D (Xie et al., arXiv 1712.04851); features (B, 1024, T', H', W')."""

    classifier_name: str = "classifier.1"
    num_features: int = 1024
    convolutional: bool = True
    stem_pattern: str = r"^features\.[0-3]\."
    block_pattern: str = r"^features\.(\d+)"

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of clips (B, 3, T, H, W)."""
        clips = self.as_clips(x)
        x = clips
        for block in self.features:
            x = self.run(block, x)
        if min(x.shape[2] / 2, x.shape[3] / 7, x.shape[4] / 7) < 1:
            raise InvalidInputError(
                "S3D takes clips of at least 13 frames of 209 x 209 pixels, got "
                f"{clips.shape[2]} of {clips.shape[3]} x {clips.shape[4]}."
            )
        return x

    def classify(self, gated: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Run the backbone's own head on gated features; see :meth:`SEHeadMixin.classify`."""
        x = self.avgpool(gated)
        if pre_logits:
            return x.mean(dim=(2, 3, 4))
        x = self.classifier(x)
        return x.mean(dim=(2, 3, 4))


class SwinTransformer3dSE(_ClipMixin, SwinTransformer3d):
    """Video Swin (Liu et al., arXiv 2106.13230); features (B, T', H', W', C), normed."""

    classifier_name: str = "head"
    stem_pattern: str = r"^patch_embed"
    block_pattern: str = r"^features\.(\d+)"

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of clips (B, 3, T, H, W)."""
        x = self.pos_drop(self.patch_embed(self.as_clips(x)))
        for stage in self.features:
            x = self.run(stage, x)
        return self.norm(x)

    def classify(self, gated: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Run the backbone's own head on gated features; see :meth:`SEHeadMixin.classify`."""
        x = self.avgpool(gated.movedim(-1, 1)).flatten(1)
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.head(x)


class MViTSE(_ClipMixin, MViT):
    """MViT (Li et al., arXiv 2112.01526); features (B, 1 + T'H'W', C), a class token first.

    Its classifier reads the class token alone, so the gate is computed from the patch tokens and
    multiplies all tokens.
    """

    classifier_name: str = "head.1"
    stem_pattern: str = r"^conv_proj|^pos_encoding"
    block_pattern: str = r"^blocks\.(\d+)"

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of clips (B, 3, T, H, W)."""
        x = self.as_clips(x)
        takes = (
            self.pos_encoding.temporal_size * 2,
            *(4 * s for s in self.pos_encoding.spatial_size),
        )
        if tuple(x.shape[2:]) != takes:
            raise InvalidInputError(
                f"MViT takes clips of exactly {takes[0]} frames of {takes[1]} x {takes[2]} pixels, "
                f"got {x.shape[2]} of {x.shape[3]} x {x.shape[4]}."
            )
        x = self.pos_encoding(self.conv_proj(x).flatten(2).transpose(1, 2))
        thw = (self.pos_encoding.temporal_size, *self.pos_encoding.spatial_size)
        for block in self.blocks:
            x, thw = self.run(block, x, thw)
        return self.norm(x)

    def classify(self, gated: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Run the backbone's own head on gated features; see :meth:`SEHeadMixin.classify`."""
        x = gated[:, 0]
        return self.head[0](x) if pre_logits else self.head(x)


FAMILIES.update(
    {
        VideoResNet: VideoResNetSE,
        S3D: S3DSE,
        SwinTransformer3d: SwinTransformer3dSE,
        MViT: MViTSE,
    }
)


def attach_clip_se(
    model: nn.Module, clip: Dict[str, Any], drop_rate: float, se_args: Dict[str, Any]
) -> nn.Module:
    """Put an SE head on one of torchvision's clip classifiers, in place.

    Args:
        model: torchvision's model.
        clip: Arguments of :meth:`ClipSEHead.set_clip`.
        drop_rate: Dropout in front of the classifier.
        se_args: Arguments of the SE head; see :func:`se_zoo.models.attach.attach_se`.

    Returns:
        The model.
    """
    layout, channels = _layout_of(model)
    attach_se(model, layout, channels, **se_args)
    model.set_clip(**clip)  # type: ignore[operator]
    model.drop_rate, model.num_features = drop_rate, channels  # type: ignore[assignment]
    model.num_classes = model.get_classifier().weight.shape[0]  # type: ignore[operator, union-attr]
    return model


def _layout_of(model: nn.Module) -> Tuple[Layout, int]:
    """Return the layout of the features before the pooling, and their channels."""
    if isinstance(model, VideoResNet):
        return Layout("NCTHW"), model.fc.in_features
    if isinstance(model, S3D):
        return Layout("NCTHW"), 1024
    if isinstance(model, SwinTransformer3d):
        return Layout("NTHWC"), model.num_features
    assert isinstance(model, MViT)
    head: Any = model.head[1]
    return Layout("NLC", 1, _mvit_grid(model)), head.in_features


def _mvit_grid(model: MViT) -> Tuple[int, ...]:
    """Return the grid (T, H, W) of the patch tokens after all blocks; some blocks pool."""
    grid: List[int] = [model.pos_encoding.temporal_size, *model.pos_encoding.spatial_size]
    for block in model.blocks:
        pool: Any = getattr(block.attn, "pool_q", None)
        if pool is not None:
            stride = pool.pool.stride
            grid = [-(-size // step) for size, step in zip(grid, stride, strict=True)]
    return tuple(grid)
