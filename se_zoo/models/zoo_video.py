"""Registered clip architectures: torchvision's, and any timm backbone frame by frame, with an SE
head.

``pretrained=True`` on an untagged name loads torchvision's Kinetics-400 weights under an identity
gate, so the logits are torchvision's.
"""

from dataclasses import asdict
from functools import partial
from typing import Any, Dict, NamedTuple, Optional

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn
from torchvision.models import video as torchvision_video

from ..data.video.sampling import Sampling
from .build import check_arguments, config_in_force, create_any, fill_se
from .clip.torchvision_video import attach_clip_se
from .pretrained.errors import clear_errors
from .pretrained.fetch import check_finite, local_source, restore_source, source_name
from .pretrained.own_models import cfgs_of, own_model, with_own_args
from .sehead import take_se_args

#: Tag of torchvision's own weights.
TORCHVISION = "tv_k400"
_RESNET_STATS = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}
_MVIT_STATS = {"mean": (0.45, 0.45, 0.45), "std": (0.225, 0.225, 0.225)}
_SWIN_STATS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class _Clip(NamedTuple):
    """A backbone of torchvision: its weights, its image size and frames, and where things are."""

    weights: Any
    size: int
    stats: Dict[str, Any]
    classifier: str
    first_conv: str
    #: Clips that the weights' figures are for.
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
    cfgs = {}
    for name in CLIPS:
        cfgs[f"{name}_sehead.{TORCHVISION}"] = _cfg(name)
        cfgs.update(cfgs_of(f"{name}_sehead"))
    # Stands for framewise_sehead's default backbone; with another one, that one's config is taken.
    base = timm.get_pretrained_cfg("resnet18")
    assert base is not None
    own: Dict[str, Any] = {"architecture": None, "tag": None, "hf_hub_id": None, "url": ""}
    cfgs["framewise_sehead"] = {**asdict(base), **own}
    return {**cfgs, **cfgs_of("framewise_sehead")}


#: timm's registry reads this name: the module's configs by architecture and tag.
default_cfgs = generate_default_cfgs(_all_cfgs())


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
    """torchvision's model with the SE head on; what timm's builder calls as the model class."""
    clip = CLIPS[backbone]
    if in_chans != 3:
        raise ValueError(f"{backbone} takes clips of 3 channels, not {in_chans}.")
    if drop_path_rate is not None:
        kwargs["stochastic_depth_prob"] = drop_path_rate
    if clip.classifier in ("classifier.1", "head.1"):  # behind a dropout of their own
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


def _kinetics_weights(backbone: str, cache_dir: Any) -> Dict[str, torch.Tensor]:
    """torchvision's weights: a pickle, read as tensors alone and checked by its hash."""
    weights = CLIPS[backbone].weights
    return weights.get_state_dict(
        progress=False, check_hash=True, weights_only=True, model_dir=cache_dir
    )


def _create(
    backbone: str,
    pretrained: bool,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Optional[Dict[str, Any]] = None,
    cache_dir: Any = None,
    features_only: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Create an SE variant of one of torchvision's clip classifiers through timm's builder."""
    variant = f"{backbone}_sehead"
    check_arguments(variant, kwargs)
    if features_only:
        raise ValueError(f"{variant} gives no feature pyramid; call forward_features.")
    cfg = config_in_force(variant, pretrained_cfg, pretrained_cfg_overlay)
    kwargs = with_own_args(cfg, kwargs)
    se_args = take_se_args(kwargs)
    from_torchvision = cfg.get("url") == CLIPS[backbone].weights.url and not any(
        cfg.get(key) for key in ("source", "file", "state_dict", "hf_hub_id")
    )
    with clear_errors(variant, cfg, cache_dir):
        local = dict(cfg)
        if pretrained and from_torchvision:
            local.update(state_dict=_kinetics_weights(backbone, cache_dir), custom_load=False)
        elif pretrained:
            local.update(local_source(cfg, cache_dir))
        model: Any = build_model_with_cfg(
            partial(_make, backbone, se_args), variant, pretrained, pretrained_cfg=local,
            pretrained_filter_fn=partial(fill_se, of_backbone=from_torchvision), **kwargs,
        )  # fmt: skip
    restore_source(model, cfg)
    if pretrained:
        check_finite(model, source_name(cfg))
    model._model_args = {**model.clip_args, **model.head_args()}
    return model


@register_model
def r3d_18_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """R3D-18 with an SE head; clips of 16 frames at 112 px."""
    return _create("r3d_18", pretrained, **kwargs)


@register_model
def mc3_18_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MC3-18 with an SE head: the one of torchvision's that keeps all time steps."""
    return _create("mc3_18", pretrained, **kwargs)


@register_model
def r2plus1d_18_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """R(2+1)D-18 with an SE head; clips of 16 frames at 112 px."""
    return _create("r2plus1d_18", pretrained, **kwargs)


@register_model
def s3d_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """S3D with an SE head; clips of at least 13 frames at 209 px, made for 16 at 224 px."""
    return _create("s3d", pretrained, **kwargs)


@register_model
def mvit_v2_s_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MViTv2-S with an SE head; clips of exactly 16 frames at 224 px."""
    return _create("mvit_v2_s", pretrained, **kwargs)


@register_model
def swin3d_t_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Video Swin-T with an SE head."""
    return _create("swin3d_t", pretrained, **kwargs)


@register_model
def swin3d_s_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Video Swin-S with an SE head."""
    return _create("swin3d_s", pretrained, **kwargs)


@register_model
def swin3d_b_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Video Swin-B with an SE head."""
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
    """Any timm image backbone over the frames of a clip, mean over time, one gate for the clip.

    Args:
        pretrained: timm's weights for the backbone under an identity gate; or, where the config
            comes with weights of its own (Hub, local folder), those.
        backbone: timm name, with or without a tag; resnet18 by default.
        num_frames: Frames of a clip, 8 by default; any number can be predicted on.
        frame_stride: Every so many frames of a video one is taken, 4 by default.
        fps: Frames a second that a video is brought to before; 0, the default: its own.
        sampling: Which frames make a clip, "dense" by default; see :class:`~se_zoo.ClipConfig`.
        **kwargs: ``gate``, ``reduction``, ``multi_label`` and the backbone's own arguments.

    Raises:
        UnknownModelError: If timm does not know the backbone.
        UnsupportedBackboneError: If it cannot be squeezed.
    """
    if kwargs.pop("features_only", False):
        raise ValueError("framewise_sehead gives no feature pyramid; call forward_features.")
    given: Dict[str, Any] = {"num_frames": num_frames, "frame_stride": frame_stride}
    given.update(fps=fps, sampling=sampling)
    clip = {"num_frames": 8, "frame_stride": 4, "fps": 0.0, "sampling": "dense"}
    trained = own_model("framewise_sehead", kwargs.get("pretrained_cfg"))
    for name in clip:
        if given[name] is not None:
            clip[name] = given[name]
        elif trained is not None and name in trained.model_args:
            clip[name] = trained.model_args[name]
    return create_any("framewise_sehead", pretrained, backbone, clip=clip, **kwargs)
