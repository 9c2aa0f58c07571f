"""One small architecture of every timm module, squeezed and run on the CPU with random weights.

The walk over all architectures on the meta device is a script, ``walk_timm.py``: it sees shapes
only. What needs numbers is tested here, about half a second an architecture, so ordinary CNNs are
slow tests.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import pytest
import timm
import torch
from timm.models import list_modules

import se_zoo
from se_zoo.layers.grid import cell_aspect, feature_map
from tests.draws import cheap_draws  # noqa: F401  (a fixture)
from tests.tester import randomise, same
from tools.walk_timm import backbones

pytestmark = pytest.mark.usefixtures("cheap_draws")
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
    "byoanet": Case("lambda_resnet26t"),
    "byobnet": Case("test_byobnet"),
    "cait": Case("cait_xxs24_224", kwargs=dict(_FIXED, depth=3)),
    "coat": Case("coat_tiny", kwargs=dict(_FIXED, serial_depths=(1,) * 4, parallel_depth=1)),
    "convit": Case("convit_tiny", (224, 224), dict(depth=3, local_up_to_layer=2)),
    "convmixer": Case("convmixer_768_32", (56, 84)),
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
    "densenet": Case("densenet121", kwargs=dict(block_config=(2, 2, 2, 2))),
    "dla": Case("dla46x_c"),
    "dpn": Case("dpn48b"),
    "edgenext": Case("edgenext_xx_small"),
    "efficientformer": Case("efficientformer_l1", (224, 224), dict(depths=(1, 1, 1, 2))),
    "efficientformer_v2": Case("efficientformerv2_s0", kwargs=_FIXED),
    "efficientnet": Case("test_efficientnet"),
    "efficientvim": Case("efficientvim_m1", (128, 192)),
    "efficientvit_mit": Case("efficientvit_b0"),
    "efficientvit_msra": Case("efficientvit_m0", (224, 224)),
    "eva": Case(
        "eva02_tiny_patch14_224", (112, 140), dict(img_size=(112, 140), depth=3, num_classes=10)
    ),
    "fasternet": Case("fasternet_t0"),
    "fastvit": Case("fastvit_t8", kwargs=dict(layers=(1, 1, 1, 1))),
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
    "inception_resnet_v2": Case("inception_resnet_v2", (75, 107)),
    "inception_v3": Case("inception_v3", (75, 107)),
    "inception_v4": Case("inception_v4", (75, 107)),
    "lcnetv2": Case("lcnetv2_small"),
    "levit": Case("levit_128s", kwargs=_FIXED),
    "lowformer": Case("lowformer_b0", kwargs=dict(depth_list=(0, 1, 1, 1, 1))),
    "mambaout": Case("test_mambaout"),
    "maxxvit": Case("test_coatnet", kwargs=_FIXED),
    "metaformer": Case("poolformerv2_s12"),
    "mlp_mixer": Case("gmlp_ti16_224", kwargs=_FIXED),
    "mobilenetv3": Case("mobilenetv3_small_050"),
    "mobilenetv5": Case("mobilenetv5_base", (128, 192), dict(channel_multiplier=0.25)),
    "mobilevit": Case("mobilevit_xxs"),
    "mvitv2": Case("mvitv2_tiny", (64, 96)),
    "naflexvit": Case("naflexvit_base_patch16_gap", kwargs=_VIT),
    "nasnet": Case("nasnetalarge", (64, 96), dict(stem_size=32, num_features=1152)),
    "nest": Case("nest_tiny", (112, 112), dict(img_size=112)),
    "nextvit": Case("nextvit_small", kwargs=dict(depths=(1, 1, 5, 1))),
    "nfnet": Case("test_nfnet"),
    "pit": Case("pit_ti_224", (224, 224)),
    "pnasnet": Case("pnasnet5large", (64, 96)),
    "pvt_v2": Case("pvt_v2_b0"),
    "qwen3_vit": Case("qwen3_vit_88m", kwargs=_ENCODER),
    "rdnet": Case("rdnet_tiny", kwargs=dict(num_blocks_list=(1,) * 7)),
    "regnet": Case("regnetx_002"),
    "repghost": Case("repghostnet_050"),
    "repvit": Case("repvit_m1", kwargs=dict(depth=(1, 1, 1, 1))),
    "res2net": Case("res2next50", kwargs=dict(layers=(1, 1, 1, 1))),
    "resnest": Case("resnest14d"),
    "resnet": Case("test_resnet"),
    "resnetv2": Case("resnetv2_18", kwargs=dict(layers=(1, 1, 1, 1))),
    "rexnet": Case("rexnet_100"),
    "selecsls": Case("selecsls42"),
    "senet": Case("legacy_seresnet18"),
    "sequencer": Case(
        "sequencer2d_s",
        (112, 140),
        dict(
            img_size=(112, 140),
            layers=(1, 1, 1, 1),
            embed_dims=(48, 96, 96, 96),
            hidden_sizes=(12, 24, 24, 24),
        ),
    ),
    "shvit": Case("shvit_s1", (128, 192), dict(depth=(1, 1, 1))),
    "sknet": Case("skresnet18", kwargs=dict(layers=(1, 1, 1, 1))),
    "starnet": Case("starnet_s050"),
    "swiftformer": Case("swiftformer_xs", kwargs=dict(_FIXED, layers=(1, 1, 1, 1))),
    "swin_transformer": Case("swin_tiny_patch4_window7_224", kwargs=_SWIN),
    "swin_transformer_v2": Case("swinv2_tiny_window8_256", kwargs=_SWIN),
    "swin_transformer_v2_cr": Case("swinv2_cr_tiny_224", kwargs=_SWIN),
    "tiny_vit": Case("tiny_vit_5m_224", kwargs=dict(num_classes=10, depths=(1, 1, 1, 1))),
    "tnt": Case("tnt_s_legacy_patch16_224", kwargs=dict(_FIXED, depth=3)),
    "tresnet": Case("tresnet_m", kwargs=dict(layers=(1, 1, 1, 1))),
    "twins": Case("twins_svt_small", kwargs=dict(_FIXED, depths=(1, 1, 2, 1))),
    "vgg": Case("vgg11", kwargs=dict(mlp_ratio=0.05)),
    "visformer": Case("visformer_tiny", kwargs=dict(_FIXED, depth=(1, 1, 1))),
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
    "xcit": Case("xcit_nano_12_p16_224", kwargs=dict(_FIXED, depth=2)),
}
#: Other layouts and heads of the same modules: more prefix tokens, other pooling, lists.
VARIANTS = (
    Case("caformer_s18"),
    Case("coat_lite_tiny", kwargs=_FIXED),
    Case("deepseek_vit_412m_align", (126, 168), _ENCODER),
    Case("deit_tiny_distilled_patch16_224", kwargs=dict(_FIXED, depth=3)),
    Case("efficientvim_m1_dist", (128, 192)),
    Case("gemma4_vit_167m", (96, 144), dict(_ENCODER, encoder_pool="soft")),
    Case("levit_conv_128s", kwargs=_FIXED),
    Case("mvitv2_small_cls", (96, 96), dict(img_size=(96, 96))),
    Case("naflexvit_base_patch16_map", kwargs=_VIT),
    Case("qwen3_vit_88m_merge", kwargs=_ENCODER),
    Case("resmlp_12_224", kwargs=_FIXED),
    Case("twins_pcpvt_small", kwargs=dict(_FIXED, depths=(1, 1, 1, 1))),
    Case("vit_base_patch16_siglip_224", kwargs=dict(_FIXED, **_VIT, num_classes=10)),
    Case(
        "vit_small_patch14_reg4_dinov2",
        (112, 140),
        dict(img_size=(112, 140), **_VIT, num_classes=10),
    ),
    Case("vit_srelpos_small_patch16_224", kwargs=dict(_FIXED, **_VIT)),
)

#: Architectures above that test_families.py or test_exactness.py says to have exact maps, or that
#: have the head of such a one.
EXACT = frozenset((
    "swin_tiny_patch4_window7_224", "test_byobnet", "test_convnext", "test_efficientnet",
    "test_nfnet", "test_resnet",
))  # fmt: skip

#: Modules whose features have no last feature map on a grid.
REFUSED = ("crossvit", "pit")

#: Modules of CNNs whose features, (B, C, H, W), are pooled before a linear layer, some with a norm
#: or a convolution between. Some of each kind are left out of the list, the smallest among them.
ORDINARY = frozenset("""
    byoanet convmixer cspnet cspnext dpn edgenext fasternet fastvit focalnet hardcorenas
    inception_resnet_v2 inception_v4 lcnetv2 mobilevit nasnet nextvit pnasnet rdnet regnet repghost
    res2net resnest resnetv2 rexnet selecsls sknet starnet tresnet vovnet xception xception_aligned
""".split())  # fmt: skip


def modules() -> List[str]:
    """timm's modules that have architectures of their own, as this timm version has them."""
    ours = ("*_sehead*", "se_zoo/*")
    return [m for m in list_modules() if timm.list_models(module=m, exclude_filters=ours)]


def each_module() -> List[Any]:
    """The modules as parameters of a test."""
    slow = pytest.mark.slow
    return [pytest.param(m, marks=slow) if m in ORDINARY else m for m in modules()]


def case_of(module: str) -> Case:
    """The small architecture of a module; the smallest one of a module that the table lacks."""
    case = CASES.get(module)
    if case and timm.is_model(case.name):
        return case
    names = timm.list_models(module=module, exclude_filters="*_sehead*")
    with torch.device("meta"):
        models = {name: timm.create_model(name) for name in names}
    smallest = min(names, key=lambda name: sum(p.numel() for p in models[name].parameters()))
    _, height, width = models[smallest].pretrained_cfg["input_size"]
    return Case(smallest, (height, width))


def spread_gate(model: Any, features: Any) -> None:
    """Give the SE block gates between 0.5 and 1.5, whatever the scale of the features is."""
    squeezed = model.se_layout.squeeze(features).mean(0)
    model.se.fc1.weight.copy_((squeezed / squeezed.square().sum()).expand_as(model.se.fc1.weight))
    hidden = model.se.fc2.in_features
    model.se.fc2.weight.copy_((2 * torch.rand(model.se.fc2.weight.shape) - 1) / hidden**0.5)


def check_gate(model: Any, images: torch.Tensor, plain: torch.Tensor) -> Any:
    """The gate starts at identity, to the bit, and reaches the logits once it is another. Returns
    the features."""
    assert torch.equal(model(images), plain), "squeezing changed the logits"
    features = model.forward_features(images)
    assert torch.equal(model.forward_head(features), plain), "forward is another than its parts"
    spread_gate(model, features)
    gate = model.gate(features)
    assert gate.shape == (2, model.se.channels) and gate.std() > 0.05
    gated = model(images)
    assert torch.equal(model.forward_head(features), gated)
    assert not same(gated, plain, 1e-3), "the gate does not reach the logits"
    return features


def check_explanation(model: Any, images: torch.Tensor, exact: bool) -> None:
    """The contribution map is drawn, and adds up to the logit where it says so. A map that must be
    exact says so."""
    explanation = model.explain(images, method="contribution")
    assert explanation.heatmap.shape == (2, *images.shape[2:])
    assert explanation.heatmap.isfinite().all() and explanation.raw.isfinite().all()
    assert explanation.heatmap.min() >= 0 and explanation.heatmap.max() <= 1
    logits = explanation.logits.gather(1, torch.tensor(explanation.target)[:, None])[:, 0]
    assert explanation.exact or not exact
    if explanation.exact:
        assert same(explanation.raw.flatten(1).mean(1) + explanation.constant, logits, 1e-4)


def last_intermediate(model: Any, images: torch.Tensor) -> Optional[torch.Tensor]:
    """timm's own last feature map, (B, C, h, w), with its final norm where the model can."""
    if not hasattr(model, "forward_intermediates"):
        return None
    options = dict(intermediates_only=True, output_fmt="NCHW")
    try:
        return model.forward_intermediates(images, norm=True, **options)[-1]
    except (TypeError, AssertionError):  # timm asserts where a model has no such option
        return model.forward_intermediates(images, **options)[-1]


def correlation(left: torch.Tensor, right: torch.Tensor) -> float:
    """Of two maps (B, C, h, w), each channel less its mean over the grid; a permutation of the
    positions has none, however much the channels differ from one another."""
    pair = torch.stack(
        [(m - m.mean((2, 3), keepdim=True)).flatten().double() for m in (left, right)]
    )
    return float(torch.corrcoef(pair)[0, 1])


def quarters(maps: torch.Tensor) -> List[torch.Tensor]:
    """Upper left, upper right, lower left, lower right of (..., h, w), without a middle line."""
    height, width = maps.shape[-2] // 2, maps.shape[-1] // 2
    assert height and width, "the grid has no quarters"
    rows, columns = (slice(height), slice(-height, None)), (slice(width), slice(-width, None))
    return [maps[..., r, c] for r in rows for c in columns]


def response(model: Any, image: torch.Tensor) -> torch.Tensor:
    """How far each quarter of the grid (columns) moves when a quarter of the image (rows) does.

    Rows and columns are brought to equal sums, because in a random deep network an image moves
    all places, and a place is moved by all images, more or less strongly as a whole.
    """
    images = image.repeat(5, 1, 1, 1)
    for i in range(4):
        quarter = quarters(images[1 + i])[i]
        quarter.copy_(2 * torch.randn(quarter.shape))
    grid = model.feature_grid(model.forward_features(images), tuple(image.shape[2:]))
    moved = quarters((grid[1:] - grid[:1]).abs().mean(1))
    matrix = torch.stack([q.mean((1, 2)) for q in moved], 1).double()
    for _ in range(20):
        matrix = matrix / matrix.sum(0, keepdim=True)
        matrix = matrix / matrix.sum(1, keepdim=True)
    return matrix


def check_order(model: Any, images: torch.Tensor, features: Any) -> None:
    """Positions on the grid are where they are in the image. A feature map has them already;
    tokens are compared with timm's own map of them, or, where that has other channels, what
    changed in the image changes there."""
    size = images.shape[-2], images.shape[-1]
    grid = model.feature_grid(features, size)
    assert grid.shape[:2] == (2, model.se.channels)
    # Else an axis of the grid is none of the image. MobileNetV5 has 16 x 16 cells of any image.
    assert cell_aspect((grid.shape[2], grid.shape[3]), size) < 2
    if model.se_layout.kind in ("NCHW", "NHWC"):
        channels = model.se_layout.kind.index("C")
        assert torch.equal(grid, feature_map(features).movedim(channels, 1))
        return
    own = last_intermediate(model, images)
    if own is not None and own.shape == grid.shape:
        assert correlation(grid, own) > 0.7
        return
    moved = response(model, images[:1])
    assert torch.equal(moved.argmax(0), torch.arange(4)), moved
    assert torch.equal(moved.argmax(1), torch.arange(4)), moved


def squeezed(model: Any, case: Case) -> Any:
    """The model with an SE head; timm before 1.0.31 forgets with which ``img_size`` it made a
    model, so there it has to be squeezed by name."""
    if "img_size" not in case.kwargs or hasattr(timm.models, "get_model_input_config"):
        return se_zoo.squeeze(model)
    twin = se_zoo.squeeze(case.name, **case.kwargs).eval()
    twin.load_state_dict(model.state_dict(), strict=False)
    return twin


@torch.no_grad()
def walk(case: Case) -> None:
    """Squeeze one model and check all that needs numbers."""
    model = randomise(timm.create_model(case.name, **case.kwargs)).eval()
    images = torch.randn(2, 3, *case.size)
    plain = model(images)  # also leaves behind the caches that some models fill
    assert plain.isfinite().all() and plain.any()
    cls = type(model)
    model = squeezed(model, case)
    assert isinstance(model, cls)
    features = check_gate(model, images, plain)
    check_explanation(model, images, case.name in EXACT)
    check_order(model, images, features)


@pytest.mark.parametrize("module", each_module())
def test_one_architecture_of_every_module(module: str) -> None:
    case = case_of(module)
    if module not in REFUSED:
        walk(case)
        return
    model = timm.create_model(case.name, **case.kwargs).eval()
    cls, names = type(model), list(model.state_dict())
    with pytest.raises(se_zoo.UnsupportedBackboneError, match=case.name):
        se_zoo.squeeze(model)
    assert type(model) is cls and list(model.state_dict()) == names


@pytest.mark.parametrize("case", VARIANTS, ids=lambda case: case.name)
def test_other_layouts_and_heads(case: Case) -> None:
    if not timm.is_model(case.name):
        pytest.skip(f"timm {timm.__version__} has no {case.name}")
    walk(case)


def test_encoders_without_a_head_are_refused() -> None:
    encoders = backbones("*_enc")
    if not encoders:
        pytest.skip(f"timm {timm.__version__} has no such encoder")
    smallest = {name.split("_")[0]: name for name in reversed(encoders)}
    for name in smallest.values():
        kwargs = _VIT if "_vit_" in name else {}
        with pytest.raises(se_zoo.UnsupportedBackboneError, match=f"{name} .*forward_head"):
            se_zoo.squeeze(name, device="meta", **kwargs)
