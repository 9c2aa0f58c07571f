"""Build SE models through timm's builder and load their weights.

:func:`build_and_load` is the one loading sequence: image, clip and speaker models and ``squeeze``
go through it. :func:`create_sehead` and :func:`create_any` create the image models, and the models
that take clips frame by frame.
"""

import numbers
from functools import partial
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Union

import timm
import torch
from timm.models import build_model_with_cfg, model_entrypoint
from torch import nn

from ..errors import (
    InvalidInputError,
    UnknownArgumentError,
    UnknownModelError,
    WeightsNotFoundError,
)
from ..layers import Layout
from . import families as _families  # noqa: F401  (fills FAMILIES)
from ._timm import resolve_pretrained_cfg
from .attach import attach_se, take_se_args
from .backbones import backbone_config, find_backbone, undilated
from .clip.framewise import attach_framewise_se
from .layout_probe import probe_once
from .pretrained.config_check import MAX_CLASSES, check_config
from .pretrained.errors import clear_errors
from .pretrained.fetch import check_finite, local_source, restore_source, source_name
from .pretrained.fit_check import check_before_building, is_described
from .pretrained.own_models import with_own_args
from .pretrained.weights_check import check_all_loaded, check_dtypes

#: Beginnings of the arguments that model_args of a config.json leave out: they concern loading or
#: one run, or config.json has them elsewhere.
_NOT_SAVED = (
    "pretrained", "cache_dir", "features_only", "out_indices", "num_classes", "drop", "device",
    "dtype",
)  # fmt: skip

#: Arguments of timm's builder by which weights would be loaded less strictly.
_LOADING = ("pretrained_strict", "pretrained_filter_fn", "pretrained_custom_load")

#: Builds a model: (pretrained config, arguments of the model, whether to load weights) -> model.
Build = Callable[[Dict[str, Any], Dict[str, Any], bool], nn.Module]


def saved_args(model_args: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the arguments of a model that its config.json names.

    Args:
        model_args: All arguments that it was made with.
    """
    return {k: v for k, v in model_args.items() if not k.startswith(_NOT_SAVED)}


#: Puts an SE head on a backbone: (backbone, arguments of the SE head, arguments of the backbone)
#: -> SE model.
_Attach = Callable[[nn.Module, Dict[str, Any], Dict[str, Any]], nn.Module]


def resolve_config(
    variant: str, pretrained_cfg: Any, overlay: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    """Return the pretrained config as timm resolves it.

    Args:
        variant: Registry name.
        pretrained_cfg: Tag or config, as timm passes it.
        overlay: Changes to that config. One that names another repository removes the packaged
            weights from the config.

    Returns:
        The config as a dictionary.

    Raises:
        UnknownModelError: If the config has a value that cannot be.
    """
    place = f"The pretrained config of {variant}"
    if isinstance(pretrained_cfg, dict) and is_described(pretrained_cfg):
        place = f"The config.json of {source_name(pretrained_cfg)}"
        check_config(pretrained_cfg, place)  # before timm copies it
    try:
        cfg = resolve_pretrained_cfg(variant, pretrained_cfg, overlay).to_dict()
    except TypeError as error:
        raise UnknownModelError(f"{place} is wrong: {error}") from error
    check_config(cfg, place)
    if overlay and overlay.get("hf_hub_id") and "file" not in overlay:
        cfg.pop("file", None)
    return cfg


def build_and_load(
    variant: str,
    pretrained: bool,
    cfg: Dict[str, Any],
    build: Build,
    args: Dict[str, Any],
    cache_dir: Any = None,
    find_source: Callable[[Dict[str, Any], Any], Dict[str, Any]] = local_source,
    taken: Sequence[str] = (),
    backbone: Optional[str] = None,
) -> Any:
    """Compare weights with their config, build the model, load the weights and check them.

    Args:
        variant: Name of the model, for messages.
        pretrained: Load weights.
        cfg: Its pretrained config; see :func:`resolve_config`.
        build: Makes the model of a config that names local weights, and of arguments, and loads
            the weights if it is told to.
        args: Arguments of the model.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.
        find_source: Fetches the weights of a config, and returns the changes to the config by which
            timm loads them from this machine.
        taken: Names of arguments of a config.json that ``build`` has already.
        backbone: Name of the backbone where it is an argument of the model, for messages.

    Returns:
        The model. Its config names where the weights came from, not this machine's copy of them.

    Raises:
        UnknownModelError: If a config.json describes no model that can be built.
        WeightsNotFoundError: If the weights cannot be fetched or read, do not fit, or are not
            finite.
        InvalidInputError: If the model cannot be built with these arguments.
    """
    place = source_name(cfg)
    options = {"backbone": backbone, **args}
    with clear_errors(variant, cfg, cache_dir, options):
        _check_num_classes(args.get("num_classes"))
        local = {**cfg, **(find_source(cfg, cache_dir) if pretrained else {})}
        stored = check_before_building(pretrained, local, cfg, build, args, cache_dir, taken)
        model = build(local, args, pretrained)
    restore_source(model, cfg)
    if stored is not None:
        check_dtypes(stored, model.state_dict(), place)
        if not args.get("features_only"):
            check_all_loaded(model, stored, cfg, place)
        check_finite(model, place)
    return model


def check_arguments(variant: str, kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that would loosen how timm's builder loads weights.

    Raises:
        UnknownArgumentError: A TypeError, as for any unknown argument.
    """
    strange = [name for name in _LOADING if name in kwargs]
    if strange:
        raise UnknownArgumentError(f"{variant} got an unexpected keyword argument {strange[0]!r}")


def _check_num_classes(number: Any) -> None:
    """Refuse a number of classes that cannot be; timm would fail later, or make no classifier."""
    if number is None:
        return
    if not isinstance(number, numbers.Integral) or not 0 <= int(number) <= MAX_CLASSES:
        raise InvalidInputError(
            f"num_classes must be a whole number from 0 to {MAX_CLASSES:,}, not {number!r}."
        )


def fill_se(
    state_dict: Dict[str, torch.Tensor], model: nn.Module, of_backbone: bool
) -> Dict[str, torch.Tensor]:
    """Complete a backbone's weights by the model's own identity gate.

    Args:
        state_dict: Weights that are to be loaded.
        model: SE model.
        of_backbone: Whether they may be a plain backbone's, without ``se.*``.

    Returns:
        The weights, with ``se.*``.

    Raises:
        WeightsNotFoundError: If ``se.*`` is missing, and the weights may not be a plain backbone's
            or the gate is not the identity.
    """
    if any(key.startswith("se.") for key in state_dict):
        return state_dict
    if not of_backbone or model.se_args["gate"] != "identity":  # type: ignore[index]
        raise WeightsNotFoundError(
            f"The weights for {model.pretrained_cfg['architecture']} have no SE block (se.*); "  # type: ignore[index]
            'a plain backbone\'s file loads under gate="identity" only.'
        )
    return {**state_dict, **{k: v for k, v in model.state_dict().items() if k.startswith("se.")}}


def create_sehead(
    variant: str,
    pretrained: bool,
    backbone: Union[str, Callable[..., nn.Module]],
    layout: Layout,
    feature_cfg: Optional[Dict[str, Any]] = None,
    *,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Optional[Dict[str, Any]] = None,
    **kwargs: Any,
) -> nn.Module:
    """Create a registered architecture: a backbone with an SE head.

    Args:
        variant: Registry name.
        pretrained: Load weights: timm's into the backbone, or the zoo's into the whole model,
            whichever the config names.
        backbone: timm's name of the backbone, or a function that makes it.
        layout: Layout of its features.
        feature_cfg: timm's settings for ``features_only``.
        pretrained_cfg: Tag or config, as timm passes it.
        pretrained_cfg_overlay: Changes to that config.
        **kwargs: ``cache_dir``, and arguments of the SE head
            (:func:`se_zoo.models.attach.attach_se`) and of the backbone; by default those that the
            weights of a named tag were trained with. ``dilated=False`` takes out the dilation that
            goes with ``output_stride`` (:func:`se_zoo.models.backbones.undilated`).

    Returns:
        The SE model, or timm's feature extractor with ``features_only``.
    """
    cfg = resolve_config(variant, pretrained_cfg, pretrained_cfg_overlay)
    # The untagged name of a timm backbone is the backbone as timm has it: the arguments of the
    # zoo's own model hold for its tag alone.
    if pretrained_cfg is not None or not isinstance(backbone, str):
        kwargs = with_own_args(cfg, kwargs, pretrained, kwargs.get("cache_dir"))
    attach = partial(_attach_known, layout)
    return _create(variant, pretrained, backbone, attach, cfg, feature_cfg, kwargs)


def create_any(
    variant: str,
    pretrained: bool,
    backbone: Optional[str],
    feature_cfg: Optional[Dict[str, Any]] = None,
    clip: Optional[Dict[str, Any]] = None,
    *,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Optional[Dict[str, Any]] = None,
    **kwargs: Any,
) -> nn.Module:
    """Create an SE model of any timm backbone, which is an argument of the model.

    Args:
        variant: ``timm_sehead`` or ``framewise_sehead``.
        pretrained: Load weights: those of the config if it is of an SE model (Hub, local folder,
            tag of the zoo), else timm's into the backbone.
        backbone: timm name, with or without a tag, or resnet18_slim; resnet18 by default.
        feature_cfg: timm's settings for ``features_only``.
        clip: Clip arguments (:meth:`~se_zoo.models.clip.head.ClipSEHead.set_clip`) with their
            defaults, for a model that takes clips frame by frame.
        pretrained_cfg: Tag or config, as timm passes it.
        pretrained_cfg_overlay: Changes to that config.
        **kwargs: ``cache_dir``, clip arguments, and arguments of the SE head and the backbone.

    Returns:
        The SE model, or timm's feature extractor with ``features_only``.

    Raises:
        UnknownModelError: If timm does not know the backbone.
        UnsupportedBackboneError: If it cannot be squeezed.
        InvalidInputError: If the backbone cannot be made with the arguments.
    """
    cfg: Dict[str, Any] = {}
    if pretrained_cfg:
        cfg = resolve_config(variant, pretrained_cfg, pretrained_cfg_overlay)
    if isinstance(pretrained_cfg, str):  # a tag of the zoo
        kwargs = with_own_args(cfg, kwargs, pretrained)
        trained = kwargs.pop("backbone", None)
        backbone = backbone or trained
    elif cfg.get("source"):
        if backbone is None:
            raise UnknownModelError(
                "The config.json names no backbone; save the model with se_zoo.save(model, folder)."
            )
        kwargs = with_own_args(cfg, kwargs, pretrained, kwargs.get("cache_dir"))
    backbone = backbone or "resnet18"
    create = find_backbone(backbone)
    if not cfg:
        backbone_cfg = {**backbone_config(backbone), "architecture": variant}
        cfg = resolve_config(variant, backbone_cfg, pretrained_cfg_overlay)
    attach: _Attach = partial(_attach_probed, backbone)
    if clip is not None:
        clip = {name: kwargs.pop(name, default) for name, default in clip.items()}
        attach = partial(attach_framewise_se, clip, backbone)
    taken = ("backbone", *(clip or ()))
    model = _create(variant, pretrained, create, attach, cfg, feature_cfg, kwargs, taken, backbone)
    if not kwargs.get("features_only"):
        model._model_args.update(backbone=backbone, **(clip or {}))
    return model


def _create(
    variant: str,
    pretrained: bool,
    backbone: Union[str, Callable[..., nn.Module]],
    attach: _Attach,
    cfg: Dict[str, Any],
    feature_cfg: Optional[Dict[str, Any]],
    kwargs: Dict[str, Any],
    taken: Sequence[str] = (),
    name: Optional[str] = None,
) -> Any:
    """Create a backbone with an SE head and load weights into the backbone or the whole model."""
    check_arguments(variant, kwargs)
    model_args = dict(kwargs)
    cache_dir = model_args.pop("cache_dir", None)
    into_backbone = isinstance(backbone, str) and _is_timms(backbone, cfg)

    def build(local: Dict[str, Any], args: Dict[str, Any], load: bool) -> nn.Module:
        args, create = dict(args), backbone
        se_args = take_se_args(args)
        if isinstance(create, str):
            own_cfg = {k: v for k, v in local.items() if k not in ("architecture", "tag")}
            create = partial(
                model_entrypoint(create),
                pretrained=load and into_backbone,
                pretrained_cfg=own_cfg if into_backbone else None,
            )
        of_backbone = bool(cfg.get("file") and not cfg.get("source"))
        return build_model_with_cfg(
            partial(_build, create, attach, se_args),
            variant,
            load and not into_backbone,
            pretrained_cfg=local,
            pretrained_filter_fn=partial(fill_se, of_backbone=of_backbone),
            feature_cfg=dict(feature_cfg or {}),
            **args,
        )

    model = build_and_load(
        variant, pretrained, cfg, build, model_args, cache_dir, taken=taken, backbone=name
    )
    take_se_args(model_args)
    if not model_args.get("features_only"):
        # Saving needs these; timm itself records them from 1.0.29 on.
        model._model_args = {**saved_args(model_args), **model.head_args()}
    return model


def _build(
    create: Callable[..., nn.Module], attach: _Attach, se_args: Dict[str, Any], **kwargs: Any
) -> nn.Module:
    """Make the backbone and put the SE head on; timm's builder calls this as the model class."""
    dilated = kwargs.pop("dilated", True)
    made = create(**kwargs)
    return attach(made if dilated else undilated(made), se_args, kwargs)


def _attach_known(
    layout: Layout, model: nn.Module, se_args: Dict[str, Any], args: Dict[str, Any]
) -> nn.Module:
    """Put an SE head on a backbone of known layout."""
    if layout.kind == "NLC":
        layout = Layout(layout.kind, model.num_prefix_tokens)  # type: ignore[arg-type]
    return attach_se(model, layout, model.num_features, **se_args)  # type: ignore[arg-type]


def _attach_probed(
    backbone: str, model: nn.Module, se_args: Dict[str, Any], args: Dict[str, Any]
) -> nn.Module:
    """Put an SE head on a backbone whose layout has to be found out."""
    layout, channels = probe_once(backbone, args, model)
    return attach_se(model, layout, channels, **se_args)


def _is_timms(backbone: str, cfg: Dict[str, Any]) -> bool:
    """Return whether a config names timm's own weights of a backbone, which have no SE block."""
    if any(cfg.get(key) for key in ("source", "file", "state_dict")):
        return False
    tag = cfg.get("tag")
    try:
        timms = timm.get_pretrained_cfg(f"{backbone}.{tag}" if tag else backbone)
    except RuntimeError:  # a tag that timm does not have
        return False
    return timms is not None and timms.hf_hub_id == cfg.get("hf_hub_id")
