"""Collect the configs of the registered image architectures: timm's tags and the zoo's own."""

from dataclasses import asdict
from typing import Any, Dict, Union

import timm

from ._timm import PretrainedCfg, get_arch_pretrained_cfgs, split_model_name_tag
from .backbones import OWN_BACKBONE_CFGS
from .pretrained.fetch import WEIGHTS_NAME
from .pretrained.own_models import cfgs_of

BACKBONES = (
    "resnet18_slim", "resnet10t", "resnet18", "resnet34", "resnet50", "resnet101",
    "efficientnet_b0", "tf_efficientnet_lite0",
    "convnext_zepto_rms", "convnext_atto", "convnext_tiny", "convnext_small", "convnext_base",
    "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224",
    "vit_small_patch14_dinov2", "swin_tiny_patch4_window7_224",
)  # fmt: skip


def _cfgs_of(backbone: str) -> Dict[str, Dict[str, Any]]:
    """Return timm's tags of the backbone, its default first, then the zoo's own."""
    variant = f"{backbone}_sehead"
    cfgs: Dict[str, Dict[str, Any]] = {}
    if backbone in OWN_BACKBONE_CFGS:
        # Lets the architecture be created before the zoo has weights of it.
        cfgs[variant] = OWN_BACKBONE_CFGS[backbone]()
    if timm.is_model(backbone):
        for name, cfg in get_arch_pretrained_cfgs(backbone).items():
            tag = split_model_name_tag(name)[1]
            if cfg.hf_hub_id and tag:  # without a Hub repository there are no safetensors
                cfgs[f"{variant}.{tag}"] = {
                    **asdict(cfg), "architecture": None, "tag": None, "url": "",
                    "hf_hub_filename": WEIGHTS_NAME,
                }  # fmt: skip
    own = cfgs_of(variant)
    if own:
        cfgs.pop(variant, None)
    return {**cfgs, **own}


def all_cfgs() -> Dict[str, Union[Dict[str, Any], PretrainedCfg]]:
    """Return the configs of all image architectures, keyed ``<architecture>.<tag>``."""
    base = timm.get_pretrained_cfg("resnet18")
    assert base is not None
    cfgs: Dict[str, Union[Dict[str, Any], PretrainedCfg]] = {}
    for backbone in BACKBONES:
        cfgs.update(_cfgs_of(backbone))
    # The config of the default backbone; with another backbone, its config takes the place of this.
    cfgs["timm_sehead"] = {
        **asdict(base), "architecture": None, "tag": None, "hf_hub_id": None, "url": "",
    }  # fmt: skip
    return cfgs
