"""Answer a request for maps: run the model once, and make the maps of the rows that it asks for."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union, cast

import numpy as np
import torch
from torch import nn

from ..errors import InvalidInputError
from . import head_forms, heads, maps
from .affinity import share
from .class_maps import (
    HostRows,
    Maps,
    class_maps,
    fold,
    give_back_taken,
    less_rivals,
    weighted_difference,
)
from .class_token import is_traced
from .forward_pass import ForwardPass, check_finite, extents, run_forward, tell_host
from .methods import CLASSLESS_METHODS, COMPETING_METHODS, SHARED_PARTS
from .rivals import Rivals, shares_of
from .se_model import SEModel, check_model, check_values, label_names
from .target_classes import Pending, Rows, Target, Versus, other_classes, pending_rows, runner_up


class Request(NamedTuple):
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
    extent: Tuple[float, float]  # lowest and highest value of the images


class Found(NamedTuple):
    """Maps and rows of an explanation."""

    maps: Maps
    images: torch.Tensor  # (N,)
    targets: Tuple[int, ...]
    others: List[Tuple[int, ...]]  # see _Told
    extent: Tuple[float, float]  # lowest and highest value of the images

    @property
    def versus(self) -> Optional[Tuple[Union[int, Tuple[int, ...]], ...]]:
        """Class that each row is compared with, or several of them; None for none."""
        if len(self.others) > 1:
            return tuple(zip(*self.others, strict=True))
        return self.others[0] if self.others else None


def answer(
    model: nn.Module,
    batch: torch.Tensor,
    target: Target,
    method: str,
    versus: Versus,
    normalize: Union[str, float],
) -> Tuple[ForwardPass, Request, Found]:
    """Run the model once, and return its forward pass, the resolved request and the raw maps."""
    state = run_forward(model, batch, is_traced(model, method))
    with torch.autocast(batch.device.type, enabled=False):
        request = _request(check_model(model), state, target, method, versus, normalize)
        return state, request, _find(model, batch, state, request)


def _request(
    model: SEModel, state: ForwardPass, target: Target, method: str, versus: Versus,
    normalize: Union[str, float],
) -> Request:  # fmt: skip
    """Resolve target and versus, without waiting for the device."""
    num_classes, multi_label = state.logits.shape[1], model.is_multi_label()
    labels = label_names(model, num_classes)
    others: Optional[Dict[int, float]] = None
    if method in COMPETING_METHODS and multi_label:
        raise InvalidInputError(
            f"method={method!r} compares a class with all others, but the labels of a multi-label "
            'model do not compete; use "class_gate" or "affinity".'
        )
    if (method in COMPETING_METHODS or method == "difference") and num_classes < 2:
        raise InvalidInputError(f"method={method!r} needs a model with at least two classes.")
    if method == "difference":
        if versus is None and multi_label:
            raise InvalidInputError(
                "The labels of a multi-label model do not compete, so there is no runner-up; name "
                "the other label with versus."
            )
        others = other_classes(versus, labels, num_classes)
    if target is None and method in CLASSLESS_METHODS:
        multi_label = False  # the map is the same for every label, so one row per image is enough
    thresholds = getattr(model, "thresholds", None) if multi_label else None
    pending = pending_rows(target, state.logits, labels, multi_label, thresholds)
    if others is None:
        return Request(method, normalize, pending, None, ())
    return Request(method, normalize, pending, tuple(others), tuple(others.values()) or (1.0,))


def _find(model: nn.Module, images: torch.Tensor, state: ForwardPass, request: Request) -> Found:
    """Return the maps; the host waits once for the device, unless a head is new or not exact."""
    form = None if request.method in CLASSLESS_METHODS else _form(model, state)
    told = _ask(model, images, state, request, form)
    if told is None:
        # The batch does not fit what is known of the head: it was changed in a way that leaves no
        # trace (param.data), or its probes look like average pooling, and these images do not.
        head_forms.forget(model)
        again = _form(model, state)
        told = _ask(model, images, state, request, again)
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
    request: Request,
    form: Optional[heads.HeadForm],
) -> Optional[_Told]:
    """Return the rows and their exact channel weights; None if these do not give the logits.

    Everything that the host has to know is told in one transfer: whether images and logits are
    finite, which classes are predicted, and which logits the channel weights give.
    """
    pending, batch, dtype = request.rows, len(state.logits), state.logits.dtype
    classes, rivals = _other_classes_of_rows(state, request), _rivals_of_rows(state, request)
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
                row = HostRows(Rows(pending.rows.images, targets), counts, rivals)
                folded = fold(form, pooled, row)
                weights.append(less_rivals(form, pooled, row, folded))
                checks += [*heads.fit_of(folded, row.of_images(pooled)), row.logits(state)]
    unknown = [*pending.unknown(), *runner]
    values = tell_host([extents(images, state.logits), *unknown, *checks])
    low, high = values[0][:2].tolist()
    check_values(cast(SEModel, model), low, high)
    check_finite(values[0][2:], dtype)
    answers, fits = values[1 : 1 + len(unknown)], values[1 + len(unknown) :]
    rows, row_images, targets = pending.resolve(answers, batch)
    others = _others(request, targets, answers[len(answers) - len(runner) :])
    host = HostRows(rows, np.bincount(row_images, minlength=batch).tolist(), rivals)
    if pending.rows is None:
        classes = [rows.targets.new_tensor(each) for each in others]
        fits = [array[row_images, list(each)] for each in (targets, *others) for array in fits]
        if form is not None and pooled is not None:
            weights += [fold(form, pooled, host.of(c)) for c in (rows.targets, *classes)]
    rounded = form is not None and form.rounded
    if not all(heads.agrees(fits[n : n + 3], dtype, rounded) for n in range(0, len(fits), 3)):
        return None
    weights = weights or [None] * (1 + len(classes))
    return _Told(host, targets, classes, others, weights, (low, high))


def _draw(model: SEModel, state: ForwardPass, request: Request, told: _Told) -> Found:
    """Return the maps of rows that the host knows."""
    rows, method = told.rows, request.method
    if method in CLASSLESS_METHODS:
        found = _classless(state, rows, method)
    elif request.versus is None:
        found = class_maps(model, state, rows, method, told.weights[0])
        if part := SHARED_PARTS.get(method):
            found = give_back_taken(model, state, rows, told.weights[0], found)
            found = found._replace(raw=share(found.raw, state.features, rows.counts, part))
    else:
        parts = [
            class_maps(model, state, rows.of(classes), "contribution", weights)
            for classes, weights in zip(
                (rows.rows.targets, *told.classes), told.weights, strict=True
            )
        ]
        found = weighted_difference(parts, request.factors)
    return Found(found, rows.rows.images, told.targets, told.others, told.extent)


def _other_classes_of_rows(state: ForwardPass, request: Request) -> List[torch.Tensor]:
    """Return for each class that is compared with, that of each row, (N,); on the device.

    An empty list if the number of rows is unknown.
    """
    rows = request.rows.rows
    if request.versus is None or rows is None:
        return []
    if not request.versus:
        return [runner_up(state.logits, rows)]
    return [torch.full_like(rows.targets, other) for other in request.versus]


def _rivals_of_rows(state: ForwardPass, request: Request) -> Optional[Rivals]:
    """Return the rivals of the rows; None unless rival maps are asked for."""
    rows = request.rows.rows
    if request.method not in COMPETING_METHODS or rows is None:
        return None
    return Rivals(rows.images, rows.targets, shares_of(state.logits.to(state.gate.dtype)))


def _others(
    request: Request, targets: Sequence[int], told: Sequence[np.ndarray]
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
