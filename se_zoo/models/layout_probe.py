"""Find out how a backbone lays out its features, without running it on real data."""

import contextlib
import copy
import itertools
import json
from typing import Any, Callable, Dict, List, Literal, Mapping, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import UnsupportedBackboneError
from ..layers import Layout
from ..layers.grid import Features, cell_aspect, feature_map, token_grid
from .input_size import ImageSize, input_channels, input_size

#: timm classes that return a list of features, and the layout of the feature map, its last entry.
#: CoaT's scales follow one another, and of EfficientViM's entries only the last lies on a grid. A
#: list of peers (crossvit's two parallel trunks) has no last feature map and is refused.
_LIST_LAYOUTS = {"CoaT": Layout("NLC", 1), "EfficientViM": Layout("NCL")}
#: Norms, which keep shape and type. The meta device computes them step by step, in Python: most of
#: the time of a probe.
_NORMS = {F.batch_norm, F.layer_norm, F.group_norm}
#: What :func:`probe_once` has found, by what the model was made from.
_FOUND: Dict[str, Tuple[Layout, int]] = {}


def name_of(model: nn.Module) -> str:
    """Return timm's name of the model's architecture, for messages."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    return cfg.get("architecture") or type(model).__name__


def probe_layout(model: nn.Module, img_size: ImageSize = None) -> Tuple[Layout, int]:
    """Return the layout and number of channels of a model's features.

    A copy of the model runs on the meta device, which has shapes but no memory and no arithmetic.
    The model itself does not run, so no cache and no batch statistics of it change.

    Args:
        model: A timm model.
        img_size: What the model was created with as ``img_size``, in pixels, if anything.

    Returns:
        Layout and number of channels.

    Raises:
        UnsupportedBackboneError: If the features do not lie on one grid, or the model's head does
            not take them.
    """
    name = name_of(model)
    if not hasattr(model, "forward_features") or not hasattr(model, "forward_head"):
        raise UnsupportedBackboneError(f"{name} lacks timm's forward_features and forward_head.")
    size = input_size(model, img_size)
    twin, features = _features(name, model, size, (_meta_twin, copy.deepcopy))
    layout, channels = _layout_of(name, model, features, size)
    try:
        _attempt(name, twin, "forward_head", features)  # timm's encoders have none that works
    except UnsupportedBackboneError:
        if not feature_map(features).is_meta:
            raise
        # Quantised layers have no function on the meta device.
        twin, features = _features(name, model, size, (copy.deepcopy,))
        _attempt(name, twin, "forward_head", features)
    return layout, channels


def probe_once(backbone: str, args: Mapping[str, Any], model: nn.Module) -> Tuple[Layout, int]:
    """Probe a model that was made by its name, unless an equal one has been probed before.

    Loading builds a model twice, first without memory to check the weights against it; and probing
    a small model takes several times as long as building it.

    Args:
        backbone: Name of the backbone.
        args: Arguments that it was made with.
        model: The backbone.

    Returns:
        Layout and number of channels; see :func:`probe_layout`.

    Raises:
        UnsupportedBackboneError: As :func:`probe_layout`.
    """
    img_size = args.get("img_size")
    try:
        key = json.dumps([backbone, dict(args), input_size(model, img_size)], sort_keys=True)
    except TypeError:  # an argument is an object, which may not be what it was
        return probe_layout(model, img_size)
    if key not in _FOUND:
        _FOUND[key] = probe_layout(model, img_size)
    return _FOUND[key]


def _features(
    name: str,
    model: nn.Module,
    size: Tuple[int, int],
    copies: Sequence[Callable[[nn.Module], nn.Module]],
) -> Tuple[nn.Module, Features]:
    """Return a copy of the model and its ``forward_features``, in the cheapest way that works.

    A real copy runs where the meta device lacks a function of torch (autocast in torch 2.6).
    """
    ways = itertools.product(copies, input_channels(model))
    failures: List[UnsupportedBackboneError] = []
    for copied, channels in ways:
        try:
            twin = copied(model).eval()
        except NotImplementedError as error:  # of quantised weights on the meta device
            failures.append(UnsupportedBackboneError(f"{name} cannot be squeezed: {error}"))
            continue
        parameter = next(twin.parameters())
        dtype = parameter.dtype if parameter.is_floating_point() else torch.float32
        images = torch.zeros(1, channels, *size, device=parameter.device, dtype=dtype)
        try:
            return twin, _attempt(name, twin, "forward_features", images)
        except UnsupportedBackboneError as error:
            failures.append(error)
    raise failures[0]


class _WithoutNorms(TorchFunctionMode):
    """Leave the norms of tensors without values out."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Optional[Dict[str, Any]] = None
    ) -> Any:
        if func in _NORMS and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def _attempt(name: str, twin: nn.Module, method: str, argument: Features) -> Features:
    """Call a method of the copy, and raise one clear error if it fails."""
    # The head is called with all that it does: it may not take the features.
    shortcut = _WithoutNorms() if method == "forward_features" else contextlib.nullcontext()
    try:
        with feature_map(argument).device, shortcut, torch.no_grad():
            return getattr(twin, method)(argument)
    except Exception as error:
        shape = tuple(feature_map(argument).shape)
        raise UnsupportedBackboneError(
            f"{name} cannot be squeezed: its {method} fails on an input {shape}: {error}"
        ) from error


def list_layout(model: nn.Module) -> Optional[Layout]:
    """Return the layout of the last entry of a model's list of features.

    Args:
        model: A timm model.

    Returns:
        The layout; None if the model is of no class that is known to return a list.
    """
    names = [cls.__name__ for cls in type(model).__mro__ if cls.__name__ in _LIST_LAYOUTS]
    return _LIST_LAYOUTS[names[0]] if names else None


def _layout_of(
    name: str, model: nn.Module, features: Features, image_size: Tuple[int, int]
) -> Tuple[Layout, int]:
    """Return the layout and number of channels of features of one image."""
    if not isinstance(features, torch.Tensor):
        layout = list_layout(model) if isinstance(features, (list, tuple)) else None
        if layout is not None:
            return layout, layout.channels(features)
        raise UnsupportedBackboneError(
            f"{name} cannot be squeezed: its features are a {type(features).__name__} without one "
            "last feature map."
        )
    channels = getattr(model, "num_features", None)
    shape = tuple(features.shape)
    if features.dim() == 4:
        kind = _kind_of_map(model, channels, shape)
        return Layout(kind), shape[3] if kind == "NHWC" else shape[1]
    if features.dim() != 3:
        raise UnsupportedBackboneError(
            f"{name} cannot be squeezed: its features have shape {shape}."
        )
    # A flattened grid has its channels first. As tokens, they would be a grid of their own.
    flat = channels == shape[1] and channels != shape[2]
    tokens = shape[2] if flat else shape[1]
    prefix = _prefix_tokens(model, tokens, image_size)
    if prefix is None or (flat and prefix):
        raise UnsupportedBackboneError(
            f"{name} cannot be squeezed: its {tokens} tokens do not form a grid, so there is no "
            "map to draw."
        )
    return (Layout("NCL"), shape[1]) if flat else (Layout("NLC", prefix), shape[2])


def _kind_of_map(
    model: nn.Module, channels: Optional[int], shape: Tuple[int, ...]
) -> Literal["NCHW", "NHWC"]:
    """Return the layout of a feature map (1, a, b, c) of one image.

    It is the one in which the map has ``num_features`` channels. Where both have, or none because
    ``num_features`` is of another layer, it is what the model declares as ``output_fmt``, or NCHW.

    Args:
        model: The model.
        channels: Its ``num_features``; None if it has none.
        shape: Shape of the map.
    """
    first, last = shape[1] == channels, shape[3] == channels
    if first == last:
        last = getattr(model, "output_fmt", None) == "NHWC"
    return "NHWC" if last else "NCHW"


def _prefix_tokens(model: nn.Module, tokens: int, image_size: Tuple[int, int]) -> Optional[int]:
    """Return the number of prefix tokens, or None if no number leaves a grid.

    It is what the model declares, else the number that leaves the squarest cells: 962 tokens are
    taken for 1 + 31 x 31, although 26 x 37 would be possible.
    """
    declared = getattr(model, "num_prefix_tokens", None)
    aspects: Dict[int, float] = {}
    for prefix in (declared,) if declared is not None else (0, 1, 2):
        try:
            grid = token_grid(tokens - prefix, image_size)
        except ValueError:
            continue
        if tokens - prefix >= 4:
            aspects[prefix] = cell_aspect(grid, image_size)
    return min(aspects, key=lambda prefix: aspects[prefix], default=None)


def _meta_twin(model: nn.Module) -> nn.Module:
    """Return a copy on the meta device that shares nothing with the model and uses no memory."""
    memo: Dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), False)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor):  # a cache of an earlier forward pass
                memo[id(value)] = torch.empty_like(value, device="meta")
    return copy.deepcopy(model, memo)
