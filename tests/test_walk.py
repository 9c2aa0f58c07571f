"""One small architecture of every timm module, squeezed and run on the CPU with random weights.

The walk over all architectures on the meta device is a script, ``walk_timm.py``: it sees shapes
only. What needs numbers is tested here, about half a second an architecture.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import pytest
import timm
import torch
from timm.models import list_modules
from torch import nn

import se_zoo
from tests.tester import same
from tests.walk_timm import backbones

Size = Tuple[int, int]


class Case(NamedTuple):
    """How to make one small model.

    Attributes:
        name: timm's name.
        size: Height and width of the images; not square where the model allows it, so that rows
            and columns cannot be mistaken for each other.
        kwargs: Arguments that make it small.
    """

    name: str
    size: Size = (96, 128)
    kwargs: Dict[str, Any] = {}


_SWIN: Dict[str, Any] = dict(
    img_size=(96, 128), embed_dim=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)
)
_FIXED: Dict[str, Any] = dict(img_size=(96, 128))  # for models that take one size only
_VIT: Dict[str, Any] = dict(embed_dim=96, depth=2, num_heads=3)
_ENCODER: Dict[str, Any] = dict(num_classes=10, **_VIT)  # these have no classes by default

#: timm module -> its small architecture.
CASES: Dict[str, Case] = {
    "beit": Case("beit_base_patch16_224", kwargs={**_FIXED, **_VIT}),
    "byoanet": Case("halonet_h1", (256, 256)),
    "byobnet": Case("test_byobnet"),
    "cait": Case("cait_xxs24_224", kwargs=dict(_FIXED, depth=3)),
    "coat": Case("coat_tiny", kwargs=_FIXED),
    "convit": Case("convit_tiny", (224, 224)),
    "convmixer": Case("convmixer_768_32", kwargs=dict(depth=4)),
    "convnext": Case("test_convnext"),
    "cpubone": Case("cpubone_nano"),
    "crossvit": Case("crossvit_tiny_240", (240, 240)),
    "csatv2": Case("csatv2", (192, 256)),
    "cspnet": Case("cs3darknet_focus_s"),
    "cspnext": Case("cspnext_tiny"),
    "davit": Case(
        "davit_tiny",
        kwargs=dict(depths=(1,) * 4, embed_dims=(32, 64, 96, 128), num_heads=(1, 2, 3, 4)),
    ),
    "deepseek_vit": Case("deepseek_vit_412m", (126, 168), _ENCODER),
    "deit": Case("deit_tiny_patch16_224", kwargs=dict(_FIXED, depth=3)),
    "densenet": Case("densenet121"),
    "dla": Case("dla46x_c"),
    "dpn": Case("dpn48b"),
    "edgenext": Case("edgenext_xx_small"),
    "efficientformer": Case("efficientformer_l1", (224, 224)),
    "efficientformer_v2": Case("efficientformerv2_s0", kwargs=_FIXED),
    "efficientnet": Case("test_efficientnet"),
    "efficientvim": Case("efficientvim_m1", (128, 192)),
    "efficientvit_mit": Case("efficientvit_b0"),
    "efficientvit_msra": Case("efficientvit_m0", (224, 224)),
    "eva": Case(
        "eva02_tiny_patch14_224", (112, 140), dict(img_size=(112, 140), depth=3, num_classes=10)
    ),
    "fasternet": Case("fasternet_t0"),
    "fastvit": Case("fastvit_t8"),
    "focalnet": Case("focalnet_tiny_srf"),
    "gcvit": Case("gcvit_xxtiny", kwargs=_FIXED),
    "gemma4_vit": Case("gemma4_vit_167m", kwargs=_ENCODER),
    "ghostnet": Case("ghostnet_050"),
    "hardcorenas": Case("hardcorenas_b"),
    "hgnet": Case("hgnetv2_b0"),
    "hiera": Case("hiera_tiny_224", kwargs=dict(_FIXED, embed_dim=32, stages=(1, 1, 2, 1))),
    "hieradet_sam2": Case(
        "hieradet_small", kwargs=dict(embed_dim=32, stages=(1, 1, 2, 1), global_att_blocks=(3,))
    ),
    "hrnet": Case("hrnet_w18_small"),
    "iformer": Case("iformer_t"),
    "inception_next": Case("inception_next_atto"),
    "inception_resnet_v2": Case("inception_resnet_v2", (139, 171)),
    "inception_v3": Case("inception_v3", (139, 171)),
    "inception_v4": Case("inception_v4", (139, 171)),
    "lcnetv2": Case("lcnetv2_small"),
    "levit": Case("levit_128s", kwargs=_FIXED),
    "lowformer": Case("lowformer_b0"),
    "mambaout": Case("test_mambaout"),
    "maxxvit": Case("test_coatnet", kwargs=_FIXED),
    "metaformer": Case("poolformerv2_s12"),
    "mlp_mixer": Case("gmlp_ti16_224", kwargs=dict(_FIXED, num_blocks=4)),
    "mobilenetv3": Case("mobilenetv3_small_050"),
    "mobilenetv5": Case("mobilenetv5_base"),
    "mobilevit": Case("mobilevit_xxs"),
    "mvitv2": Case("mvitv2_tiny"),
    "naflexvit": Case("naflexvit_base_patch16_gap", kwargs=_VIT),
    "nasnet": Case("nasnetalarge"),
    "nest": Case("nest_tiny", (224, 224)),
    "nextvit": Case("nextvit_small"),
    "nfnet": Case("test_nfnet"),
    "pit": Case("pit_ti_224", (224, 224)),
    "pnasnet": Case("pnasnet5large"),
    "pvt_v2": Case("pvt_v2_b0"),
    "qwen3_vit": Case("qwen3_vit_88m", kwargs=_ENCODER),
    "rdnet": Case("rdnet_tiny"),
    "regnet": Case("regnetx_002"),
    "repghost": Case("repghostnet_050"),
    "repvit": Case("repvit_m1"),
    "res2net": Case("res2next50"),
    "resnest": Case("resnest14d"),
    "resnet": Case("test_resnet"),
    "resnetv2": Case("resnetv2_18"),
    "rexnet": Case("rexnet_100"),
    "selecsls": Case("selecsls42"),
    "senet": Case("legacy_seresnet18"),
    "sequencer": Case("sequencer2d_s", (112, 140), dict(img_size=(112, 140), layers=(1, 1, 1, 1))),
    "shvit": Case("shvit_s1", (128, 192)),
    "sknet": Case("skresnet18"),
    "starnet": Case("starnet_s050"),
    "swiftformer": Case("swiftformer_xs", kwargs=_FIXED),
    "swin_transformer": Case("swin_tiny_patch4_window7_224", kwargs=_SWIN),
    "swin_transformer_v2": Case("swinv2_tiny_window8_256", kwargs=_SWIN),
    "swin_transformer_v2_cr": Case("swinv2_cr_tiny_224", kwargs=_SWIN),
    "tiny_vit": Case("tiny_vit_5m_224", kwargs=dict(num_classes=10)),
    "tnt": Case("tnt_s_legacy_patch16_224", kwargs=dict(_FIXED, depth=3)),
    "tresnet": Case("tresnet_m"),
    "twins": Case("twins_svt_small", kwargs=dict(_FIXED, depths=(1, 1, 2, 1))),
    "vgg": Case("vgg11"),
    "visformer": Case("visformer_tiny", kwargs=_FIXED),
    "vision_transformer": Case("test_vit", kwargs=_FIXED),
    "vision_transformer_hybrid": Case("vit_tiny_r_s16_p8_224", kwargs=_FIXED),
    "vision_transformer_relpos": Case("test_vit_relpos", kwargs=_FIXED),
    "vision_transformer_sam": Case(
        "samvit_base_patch16_224", kwargs=dict(_FIXED, **_VIT, global_attn_indexes=(1,))
    ),
    "vitamin": Case("vitamin_small_224", kwargs=_FIXED),
    "volo": Case("volo_d1_224", kwargs=_FIXED),
    "vovnet": Case("ese_vovnet19b_slim_dw"),
    "xception": Case("legacy_xception"),
    "xception_aligned": Case("xception41p"),
    "xcit": Case("xcit_nano_12_p16_224", kwargs=_FIXED),
}
#: Other layouts and heads of the same modules: more prefix tokens, other pooling, lists.
VARIANTS = (
    Case("caformer_s18", kwargs=dict(depths=(1, 1, 2, 1))),
    Case("coat_lite_tiny", kwargs=_FIXED),
    Case("deepseek_vit_412m_align", (126, 168), _ENCODER),
    Case("deit_tiny_distilled_patch16_224", kwargs=dict(_FIXED, depth=3)),
    Case("efficientvim_m1_dist", (128, 192)),
    Case("gemma4_vit_167m", kwargs=dict(_ENCODER, encoder_pool="soft")),
    Case("levit_conv_128s", kwargs=_FIXED),
    Case("mvitv2_small_cls", (224, 224)),
    Case("naflexvit_base_patch16_map", kwargs=_VIT),
    Case("qwen3_vit_88m_merge", kwargs=_ENCODER),
    Case("resmlp_12_224", kwargs=dict(_FIXED, num_blocks=3)),
    Case("twins_pcpvt_small", kwargs=dict(_FIXED, depths=(1, 1, 1, 1))),
    Case("vit_base_patch16_siglip_224", kwargs=dict(_FIXED, **_VIT, num_classes=10)),
    Case(
        "vit_small_patch14_reg4_dinov2",
        (112, 140),
        dict(img_size=(112, 140), **_VIT, num_classes=10),
    ),
    Case("vit_srelpos_small_patch16_224", kwargs=dict(_FIXED, **_VIT)),
)
