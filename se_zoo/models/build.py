"""Creating an SE variant through timm's own builder, with the right weights in the right place."""

from dataclasses import asdict
from functools import partial
from typing import Any, Callable, Dict, Optional, Union

import timm
import torch
from timm.models import build_model_with_cfg, model_entrypoint
from torch import nn

from ..errors import UnknownModelError, WeightsNotFoundError
from ..layers import Layout
from . import families as _families  # noqa: F401  (fills FAMILIES)
from ._timm import resolve_pretrained_cfg, split_model_name_tag
from .backbones import OWN_BACKBONE_CFGS, OWN_BACKBONES
from .clip.framewise import attach_framewise_se
from .layout_probe import probe_layout
from .names import closest_names
from .pretrained.errors import clear_errors
from .pretrained.fetch import check_finite, local_source, restore_source, source_name
from .pretrained.own_models import with_own_args
from .sehead import attach_se, take_se_args


def _build(
    create: Callable[..., nn.Module],
    layout: Optional[Layout],
    se_args: Dict[str, Any],
    clip: Optional[Dict[str, Any]],
    **kwargs: Any,
) -> nn.Module:
    """Make the backbone and put the SE head on; what timm's builder calls as the model class."""
    model = create(**kwargs)
    if clip is not None:
        return attach_framewise_se(
            model, se_args=se_args, img_size=kwargs.get("img_size"), clip=clip
        )
    if layout is None:
        layout, channels = probe_layout(model, kwargs.get("img_size"))
    else:
        prefix = getattr(model, "num_prefix_tokens", 0) if layout.kind == "NLC" else 0
        layout, channels = Layout(layout.kind, prefix), model.num_features
    return attach_se(model, layout, channels, **se_args)  # type: ignore[arg-type]


def fill_se(
    state_dict: Dict[str, torch.Tensor], model: nn.Module, of_backbone: bool
) -> Dict[str, torch.Tensor]:
    """A backbone's own weights, given as a file, come without ``se.*``: then the gate stays at
    identity. Under any other gate, or from a repository, missing SE weights are an error."""
    if any(key.startswith("se.") for key in state_dict):
        return state_dict
    if not of_backbone or model.se_args["gate"] != "identity":  # type: ignore[index]
        raise WeightsNotFoundError(
            f"The weights for {model.pretrained_cfg['architecture']} have no SE block (se.*); "  # type: ignore[index]
            'a plain backbone\'s file loads under gate="identity" only.'
        )
    return {**state_dict, **{k: v for k, v in model.state_dict().items() if k.startswith("se.")}}


def _is_timms(backbone: str, cfg: Dict[str, Any]) -> bool:
    """Whether a config stands for timm's own weights of the backbone, without an SE block."""
    if any(cfg.get(key) for key in ("source", "file", "state_dict")):
        return False
    tag = cfg.get("tag")
    try:
        timms = timm.get_pretrained_cfg(f"{backbone}.{tag}" if tag else backbone)
    except RuntimeError:  # a tag that timm does not have
        return False
    return timms is not None and timms.hf_hub_id == cfg.get("hf_hub_id")


#: Architecture whose backbone is an argument.
ANY_BACKBONE = "timm_sehead"

#: Arguments of a model that are not the architecture's, or that config.json has anyway.
NOT_SAVED = (
    "pretrained", "cache_dir", "features_only", "out_indices", "num_classes", "drop", "device",
    "dtype",
)  # fmt: skip

#: Arguments of timm's builder that a config.json could loosen the loading with.
_BUILDERS_OWN = ("pretrained_strict", "pretrained_filter_fn", "pretrained_custom_load")


def check_arguments(variant: str, kwargs: Dict[str, Any]) -> None:
    """Refuse arguments that are the builder's business: weights are always loaded strictly.

    Raises:
        TypeError: As for any unknown argument.
    """
    strange = [name for name in _BUILDERS_OWN if name in kwargs]
    if strange:
        raise TypeError(f"{variant} got an unexpected keyword argument {strange[0]!r}")


def create_sehead(
    variant: str,
    pretrained: bool,
    create: Union[str, Callable[..., nn.Module]],
    layout: Optional[Layout],
    feature_cfg: Optional[Dict[str, Any]] = None,
    *,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Optional[Dict[str, Any]] = None,
    cache_dir: Any = None,
    clip: Optional[Dict[str, Any]] = None,
    **kwargs: Any,
) -> nn.Module:
    """Create an SE variant: timm's weights into the backbone, the zoo's into the whole model.

    Args:
        variant: Registry name.
        pretrained: Load weights.
        create: timm name of the backbone, or what makes it.
        layout: Layout of its features; probed if None.
        feature_cfg: timm's settings for ``features_only``.
        pretrained_cfg: Tag or config, as timm passes it.
        pretrained_cfg_overlay: Changes to that config.
        cache_dir: Where downloads are kept.
        clip: ``num_frames``, ``frame_stride`` and ``fps`` of a model that takes clips frame by
            frame.
        **kwargs: Arguments of the SE head (:func:`se_zoo.models.sehead.attach_se`) and of the
            backbone; by default those that the weights of a named tag were trained with.
    """
    check_arguments(variant, kwargs)
    cfg = config_in_force(variant, pretrained_cfg, pretrained_cfg_overlay)
    # An untagged name of a timm backbone is that backbone as timm has it; create_any has done this.
    tagged = pretrained_cfg is not None or not isinstance(create, str)
    if tagged and clip is None and variant != ANY_BACKBONE:
        kwargs = with_own_args(cfg, kwargs)
    se_args = take_se_args(kwargs)
    with clear_errors(variant, cfg, cache_dir):
        local = {**cfg, **(local_source(cfg, cache_dir) if pretrained else {})}
        into_backbone = isinstance(create, str) and _is_timms(create, cfg)
        if isinstance(create, str):
            own_cfg = {k: v for k, v in local.items() if k not in ("architecture", "tag")}
            create = partial(
                model_entrypoint(create),
                pretrained=pretrained and into_backbone,
                pretrained_cfg=own_cfg if into_backbone else None,
            )
        model = build_model_with_cfg(
            partial(_build, create, layout, se_args, clip),
            variant,
            pretrained and not into_backbone,
            pretrained_cfg=local,
            pretrained_filter_fn=partial(
                fill_se, of_backbone=bool(cfg.get("file") and not cfg.get("source"))
            ),
            feature_cfg=dict(feature_cfg or {}),
            **kwargs,
        )
    restore_source(model, cfg)
    if pretrained:
        check_finite(model, source_name(cfg))
    if not kwargs.get("features_only"):
        # What saving needs; timm itself keeps it from 1.0.29 on.
        args = {k: v for k, v in kwargs.items() if not k.startswith(NOT_SAVED)}
        model._model_args = {**args, **model.head_args()}  # type: ignore[operator]
    return model


def config_in_force(
    variant: str, pretrained_cfg: Any, overlay: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    """Return the pretrained config as timm resolves it, without the packaged weights where another
    repository is asked for.

    Args:
        variant: Registry name.
        pretrained_cfg: Tag or config, as timm passes it.
        overlay: Changes to that config.
    """
    cfg = resolve_pretrained_cfg(variant, pretrained_cfg, overlay).to_dict()
    if overlay and overlay.get("hf_hub_id") and "file" not in overlay:
        cfg.pop("file", None)
    return cfg


def create_any(
    variant: str,
    pretrained: bool,
    backbone: Optional[str],
    feature_cfg: Optional[Dict[str, Any]] = None,
    clip: Optional[Dict[str, Any]] = None,
    **kwargs: Any,
) -> nn.Module:
    """An SE variant of any timm backbone, which is an argument of the model.

    Args:
        variant: ``timm_sehead`` or ``framewise_sehead``.
        pretrained: timm's weights for the backbone; or, where the config comes with weights of its
            own (Hub, local folder), those.
        backbone: timm name, with or without a tag, or resnet18_slim; resnet18 by default.
        feature_cfg: timm's settings for ``features_only``.
        clip: See :func:`create_sehead`.
        **kwargs: ``gate``, ``reduction``, ``multi_label`` and the backbone's own arguments.

    Raises:
        UnknownModelError: If timm does not know the backbone.
        UnsupportedBackboneError: If it cannot be squeezed.
    """
    given = kwargs.get("pretrained_cfg")
    if isinstance(given, str) and given:  # a tag of the zoo
        kwargs = with_own_args(resolve_pretrained_cfg(variant, given).to_dict(), kwargs)
        trained = kwargs.pop("backbone", None)
        backbone = backbone or trained
        kwargs = {k: v for k, v in kwargs.items() if k not in (clip or {})}
    if backbone is None and isinstance(given, dict) and given.get("source"):
        raise UnknownModelError(
            "The config.json names no backbone; save the model with se_zoo.save(model, folder)."
        )
    backbone = backbone or "resnet18"
    name, tag = split_model_name_tag(backbone)
    own = OWN_BACKBONES.get(backbone)
    if own is None and (not timm.is_model(name) or "_sehead" in name):
        raise UnknownModelError(f"timm has no backbone {backbone!r}.{closest_names(name)}")
    if own is not None and not kwargs.get("pretrained_cfg"):
        kwargs["pretrained_cfg"] = {**OWN_BACKBONE_CFGS[name](), "architecture": variant}
    if not kwargs.get("pretrained_cfg"):
        try:
            base = timm.get_pretrained_cfg(f"{name}.{tag}" if tag else name)
        except RuntimeError as error:  # timm's answer to a tag that it does not know
            raise UnknownModelError(f"timm has no backbone {backbone!r}: {error}") from error
        if base is None:
            raise UnknownModelError(f"timm has no pretrained config {backbone!r}.")
        kwargs["pretrained_cfg"] = {**asdict(base), "architecture": variant}
    model: Any = create_sehead(
        variant, pretrained, own or name, None, feature_cfg, clip=clip, **kwargs
    )
    if not kwargs.get("features_only"):
        model._model_args.update(backbone=backbone, **(clip or {}))
    return model
