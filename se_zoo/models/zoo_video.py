"""Register clip architectures: torchvision's, and any timm backbone frame by frame.

``pretrained=True`` on an untagged name loads torchvision's Kinetics-400 weights under an identity
gate, so the logits are torchvision's.
"""

from dataclasses import asdict
from functools import partial
from typing import Any, Dict, NamedTuple, Optional

import timm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn
from torchvision.models import video as torchvision_video

from ..data.video.sampling import Sampling
from ..errors import InvalidInputError
from .attach import take_se_args
from .build import build_and_load, check_arguments, create_any, fill_se, resolve_config
from .clip.torchvision_video import attach_clip_se
from .pretrained.fetch import local_source
from .pretrained.own_models import cfgs_of, with_own_args

#: Tag of torchvision's own weights.
TORCHVISION = "tv_k400"
_RESNET_STATS = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}
_MVIT_STATS = {"mean": (0.45, 0.45, 0.45), "std": (0.225, 0.225, 0.225)}
_SWIN_STATS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class _Clip(NamedTuple):
    """Describe a backbone of torchvision.

    Attributes:
        weights: torchvision's entry of its weights.
        size: Height and width of the frames that the weights were trained on, in pixels.
        stats: ``mean`` and ``std`` of the normalisation.
        classifier: Name of the classifier in the model.
        first_conv: Name of the first convolution.
        frames: Length of the clips that torchvision's figures were measured on.
        fps: Their frames a second.
    """

    weights: Any
    size: int
    stats: Dict[str, Any]
    classifier: str
    first_conv: str
    frames: int = 16
    fps: float = 15.0


CLIPS: Dict[str, _Clip] = {
    "r3d_18": _Clip(
        torchvision_video.R3D_18_Weights.KINETICS400_V1, 112, _RESNET_STATS, "fc", "stem.0"
    ),
    "mc3_18": _Clip(
        torchvision_video.MC3_18_Weights.KINETICS400_V1, 112, _RESNET_STATS, "fc", "stem.0"
    ),
    "r2plus1d_18": _Clip(
        torchvision_video.R2Plus1D_18_Weights.KINETICS400_V1, 112, _RESNET_STATS, "fc", "stem.0"
    ),
    "s3d": _Clip(
        torchvision_video.S3D_Weights.KINETICS400_V1, 224, _RESNET_STATS, "classifier.1",
        "features.0.0.0",
    ),
    "mvit_v2_s": _Clip(
        torchvision_video.MViT_V2_S_Weights.KINETICS400_V1, 224, _MVIT_STATS, "head.1",
        "conv_proj", fps=7.5,
    ),
    "swin3d_t": _Clip(
        torchvision_video.Swin3D_T_Weights.KINETICS400_V1, 224, _SWIN_STATS, "head",
        "patch_embed.proj",
    ),
    "swin3d_s": _Clip(
        torchvision_video.Swin3D_S_Weights.KINETICS400_V1, 224, _SWIN_STATS, "head",
        "patch_embed.proj",
    ),
    "swin3d_b": _Clip(
        torchvision_video.Swin3D_B_Weights.KINETICS400_V1, 224, _SWIN_STATS, "head",
        "patch_embed.proj",
    ),
}  # fmt: skip


def _cfg(name: str) -> Dict[str, Any]:
    """Return the pretrained config of torchvision's weights."""
    clip = CLIPS[name]
    cfg: Dict[str, Any] = {
        "input_size": (3, clip.size, clip.size), "crop_pct": 0.875, "interpolation": "bilinear",
        **clip.stats, "classifier": clip.classifier, "first_conv": clip.first_conv,
    }  # fmt: skip
    kinetics = tuple(clip.weights.meta["categories"])
    return {**cfg, "num_classes": 400, "label_names": kinetics, "url": clip.weights.url,
            "license": "bsd-3-clause"}  # fmt: skip


def _all_cfgs() -> Dict[str, Any]:
    """Return the configs of all clip architectures, keyed ``<architecture>.<tag>``."""
    cfgs = {}
    for name in CLIPS:
        cfgs[f"{name}_sehead.{TORCHVISION}"] = _cfg(name)
        cfgs.update(cfgs_of(f"{name}_sehead"))
    # The config of the default backbone; with another backbone, its config takes the place of this.
    base = timm.get_pretrained_cfg("resnet18")
    assert base is not None
    own: Dict[str, Any] = {"architecture": None, "tag": None, "hf_hub_id": None, "url": ""}
    cfgs["framewise_sehead"] = {**asdict(base), **own}
    return {**cfgs, **cfgs_of("framewise_sehead")}


#: Configs by architecture and tag; timm's registry reads this name.
default_cfgs: Any = generate_default_cfgs(_all_cfgs())


def _make(
    backbone: str,
    se_args: Dict[str, Any],
    num_classes: int = 400,
    in_chans: int = 3,
    num_frames: Optional[int] = None,
    frame_stride: int = 1,
    fps: Optional[float] = None,
    sampling: Sampling = "dense",
    drop_rate: float = 0.0,
    drop_path_rate: Optional[float] = None,
    **kwargs: Any,
) -> nn.Module:
    """Make torchvision's model and put the SE head on; timm's builder calls this."""
    clip = CLIPS[backbone]
    if in_chans != 3:
        raise InvalidInputError(f"{backbone} takes clips of 3 channels, not {in_chans}.")
    if drop_path_rate is not None:
        kwargs["stochastic_depth_prob"] = drop_path_rate
    if clip.classifier in ("classifier.1", "head.1"):  # these models have a dropout of their own
        kwargs["dropout"] = drop_rate
    create = getattr(torchvision_video, backbone)
    model = create(weights=None, num_classes=num_classes or 1, **kwargs)
    made_for = {
        "num_frames": clip.frames if num_frames is None else num_frames,
        "frame_stride": frame_stride,
        "fps": clip.fps if fps is None else fps,
        "sampling": sampling,
    }
    attach_clip_se(model, made_for, drop_rate, se_args)
    if not num_classes:
        model.reset_classifier(0)
    return model


def _is_torchvisions(backbone: str, cfg: Dict[str, Any]) -> bool:
    """Return whether a config names torchvision's own weights, which have no SE block."""
    others = ("source", "file", "state_dict", "hf_hub_id")
    return cfg.get("url") == CLIPS[backbone].weights.url and not any(map(cfg.get, others))


def _find_source(backbone: str, cfg: Dict[str, Any], cache_dir: Any) -> Dict[str, Any]:
    """Fetch the weights of a config, torchvision's too.

    Those are a pickle: tensors alone are read from it, and its hash is checked.
    """
    if not _is_torchvisions(backbone, cfg):
        return local_source(cfg, cache_dir)
    state = CLIPS[backbone].weights.get_state_dict(
        progress=False, check_hash=True, weights_only=True, model_dir=cache_dir
    )
    return {"state_dict": state, "custom_load": False}


def _create(
    backbone: str,
    pretrained: bool,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Optional[Dict[str, Any]] = None,
    cache_dir: Any = None,
    features_only: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Create one of torchvision's clip classifiers with an SE head through timm's builder."""
    variant = f"{backbone}_sehead"
    check_arguments(variant, kwargs)
    if features_only:
        raise InvalidInputError(f"{variant} has no feature pyramid; call forward_features.")
    cfg = resolve_config(variant, pretrained_cfg, pretrained_cfg_overlay)
    kwargs = with_own_args(cfg, kwargs, pretrained, cache_dir)
    fill = partial(fill_se, of_backbone=_is_torchvisions(backbone, cfg))

    def build(local: Dict[str, Any], args: Dict[str, Any], load: bool) -> nn.Module:
        args = dict(args)
        make = partial(_make, backbone, take_se_args(args))
        return build_model_with_cfg(
            make, variant, load, pretrained_cfg=local, pretrained_filter_fn=fill, **args
        )

    find_source = partial(_find_source, backbone)
    model = build_and_load(variant, pretrained, cfg, build, kwargs, cache_dir, find_source)
    model._model_args = {**model.clip_args, **model.head_args()}
    return model


@register_model
def r3d_18_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create an R3D-18 with an SE head; clips of 16 frames at 112 px."""
    return _create("r3d_18", pretrained, **kwargs)


@register_model
def mc3_18_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create an MC3-18 with an SE head; its map has as many time steps as the clip."""
    return _create("mc3_18", pretrained, **kwargs)


@register_model
def r2plus1d_18_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create an R(2+1)D-18 with an SE head; clips of 16 frames at 112 px."""
    return _create("r2plus1d_18", pretrained, **kwargs)


@register_model
def s3d_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create an S3D with an SE head; clips of 16 frames at 224 px, at least 13 frames at 209 px."""
    return _create("s3d", pretrained, **kwargs)


@register_model
def mvit_v2_s_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create an MViTv2-S with an SE head; clips of exactly 16 frames at 224 px."""
    return _create("mvit_v2_s", pretrained, **kwargs)


@register_model
def swin3d_t_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a Video Swin-T with an SE head."""
    return _create("swin3d_t", pretrained, **kwargs)


@register_model
def swin3d_s_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a Video Swin-S with an SE head."""
    return _create("swin3d_s", pretrained, **kwargs)


@register_model
def swin3d_b_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a Video Swin-B with an SE head."""
    return _create("swin3d_b", pretrained, **kwargs)


@register_model
def framewise_sehead(
    pretrained: bool = False,
    backbone: Optional[str] = None,
    num_frames: Optional[int] = None,
    frame_stride: Optional[int] = None,
    fps: Optional[float] = None,
    sampling: Optional[Sampling] = None,
    **kwargs: Any,
) -> nn.Module:
    """Create any timm image backbone for clips: mean over the frames, one gate for the clip.

    Args:
        pretrained: Load weights: those of the config if it is of an SE model (Hub, local folder,
            tag of the zoo), else timm's into the backbone, under an identity gate.
        backbone: timm name, with or without a tag; resnet18 by default.
        num_frames: Frames of a clip, 8 by default; the model predicts on any number.
        frame_stride: Distance of a clip's frames in the video, in frames; 4 by default.
        fps: Frame rate that a video is brought to first, in frames a second; 0, the default, keeps
            the video's own.
        sampling: Which frames make a clip, "dense" by default; see :class:`~se_zoo.ClipConfig`.
        **kwargs: ``gate``, ``reduction``, ``multi_label`` and the backbone's own arguments.

    Returns:
        The SE model; it takes clips (B, C, T, H, W).

    Raises:
        UnknownModelError: If timm does not know the backbone.
        UnsupportedBackboneError: If it cannot be squeezed.
    """
    if kwargs.pop("features_only", False):
        raise InvalidInputError("framewise_sehead has no feature pyramid; call forward_features.")
    given: Dict[str, Any] = {"num_frames": num_frames, "frame_stride": frame_stride}
    given.update(fps=fps, sampling=sampling)
    kwargs.update({name: value for name, value in given.items() if value is not None})
    clip = {"num_frames": 8, "frame_stride": 4, "fps": 0.0, "sampling": "dense"}
    return create_any("framewise_sehead", pretrained, backbone, clip=clip, **kwargs)
