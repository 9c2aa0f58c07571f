"""Registered image architectures: timm's backbones with an SE head.

``pretrained=True`` on an untagged name, or on one of timm's tags, loads timm's own weights for the
backbone under an identity gate, so the logits are timm's to the bit. The tags ``celeba`` and
``in1k`` are this zoo's own models (arXiv 2412.05134 trains on CelebA).
"""

from dataclasses import asdict
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Union

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, model_entrypoint, register_model
from timm.models._builder import resolve_pretrained_cfg
from timm.models._registry import get_arch_pretrained_cfgs, split_model_name_tag
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from ..errors import UnknownModelError, WeightsNotFoundError
from ..layers import Layout
from . import families as _families  # noqa: F401  (fills FAMILIES)
from .labels import CELEBA_ATTRIBUTES, imagenet_labels
from .names import add_alias
from .pull import HUB_ORG, WEIGHTS_NAME, bundled_file, clear_errors, source_overlay
from .sehead import attach_se, probe_layout

#: Backbone -> this zoo's own tags.
OWN_TAGS: Dict[str, List[str]] = {
    "resnet18_slim": ["celeba"],
    "resnet18": ["celeba"],
    "resnet50": ["celeba", "in1k"],
    "convnext_tiny": ["celeba", "in1k"],
    "vit_small_patch16_224": ["celeba"],
    "vit_base_patch16_224": ["in1k"],
}
BACKBONES = (
    "resnet18_slim", "resnet10t", "resnet18", "resnet34", "resnet50", "resnet101",
    "convnext_zepto_rms", "convnext_atto", "convnext_tiny", "convnext_small", "convnext_base",
    "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224",
    "vit_small_patch14_dinov2", "swin_tiny_patch4_window7_224",
)  # fmt: skip
#: Models whose weights lie inside the package: se_zoo name -> registry name.
BUNDLED = {"se_zoo/resnet18_slim_celeba": "resnet18_slim_sehead.celeba"}

_NCHW, _NHWC = Layout("NCHW"), Layout("NHWC")
_FEATURES = {
    "convnext": {"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
    "vit": {"out_indices": 3, "feature_cls": "getter"},
    "swin": {"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
}


def _slim_cfg(**kwargs: Any) -> Dict[str, Any]:
    """The slim ResNet takes faces framed as in CelebA: 178 x 218, upright."""
    return {
        "num_classes": 40, "input_size": (3, 128, 104), "pool_size": (16, 13), "crop_pct": 1.0,
        "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
        "first_conv": "conv1", "classifier": "fc", **kwargs,
    }  # fmt: skip


def _own_cfg(backbone: str, tag: str) -> Dict[str, Any]:
    """Config of one of the zoo's own models; preprocessing is the backbone's."""
    cfg: Dict[str, Any] = {"hf_hub_id": f"{HUB_ORG}/{backbone}_{tag}", "hf_hub_filename": WEIGHTS_NAME}
    if tag == "celeba":
        cfg.update(num_classes=40, label_names=CELEBA_ATTRIBUTES, license="other")
    if backbone == "resnet18_slim":
        return _slim_cfg(**cfg, file=str(bundled_file(backbone, tag)))
    base = asdict(next(iter(get_arch_pretrained_cfgs(backbone).values())))
    kept = (
        "input_size", "fixed_input_size", "interpolation", "crop_pct", "mean", "std", "pool_size",
        "first_conv", "classifier",
    )  # fmt: skip
    return {"license": "apache-2.0", **{key: base[key] for key in kept}, **cfg}


def _cfgs_of(backbone: str) -> Dict[str, Dict[str, Any]]:
    """timm's tags of the backbone (its default first), then the zoo's own."""
    cfgs: Dict[str, Dict[str, Any]] = {}
    if timm.is_model(backbone):
        for name, cfg in get_arch_pretrained_cfgs(backbone).items():
            tag = split_model_name_tag(name)[1]
            if cfg.hf_hub_id and tag:  # without a Hub repository there are no safetensors
                cfgs[f"{backbone}_sehead.{tag}"] = {
                    **asdict(cfg), "architecture": None, "tag": None, "url": "",
                    "hf_hub_filename": WEIGHTS_NAME,
                }  # fmt: skip
    for tag in OWN_TAGS.get(backbone, []):
        cfgs[f"{backbone}_sehead.{tag}"] = _own_cfg(backbone, tag)
        add_alias(backbone, tag)
    return cfgs


default_cfgs = generate_default_cfgs(
    {name: cfg for backbone in BACKBONES for name, cfg in _cfgs_of(backbone).items()}
    | {"timm_sehead": {**asdict(timm.get_pretrained_cfg("resnet18")), "architecture": None, "tag": None,
                       "hf_hub_id": None, "url": ""}}  # fmt: skip
)


def _slim_resnet(**kwargs: Any) -> ResNet:
    """ResNet-18 of half width (He et al., arXiv 1512.03385, table 1), one block moved from the
    last stage to the third, output stride 8: 1.9 M parameters and a 16 x 13 map on 128 x 104.

    The last two stages keep the resolution without dilation, unlike timm's ``output_stride``: the
    smaller receptive field is what keeps a cell's features, and so the maps, close to its place.
    """
    defaults = {"block": BasicBlock, "layers": (2, 2, 3, 1), "channels": (32, 64, 128, 256),
                "output_stride": 8}  # fmt: skip
    model = ResNet(**{**defaults, **kwargs})
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.dilation != (1, 1):
            module.dilation = module.padding = (1, 1)
    return model


def _build(
    create: Callable[..., nn.Module],
    layout: Optional[Layout],
    se_args: Dict[str, Any],
    **kwargs: Any,
) -> nn.Module:
    """Make the backbone and put the SE head on; what timm's builder calls as the model class."""
    model = create(**kwargs)
    if layout is None:
        layout, channels = probe_layout(model)
    else:
        prefix = getattr(model, "num_prefix_tokens", 0) if layout.kind == "NLC" else 0
        layout, channels = Layout(layout.kind, prefix), model.num_features
    return attach_se(model, layout, channels, **se_args)  # type: ignore[arg-type]


def _fill_se(state_dict: Dict[str, torch.Tensor], model: nn.Module) -> Dict[str, torch.Tensor]:
    """A backbone's own weights, given as a file, come without ``se.*``: then the gate stays at
    identity. Under any other gate, or from the Hub, missing SE weights are an error."""
    cfg: Dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    if any(key.startswith("se.") for key in state_dict):
        return state_dict
    if cfg.get("source") or not cfg.get("file") or model.se_args["gate"] != "identity":  # type: ignore[index]
        raise WeightsNotFoundError(
            f"The weights for {cfg.get('architecture')} have no SE block (se.*); a plain backbone's "
            'file loads under gate="identity" only.'
        )
    return {**state_dict, **{k: v for k, v in model.state_dict().items() if k.startswith("se.")}}


def _create(
    variant: str,
    pretrained: bool,
    create: Union[str, Callable[..., nn.Module]],
    layout: Optional[Layout],
    feature_cfg: Optional[Dict[str, Any]] = None,
    *,
    gate: str = "identity",
    reduction: int = 16,
    multi_label: Optional[bool] = None,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Optional[Dict[str, Any]] = None,
    cache_dir: Any = None,
    **kwargs: Any,
) -> nn.Module:
    """Create an SE variant: timm's weights into the backbone, the zoo's into the whole model.

    Args:
        variant: Registry name.
        pretrained: Load weights.
        create: timm name of the backbone, or what makes it.
        layout: Layout of its features; probed if None.
        feature_cfg: timm's settings for ``features_only``.
        gate: ``"identity"`` or ``"sigmoid"``.
        reduction: Reduction of the SE block.
        multi_label: Independent yes/no labels; by default as the tag's data set is.
        pretrained_cfg: Tag or config, as timm passes it.
        pretrained_cfg_overlay: Changes to that config.
        cache_dir: Where downloads are kept.
        **kwargs: Model arguments of the backbone.
    """
    cfg = resolve_pretrained_cfg(variant, pretrained_cfg, pretrained_cfg_overlay).to_dict()
    tag = cfg.get("tag") or ""
    if pretrained:
        cfg.update(source_overlay(cfg))
    if tag == "in1k":
        cfg["label_names"] = imagenet_labels()
    if tag in ("celeba", "in1k") and "vit_" in variant:
        kwargs.setdefault("global_pool", "avg")  # exact maps; a class-token head has none
    if multi_label is None:
        multi_label = tag == "celeba"
    maker: Callable[..., nn.Module] = create if callable(create) else model_entrypoint(create)
    from_timm = (cfg.get("hf_hub_id") or "").startswith("timm/") and not cfg.get("source")
    from_timm = from_timm and not cfg.get("file") and not cfg.get("state_dict")
    if not callable(create):
        source = {k: v for k, v in cfg.items() if k not in ("architecture", "tag")} if from_timm else None
        maker = partial(maker, pretrained=pretrained and from_timm, pretrained_cfg=source, cache_dir=cache_dir)
    se_args = {"reduction": reduction, "gate": gate, "multi_label": multi_label}
    with clear_errors(variant, cfg, BUNDLED):
        return build_model_with_cfg(
            partial(_build, maker, layout, se_args),
            variant,
            pretrained and not from_timm,
            pretrained_cfg=cfg,
            pretrained_filter_fn=_fill_se,
            feature_cfg=dict(feature_cfg or {}),
            cache_dir=cache_dir,
            **kwargs,
        )


def _resnet(backbone: str, pretrained: bool, kwargs: Dict[str, Any]) -> nn.Module:
    return _create(f"{backbone}_sehead", pretrained, backbone, _NCHW, **kwargs)


def _convnext(backbone: str, pretrained: bool, kwargs: Dict[str, Any]) -> nn.Module:
    return _create(f"{backbone}_sehead", pretrained, backbone, _NCHW, _FEATURES["convnext"], **kwargs)


def _vit(backbone: str, pretrained: bool, kwargs: Dict[str, Any]) -> nn.Module:
    return _create(f"{backbone}_sehead", pretrained, backbone, Layout("NLC"), _FEATURES["vit"], **kwargs)


@register_model
def resnet18_slim_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Half-width ResNet-18 at output stride 8 with the paper's SE head; the bundled model."""
    kwargs.setdefault("gate", "sigmoid")
    return _create("resnet18_slim_sehead", pretrained, _slim_resnet, _NCHW, **kwargs)


@register_model
def resnet10t_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's ResNet-10-T with an SE head."""
    return _resnet("resnet10t", pretrained, kwargs)


@register_model
def resnet18_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-18 with an SE head."""
    return _resnet("resnet18", pretrained, kwargs)


@register_model
def resnet34_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-34 with an SE head."""
    return _resnet("resnet34", pretrained, kwargs)


@register_model
def resnet50_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-50 with an SE head."""
    return _resnet("resnet50", pretrained, kwargs)


@register_model
def resnet101_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-101 with an SE head."""
    return _resnet("resnet101", pretrained, kwargs)


@register_model
def convnext_zepto_rms_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's ConvNeXt-Zepto (std norm) with an SE head."""
    return _convnext("convnext_zepto_rms", pretrained, kwargs)


@register_model
def convnext_atto_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's ConvNeXt-Atto with an SE head."""
    return _convnext("convnext_atto", pretrained, kwargs)


@register_model
def convnext_tiny_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ConvNeXt-Tiny with an SE head."""
    return _convnext("convnext_tiny", pretrained, kwargs)


@register_model
def convnext_small_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ConvNeXt-Small with an SE head."""
    return _convnext("convnext_small", pretrained, kwargs)


@register_model
def convnext_base_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ConvNeXt-Base with an SE head."""
    return _convnext("convnext_base", pretrained, kwargs)


@register_model
def vit_tiny_patch16_224_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ViT-Tiny/16 with an SE head."""
    return _vit("vit_tiny_patch16_224", pretrained, kwargs)


@register_model
def vit_small_patch16_224_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ViT-Small/16 with an SE head; its own tags pool by average, so that maps are exact."""
    return _vit("vit_small_patch16_224", pretrained, kwargs)


@register_model
def vit_base_patch16_224_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ViT-Base/16 with an SE head; its own tags pool by average, so that maps are exact."""
    return _vit("vit_base_patch16_224", pretrained, kwargs)


@register_model
def vit_small_patch14_dinov2_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """DINOv2 ViT-Small/14 with an SE head."""
    return _vit("vit_small_patch14_dinov2", pretrained, kwargs)


@register_model
def swin_tiny_patch4_window7_224_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Swin-Tiny with an SE head."""
    name = "swin_tiny_patch4_window7_224"
    return _create(f"{name}_sehead", pretrained, name, _NHWC, _FEATURES["swin"], **kwargs)


@register_model
def timm_sehead(pretrained: bool = False, backbone: str = "resnet18", **kwargs: Any) -> nn.Module:
    """Any timm backbone with an SE head; ``backbone`` round-trips through config.json.

    Args:
        pretrained: timm's weights for the backbone under an identity gate; or, where the config
            comes with weights of its own (Hub, local folder), those.
        backbone: timm name, with or without a tag.
        **kwargs: ``gate``, ``reduction``, ``multi_label`` and the backbone's own arguments.

    Raises:
        UnknownModelError: If timm does not know the backbone.
        UnsupportedBackboneError: If it cannot be squeezed.
    """
    name, tag = split_model_name_tag(backbone)
    if not timm.is_model(name) or "_sehead" in name:
        raise UnknownModelError(f"timm has no backbone {backbone!r}; see timm.list_models().")
    if not kwargs.get("pretrained_cfg"):
        base = timm.get_pretrained_cfg(f"{name}.{tag}" if tag else name)
        if base is None:
            raise UnknownModelError(f"timm has no pretrained config {backbone!r}.")
        kwargs["pretrained_cfg"] = {**asdict(base), "architecture": "timm_sehead"}
    probe_features: Dict[str, Any] = {}
    if kwargs.get("features_only"):
        module = timm.create_model(name, num_classes=0, device="meta")
        getter = hasattr(module, "forward_intermediates")
        probe_features = {"feature_cls": "getter" if getter else "hook"}
        if getter:
            probe_features["out_indices"] = min(5, len(module.feature_info))
    return _create("timm_sehead", pretrained, name, None, probe_features, **kwargs)
