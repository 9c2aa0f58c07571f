"""Register image architectures: timm's backbones with an SE head.

``pretrained=True`` on an untagged name, or on one of timm's tags, loads timm's own weights into the
backbone under an identity gate, so the logits are timm's to the bit. The tags ``celeba`` and
``in1k`` are this zoo's own models (arXiv 2412.05134 trains on CelebA).
"""

from typing import Any, Dict, Optional

import timm
from timm.models import generate_default_cfgs, register_model
from torch import nn

from ..layers import Layout
from ._timm import split_model_name_tag
from .backbones import slim_resnet
from .build import create_any, create_sehead
from .cfgs import all_cfgs

_NCHW, _NHWC = Layout("NCHW"), Layout("NHWC")
_FEATURES = {
    "efficientnet": {"out_indices": (0, 1, 2, 3, 4), "feature_cls": "getter"},
    "convnext": {"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
    "vit": {"out_indices": 3, "feature_cls": "getter"},
    "swin": {"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
}
#: Configs by architecture and tag; timm's registry reads this name.
default_cfgs: Any = generate_default_cfgs(all_cfgs())


def _resnet(backbone: str, pretrained: bool, kwargs: Dict[str, Any]) -> nn.Module:
    return create_sehead(f"{backbone}_sehead", pretrained, backbone, _NCHW, **kwargs)


def _efficientnet(backbone: str, pretrained: bool, kwargs: Dict[str, Any]) -> nn.Module:
    return create_sehead(
        f"{backbone}_sehead", pretrained, backbone, _NCHW, _FEATURES["efficientnet"], **kwargs
    )


def _convnext(backbone: str, pretrained: bool, kwargs: Dict[str, Any]) -> nn.Module:
    return create_sehead(
        f"{backbone}_sehead", pretrained, backbone, _NCHW, _FEATURES["convnext"], **kwargs
    )


def _vit(backbone: str, pretrained: bool, kwargs: Dict[str, Any]) -> nn.Module:
    return create_sehead(
        f"{backbone}_sehead", pretrained, backbone, Layout("NLC"), _FEATURES["vit"], **kwargs
    )


@register_model
def resnet18_slim_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a half-width ResNet-18 of output stride 8, with an SE head; the bundled model's."""
    return create_sehead("resnet18_slim_sehead", pretrained, slim_resnet, _NCHW, **kwargs)


@register_model
def resnet10t_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create timm's ResNet-10-T with an SE head."""
    return _resnet("resnet10t", pretrained, kwargs)


@register_model
def resnet18_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ResNet-18 with an SE head."""
    return _resnet("resnet18", pretrained, kwargs)


@register_model
def resnet34_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ResNet-34 with an SE head."""
    return _resnet("resnet34", pretrained, kwargs)


@register_model
def resnet50_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ResNet-50 with an SE head."""
    return _resnet("resnet50", pretrained, kwargs)


@register_model
def resnet101_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ResNet-101 with an SE head."""
    return _resnet("resnet101", pretrained, kwargs)


@register_model
def efficientnet_b0_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create an EfficientNet-B0 with an SE head."""
    return _efficientnet("efficientnet_b0", pretrained, kwargs)


@register_model
def tf_efficientnet_lite0_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create an EfficientNet-Lite0 (no other SE blocks, TensorFlow's padding) with an SE head."""
    return _efficientnet("tf_efficientnet_lite0", pretrained, kwargs)


@register_model
def convnext_zepto_rms_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create timm's ConvNeXt-Zepto (std norm) with an SE head."""
    return _convnext("convnext_zepto_rms", pretrained, kwargs)


@register_model
def convnext_atto_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create timm's ConvNeXt-Atto with an SE head."""
    return _convnext("convnext_atto", pretrained, kwargs)


@register_model
def convnext_tiny_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ConvNeXt-Tiny with an SE head."""
    return _convnext("convnext_tiny", pretrained, kwargs)


@register_model
def convnext_small_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ConvNeXt-Small with an SE head."""
    return _convnext("convnext_small", pretrained, kwargs)


@register_model
def convnext_base_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ConvNeXt-Base with an SE head."""
    return _convnext("convnext_base", pretrained, kwargs)


@register_model
def vit_tiny_patch16_224_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ViT-Tiny/16 with an SE head."""
    return _vit("vit_tiny_patch16_224", pretrained, kwargs)


@register_model
def vit_small_patch16_224_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ViT-Small/16 with an SE head."""
    return _vit("vit_small_patch16_224", pretrained, kwargs)


@register_model
def vit_base_patch16_224_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a ViT-Base/16 with an SE head."""
    return _vit("vit_base_patch16_224", pretrained, kwargs)


@register_model
def vit_small_patch14_dinov2_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a DINOv2 ViT-Small/14 with an SE head."""
    return _vit("vit_small_patch14_dinov2", pretrained, kwargs)


@register_model
def swin_tiny_patch4_window7_224_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a Swin-Tiny with an SE head."""
    name = "swin_tiny_patch4_window7_224"
    return create_sehead(f"{name}_sehead", pretrained, name, _NHWC, _FEATURES["swin"], **kwargs)


@register_model
def timm_sehead(
    pretrained: bool = False, backbone: Optional[str] = None, **kwargs: Any
) -> nn.Module:
    """Create any timm backbone with an SE head; config.json keeps ``backbone``.

    Args:
        pretrained: Load weights: those of the config if it is of an SE model (Hub, local folder,
            tag of the zoo), else timm's into the backbone, under an identity gate.
        backbone: timm name, with or without a tag; resnet18 by default.
        **kwargs: ``gate``, ``reduction``, ``multi_label`` and the backbone's own arguments.

    Returns:
        The SE model, or timm's feature extractor with ``features_only``.

    Raises:
        UnknownModelError: If timm does not know the backbone.
        UnsupportedBackboneError: If it cannot be squeezed.
    """
    named = split_model_name_tag(backbone)[0] if isinstance(backbone, str) else None
    features = None
    if kwargs.get("features_only") and named and timm.is_model(named):
        features = _feature_cfg(named)
    return create_any("timm_sehead", pretrained, backbone, features, **kwargs)


def _feature_cfg(backbone: str) -> Dict[str, Any]:
    """Return timm's settings for ``features_only`` of any backbone.

    The settings of a backbone's own entry point are not accessible. So features are taken by
    ``forward_intermediates``, or by hooks if the backbone lacks it.
    """
    model = timm.create_model(backbone, device="meta")
    if not hasattr(model, "forward_intermediates"):
        return {"feature_cls": "hook"}
    levels: Any = model.feature_info
    return {"feature_cls": "getter", "out_indices": min(5, len(levels))}
