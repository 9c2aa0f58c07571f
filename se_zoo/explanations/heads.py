"""Channel weights of a classifier head.

A head that averages the grid and applies a linear layer is linear in the gated features, so its
weights explain the logit exactly. With a norm in between (ConvNeXt, Swin, ViT with average
pooling), the norm's statistics of each sample are folded into the weights, which is exact as well.
For every other head the gradient of the head is used, never that of the backbone.

The form of a head is measured, not guessed from its modules. Folded weights are used only if they
reproduce the head's logits for probe features with known channel means (:func:`find_form`), and
the model's logits for the batch at hand (:func:`agrees`).
"""

from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import nn

from ..layers.grid import Features, feature_map, take, with_feature_map
from .classifier_rows import LinearRows, is_plain, linear_rows

#: Number of probe features. With several, a model of one class is checked as safely as others.
_PROBES = 4
#: Largest number of classes whose logits are compared, evenly spread. More would only cost time.
_PROBED_CLASSES = 16

#: Names of norm classes by their statistics; timm has several variants of each (2d, Fp32, ...).
_CENTRED_NORMS = ("LayerNorm",)
_RMS_NORMS = ("RmsNorm", "RMSNorm")
_STD_NORMS = ("SimpleNorm",)
_BATCH_NORMS = ("BatchNorm",)


class ChannelWeights(NamedTuple):
    """Weights of the gated channels for N rows, each a pair of an image and a target.

    Attributes:
        weight: (N, C). The map of row n is ``sum_c weight[n, c] * gated[n, c]``.
        constant: (N,). The map's mean over the grid plus this constant is the logit.
    """

    weight: torch.Tensor
    constant: torch.Tensor


def _candidate_norms(model: nn.Module, channels: int) -> Iterator[Optional[nn.Module]]:
    """Yield None (no norm), then every norm that could sit between pooling and classifier.

    These are the norms over ``channels`` channels among the children of the model and of its
    ``head``. Norms further down belong to the backbone.
    """
    yield None
    head = getattr(model, "head", None)
    children = list(model.children()) + (
        list(head.children()) if isinstance(head, nn.Module) else []
    )
    for module in children:
        name = type(module).__name__
        if any(kind in name for kind in _CENTRED_NORMS + _RMS_NORMS + _STD_NORMS + _BATCH_NORMS):
            sizes = [p.numel() for p in module.parameters(recurse=False)]
            if all(size == channels for size in sizes):
                yield module


def fold_norm(
    norm: Optional[nn.Module], weight: torch.Tensor, bias: torch.Tensor, pooled: torch.Tensor
) -> ChannelWeights:
    """Fold the norm's statistics of each sample into the classifier's weight.

    For LayerNorm, ``w.(gamma (x - mean) / sigma + beta) + b`` is ``w'.x + c`` with
    ``w' = (w gamma - mean_c(w gamma)) / sigma`` and ``c = w.beta + b``. RMS and std norms do not
    subtract the mean. BatchNorm in eval mode has constant statistics.

    Args:
        norm: The norm between pooling and classifier, or None.
        weight: Classifier rows of the targets, (N, C).
        bias: Classifier bias of the targets, (N,).
        pooled: Mean of the gated features of each row's image, (N, C).

    Returns:
        Weights and constants of the N rows.
    """
    rows, scale = fold_rows(norm, weight, bias), sample_scale(norm, pooled)
    return rows if scale is None else ChannelWeights(rows.weight * scale, rows.constant)


def fold_rows(
    norm: Optional[nn.Module], weight: torch.Tensor, bias: torch.Tensor
) -> ChannelWeights:
    """Fold the part of a norm that is the same for every sample into classifier rows.

    Args:
        norm: The norm between pooling and classifier, or None.
        weight: Classifier rows, (K, C).
        bias: Classifier bias, (K,).

    Returns:
        Weights and constants of the K rows; times :func:`sample_scale`, the weights are exact.
    """
    if norm is None:
        return ChannelWeights(weight, bias)
    name = type(norm).__name__
    gamma = getattr(norm, "weight", None)
    beta = getattr(norm, "bias", None)
    scaled = weight if gamma is None else weight * gamma.to(weight.dtype)
    constant = bias if beta is None else bias + weight @ beta.to(weight.dtype)
    if any(kind in name for kind in _BATCH_NORMS):
        mean, var = norm.running_mean, norm.running_var  # type: ignore[union-attr]
        folded = scaled * torch.rsqrt(var.to(weight.dtype) + _epsilon(norm, weight))  # type: ignore[union-attr]
        return ChannelWeights(folded, constant - folded @ mean.to(weight.dtype))  # type: ignore[union-attr]
    if not any(kind in name for kind in _RMS_NORMS + _STD_NORMS):
        scaled = scaled - scaled.mean(1, keepdim=True)
    return ChannelWeights(scaled, constant)


def sample_scale(norm: Optional[nn.Module], pooled: torch.Tensor) -> Optional[torch.Tensor]:
    """Return one over the statistic by which a norm divides each sample, (N, 1).

    Args:
        norm: The norm between pooling and classifier, or None.
        pooled: Mean of the gated features of each sample, (N, C).

    Returns:
        The scales; None if the norm divides every sample by the same numbers.
    """
    name = type(norm).__name__
    if norm is None or any(kind in name for kind in _BATCH_NORMS):
        return None
    if any(kind in name for kind in _RMS_NORMS):
        statistic = pooled.square().mean(1, keepdim=True)
    elif any(kind in name for kind in _STD_NORMS):
        statistic = pooled.var(1, keepdim=True)
    else:
        statistic = pooled.var(1, keepdim=True, correction=0)
    return torch.rsqrt(statistic + _epsilon(norm, pooled))


def _epsilon(norm: nn.Module, like: torch.Tensor) -> float:
    return getattr(norm, "eps", None) or torch.finfo(like.dtype).eps


class Probe(NamedTuple):
    """Logits of a head for P probe features.

    Attributes:
        means: Channel means of the probe features, (P, C).
        logits: The head's logits for them, (P, num_classes).
    """

    means: torch.Tensor
    logits: torch.Tensor


def probe_head(
    model: nn.Module, like: Features, to_grid: Callable[[torch.Tensor], torch.Tensor]
) -> Probe:
    """Return the head's logits for probe features that tell average pooling from other pooling.

    The probe features hold twice their mean on one half of the grid and zero on the other half;
    prefix tokens hold the negative mean. Maximum or attention pooling and class-token heads give
    quite different logits for them. On real features, their logits can be close to those of
    average pooling, above all in half precision.

    Args:
        model: SE model; its ``classify`` maps gated features to logits.
        like: Features in the backbone's own layout and in the head's dtype.
        to_grid: Returns the (B, C, *grid) view of a feature map, without a copy.

    Returns:
        Channel means and logits of the probe features.
    """
    features = feature_map(like).new_zeros(_PROBES, *feature_map(like).shape[1:])
    grid = to_grid(features)
    channels, positions = grid.shape[1], grid[0, 0].numel()
    angles = torch.outer(
        torch.arange(1, _PROBES + 1, device="cpu"), torch.arange(channels, device="cpu")
    )
    # Not centred and not of unit variance, so that every norm changes them.
    means = (0.5 + 2 * torch.cos(angles.double())).to(features)
    share = means.new_zeros(positions)
    share[: positions // 2] = 2
    share[positions // 2 : (positions + 1) // 2] = 1  # the middle one of an odd number
    if features.numel() != grid.numel():
        # There are prefix tokens; tokens have their channels last.
        features.copy_(-means.view(len(means), *[1] * (features.dim() - 2), channels))
    grid.copy_((means[:, :, None] * share).view(grid.shape))
    others = take(like, torch.zeros(_PROBES, dtype=torch.long, device=features.device))
    return Probe(means, model.classify(with_feature_map(others, features)))  # type: ignore[operator]


def rows_of(
    classifier: Union[nn.Module, LinearRows], targets: Optional[torch.Tensor], dtype: torch.dtype
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the classifier's weight (N, C) and bias (N,) for the targets; None: all classes."""
    weight: torch.Tensor = classifier.weight  # type: ignore[assignment]
    bias: Optional[torch.Tensor] = classifier.bias  # type: ignore[assignment]
    weight = weight.flatten(1) if weight.dim() > 2 else weight
    if targets is not None:
        weight, bias = weight[targets], None if bias is None else bias[targets]
    weight = weight.to(dtype)
    return weight, weight.new_zeros(len(weight)) if bias is None else bias.to(dtype)


class Fit(NamedTuple):
    """Logits as folded weights give them.

    Attributes:
        logits: Any shape.
        spread: Root of the summed squares of the terms; rounding errors grow like it.
    """

    logits: torch.Tensor
    spread: torch.Tensor


def fit_of(folded: ChannelWeights, pooled: torch.Tensor) -> Fit:
    """Return the logits that folded weights (N, C) give for pooled gated features (N, C), (N,)."""
    terms = folded.weight * pooled
    return Fit(terms.sum(1) + folded.constant, torch.linalg.vector_norm(terms, dim=1))


def fit_of_all(rows: ChannelWeights, scale: Optional[torch.Tensor], pooled: torch.Tensor) -> Fit:
    """Return the logits of all K classes, (B, K).

    Args:
        rows: Result of :func:`fold_rows` for all classes.
        scale: Result of :func:`sample_scale`.
        pooled: Mean of the gated features of each image, (B, C).
    """
    scaled = pooled if scale is None else pooled * scale
    spread = (scaled.square() @ rows.weight.square().T).sqrt()
    return Fit(torch.addmm(rows.constant, scaled, rows.weight.T), spread)


def agrees(told: Sequence[np.ndarray], dtype: torch.dtype, rounded: bool = False) -> bool:
    """Return whether folded weights give a model's logits, up to rounding.

    Args:
        told: Logits and spread of :class:`Fit`, and the model's logits.
        dtype: The logits' type.
        rounded: Whether the classifier itself rounds, because it is quantised.
    """
    fit, spread, logits = told
    rounded = rounded or dtype in (torch.float16, torch.bfloat16)
    tolerance = 5e-2 if rounded else 5e-3  # TF32 products have a relative error of 1e-3
    return bool((np.abs(fit - logits) <= tolerance * (spread + np.abs(logits)) + 1e-6).all())


class HeadForm(NamedTuple):
    """A head of average pooling, a norm or none, and a linear layer.

    Attributes:
        classifier: The linear layer; the rows of one that is quantised or wrapped.
        norm: Norm between pooling and classifier, or None.
    """

    classifier: Union[nn.Module, LinearRows]
    norm: Optional[nn.Module]

    @property
    def rounded(self) -> bool:
        """Whether the classifier itself rounds, because it is quantised."""
        return isinstance(self.classifier, LinearRows) and self.classifier.rounded

    def rows(self, targets: Optional[torch.Tensor], dtype: torch.dtype) -> ChannelWeights:
        """Return the classifier's rows with the norm's constant part folded in.

        Args:
            targets: Class of each row, (N,); None: all classes.
            dtype: Type of the result.
        """
        return fold_rows(self.norm, *rows_of(self.classifier, targets, dtype))


def find_form(
    model: nn.Module, channels: int, dtype: torch.dtype, probe: Callable[[], Probe]
) -> Optional[HeadForm]:
    """Return the form of a pool (+ norm) + linear head, or None for other heads.

    The form is measured: the folded weights must give the head's logits for the probe features.

    Args:
        model: Model with ``get_classifier``.
        channels: Channels of the backbone's features.
        dtype: Type of the folded weights, float32 or double.
        probe: Calls :func:`probe_head`; not called for a classifier that is no linear layer.
    """
    classifier: Any = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    rows = linear_rows(classifier, channels, dtype)
    if rows is None:
        return None
    means, logits = probe()
    if logits.shape[1] != len(rows.weight):
        return None
    step = -(-logits.shape[1] // _PROBED_CLASSES)
    classes = torch.arange(0, logits.shape[1], step)
    means, logits = means.to(dtype), logits[:, ::step]
    for norm in _candidate_norms(model, channels):
        form = HeadForm(classifier if is_plain(classifier) else rows, norm)
        fit = fit_of_all(form.rows(classes, dtype), sample_scale(norm, means), means)
        arrays = [t.cpu().double().numpy() for t in (*fit, logits)]  # MPS has no double
        if agrees(arrays, logits.dtype, form.rounded):
            return form
    return None
