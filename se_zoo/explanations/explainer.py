"""``explain``: a prediction and its heatmaps from one forward pass.

An explanation is features, gate, head, and a weighted sum of the channels. It uses no hooks and no
gradient through the backbone, so it is thread-safe, leaves nothing on the model, and costs no more
than a forward pass.
"""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union, cast

import numpy as np
import torch
from torch import nn

from ..errors import InvalidInputError
from . import head_forms, heads, maps
from .class_maps import HostRows, Maps, class_maps, fold, weighted_difference
from .eval_mode import in_eval_mode
from .explanation import Explanation
from .forward_pass import ForwardPass, check_finite, extents, run_forward, tell_host
from .methods import CLASSLESS_METHODS, FROM_ZERO_METHODS, METHODS
from .se_model import SEModel, as_batch, check_model, check_values, placement_of, to_batch
from .target_classes import Pending, Rows, Target, Versus, other_classes, pending_rows, runner_up

if TYPE_CHECKING:
    from .se_model import Face, Images


class _Request(NamedTuple):
    """What to explain, with all defaults resolved but those that the logits decide."""

    method: str
    normalize: Union[str, float]
    rows: Pending
    versus: Optional[Tuple[int, ...]]  # classes to compare with; () the runner-up, None nothing
    factors: Tuple[float, ...]  # weight of each of them


class _Told(NamedTuple):
    """What the host was told of a forward pass."""

    rows: HostRows
    targets: Tuple[int, ...]  # class of each row
    classes: List[torch.Tensor]  # for each class that is compared with, that of each row, (N,)
    others: List[Tuple[int, ...]]  # the same on the host
    weights: List[Optional[heads.ChannelWeights]]  # exact ones of targets and others, or None


class _Found(NamedTuple):
    """Maps and rows of an explanation."""

    maps: Maps
    images: torch.Tensor  # (N,)
    targets: Tuple[int, ...]
    others: List[Tuple[int, ...]]  # see _Told

    @property
    def versus(self) -> Optional[Tuple[Union[int, Tuple[int, ...]], ...]]:
        """Class that each row is compared with, or several of them; None for none."""
        if len(self.others) > 1:
            return tuple(zip(*self.others, strict=True))
        return self.others[0] if self.others else None


def explain(
    model: nn.Module,
    images: "Images",
    target: Target = None,
    method: Optional[str] = None,
    *,
    versus: Versus = None,
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
            exact. ``"class_gate"``: the channels whose gate times classifier weight stands out,
            less the mean of all channels; not exact, ours. ``"gate"``: mean of the gated features
            of the selected channels, the map of arXiv 2412.05134, the same for every class.
            ``"difference"``: contribution of the target less that of another class.
            ``"activation"``: plain channel mean, the control that a method must beat (LaFAM, arXiv
            2407.06059).
        versus: The other class of ``"difference"``; by default each image's runner-up. Several
            classes count alike, with a total weight of 1; a dict gives each its own weight:
            ``{"cat": 0.6, "dog": 0.3}`` is the contribution of the target less these shares of the
            others', as in Finer-CAM (arXiv 2501.11309). Needed for a multi-label
            model, whose labels do not compete.
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
    images, photos = as_batch(check_model(model), images, face)
    batch = to_batch(model, images)
    with torch.no_grad(), in_eval_mode(model) as still:
        se_model = check_model(still)
        if method == "gate" and not head_forms.gate_trained(still):
            warn_untrained()
        state, request, found = _answer(still, batch, target, method, versus, normalize)
        with torch.autocast(batch.device.type, enabled=False):
            size, from_zero = tuple(batch.shape[2:]), method in FROM_ZERO_METHODS
            placement = placement_of(still, tuple(found.maps.raw.shape[1:]), size)
            heatmap = maps.to_heatmap(found.maps.raw, from_zero, normalize, size, placement)
    images = images.unsqueeze(2) if images.dim() < batch.dim() else images
    explanation = _explanation(se_model, images, state, request, found, heatmap, placement)
    return explanation if photos is None else replace(explanation, photos=photos)


class RawMaps(NamedTuple):
    """Prediction and maps of a batch at the backbone's grid, before anything is drawn.

    Attributes:
        logits: (B, num_classes).
        gate: SE vectors, (B, C).
        image_index: Image of each row, (N,).
        target: Class of each row.
        versus: Class or classes that each row is compared with; None unless it is a difference.
        maps: Raw maps (N, *grid), and what they say.
        method: Which map it is.
    """

    logits: torch.Tensor
    gate: torch.Tensor
    image_index: torch.Tensor
    target: Tuple[int, ...]
    versus: Optional[Tuple[Union[int, Tuple[int, ...]], ...]]
    maps: Maps
    method: str


def raw_maps(
    model: nn.Module,
    images: torch.Tensor,
    target: Target = None,
    method: Optional[str] = None,
    versus: Versus = None,
) -> RawMaps:
    """Predict and explain a batch like :func:`explain`, without resizing the maps to the images.

    Args:
        model: As for :func:`explain`.
        images: As for :func:`explain`; a tensor.
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
    batch = to_batch(model, images)
    with torch.no_grad(), in_eval_mode(model) as still:
        state, _, found = _answer(still, batch, target, method, versus, "image")
    return RawMaps(
        state.logits, state.model_gate, found.images, found.targets, found.versus, found.maps,
        method,
    )  # fmt: skip


def _answer(
    model: nn.Module,
    batch: torch.Tensor,
    target: Target,
    method: str,
    versus: Versus,
    normalize: Union[str, float],
) -> Tuple[ForwardPass, _Request, _Found]:
    """Run the model once, and return its forward pass, the resolved request and the raw maps."""
    state = run_forward(model, batch, tokens=method not in CLASSLESS_METHODS)
    with torch.autocast(batch.device.type, enabled=False):
        request = _request(check_model(model), state, target, method, versus, normalize)
        return state, request, _find(model, batch, state, request)


def warn_untrained() -> None:
    """Warn that the gate of a model cannot say anything yet."""
    warnings.warn(
        "The model's gate was never trained: it is 1 for every channel and selects none by itself. "
        'Train the model, or use method="contribution" or "activation".',
        stacklevel=4,
    )


def _check_method(model: nn.Module, method: Optional[str], versus: Versus) -> str:
    """Return the method, by default the model's own."""
    if method is None:
        method = getattr(model, "map_method", None) or "contribution"
    if method not in METHODS:
        raise InvalidInputError(f"Unknown method {method!r}; the methods are {', '.join(METHODS)}.")
    if versus is not None and method != "difference":
        raise InvalidInputError(f'versus is for method="difference" only, not {method!r}.')
    return method


def _request(
    model: SEModel, state: ForwardPass, target: Target, method: str, versus: Versus,
    normalize: Union[str, float],
) -> _Request:  # fmt: skip
    """Resolve target and versus, without waiting for the device."""
    num_classes, multi_label = state.logits.shape[1], model.is_multi_label()
    others: Optional[Dict[int, float]] = None
    if method == "difference":
        if num_classes < 2:
            raise InvalidInputError('method="difference" needs a model with at least two classes.')
        if versus is None and multi_label:
            raise InvalidInputError(
                "The labels of a multi-label model do not compete, so there is no runner-up; name "
                "the other label with versus."
            )
        others = other_classes(versus, model.class_labels(), num_classes)
    if target is None and method in CLASSLESS_METHODS:
        multi_label = False  # the map is the same for every label, so one row per image is enough
    thresholds = getattr(model, "thresholds", None) if multi_label else None
    pending = pending_rows(target, state.logits, model.class_labels(), multi_label, thresholds)
    if others is None:
        return _Request(method, normalize, pending, None, ())
    return _Request(method, normalize, pending, tuple(others), tuple(others.values()) or (1.0,))


def _find(model: nn.Module, images: torch.Tensor, state: ForwardPass, request: _Request) -> _Found:
    """Return the maps; the host waits once for the device, unless a head is new or not exact."""
    form = None if request.method in CLASSLESS_METHODS else _form(model, state)
    told = _ask(model, images, state, request, form)
    if told is None:
        # The batch does not fit what is known of the head: it was changed in a way that leaves no
        # trace (param.data), or its probes look like average pooling, and these images do not.
        head_forms.forget(model)
        again = _form(model, state)
        told = None if again == form else _ask(model, images, state, request, again)
        told = told or _ask(model, images, state, request, None)
    assert told is not None  # without a form there is nothing that could not fit
    return _draw(cast(SEModel, model), state, request, told)


def _form(model: nn.Module, state: ForwardPass) -> Optional[heads.HeadForm]:
    se_model = cast(SEModel, model)
    return head_forms.form_of(model, se_model, state.native, state.features, state.gate.dtype)


def _ask(
    model: nn.Module,
    images: torch.Tensor,
    state: ForwardPass,
    request: _Request,
    form: Optional[heads.HeadForm],
) -> Optional[_Told]:
    """Return the rows and their exact channel weights; None if these do not give the logits.

    Everything that the host has to know is told in one transfer: whether images and logits are
    finite, which classes are predicted, and which logits the channel weights give.
    """
    pending, batch, dtype = request.rows, len(state.logits), state.logits.dtype
    classes = _other_classes_of_rows(state, request)
    runner = classes if request.versus == () else []
    checks: List[torch.Tensor] = []
    weights: List[Optional[heads.ChannelWeights]] = []
    pooled = None if form is None else state.pooled
    if form is not None and pooled is not None:
        if pending.rows is None:
            scale = heads.sample_scale(form.norm, pooled)
            fit = heads.fit_of_all(form.rows(None, pooled.dtype), scale, pooled)
            checks += [*fit, state.logits]
        else:
            counts = [len(pending.rows.targets) // batch] * batch
            for targets in (pending.rows.targets, *classes):
                row = HostRows(Rows(pending.rows.images, targets), counts)
                folded = fold(form, pooled, row)
                weights.append(folded)
                checks += [*heads.fit_of(folded, row.of_images(pooled)), row.logits(state)]
    unknown = [*pending.unknown(), *runner]
    values = tell_host([extents(images, state.logits), *unknown, *checks])
    check_values(cast(SEModel, model), *values[0][:2].tolist())
    check_finite(values[0][2:], dtype)
    answers, fits = values[1 : 1 + len(unknown)], values[1 + len(unknown) :]
    rows, row_images, targets = pending.resolve(answers, batch)
    others = _others(request, targets, answers[len(answers) - len(runner) :])
    host = HostRows(rows, np.bincount(row_images, minlength=batch).tolist())
    if pending.rows is None:
        classes = [rows.targets.new_tensor(each) for each in others]
        fits = [array[row_images, list(each)] for each in (targets, *others) for array in fits]
        if form is not None and pooled is not None:
            weights += [fold(form, pooled, host.of(c)) for c in (rows.targets, *classes)]
    rounded = form is not None and form.rounded
    if not all(heads.agrees(fits[n : n + 3], dtype, rounded) for n in range(0, len(fits), 3)):
        return None
    return _Told(host, targets, classes, others, weights or [None] * (1 + len(classes)))


def _draw(model: SEModel, state: ForwardPass, request: _Request, told: _Told) -> _Found:
    """Return the maps of rows that the host knows."""
    rows, method = told.rows, request.method
    if method in CLASSLESS_METHODS:
        found = _classless(state, rows, method)
    elif request.versus is None:
        found = class_maps(model, state, rows, method, told.weights[0])
    else:
        parts = [
            class_maps(model, state, rows.of(classes), "contribution", weights)
            for classes, weights in zip(
                (rows.rows.targets, *told.classes), told.weights, strict=True
            )
        ]
        found = weighted_difference(parts, request.factors)
    return _Found(found, rows.rows.images, told.targets, told.others)


def _other_classes_of_rows(state: ForwardPass, request: _Request) -> List[torch.Tensor]:
    """Return for each class that is compared with, that of each row, (N,); on the device.

    An empty list if the number of rows is unknown.
    """
    rows = request.rows.rows
    if request.versus is None or rows is None:
        return []
    if not request.versus:
        return [runner_up(state.logits, rows)]
    return [torch.full_like(rows.targets, other) for other in request.versus]


def _others(
    request: _Request, targets: Sequence[int], told: Sequence[np.ndarray]
) -> List[Tuple[int, ...]]:
    """Return for each class that is compared with, that of each row, on the host.

    Raises:
        InvalidInputError: If a target is compared with itself.
    """
    if request.versus is None:
        return []
    if not request.versus:
        return [tuple(int(value) for value in told[0])]
    same = set(request.versus) & set(targets)
    if same:
        raise InvalidInputError(
            f"versus names {sorted(same)[0]}, which is a target itself, so the difference would be "
            "zero; name another class."
        )
    return [(other,) * len(targets) for other in request.versus]


def _classless(state: ForwardPass, rows: HostRows, method: str) -> Maps:
    """Return gate or activation maps."""
    if method == "gate":
        weights, source = maps.gate_weights(state.gate), "gate"
    else:
        weights, source = torch.full_like(state.gate, 1 / state.gate.shape[1]), "mean"
    raw = maps.weighted_maps(state.features, rows.of_images(weights), rows.counts)
    return Maps(raw, raw.new_zeros(len(raw)), False, source)


def _explanation(
    model: SEModel,
    images: torch.Tensor,
    state: ForwardPass,
    request: _Request,
    found: _Found,
    heatmap: torch.Tensor,
    placement: maps.Placement,
) -> Explanation:
    labels = model.class_labels()
    mean, std = model.image_stats()
    return Explanation(
        heatmap=heatmap.float(),
        raw=found.maps.raw.float(),
        constant=found.maps.constant.float(),
        logits=state.logits,
        gate=state.model_gate,
        class_gate=found.maps.class_gate,
        image_index=found.images,
        target=found.targets,
        versus=found.versus,
        versus_weights=request.factors,
        method=request.method,
        normalize=request.normalize,
        placement=placement,
        exact=found.maps.exact,
        weights=found.maps.source,
        label_names=None if labels is None else tuple(labels),
        multi_label=model.is_multi_label(),
        thresholds=getattr(model, "thresholds", None),
        images=images,
        mean=mean,
        std=std,
    )
