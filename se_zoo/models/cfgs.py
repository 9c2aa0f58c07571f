"""Pretrained configs of the registered architectures: timm's tags of each backbone, and our own."""

from dataclasses import asdict
from typing import Any, Dict, List, Sequence, Union

import timm
from timm.models._pretrained import PretrainedCfg
from timm.models._registry import get_arch_pretrained_cfgs, split_model_name_tag

from .backbones import slim_cfg
from .labels import CELEBA_ATTRIBUTES, SPEAKER_LABELS, UCF101_CLASSES, imagenet_labels
from .names import add_alias
from .pull import HUB_ORG, WEIGHTS_NAME, bundled_file

#: Backbone -> this zoo's own tags.
OWN_TAGS: Dict[str, List[str]] = {
    "resnet18_slim": ["celeba"],
    "resnet18": ["celeba"],
    "resnet50": ["celeba", "in1k"],
    "convnext_tiny": ["celeba", "in1k"],
    "vit_small_patch16_224": ["celeba"],
    "vit_base_patch16_224": ["in1k"],
}
#: The same of the clip backbones.
OWN_CLIP_TAGS: Dict[str, List[str]] = {
    "r2plus1d_18": ["k400", "ucf101"],
    "mvit_v2_s": ["k400"],
    "swin3d_t": ["k400"],
}
#: The same of the speaker models.
OWN_SPEAKER_TAGS: Dict[str, List[str]] = {"asd_tiny": ["grid"], "asd_small": ["ava"]}
BACKBONES = (
    "resnet18_slim", "resnet10t", "resnet18", "resnet34", "resnet50", "resnet101",
    "convnext_zepto_rms", "convnext_atto", "convnext_tiny", "convnext_small", "convnext_base",
    "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224",
    "vit_small_patch14_dinov2", "swin_tiny_patch4_window7_224",
)  # fmt: skip


def own_model_args(variant: str, tag: str) -> Dict[str, Any]:
    """Model arguments that one of the zoo's own tags is trained and loaded with.

    Args:
        variant: Architecture, ``<backbone>_sehead``.
        tag: ``celeba`` or ``in1k``; for any other tag there are none.
    """
    backbone = variant.removesuffix("_sehead")
    if tag not in OWN_TAGS.get(backbone, []):
        return {}
    args: Dict[str, Any] = {"gate": "sigmoid"}  # the paper's
    if backbone.startswith("vit_"):
        # Exact maps; a class-token head has none. The norm stays before the pooling, under the
        # name that it has in timm's weights.
        args.update(global_pool="avg", fc_norm=False)
    return args


def is_declared(architecture: str, tag: str, labels: Sequence[str]) -> bool:
    """Whether the zoo declares an own model of this architecture and tag, for these labels."""
    backbone = architecture.removesuffix("_sehead")
    tags = (OWN_TAGS, OWN_CLIP_TAGS, OWN_SPEAKER_TAGS)
    if not any(tag in known.get(backbone, []) for known in tags):
        return False
    return list(labels) == list(_labels_of(tag))


def _labels_of(tag: str) -> Sequence[str]:
    """Labels of the data set that a tag of the zoo names."""
    if tag == "k400":
        from torchvision.models.video import R3D_18_Weights

        return R3D_18_Weights.KINETICS400_V1.meta["categories"]
    known = {"celeba": CELEBA_ATTRIBUTES, "ucf101": UCF101_CLASSES}
    known.update({"grid": SPEAKER_LABELS, "ava": SPEAKER_LABELS})
    return known[tag] if tag in known else imagenet_labels()


def _own_cfg(backbone: str, tag: str) -> Dict[str, Any]:
    """Config of one of the zoo's own models; preprocessing is the backbone's."""
    cfg: Dict[str, Any] = {
        "hf_hub_id": f"{HUB_ORG}/{backbone}_{tag}",
        "hf_hub_filename": WEIGHTS_NAME,
    }
    if tag == "celeba":
        cfg.update(num_classes=40, label_names=CELEBA_ATTRIBUTES, license="other")
    if backbone == "resnet18_slim":
        return slim_cfg(**cfg, file=str(bundled_file(backbone, tag)))
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


def all_cfgs() -> Dict[str, Union[Dict[str, Any], PretrainedCfg]]:
    """Configs of every registered architecture, keyed ``<architecture>.<tag>`` as timm wants."""
    base = timm.get_pretrained_cfg("resnet18")
    assert base is not None
    cfgs: Dict[str, Union[Dict[str, Any], PretrainedCfg]] = {}
    for backbone in BACKBONES:
        cfgs.update(_cfgs_of(backbone))
    # Stands for timm_sehead's default backbone; with another one, that one's config is taken.
    cfgs["timm_sehead"] = {
        **asdict(base), "architecture": None, "tag": None, "hf_hub_id": None, "url": "",
    }  # fmt: skip
    return cfgs
