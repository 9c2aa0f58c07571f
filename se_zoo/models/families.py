"""Define SE classes of the registered families, with heads that TorchScript and FX can follow.

TorchScript rejects ``super().forward_head()`` and FX rejects branches on ``x.ndim``. So each
``forward_head`` is timm's own code with the gate in front, and the classes have no property or
annotation that TorchScript would have to compile.
"""

import warnings
from typing import Any, Dict, FrozenSet, List

import torch
import torch.nn.functional as F
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from ..errors import SEZooWarning
from .attach import FAMILIES
from .sehead import SEHeadMixin


class ResNetSE(SEHeadMixin, ResNet):
    """Add an SE head to timm's ResNet; features (B, C, H, W)."""

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return the logits of ungated features, (B, num_classes)."""
        gate = self.se.excite(x.mean(dim=[2, 3]))
        x = self.global_pool(x * gate.unsqueeze(2).unsqueeze(3))
        if self.drop_rate:
            x = F.dropout(x, p=float(self.drop_rate), training=self.training)
        return x if pre_logits else self.fc(x)


class EfficientNetSE(SEHeadMixin, EfficientNet):
    """Add an SE head to timm's EfficientNet; features (B, C, H, W) of the last convolution."""

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return the logits of ungated features, (B, num_classes)."""
        gate = self.se.excite(x.mean(dim=[2, 3]))
        x = self.global_pool(x * gate.unsqueeze(2).unsqueeze(3))
        if self.drop_rate > 0.0:
            x = F.dropout(x, p=float(self.drop_rate), training=self.training)
        return x if pre_logits else self.classifier(x)


class ConvNeXtSE(SEHeadMixin, ConvNeXt):
    """Add an SE head to timm's ConvNeXt; features (B, C, H, W), norm behind the pooling."""

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return the logits of ungated features, (B, num_classes)."""
        gate = self.se.excite(x.mean(dim=[2, 3]))
        x = x * gate.unsqueeze(2).unsqueeze(3)
        return self.head(x, pre_logits=True) if pre_logits else self.head(x)


class VisionTransformerSE(SEHeadMixin, VisionTransformer):
    """Add an SE head to timm's ViT: patch tokens give the gate, which multiplies all tokens."""

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return the logits of ungated features, (B, num_classes)."""
        gate = self.se.excite(x[:, self.num_prefix_tokens :].mean(dim=1))
        x = self.pool(x * gate.unsqueeze(1))
        x = self.fc_norm(x)
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)


class SwinTransformerSE(SEHeadMixin, SwinTransformer):
    """Add an SE head to timm's Swin; features (B, H, W, C)."""

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return the logits of ungated features, (B, num_classes)."""
        gate = self.se.excite(x.mean(dim=[1, 2]))
        x = x * gate.unsqueeze(1).unsqueeze(2)
        return self.head(x, pre_logits=True) if pre_logits else self.head(x)


def further_names(theirs: type, ours: type) -> FrozenSet[str]:
    """Return the names that timm's ``forward_head`` uses and the one written here does not.

    Args:
        theirs: timm's class.
        ours: Its SE class.

    Returns:
        Names of attributes and functions; none as long as the two compute the same. The method's
        own name if it is no plain function, whose names could be read.
    """
    name = "forward_head"
    codes: List[Any] = [getattr(getattr(cls, name), "__code__", None) for cls in (theirs, ours)]
    if None in codes:
        return frozenset({name})
    names, known = (frozenset(code.co_names) for code in codes)
    return names - known


def register(families: Dict[type, type]) -> None:
    """Use the heads written here for timm's classes, as long as these have no other.

    A class whose head does more in this version of timm gets its own head behind the gate. Then
    the answers are right, but TorchScript and FX cannot follow it, and a warning says so.

    Args:
        families: SE class of each of timm's classes.
    """
    for theirs, ours in families.items():
        if names := further_names(theirs, ours):
            warnings.warn(
                f"The head of timm's {theirs.__name__} does more than this version of se_zoo knows "
                f"({', '.join(sorted(names))}). Its SE models use it as it is, but TorchScript and "
                "FX cannot follow them; install a newer se_zoo (pip install -U se_zoo).",
                SEZooWarning,
                stacklevel=2,
            )
        else:
            FAMILIES[theirs] = ours


register(
    {
        ResNet: ResNetSE,
        EfficientNet: EfficientNetSE,
        ConvNeXt: ConvNeXtSE,
        VisionTransformer: VisionTransformerSE,
        SwinTransformer: SwinTransformerSE,
    }
)
