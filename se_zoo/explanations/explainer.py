"""``explain``: a prediction and its heatmaps from one forward pass.

An explanation is features, gate, head, and a weighted sum of the channels. It uses no hooks and no
gradient through the backbone, so it is thread-safe, leaves nothing on the model, and costs no more
than a forward pass.
"""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple, Union, cast

import torch
from torch import nn

from ..errors import InvalidInputError
from ..layers.grid import Features, feature_map, in_dtype
from . import heads, maps
from .channel_selection import Selection, select_channels
from .eval_mode import in_eval_mode
from .explanation import Explanation
from .methods import CLASSLESS_METHODS, FROM_ZERO_METHODS, METHODS
from .se_model import SEModel, as_batch, backbone_features, check_images, check_model
from .target_classes import Rows, Target, label_index, resolve_rows, runner_up

if TYPE_CHECKING:
    from .se_model import Face, Images


class _ForwardPass(NamedTuple):
    """Results of one forward pass, from which every map is computed."""

    native: Features  # in the backbone's layout and the dtype of the head's parameters
    features: torch.Tensor  # (B, C, *grid)
    gate: torch.Tensor  # (B, C), float32 or double
    model_gate: torch.Tensor  # (B, C), in the dtype in which the model gave it
    logits: torch.Tensor  # (B, num_classes)
    selection: Selection  # channels that the gate selects


class _Request(NamedTuple):
    """What to explain, with all defaults resolved."""

    method: str
    normalize: Union[str, float]
    rows: Rows
    versus: Optional[torch.Tensor]  # (N,), class that each row is compared with


class _Maps(NamedTuple):
    """Raw maps of all rows."""

    raw: torch.Tensor  # (N, *grid)
    constant: torch.Tensor  # (N,)
    exact: bool
    source: str  # where the channel weights come from, see Explanation.weights


def explain(
    model: nn.Module,
    images: "Images",
    target: Target = None,
    method: Optional[str] = None,
    *,
    versus: Union[int, str, None] = None,
    normalize: Union[str, float] = "image",
    face: "Face" = False,
) -> Explanation:
    """Predict and explain photos, or a batch of images, in one forward pass.

    Args:
        model: Model with an SE head: registered ``*_sehead`` or the result of ``squeeze``.
        images: Photos: a path, a PIL image, a uint8 array (H, W, 3), RGB, or a list of these, of
            any size; they are read upright and preprocessed as the model's config says. Or
            normalised images, (B, C, H, W), or clips, (B, C, T, H, W), for a clip model; moved to
            the model's device and dtype.
        target: Class index or label name; a sequence of them (one heatmap per image and target);
            a tensor (B,) with one class per image; or None: the top-1 class. For a multi-label
            model None means every label above its threshold (``model.thresholds``, else one half),
            at least the one nearest to it.
        method: Which map; by default ``model.map_method``, or else ``"contribution"``.
            ``"contribution"``: ``sum_c w'[k, c] g_c``, signed, exact for pooling (+ norm) + linear
            heads. ``"support"``: the same with evidence against the class counted by half, not
            exact. ``"gate"``: mean of the gated features of the selected channels, the map of
            arXiv 2412.05134, the same for every class. ``"difference"``: contribution of the target
            less that of another class. ``"activation"``: plain channel mean, the control that a
            method must beat (LaFAM, arXiv 2407.06059).
        versus: The other class of ``"difference"``; by default each image's runner-up. Needed for
            a multi-label model, whose labels do not compete.
        normalize: ``"image"``, or the raw value drawn as 1 (see :func:`maps.to_unit_range`).
        face: Whether to find the face in each photo, and frame it as in CelebA. True: the largest
            one, by OpenCV's cascades. A path: by the YuNet network in this ONNX file. Or a
            :class:`~se_zoo.FaceFinder`.

    Returns:
        An :class:`Explanation`. For ``"gate"`` and ``"activation"`` it has one row per image,
        unless targets are given; an image's rows then have the same map.

    Raises:
        InvalidInputError: For images, a method or options that cannot be used.
        UnknownLabelError: For a class that the model does not have.
    """
    method = _check_method(model, method, versus)
    normalize = maps.check_normalize(normalize)
    given = check_model(model)
    images, photos = as_batch(given, images, face)
    batch = check_images(model, images)
    with torch.no_grad(), in_eval_mode(model) as still:
        se_model = check_model(still)
        if method == "gate" and not getattr(still, "gate_trained", True):
            warn_untrained()
        state = _forward(se_model, batch)
        with torch.autocast(batch.device.type, enabled=False):
            rows = _target_rows(se_model, state, target, method)
            other = _other_class(se_model, state, rows, method, versus)
            request = _Request(method, normalize, rows, other)
            found = _compute_maps(se_model, state, request)
            size, from_zero = tuple(batch.shape[2:]), method in FROM_ZERO_METHODS
            heatmap = maps.to_heatmap(found.raw, from_zero, normalize, size)
    images = images.unsqueeze(2) if images.dim() < batch.dim() else images
    explanation = _explanation(se_model, images, state, request, found, heatmap)
    return explanation if photos is None else replace(explanation, photos=photos)


def warn_untrained() -> None:
    """Warn that the gate of a model cannot say anything yet."""
    warnings.warn(
        "The model's gate was never trained: it is 1 for every channel and selects none by itself. "
        'Train the model, or use method="contribution" or "activation".',
        stacklevel=4,
    )


def _check_method(model: nn.Module, method: Optional[str], versus: Union[int, str, None]) -> str:
    """Return the method, by default the model's own."""
    if method is None:
        method = getattr(model, "map_method", None) or "contribution"
    if method not in METHODS:
        raise InvalidInputError(f"Unknown method {method!r}; the methods are {', '.join(METHODS)}.")
    if versus is not None and method != "difference":
        raise InvalidInputError(f'versus is for method="difference" only, not {method!r}.')
    return method


def _forward(model: SEModel, images: torch.Tensor) -> _ForwardPass:
    native = backbone_features(model, images)
    logits = model.forward_head(native)
    model_gate = model.gate(native)
    with torch.autocast(images.device.type, enabled=False):
        # Features that autocast left in half precision do not fit the head's parameters.
        native = in_dtype(native, images.dtype)
        grid = model.feature_grid(native, (images.shape[-2], images.shape[-1]))
        gate = model_gate.to(torch.promote_types(model_gate.dtype, torch.float32))
        return _ForwardPass(native, grid, gate, model_gate, logits, select_channels(gate))


def _explanation(
    model: SEModel,
    images: torch.Tensor,
    state: _ForwardPass,
    request: _Request,
    found: _Maps,
    heatmap: torch.Tensor,
) -> Explanation:
    labels = model.class_labels()
    mean, std = model.image_stats()
    return Explanation(
        heatmap=heatmap.float(),
        raw=found.raw.float(),
        constant=found.constant.float(),
        logits=state.logits,
        gate=state.model_gate,
        selected=state.selection.mask,
        rule=state.selection.rule,
        image_index=request.rows.images,
        target=tuple(request.rows.targets.tolist()),
        versus=None if request.versus is None else tuple(request.versus.tolist()),
        method=request.method,
        normalize=request.normalize,
        exact=found.exact,
        weights=found.source,
        label_names=None if labels is None else tuple(labels),
        multi_label=model.is_multi_label(),
        thresholds=getattr(model, "thresholds", None),
        images=images,
        mean=mean,
        std=std,
    )


def _target_rows(model: SEModel, state: _ForwardPass, target: Target, method: str) -> Rows:
    # Without a classifier, timm's heads return the pooled features, which look like logits.
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
    if target is None and method in CLASSLESS_METHODS:
        multi_label = False  # the map is the same for every label, so one row per image is enough
    thresholds = getattr(model, "thresholds", None) if multi_label else None
    return resolve_rows(target, state.logits, model.class_labels(), multi_label, thresholds)


def _other_class(
    model: SEModel, state: _ForwardPass, rows: Rows, method: str, versus: Union[int, str, None]
) -> Optional[torch.Tensor]:
    """Return the class that each row is compared with, (N,); None unless it is a difference."""
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
        return runner_up(state.logits, rows)
    index = label_index(versus, model.class_labels(), num_classes)
    if bool((rows.targets == index).any()):
        raise InvalidInputError(
            f"versus={versus!r} is a target itself, so the difference would be zero; name another "
            "class."
        )
    return torch.full_like(rows.targets, index)


def _compute_maps(model: SEModel, state: _ForwardPass, request: _Request) -> _Maps:
    method, rows = request.method, request.rows
    if method in CLASSLESS_METHODS:
        return _classless(state, rows, method)
    found = _contribution(model, state, rows, method == "support")
    if request.versus is None:
        return found
    against = _contribution(model, state, Rows(rows.images, request.versus))
    return _Maps(
        found.raw - against.raw,
        found.constant - against.constant,
        found.exact and against.exact,
        found.source if found.source == against.source else "mixed",
    )


def _classless(state: _ForwardPass, rows: Rows, method: str) -> _Maps:
    """Return gate or activation maps."""
    if method == "gate":
        weights, source = maps.gate_weights(state.gate, state.selection.mask), "gate"
    else:
        weights, source = torch.full_like(state.gate, 1 / state.gate.shape[1]), "mean"
    raw = maps.weighted_maps(state.features, weights[rows.images], rows.images)
    return _Maps(raw, state.gate.new_zeros(len(rows.images)), False, source)


def _contribution(model: SEModel, state: _ForwardPass, rows: Rows, support: bool = False) -> _Maps:
    """Return contribution or support maps.

    The channel weights are the classifier's where these are exact, else the gradient of the head.
    """
    pooled = state.features.flatten(2).to(state.gate.dtype).mean(2) * state.gate
    logits = state.logits[rows.images, rows.targets]
    size = _square_cells(state)
    folding = heads.find_folding(
        cast(nn.Module, model),
        pooled[rows.images],
        rows.targets,
        logits,
        lambda: heads.probe_head(
            cast(nn.Module, model), state.native, lambda view: model.feature_grid(view, size)
        ),
    )
    if folding is None:
        return _head_gradient_maps(model, state, rows, logits, support)
    folded = folding.weights
    weights = folded.weight * state.gate[rows.images]
    raw = maps.weighted_maps(state.features, weights, rows.images)
    if not support:
        return _Maps(raw, folded.constant, True, "folded")
    both = maps.weighted_maps(state.features.abs(), weights.abs(), rows.images)
    raw = maps.support(raw, both)
    return _Maps(raw, _remainder(logits, raw), False, "folded")


def _remainder(logits: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
    """Return the logits less the means of the maps (N, *grid), (N,)."""
    return logits.to(raw.dtype) - raw.flatten(1).mean(1)


def _head_gradient_maps(
    model: SEModel, state: _ForwardPass, rows: Rows, logits: torch.Tensor, support: bool
) -> _Maps:
    """Return the head's gradient times the gated features, position by position.

    This is HiResCAM after the gate. It is multiplied by the number of positions, so that the
    gradient of a linear head equals its weights.

    A head that reads class tokens only has no gradient on the grid. The class token's gradient is
    then projected on the patch tokens. Such a map shows where the same channels are active and
    does not decompose the logit; its ``source`` is ``"projection"``.
    """
    size = _square_cells(state)
    gated = model.gated(state.native, state.gate.to(feature_map(state.native).dtype))
    grid = model.feature_grid(gated, size).to(state.gate.dtype)
    parts, source = [], "gradient"
    # At most as many rows at a time as there are images, so that memory does not grow with targets.
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
    return _Maps(raw, _remainder(logits, raw), False, source)


def _square_cells(state: _ForwardPass) -> Tuple[int, int]:
    """Return an image size on which the grid's cells are squares.

    A token layout finds its grid from the aspect of the image alone.
    """
    rows, columns = state.features.shape[-2:]
    return rows, columns


class RawMaps(NamedTuple):
    """Prediction and maps of a batch at the backbone's grid, before anything is drawn.

    Attributes:
        logits: (B, num_classes).
        gate: SE vectors, (B, C).
        rows: Image and target of each row.
        versus: Class that each row is compared with, (N,); None unless it is a difference.
        raw: (N, *grid).
        constant: (N,); see :class:`se_zoo.Explanation`.
        exact: Whether the maps add up to the logits.
        weights: Where the channel weights come from.
        method: Which map it is.
    """

    logits: torch.Tensor
    gate: torch.Tensor
    rows: Rows
    versus: Optional[torch.Tensor]
    raw: torch.Tensor
    constant: torch.Tensor
    exact: bool
    weights: str
    method: str


def raw_maps(
    model: nn.Module,
    images: torch.Tensor,
    target: Target = None,
    method: Optional[str] = None,
    versus: Union[int, str, None] = None,
) -> RawMaps:
    """Predict and explain a batch like :func:`explain`, without resizing the maps to the images.

    Args:
        model: As for :func:`explain`.
        images: As for :func:`explain`.
        target: As for :func:`explain`.
        method: As for :func:`explain`.
        versus: As for :func:`explain`.

    Returns:
        Prediction and maps, on the model's device.

    Raises:
        InvalidInputError: As :func:`explain`.
        UnknownLabelError: As :func:`explain`.
    """
    method = _check_method(model, method, versus)
    check_model(model)
    batch = check_images(model, images)
    with torch.no_grad(), in_eval_mode(model) as still:
        se_model = check_model(still)
        state = _forward(se_model, batch)
        with torch.autocast(batch.device.type, enabled=False):
            rows = _target_rows(se_model, state, target, method)
            other = _other_class(se_model, state, rows, method, versus)
            found = _compute_maps(se_model, state, _Request(method, "image", rows, other))
    return RawMaps(state.logits, state.model_gate, rows, other, *found, method)
