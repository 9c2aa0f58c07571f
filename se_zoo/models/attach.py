"""Put an SE head on a model of known layout: the class, the block and the options."""

from typing import Any, Dict, Optional, Sequence, Tuple, Type, Union, cast

from torch import nn

from ..layers import FrameLayout, Layout, SqueezeExcite
from .head_options import check_head_options
from .sehead import SE_DEFAULTS, GenericSEHead, SEHeadMixin

#: timm class -> its SE class with a hand-written head that TorchScript and FX can follow.
FAMILIES: Dict[type, type] = {}
_SE_CLASSES: Dict[Tuple[type, type], type] = {}


def take_se_args(kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """Remove the SE head's arguments from a model's and return them, completed by the defaults."""
    return {**SE_DEFAULTS, **{k: kwargs.pop(k) for k in SE_DEFAULTS if k in kwargs}}


def plain_class(cls: type) -> type:
    """Return the timm class behind an SE class."""
    return next(c for c in cls.__mro__ if not issubclass(c, SEHeadMixin))


def _se_class(cls: type, head: type = SEHeadMixin) -> type:
    """Return the SE class of a timm class; it is made once, so that models share it.

    Args:
        cls: timm's class.
        head: Mixin that the class must have. By default a hand-written head if there is one, else
            :class:`GenericSEHead`.
    """
    if cls in FAMILIES and issubclass(FAMILIES[cls], head):
        return FAMILIES[cls]
    head = GenericSEHead if head is SEHeadMixin else head
    if (cls, head) not in _SE_CLASSES:
        name = f"{head.class_prefix}{cls.__name__}SE"  # type: ignore[attr-defined]
        content = {"__module__": __name__, "__reduce_ex__": _reduce}
        _SE_CLASSES[cls, head] = type(name, (head, cls), content)
    return _SE_CLASSES[cls, head]


def _reduce(model: nn.Module, protocol: Any) -> Any:
    """Pickle a model by timm's class: a class made here has no name that could be imported."""
    made_of = (plain_class(type(model)), type(model).__bases__[0])
    # It leaves out what model.compile() stores: a copy would run the model that it is a copy of.
    return _rebuild, made_of, model.__getstate__()


def _rebuild(cls: type, head: type) -> nn.Module:
    """Return an empty model of the SE class, for pickle."""
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
    """Put an SE head on a timm model of known layout, in place.

    Args:
        model: The timm model; after an error it is unchanged.
        layout: How its ``forward_features`` lays out the result.
        channels: Channels of that result.
        reduction: Reduction of the SE block.
        gate: ``"identity"`` or ``"sigmoid"``.
        multi_label: Whether the classes are independent yes/no labels.
        thresholds: See :class:`SEHeadMixin`.
        map_offset: See :class:`SEHeadMixin`.
        map_method: See :class:`SEHeadMixin`.
        head: Mixin that the model's class must have.

    Returns:
        The model.

    Raises:
        InvalidInputError: If ``gate`` or ``reduction`` is not one that the SE block takes, the
            thresholds are not one number in (0, 1) for each label, the offset is not a pair of
            numbers, or the method is unknown.
    """
    multi_label, classes = bool(multi_label), getattr(model, "num_classes", None)
    kept, offset = check_head_options(classes, multi_label, thresholds, map_offset, map_method)
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
