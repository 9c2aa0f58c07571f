"""The SE head: a mixin for timm classes, and ``squeeze``, which gives it to any timm model.

The block acts in ``forward_head``, so ``forward_features`` and ``forward_intermediates`` are those
of the backbone. The model stays an instance of its timm class, and its state dict has the same
names plus ``se.*``.
"""

import math
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Type, Union, cast

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from ..errors import InvalidInputError, UnknownModelError, UnsupportedBackboneError
from ..explanations import METHODS, Explanation
from ..explanations import channel_logits as _channel_logits
from ..explanations import explain as _explain
from ..explanations.targets import Target
from ..layers import FrameLayout, Layout, SqueezeExcite
from ..layers.grid import Features
from ._timm import TimmModel, resolve_pretrained_cfg, split_model_name_tag
from .labels import imagenet_labels
from .layout_probe import name_of, probe_layout
from .names import closest_names
from .pretrained.errors import clear_errors
from .pretrained.fetch import (
    check_finite,
    described_model,
    local_source,
    restore_source,
    source_name,
)

#: Arguments of the SE head, beside the backbone's own, and their defaults.
SE_DEFAULTS: Dict[str, Any] = {
    "reduction": 16, "gate": "identity", "multi_label": False, "thresholds": None,
    "map_offset": (0.0, 0.0), "map_method": None,
}  # fmt: skip


def take_se_args(kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """Take the SE head's arguments out of a model's, and complete them with the defaults."""
    return {**SE_DEFAULTS, **{k: kwargs.pop(k) for k in SE_DEFAULTS if k in kwargs}}


#: Attributes of an SE model that say how its answers are read.
SE_ATTRIBUTES = ("se_args", "multi_label", "thresholds", "map_offset", "map_method")

#: timm class -> its SE class with a hand-written head that TorchScript and FX can follow.
FAMILIES: Dict[type, type] = {}
_SE_CLASSES: Dict[Tuple[type, type], type] = {}


class NoGate(nn.Module):
    """Stands where a pruned SE block stood: every channel passes as it is."""

    def excite(self, squeezed: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(squeezed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class SEHeadMixin(TimmModel):
    """What an SE model offers beyond its timm class.

    Attributes:
        se: The SE block; its parameters are the state dict's ``se.*``.
        se_layout: How ``forward_features`` lays out its result.
        se_args: ``reduction`` and ``gate``, as ``timm_sehead`` takes them.
        multi_label: Whether the classes are independent yes/no labels.
        thresholds: Probability above which each label of a multi-label model is answered with
            yes, (num_classes,); None: one half.
        map_offset: Pixels (x, y) by which the maps of these weights lie beside the evidence;
            (0, 0) until it is measured.
        map_method: What ``explain`` draws by default; None: contribution maps.
    """

    #: Whether inputs are clips (B, C, T, H, W), with a time axis.
    takes_clips = False
    #: What one sample is called.
    noun = "image"
    #: Name of the input that heatmaps lie on; see :func:`se_zoo.models.examples.example_inputs`.
    map_input = "x"
    #: In front of the names of classes that are made for it.
    class_prefix = ""

    if TYPE_CHECKING:
        se: Any
        se_layout: Union[Layout, FrameLayout]
        se_args: Dict[str, Any]
        multi_label: bool
        thresholds: Optional[Tuple[float, ...]]
        map_offset: Tuple[float, float]
        map_method: Optional[str]

    def gate(self, features: Features) -> torch.Tensor:
        """Gate (SE vector) of the result of ``forward_features``, (B, C)."""
        return self.se.excite(self.se_layout.squeeze(features))

    def gated(self, features: Features, gate: Optional[torch.Tensor] = None) -> Features:
        """Gated features in the backbone's own layout; ``gate`` (B, C) replaces the model's own."""
        return self.se_layout.scale(features, self.gate(features) if gate is None else gate)

    def classify(self, gated: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """The backbone's own head on already gated features."""
        return super().forward_head(gated, pre_logits=pre_logits)  # type: ignore[misc]

    def feature_grid(
        self, features: Features, image_size: Optional[Tuple[int, int]] = None
    ) -> torch.Tensor:
        """The (B, C, *grid) view of features; ``image_size`` (H, W) is needed for tokens."""
        return self.se_layout.to_grid(features, image_size)

    def class_labels(self) -> Optional[Sequence[str]]:
        """Label names of the classes in order, or None.

        From the config; a model with 1,000 classes and no names of its own is taken for
        ImageNet-1k only if its config names that as its training set (tag ``*in1k``).
        """
        cfg = self._config()
        names = cfg.get("label_names")
        if isinstance(names, (list, tuple)) and 0 < len(names) == self.num_classes:
            return tuple(names)
        tag = cfg.get("tag") or ""
        return imagenet_labels() if tag.endswith("in1k") and self.num_classes == 1000 else None

    def image_stats(self) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
        """Mean and standard deviation that images are normalised with, per channel (ImageNet's
        where the config names none, as in timm's ``resolve_data_config``)."""
        cfg = self._config()
        mean, std = cfg.get("mean"), cfg.get("std")
        return tuple(mean or IMAGENET_DEFAULT_MEAN), tuple(std or IMAGENET_DEFAULT_STD)

    def input_shape(self) -> Tuple[int, ...]:
        """Shape of one input that the model is made for: (C, H, W), of clips (C, T, H, W)."""
        channels, *size = self._config()["input_size"]
        frames: List[int] = [self.num_frames] if self.takes_clips else []  # type: ignore[list-item]
        return (channels, *frames, *size)

    def _config(self) -> Dict[str, Any]:
        # A model that was made by hand, not by timm's factory, has no config.
        return getattr(self, "pretrained_cfg", None) or {}

    def head_args(self) -> Dict[str, Any]:
        """Return the arguments that make this SE head again, as ``config.json`` keeps them."""
        found = {**self.se_args, "multi_label": self.multi_label, "thresholds": self.thresholds,
                 "map_offset": self.map_offset, "map_method": self.map_method}  # fmt: skip
        return {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in found.items()
            if k in ("gate", "reduction") or v != SE_DEFAULTS[k]
        }

    def is_multi_label(self) -> bool:
        """Whether the classes are independent yes/no labels (sigmoid) or exclusive (softmax)."""
        return bool(self.multi_label) or self.num_classes == 1

    def explain(
        self,
        images: torch.Tensor,
        target: Target = None,
        method: Optional[str] = None,
        *,
        versus: Union[int, str, None] = None,
        normalize: Union[str, float] = "image",
    ) -> Explanation:
        """Predict and explain a batch; see :func:`se_zoo.explain`."""
        return _explain(
            self,  # type: ignore[arg-type]
            images,
            target,
            method,
            versus=versus,
            normalize=normalize,
        )

    def has_exact_maps(self) -> bool:
        """Return whether contribution maps add up to the logits; it explains one random input."""
        if not self.num_classes:
            return False
        return self.explain(torch.randn(1, *self.input_shape())).exact

    def output_differences(
        self, other: "SEHeadMixin", inputs: Dict[str, torch.Tensor]
    ) -> List[str]:
        """Compare the outputs of two models, bit by bit.

        Args:
            other: A model that takes the same inputs; both models are in eval mode.
            inputs: What :func:`se_zoo.models.examples.example_inputs` returns.

        Returns:
            Those of "logits", "heatmap" and "gate" that differ.
        """
        mine, theirs = (model.explain(inputs["x"], target=0) for model in (self, other))
        names = ("logits", "heatmap", "gate")
        return [n for n in names if not torch.equal(getattr(mine, n), getattr(theirs, n))]

    def channel_logits(
        self, images: torch.Tensor, keep: Any = None, drop: Any = None
    ) -> torch.Tensor:
        """Logits with only some gate channels; see :func:`se_zoo.channel_logits`."""
        return _channel_logits(self, images, keep, drop)  # type: ignore[arg-type]

    def reset_classifier(
        self, num_classes: int, *args: Any, multi_label: Optional[bool] = None, **kwargs: Any
    ) -> None:
        """As in timm; another number of classes means other labels, exclusive ones unless
        ``multi_label`` says otherwise, and without thresholds."""
        self.forget_labels(num_classes, multi_label)
        super().reset_classifier(num_classes, *args, **kwargs)  # type: ignore[misc]
        pool = kwargs.get("global_pool", args[0] if args else None)
        if pool is not None:  # what saving needs; timm does not keep it in all versions
            self._model_args = {**getattr(self, "_model_args", {}), "global_pool": pool}

    def forget_labels(self, num_classes: int, multi_label: Optional[bool]) -> None:
        """Drop what holds for the old labels only, if the classifier is to have others."""
        if multi_label is not None or num_classes not in (0, self.num_classes):
            self.multi_label, self.thresholds, self.map_method = bool(multi_label), None, None

    def prune_intermediate_layers(self, *args: Any, **kwargs: Any) -> List[int]:
        """As in timm; where the head goes, the SE block goes with it."""
        kept = super().prune_intermediate_layers(*args, **kwargs)  # type: ignore[misc]
        # timm's signature is (indices, prune_norm, prune_head), with the head pruned by default.
        prune_head = kwargs.get("prune_head", args[2] if len(args) > 2 else True)
        if prune_head:
            self.se = NoGate()
        return kept

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Classes made by squeeze() have no importable name; rebuild them from timm's class.
        made_of = (plain_class(type(self)), type(self).__bases__[0])
        return _rebuild, made_of, self.__dict__.copy()


class GenericSEHead(SEHeadMixin):
    """SE head for any timm class: gate, then the class's own ``forward_head``."""

    def forward_head(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super().forward_head(self.gated(x), *args, **kwargs)  # type: ignore[misc]

    def classify(self, gated: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        kwargs = {"pre_logits": True} if pre_logits else {}  # some timm heads lack the argument
        return super().forward_head(gated, **kwargs)  # type: ignore[misc]


def plain_class(cls: type) -> type:
    """The timm class behind an SE class."""
    return next(c for c in cls.__mro__ if not issubclass(c, SEHeadMixin))


def _se_class(cls: type, head: type = SEHeadMixin) -> type:
    """The SE class of a timm class; made once, so that two squeezed models share it.

    Args:
        cls: timm's class.
        head: What it is to have; any SE head by default, a hand-written one if there is one.
    """
    if cls in FAMILIES and issubclass(FAMILIES[cls], head):
        return FAMILIES[cls]
    head = GenericSEHead if head is SEHeadMixin else head
    if (cls, head) not in _SE_CLASSES:
        name = f"{head.class_prefix}{cls.__name__}SE"  # type: ignore[attr-defined]
        _SE_CLASSES[cls, head] = type(name, (head, cls), {"__module__": __name__})
    return _SE_CLASSES[cls, head]


def _rebuild(cls: type, head: type) -> nn.Module:
    se_class: Type[nn.Module] = _se_class(cls, head)
    return se_class.__new__(se_class)


def attach_se(
    model: nn.Module,
    layout: Union[Layout, FrameLayout],
    channels: int,
    reduction: int,
    gate: str,
    multi_label: bool = False,
    thresholds: Optional[Sequence[float]] = None,
    map_offset: Sequence[float] = (0.0, 0.0),
    map_method: Optional[str] = None,
    head: type = SEHeadMixin,
) -> SEHeadMixin:
    """Turn a timm model into its SE variant, in place, without looking at its features.

    Args:
        model: The timm model.
        layout: How its ``forward_features`` lays out the result.
        channels: Channels of that result.
        reduction: Reduction of the SE block.
        gate: ``"identity"`` or ``"sigmoid"``.
        multi_label: Whether the classes are independent yes/no labels.
        thresholds: See :class:`SEHeadMixin`.
        map_offset: See :class:`SEHeadMixin`.
        map_method: See :class:`SEHeadMixin`.
        head: What the SE class is to have.

    Returns:
        The model.

    Raises:
        ValueError: If ``gate`` or ``reduction`` is not one that the SE block takes.
        InvalidInputError: If the thresholds are not one number in (0, 1) a label, the offset is
            no pair of numbers, or the method is unknown; the model is left as it was.
    """
    multi_label = bool(multi_label)
    kept = check_thresholds(thresholds, getattr(model, "num_classes", None), multi_label)
    offset = check_offset(map_offset)
    if map_method is not None and map_method not in METHODS:
        raise InvalidInputError(
            f"map_method is {map_method!r}; the methods are {', '.join(METHODS)}."
        )
    parameter = next(model.parameters())
    block = SqueezeExcite(channels, reduction, gate, device=parameter.device, dtype=parameter.dtype)
    model.__class__ = _se_class(type(model), head)
    made = cast(SEHeadMixin, model)
    made.se = block.train(model.training)
    made.se_layout = layout
    made.se_args = {"reduction": reduction, "gate": gate}
    made.multi_label, made.thresholds = multi_label, kept
    made.map_offset, made.map_method = offset, map_method
    return made


def check_thresholds(
    thresholds: Optional[Sequence[float]], num_classes: Optional[int], multi_label: bool
) -> Optional[Tuple[float, ...]]:
    """Return thresholds as a tuple, one a label.

    Args:
        thresholds: Probabilities, or None.
        num_classes: Number of labels; None where the model does not say.
        multi_label: Whether the labels are independent.

    Raises:
        InvalidInputError: If they are not one number in (0, 1) for each label of a multi-label
            model.
    """
    if thresholds is None:
        return None
    if not multi_label:
        raise InvalidInputError("thresholds are for independent labels: set multi_label=True.")
    try:
        kept = tuple(float(t) for t in thresholds)
    except (TypeError, ValueError):
        raise InvalidInputError(f"thresholds must be numbers, not {thresholds!r}.") from None
    if num_classes is not None and len(kept) != num_classes:
        raise InvalidInputError(f"{len(kept)} thresholds for {num_classes} labels; give one each.")
    if not all(0 < t < 1 for t in kept):
        raise InvalidInputError(f"thresholds must lie between 0 and 1: {list(kept)}.")
    return kept


def check_offset(offset: Sequence[float]) -> Tuple[float, float]:
    """Return an offset of maps as two numbers, x and y in pixels.

    Raises:
        InvalidInputError: If it is not a pair of finite numbers.
    """
    try:
        x, y = (float(v) for v in offset)
    except (TypeError, ValueError):
        raise InvalidInputError(f"map_offset must be two numbers (x, y), not {offset!r}.") from None
    if not (math.isfinite(x) and math.isfinite(y)):
        raise InvalidInputError(f"map_offset must be finite, not {offset!r}.")
    return x, y


def squeeze(
    model: Union[str, nn.Module],
    *,
    reduction: int = 16,
    gate: str = "identity",
    multi_label: bool = False,
    pretrained: bool = False,
    **kwargs: Any,
) -> SEHeadMixin:
    """Give any timm classifier an SE head (arXiv 2412.05134, section III).

    Args:
        model: A timm model, changed in place and returned; or the name of one (or
            ``hf-hub:<repository>``, ``local-dir:<folder>``), created with ``pretrained`` and
            ``kwargs``.
        reduction: Reduction of the SE block (paper: 16).
        gate: ``"identity"`` (default) leaves the logits equal to the bit; ``"sigmoid"`` is the
            paper's block and needs training.
        multi_label: Whether the classes are independent yes/no labels.
        pretrained: Load timm's weights (names only).
        **kwargs: Passed to ``timm.create_model`` (names only).

    Returns:
        The model: still an instance of its timm class, with ``explain``, and state-dict names as
        before plus ``se.*``.

    Raises:
        UnsupportedBackboneError: If the features have no grid or no single channel axis; the
            message names the model and the reason. The model is left as it was.
        UnknownModelError: If timm does not know the name.
        WeightsNotFoundError: If ``pretrained`` weights cannot be had as safetensors.
        ValueError: If ``gate`` or ``reduction`` is not one that the SE block takes.
    """
    if isinstance(model, str):
        model = _create_plain(model, pretrained, kwargs)
    elif pretrained or kwargs:
        given = sorted(kwargs) + (["pretrained"] if pretrained else [])
        raise TypeError(f"{', '.join(given)}: only used when squeeze() is given a model name.")
    if isinstance(model, SEHeadMixin):
        raise UnsupportedBackboneError(f"{name_of(model)} has an SE head already.")
    layout, channels = probe_layout(model, kwargs.get("img_size"))
    made = attach_se(model, layout, channels, reduction, gate, multi_label)
    _describe(made)
    return made


def _create_plain(name: str, pretrained: bool, kwargs: Dict[str, Any]) -> nn.Module:
    """timm's model by name, ``hf-hub:`` or ``local-dir:``; weights come from safetensors alone."""
    cfg: Any = kwargs.pop("pretrained_cfg", None)
    overlay, cache_dir = kwargs.pop("pretrained_cfg_overlay", None), kwargs.get("cache_dir")
    if ":" in name:
        architecture, cfg, args = described_model(name, cache_dir)
        kwargs = {**args, **kwargs}  # of the architecture alone: described_model sees to it
    else:
        architecture, tag = split_model_name_tag(name.removeprefix("se_zoo/"))
        cfg = cfg or tag
    if name.startswith("se_zoo/") or "_sehead" in architecture:
        raise UnsupportedBackboneError(f"{name} has an SE head already; use timm.create_model.")
    if not timm.is_model(architecture):
        raise UnknownModelError(f"timm has no model {architecture!r}.{closest_names(architecture)}")
    cfg = resolve_pretrained_cfg(architecture, cfg, overlay).to_dict()
    with clear_errors(name, cfg, cache_dir):
        local = {**cfg, **(local_source(cfg, cache_dir) if pretrained else {})}
        model = timm.create_model(
            architecture, pretrained=pretrained, pretrained_cfg=local, **kwargs
        )
    if not hasattr(model, "_model_args"):  # timm keeps it from 1.0.29 on
        model._model_args = dict(kwargs)  # type: ignore[assignment]
    restore_source(model, cfg)
    if pretrained:
        check_finite(model, source_name(cfg))
    return model


def unsqueeze(model: nn.Module) -> nn.Module:
    """Take the SE head off again, in place: the plain timm model with the same backbone.

    The control of every comparison "with and without the block".
    """
    if not isinstance(model, SEHeadMixin):
        raise UnsupportedBackboneError(f"{type(model).__name__} has no SE head to take off.")
    model.__class__ = plain_class(type(model))
    for name in ("se", "se_layout", *SE_ATTRIBUTES):
        delattr(model, name)
    _describe_plain(model)
    return model


def _describe(model: SEHeadMixin) -> None:
    """Make the config say ``timm_sehead``, so that a saved model can be created again."""
    cfg = dict(getattr(model, "pretrained_cfg", None) or {})
    if "architecture" not in cfg:
        return
    backbone = cfg["architecture"]
    model.pretrained_cfg = model.default_cfg = {**cfg, "architecture": "timm_sehead"}  # type: ignore[assignment]
    args = dict(getattr(model, "_model_args", {}))
    args.update(backbone=backbone, **model.head_args())  # type: ignore[operator]
    model._model_args = args  # type: ignore[assignment]


def _describe_plain(model: nn.Module) -> None:
    """Make the config name the backbone again, as before ``squeeze``; otherwise a model that is
    saved or squeezed once more would call itself a ``timm_sehead`` of nothing."""
    cfg = dict(getattr(model, "pretrained_cfg", None) or {})
    args = dict(getattr(model, "_model_args", {}))
    named = args.pop("backbone", None) or (cfg.get("architecture") or "").removesuffix("_sehead")
    backbone = split_model_name_tag(named)[0]
    if not timm.is_model(backbone):  # resnet18_slim is none of timm's
        return
    model.pretrained_cfg = model.default_cfg = {**cfg, "architecture": backbone}  # type: ignore[assignment]
    model._model_args = {k: v for k, v in args.items() if k not in SE_DEFAULTS}  # type: ignore[assignment]
