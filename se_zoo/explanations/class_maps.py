"""Maps of classes: what each channel does to a logit, and the maps made from it.

The channel weights are the classifier's where these are exact, else the gradient of the head.
"""

from typing import List, NamedTuple, Optional, Sequence, cast

import torch
from torch import nn

from ..layers.grid import feature_map
from . import class_token, heads, maps, token_attention
from .forward_pass import ForwardPass, tell_host
from .head_gradient import head_gradient, reads_prefix_only
from .rivals import Rivals
from .se_model import SEModel
from .target_classes import Rows


class Maps(NamedTuple):
    """Raw maps of all rows."""

    raw: torch.Tensor  # (N, *grid)
    constant: torch.Tensor  # (N,)
    exact: bool
    source: str  # where the channel weights come from, see Explanation.weights
    class_gate: Optional[torch.Tensor] = None  # (N, C), of class-gate maps


class HostRows(NamedTuple):
    """Rows whose number for each image is known on the host."""

    rows: Rows
    counts: Sequence[int]  # rows of each image
    rivals: Optional[Rivals] = None

    def of_images(self, values: torch.Tensor) -> torch.Tensor:
        """Return for each row the entry of its image, (N, ...)."""
        return values if all(n == 1 for n in self.counts) else values[self.rows.images]

    def logits(self, state: ForwardPass) -> torch.Tensor:
        """Return the logit of each row's class, (N,)."""
        return state.logits[self.rows.images, self.rows.targets]

    def scores(self, state: ForwardPass) -> torch.Tensor:
        """Return what the rows' maps explain: the logits, less those of rivals, (N,)."""
        if self.rivals is None:
            return self.logits(state)
        common = (self.rivals.shares * state.logits).sum(1)
        return self.rivals.less(self.logits(state).to(common.dtype), common)

    def of(self, classes: torch.Tensor) -> "HostRows":
        """Return the rows of the same images with other classes, (N,)."""
        return HostRows(Rows(self.rows.images, classes), self.counts)


def fold(form: heads.HeadForm, pooled: torch.Tensor, rows: HostRows) -> heads.ChannelWeights:
    """Return the exact channel weights of rows, without their rivals.

    Args:
        form: The head's form.
        pooled: Mean of the gated features of each image, (B, C).
        rows: The rows.
    """
    folded = form.rows(rows.rows.targets, pooled.dtype)
    scale = heads.sample_scale(form.norm, pooled)
    if scale is None:
        return folded
    return heads.ChannelWeights(folded.weight * rows.of_images(scale), folded.constant)


def less_rivals(
    form: heads.HeadForm, pooled: torch.Tensor, rows: HostRows, folded: heads.ChannelWeights
) -> heads.ChannelWeights:
    """Return channel weights of rows, less those of their rivals, if they have any.

    Args:
        form: The head's form.
        pooled: Mean of the gated features of each image, (B, C).
        rows: The rows.
        folded: Result of :func:`fold`.
    """
    if rows.rivals is None:
        return folded
    weight, bias = heads.rows_of(form.classifier, None, pooled.dtype)
    shares = rows.rivals.shares
    common = heads.fold_norm(form.norm, shares @ weight, shares @ bias, pooled)
    less = rows.rivals.less
    return heads.ChannelWeights(
        less(folded.weight, common.weight), less(folded.constant, common.constant)
    )


def class_maps(
    model: SEModel,
    state: ForwardPass,
    rows: HostRows,
    method: str,
    folded: Optional[heads.ChannelWeights],
) -> Maps:
    """Return contribution, support or class-gate maps, before any evidence is shared.

    Args:
        model: Model with an SE head.
        state: Its forward pass.
        rows: The rows.
        method: ``"support"`` or ``"class_gate"``; all others are made of contribution maps, rival
            maps with the rivals of the rows.
        folded: Exact channel weights of the rows; None for a head that has none.
    """
    if folded is None:
        attended = None if method == "class_gate" else _attention_maps(model, state, rows, method)
        return attended or _head_gradient_maps(model, state, rows, method)
    weights = folded.weight * rows.of_images(state.gate)
    if method == "class_gate":
        return _class_gate_maps(state, rows, weights, "folded")
    raw = maps.weighted_maps(state.features, weights, rows.counts)
    if method != "support":
        return Maps(raw, folded.constant, True, "folded")
    raw = maps.support(raw, maps.weighted_maps(state.features.abs(), weights.abs(), rows.counts))
    return Maps(raw, _remainder(rows.scores(state), raw), False, "folded")


def weighted_difference(parts: Sequence[Maps], factors: Sequence[float]) -> Maps:
    """Return the first maps less the others, each times its factor.

    Args:
        parts: Contribution maps of the same rows for different classes.
        factors: Factor of each of the others.
    """
    raw, constant = parts[0].raw, parts[0].constant
    for part, factor in zip(parts[1:], factors, strict=True):
        raw = raw - (part.raw if factor == 1 else factor * part.raw)
        constant = constant - (part.constant if factor == 1 else factor * part.constant)
    sources = {part.source for part in parts}
    source = sources.pop() if len(sources) == 1 else "mixed"
    return Maps(raw, constant, all(part.exact for part in parts), source)


def _class_gate_maps(
    state: ForwardPass, rows: HostRows, weights: torch.Tensor, source: str
) -> Maps:
    """Return class-gate maps from the class gates (N, C), gate times slope of the logit."""
    features = state.features.to(weights.dtype)
    scale = maps.ChannelScale(*map(rows.of_images, maps.channel_scale(features)))
    drawn, class_gate = maps.class_gate_weights(weights, scale)
    raw = maps.weighted_maps(state.features, drawn, rows.counts)
    return Maps(raw, raw.new_zeros(len(raw)), False, source, class_gate)


def _remainder(logits: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
    """Return the logits less the means of the maps (N, *grid), (N,)."""
    return logits.to(raw.dtype) - raw.flatten(1).mean(1)


def _attention_maps(
    model: SEModel, state: ForwardPass, rows: HostRows, method: str
) -> Optional[Maps]:
    """Return what each patch adds to the logit through the class token's attentions.

    In a support map, what a head of an attention adds against the class counts by half.

    None if the model is of another kind, the class token does not give its logits, or its attention
    is more than the parts that are known.
    """
    if state.trace is None or state.trace.patches:
        return None
    module, logits = cast(nn.Module, model), rows.logits(state)
    weights, fit = class_token.token_weights(
        module, state.trace, state.gate, rows.rows.images, rows.rows.targets
    )
    if not heads.agrees(tell_host([*fit, logits]), logits.dtype):
        return None
    if not token_attention.is_taken_apart(module, state.trace):
        return None
    if rows.rivals is not None:
        common = class_token.all_weights(module, state.trace, state.gate, rows.rivals.shares)
        weights = rows.rivals.less(weights, common)
    net, both = token_attention.patch_parts_of_rows(module, state.trace, weights, rows.counts)
    net = maps.support(net, both) if method == "support" else net
    # As everywhere, the map's mean is a part of the logit.
    raw = (net.shape[1] * net).unflatten(1, state.features.shape[2:])
    return Maps(raw, _remainder(rows.scores(state), raw), False, "attention")


def give_back_taken(
    model: SEModel,
    state: ForwardPass,
    rows: HostRows,
    folded: Optional[heads.ChannelWeights],
    found: Maps,
) -> Maps:
    """Return maps of a mean of patches with what these took from each other given back.

    They are as they were if the model is of another kind, its head is not exact, or its attention
    is more than the parts that are known; ``source`` says which.

    Args:
        model: Model with an SE head.
        state: Its forward pass.
        rows: The rows.
        folded: Exact channel weights of the rows; None for a head that has none.
        found: Their contribution maps.
    """
    module = cast(nn.Module, model)
    if state.trace is None or folded is None or not state.trace.patches:
        return found
    if not token_attention.is_taken_apart(module, state.trace):
        return found
    weights = folded.weight * rows.of_images(state.gate)
    raw = token_attention.give_back_of_rows(module, state.trace, weights, found.raw, rows.counts)
    return found._replace(raw=raw, source="sources")


def _head_gradient_maps(model: SEModel, state: ForwardPass, rows: HostRows, method: str) -> Maps:
    """Return the head's gradient times the gated features, position by position.

    This is HiResCAM after the gate. It is multiplied by the number of positions, so that the
    gradient of a linear head equals its weights.

    A head that reads class tokens only has no gradient on the grid. The class token's gradient is
    then projected on the patch tokens. Such a map shows where the same channels are active and
    does not decompose the logit; its ``source`` is ``"projection"``.

    A class-gate map needs one slope for each channel: the gradient's sum over the grid.
    """
    size = state.square_cells
    gated = model.gated(state.native, state.gate.to(feature_map(state.native).dtype))
    grid = model.feature_grid(gated, size).to(state.gate.dtype)
    parts: List[torch.Tensor] = []
    source = "gradient"
    # At most as many rows at a time as there are images, so that memory does not grow with targets.
    for start in range(0, len(rows.rows.images), len(grid)):
        some = slice(start, start + len(grid))
        images = rows.rows.images[some]
        gradient = head_gradient(
            cast(nn.Module, model), gated, images, rows.rows.targets[some],
            None if rows.rivals is None else rows.rivals.some(some),
        )  # fmt: skip
        gradient_grid = model.feature_grid(gradient, size).to(grid.dtype)
        if reads_prefix_only(gradient_grid, gradient):
            slope = gradient.flatten(1, -2).to(grid.dtype).sum(1)  # tokens are channels last
            terms = torch.einsum("nc,nc...->nc...", slope, grid[images])
            source = "projection"
        else:
            slope = gradient_grid.flatten(2).sum(2)
            terms = grid[0, 0].numel() * gradient_grid * grid[images]
        net = terms.sum(1)
        if method == "class_gate":
            parts.append(slope)
        else:
            parts.append(maps.support(net, terms.abs().sum(1)) if method == "support" else net)
    found = torch.cat(parts)
    if method == "class_gate":
        return _class_gate_maps(state, rows, found * rows.of_images(state.gate), source)
    return Maps(found, _remainder(rows.scores(state), found), False, source)
