"""Put an SE head on any timm model, and remove it again."""

from typing import Any, Dict, Union

import timm
from torch import nn

from ..errors import UnknownArgumentError, UnknownModelError, UnsupportedBackboneError
from ..explanations.se_model import uncompiled
from ._timm import split_model_name_tag
from .attach import attach_se, plain_class
from .backbones import undilated
from .build import build_and_load, resolve_config
from .classifiers import classes_of
from .layout_probe import name_of, probe_layout
from .names import PREFIX, closest_names
from .pretrained.fetch import described_model
from .sehead import SE_ATTRIBUTES, SE_DEFAULTS, SEHeadMixin


def squeeze(
    model: Union[str, nn.Module],
    *,
    reduction: int = 16,
    gate: str = "identity",
    multi_label: bool = False,
    pretrained: bool = False,
    **kwargs: Any,
) -> SEHeadMixin:
    """Put an SE head on any timm classifier (arXiv 2412.05134, section III).

    Args:
        model: A timm model, changed in place and returned; or the name of one (or
            ``hf-hub:<repository>``, ``local-dir:<folder>``), created with ``pretrained`` and
            ``kwargs``. A classifier may have been replaced: ``num_classes`` becomes the
            number of its outputs. Of a compiled model the one within is returned; compile it again.
        reduction: Reduction of the SE block (paper: 16).
        gate: ``"identity"`` (default) keeps the logits, to the bit; ``"sigmoid"`` is the paper's
            block and needs training.
        multi_label: Whether the classes are independent yes/no labels.
        pretrained: Load timm's weights (names only).
        **kwargs: Passed to ``timm.create_model`` (names only). ``dilated=False`` takes out the
            dilation that goes with ``output_stride``: for training from scratch, where each cell's
            features then stay close to its place in the image.

    Returns:
        The model: still an instance of its timm class, with ``explain``. Its state dict has the
        same names plus ``se.*``.

    Raises:
        UnsupportedBackboneError: If the features have no grid or no single channel axis; the
            message names the model and the reason. The model is unchanged.
        UnknownModelError: If timm does not know the name.
        WeightsNotFoundError: If ``pretrained`` weights cannot be fetched as safetensors.
        InvalidInputError: If ``gate`` or ``reduction`` is not one that the SE block takes, or the
            backbone cannot be made with ``kwargs``.
        UnknownArgumentError: If the backbone does not take one of ``kwargs``, or they or
            ``pretrained`` are given with a model instead of a name.
    """
    if isinstance(model, str):
        model = _create_plain(model, pretrained, kwargs)
    elif pretrained or kwargs:
        given = sorted(kwargs) + (["pretrained"] if pretrained else [])
        raise UnknownArgumentError(
            f"{', '.join(given)}: only used when squeeze() is given a model name."
        )
    model = uncompiled(model)  # the wrapper would go on without the block
    if isinstance(model, SEHeadMixin):
        raise UnsupportedBackboneError(f"{name_of(model)} has an SE head already.")
    layout, channels = probe_layout(model, kwargs.get("img_size"))
    made = attach_se(model, layout, channels, reduction, gate, multi_label)
    vars(made).pop("_compiled_call_impl", None)  # of model.compile(): it may know the old class
    if (classes := classes_of(made)) and classes != made.num_classes:
        made.num_classes = classes
    _describe(made)
    return made


def _create_plain(name: str, pretrained: bool, kwargs: Dict[str, Any]) -> nn.Module:
    """Create timm's model by name, ``hf-hub:`` or ``local-dir:``; weights are safetensors only."""
    cfg: Any = kwargs.pop("pretrained_cfg", None)
    overlay, cache_dir = kwargs.pop("pretrained_cfg_overlay", None), kwargs.get("cache_dir")
    if ":" in name:
        architecture, cfg, args = described_model(name, cache_dir)
        kwargs = {**args, **kwargs}  # described_model refuses arguments about loading
    else:
        architecture, tag = split_model_name_tag(name.removeprefix(PREFIX))
        cfg = cfg or tag
    if name.startswith(PREFIX) or "_sehead" in architecture:
        raise UnsupportedBackboneError(f"{name} has an SE head already; use timm.create_model.")
    if not timm.is_model(architecture):
        raise UnknownModelError(f"timm has no model {architecture!r}.{closest_names(architecture)}")

    def build(local: Dict[str, Any], args: Dict[str, Any], load: bool) -> nn.Module:
        args = dict(args)
        dilated = args.pop("dilated", True)
        made = timm.create_model(architecture, pretrained=load, pretrained_cfg=local, **args)
        return made if dilated else undilated(made)

    cfg = resolve_config(architecture, cfg, overlay)
    model = build_and_load(name, pretrained, cfg, build, kwargs, cache_dir)
    if not hasattr(model, "_model_args"):  # timm records it from 1.0.29 on
        model._model_args = dict(kwargs)
    if not kwargs.get("dilated", True):
        model._model_args["dilated"] = False
    return model


def unsqueeze(model: nn.Module) -> nn.Module:
    """Remove the SE head of a model, in place.

    The result is the control of every comparison "with and without the block".

    Args:
        model: Image or clip model with an SE head.

    Returns:
        The model: the plain timm model with the same backbone and classifier.

    Raises:
        UnsupportedBackboneError: If the model has no SE head.
    """
    if not isinstance(model, SEHeadMixin):
        raise UnsupportedBackboneError(f"{type(model).__name__} has no SE head to remove.")
    model.__class__ = plain_class(type(model))
    for name in ("se", "se_layout", *SE_ATTRIBUTES):
        delattr(model, name)
    _describe_plain(model)
    return model


def _describe(model: SEHeadMixin) -> None:
    """Make the config name ``timm_sehead``, so that a saved model can be created again."""
    cfg = dict(getattr(model, "pretrained_cfg", None) or {})
    if "architecture" not in cfg:
        return
    backbone = cfg["architecture"]
    model.pretrained_cfg = model.default_cfg = {**cfg, "architecture": "timm_sehead"}  # type: ignore[assignment]
    args = dict(getattr(model, "_model_args", {}))
    args.update(backbone=backbone, **model.head_args())  # type: ignore[operator]
    model._model_args = args  # type: ignore[assignment]


def _describe_plain(model: nn.Module) -> None:
    """Make the config name the backbone again, so that the model can be squeezed once more."""
    cfg = dict(getattr(model, "pretrained_cfg", None) or {})
    args = dict(getattr(model, "_model_args", {}))
    named = args.pop("backbone", None) or (cfg.get("architecture") or "").removesuffix("_sehead")
    backbone = split_model_name_tag(named)[0]
    if not timm.is_model(backbone):  # resnet18_slim is not one of timm's
        return
    model.pretrained_cfg = model.default_cfg = {**cfg, "architecture": backbone}  # type: ignore[assignment]
    model._model_args = {k: v for k, v in args.items() if k not in SE_DEFAULTS}  # type: ignore[assignment]
