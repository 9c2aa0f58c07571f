"""``explain``: a prediction and its heatmaps from one forward pass.

No hooks and no gradient through the backbone: features, gate, head, and a weighted sum of the
channels. That is why it is safe in threads, leaves nothing on the model and costs a forward pass.
"""

from typing import NamedTuple, Optional, Protocol, Sequence, Tuple, Union, cast

import torch
from torch import nn

from ..errors import InvalidInputError
from ..layers.grid import Features, feature_map, in_dtype
from . import heads, maps, targets
from .eval_mode import evaluating
from .explanation import Explanation
from .targets import Rows, Target

METHODS = ("gate", "contribution", "support", "difference", "activation")


class SEModel(Protocol):
    """What a model with an SE head offers; explanations are written against this alone."""

    def forward_features(self, x: torch.Tensor) -> Features: ...
    def forward_head(self, x: Features) -> torch.Tensor: ...
    def gate(self, features: Features) -> torch.Tensor: ...
    def gated(self, features: Features, gate: Optional[torch.Tensor] = None) -> Features: ...
    def classify(self, gated: Features) -> torch.Tensor: ...
    def feature_grid(self, features: Features, image_size: Tuple[int, int]) -> torch.Tensor: ...
    def class_labels(self) -> Optional[Sequence[str]]: ...
    def image_stats(self) -> Tuple[Tuple[float, ...], Tuple[float, ...]]: ...
    def is_multi_label(self) -> bool: ...


class _Pass(NamedTuple):
    """What one forward pass leaves behind; every map is computed from it."""

    native: Features  # as the backbone lays them out, in the dtype of the head's parameters
    features: torch.Tensor  # (B, C, *grid)
    gate: torch.Tensor  # (B, C), float32 or better
    logits: torch.Tensor  # (B, num_classes)
    selection: maps.Selection  # by the gate


class _Maps(NamedTuple):
    raw: torch.Tensor  # (N, *grid)
    constant: torch.Tensor  # (N,)
    exact: bool
    source: str  # where the channel weights come from


def check_model(model: nn.Module) -> SEModel:
    """The model as one that can be explained.

    Raises:
        InvalidInputError: If it has no SE head.
    """
    if not all(hasattr(model, name) for name in ("gate", "classify", "feature_grid")):
        if hasattr(getattr(model, "module", None), "feature_grid"):
            raise InvalidInputError(
                f"{type(model).__name__} wraps the model; explain its .module instead."
            )
        raise InvalidInputError(
            f"{type(model).__name__} has no SE head; give it one with se_zoo.squeeze(model)."
        )
    return cast(SEModel, model)


def check_images(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The images on the model's device and in its dtype, or one clear error.

    Clip models take (B, C, T, H, W); images (B, C, H, W) are clips of one frame to them.

    Raises:
        InvalidInputError: For anything but a non-empty, finite float tensor of such a shape.
    """
    clips = bool(getattr(model, "takes_clips", False))
    shape = "(B, C, T, H, W)" if clips else "(B, C, H, W)"
    if not isinstance(images, torch.Tensor):
        raise InvalidInputError(
            f"images must be a tensor {shape}, not {type(images).__name__}; use timm's "
            "create_transform(**resolve_data_config(model=model)) on PIL images."
        )
    if clips and images.dim() == 4:
        images = images.unsqueeze(2)
    if images.dim() != 4 + clips or images.numel() == 0:
        raise InvalidInputError(
            f"images must have shape {shape} and not be empty, got {tuple(images.shape)}"
            + ("; add the batch axis with images[None]." if images.dim() == 3 else ".")
        )
    if not images.is_floating_point():
        raise InvalidInputError(
            f"images must be floats normalised with the model's mean and std, got {images.dtype}."
        )
    if not bool(images.isfinite().all()):
        raise InvalidInputError("images contain NaN or infinite values; check the preprocessing.")
    parameter = next(model.parameters())
    dtype = parameter.dtype if parameter.is_floating_point() else images.dtype
    return images.to(device=parameter.device, dtype=dtype)


def backbone_features(model: SEModel, images: torch.Tensor) -> Features:
    """``forward_features``; images that the backbone does not take are the caller's mistake.

    Raises:
        InvalidInputError: With the backbone's own reason (number of channels, fixed size).
    """
    try:
        return model.forward_features(images)
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError) as error:
        raise InvalidInputError(
            f"{type(model).__name__} does not take images of shape {tuple(images.shape)}: {error}"
        ) from error


def explain(
    model: nn.Module,
    images: torch.Tensor,
    target: Target = None,
    method: Optional[str] = None,
    *,
    versus: Union[int, str, None] = None,
    normalize: Union[str, float] = "image",
) -> Explanation:
    """Predict and explain a batch of images in one forward pass.

    Args:
        model: Model with an SE head: registered ``*_sehead`` or the result of ``squeeze``.
        images: Normalised images, (B, C, H, W), or clips, (B, C, T, H, W), for a clip model;
            moved to the model's device and dtype.
        target: Class index or label name; a sequence of them (one heatmap per image and target);
            a tensor (B,) with one class per image; or None: the top-1 class, for a multi-label
            model every label above its threshold (``model.thresholds``; one half where it has
            none) and at least the one nearest to it.
        method: By default ``model.map_method``, or else ``"contribution"``.

            ``"contribution"``: ``sum_c w'[k, c] g_c``, signed, exact for pooling (+ norm) + linear
            heads. ``"support"``: the same with what speaks against the class counted by half
            (:func:`maps.support`), not exact. ``"gate"``: mean of the gated features of the
            selected channels, the map of arXiv 2412.05134; it knows no class. ``"difference"``:
            contribution of the target less that of another class. ``"activation"``: plain channel
            mean, the control that a method must beat (LaFAM, arXiv 2407.06059).
        versus: The other class of ``"difference"``; the runner-up of each image if None. Needed
            for a multi-label model, whose labels do not compete.
        normalize: ``"image"``, or the raw value drawn as 1 (see :func:`maps.normalise`).

    Returns:
        An :class:`Explanation`. ``gate`` and ``activation`` give one row per image unless targets
        were asked for; their maps are the same for all of an image's targets.

    Raises:
        InvalidInputError: For images, a method or options that cannot be used.
        UnknownLabelError: For a class that the model does not have.
    """
    if method is None:
        method = getattr(model, "map_method", None) or "contribution"
    if method not in METHODS:
        raise InvalidInputError(f"Unknown method {method!r}; the methods are {', '.join(METHODS)}.")
    if versus is not None and method != "difference":
        raise InvalidInputError(f'versus is for method="difference" only, not {method!r}.')
    normalize = maps.check_normalize(normalize)
    se_model = check_model(model)
    batch = check_images(model, images)
    with torch.no_grad(), evaluating(model):
        native = backbone_features(se_model, batch)
        logits = se_model.forward_head(native)
        gate = se_model.gate(native)
        image_size = (batch.shape[-2], batch.shape[-1])
        with torch.autocast(batch.device.type, enabled=False):
            # What autocast left in half precision would not go with the head's parameters.
            native = in_dtype(native, batch.dtype)
            grid = se_model.feature_grid(native, image_size)
            work = torch.promote_types(gate.dtype, torch.float32)
            gates = gate.to(work)
            state = _Pass(native, grid, gates, logits, maps.select_channels(gates))
            rows = _rows(se_model, state, target, method)
            other = _other_class(se_model, state, rows, method, versus)
            computed = _compute(se_model, state, rows, other, method)
            from_zero, size = method in maps.FROM_ZERO_METHODS, tuple(batch.shape[2:])
            heatmap = maps.to_heatmap(computed.raw, from_zero, normalize, size)
    labels = se_model.class_labels()
    mean, std = se_model.image_stats()
    return Explanation(
        heatmap=heatmap.float(),
        raw=computed.raw.float(),
        constant=computed.constant.float(),
        logits=logits,
        gate=gate,
        selected=state.selection.mask,
        rule=state.selection.rule,
        image_index=rows.images,
        target=tuple(rows.targets.tolist()),
        versus=None if other is None else tuple(other.tolist()),
        method=method,
        normalize=normalize,
        exact=computed.exact,
        weights=computed.source,
        label_names=None if labels is None else tuple(labels),
        multi_label=se_model.is_multi_label(),
        thresholds=getattr(model, "thresholds", None),
        images=images.unsqueeze(2) if images.dim() < batch.dim() else images,
        mean=mean,
        std=std,
    )


def _rows(model: SEModel, state: _Pass, target: Target, method: str) -> Rows:
    # Without a classifier timm's heads give the pooled features, which look like logits.
    if state.logits.dim() != 2 or not getattr(model, "num_classes", state.logits.shape[1]):
        raise InvalidInputError(
            f"The model's head gives {tuple(state.logits.shape)}, not (B, num_classes); give it a "
            "classifier with reset_classifier(num_classes, 'avg')."
        )
    if not bool(state.logits.isfinite().all()):
        raise InvalidInputError(
            f"The model's logits are NaN or infinite ({state.logits.dtype}): its weights are "
            "damaged, or its activations exceed the range of its dtype."
        )
    multi_label = model.is_multi_label()
    if target is None and method in maps.CLASSLESS_METHODS:
        multi_label = False  # these maps know no class: one row per image, not one per label
    thresholds = getattr(model, "thresholds", None) if multi_label else None
    return targets.resolve_rows(target, state.logits, model.class_labels(), multi_label, thresholds)


def _other_class(
    model: SEModel, state: _Pass, rows: Rows, method: str, versus: Union[int, str, None]
) -> Optional[torch.Tensor]:
    if method != "difference":
        return None
    num_classes = state.logits.shape[1]
    if num_classes < 2:
        raise InvalidInputError('method="difference" needs a model with at least two classes.')
    if versus is None and model.is_multi_label():
        raise InvalidInputError(
            "The labels of a multi-label model do not compete, so there is no runner-up; name the "
            "other label with versus."
        )
    if versus is None:
        return targets.runner_up(state.logits, rows)
    index = targets.label_index(versus, model.class_labels(), num_classes)
    if bool((rows.targets == index).any()):
        raise InvalidInputError(
            f"versus={versus!r} is a target itself; the difference would be zero."
        )
    return torch.full_like(rows.targets, index)


def _compute(
    model: SEModel, state: _Pass, rows: Rows, other: Optional[torch.Tensor], method: str
) -> _Maps:
    zeros = state.gate.new_zeros(len(rows.images))
    if method == "gate":
        weights = maps.gate_weights(state.gate, state.selection.mask)[rows.images]
        raw = maps.weighted_maps(state.features, weights, rows.images)
        return _Maps(raw, zeros, False, "gate")
    if method == "activation":
        weights = torch.full_like(state.gate, 1 / state.gate.shape[1])[rows.images]
        raw = maps.weighted_maps(state.features, weights, rows.images)
        return _Maps(raw, zeros, False, "mean")
    computed = _contribution(model, state, rows, method == "support")
    if other is None:
        return computed
    against = _contribution(model, state, Rows(rows.images, other))
    return _Maps(
        computed.raw - against.raw,
        computed.constant - against.constant,
        computed.exact and against.exact,
        computed.source if computed.source == against.source else "mixed",
    )


def _contribution(model: SEModel, state: _Pass, rows: Rows, support: bool = False) -> _Maps:
    """Contribution or support maps: folded weights where they are exact, else the gradient of the
    head."""
    pooled = state.features.flatten(2).to(state.gate.dtype).mean(2) * state.gate
    logits = state.logits[rows.images, rows.targets]
    size = _square_of(state)
    folding = heads.find_folding(
        cast(nn.Module, model),
        pooled[rows.images],
        rows.targets,
        logits,
        lambda: heads.probe_head(
            cast(nn.Module, model), state.native, lambda view: model.feature_grid(view, size)
        ),
    )
    if folding is not None:
        folded = folding.weights
        weights = folded.weight * state.gate[rows.images]
        raw = maps.weighted_maps(state.features, weights, rows.images)
        if not support:
            return _Maps(raw, folded.constant, True, "folded")
        both = maps.weighted_maps(state.features.abs(), weights.abs(), rows.images)
        raw = maps.support(raw, both)
        return _Maps(raw, _rest(logits, raw), False, "folded")
    return _head_gradient_maps(model, state, rows, logits, support)


def _rest(logits: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
    """What the mean of maps (N, *grid) lacks to the logits, (N,)."""
    return logits.to(raw.dtype) - raw.flatten(1).mean(1)


def _head_gradient_maps(
    model: SEModel, state: _Pass, rows: Rows, logits: torch.Tensor, support: bool
) -> _Maps:
    """Gradient times gated features, position by position (HiResCAM after the gate), times the
    number of positions, so that a linear head would give its own weights.

    A head that reads class tokens alone gives the grid no gradient at all. Then the class token's
    gradient is projected on the patch tokens: a picture of where the same channels are active,
    not a decomposition of the logit; ``weights`` says "projection".
    """
    size = _square_of(state)
    gated = model.gated(state.native, state.gate.to(feature_map(state.native).dtype))
    grid = model.feature_grid(gated, size).to(state.gate.dtype)
    parts, source = [], "gradient"
    # As many rows at a time as there are images, so that many targets take no more memory.
    for images, classes in zip(
        rows.images.split(len(grid)), rows.targets.split(len(grid)), strict=True
    ):
        gradient = heads.head_gradient(cast(nn.Module, model), gated, images, classes)
        gradient_grid = model.feature_grid(gradient, size).to(grid.dtype)
        if heads.reads_prefix_only(gradient_grid, gradient):
            weights = gradient.flatten(1, -2).to(grid.dtype).sum(1)  # tokens are channels last
            terms = torch.einsum("nc,nc...->nc...", weights, grid[images])
            source = "projection"
        else:
            terms = grid[0, 0].numel() * gradient_grid * grid[images]
        net = terms.sum(1)
        parts.append(maps.support(net, terms.abs().sum(1)) if support else net)
    raw = torch.cat(parts)
    return _Maps(raw, _rest(logits, raw), False, source)


def _square_of(state: _Pass) -> Tuple[int, int]:
    """An image size of the grid's own aspect: all that a token layout needs to find its grid."""
    rows, columns = state.features.shape[-2:]
    return rows, columns
