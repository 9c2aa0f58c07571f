"""What a classifier head reads off the features: its weight on every channel.

A head that averages the grid and applies a linear layer is linear in the gated features, so its
weights explain the logit exactly. With a norm between (ConvNeXt, Swin, ViT with average pooling)
the norm's statistics of this very sample are folded into the weights, which is exact as well.
Every other head is asked for its gradient; the backbone never sees one.

A folding is never trusted by its looks: it has to reproduce the logits that the model gave for
the batch at hand, or it is not used (see :func:`folded_weights`).
"""

from typing import Iterator, NamedTuple, Optional, Tuple

import torch
from torch import nn

from ..layers.grid import Features, feature_map, take, with_feature_map

#: Names of norm classes by what they do; timm has several variants of each (2d, Fp32, ...).
_CENTRED_NORMS = ("LayerNorm",)
_RMS_NORMS = ("RmsNorm", "RMSNorm")
_STD_NORMS = ("SimpleNorm",)
_BATCH_NORMS = ("BatchNorm",)


class ChannelWeights(NamedTuple):
    """Weights of the gated channels for a number of (image, target) rows.

    Attributes:
        weight: (N, C). The map of row n is ``sum_c weight[n, c] * gated[n, c]``.
        constant: (N,). The map's mean over the grid plus this constant is the logit.
    """

    weight: torch.Tensor
    constant: torch.Tensor


def linear_classifier(model: nn.Module, channels: int) -> Optional[nn.Module]:
    """The model's classifier if it is one linear layer (or 1x1 convolution) on ``channels``."""
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    weight = getattr(classifier, "weight", None)
    if not isinstance(classifier, (nn.Linear, nn.Conv2d, nn.Conv3d)) or weight is None:
        return None
    flat = weight.shape[0] * channels
    return classifier if weight.shape[1] == channels and weight.numel() == flat else None


def candidate_norms(model: nn.Module, channels: int) -> Iterator[Optional[nn.Module]]:
    """None (no norm), then every norm over C channels that could sit between pool and classifier.

    Only the model's own children and those of its ``head`` are looked at: norms deeper down
    belong to the backbone.
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
    ``w' = (w gamma - mean_c(w gamma)) / sigma`` and ``c = w.beta + b``. RMS and std norms lack
    the mean; BatchNorm in eval mode has constant statistics.

    Args:
        norm: The norm between pooling and classifier, or None.
        weight: Classifier rows of the targets, (N, C).
        bias: Classifier bias of the targets, (N,).
        pooled: Mean of the gated features of each row's image, (N, C).
    """
    if norm is None:
        return ChannelWeights(weight, bias)
    name = type(norm).__name__
    gamma = getattr(norm, "weight", None)
    beta = getattr(norm, "bias", None)
    scaled = weight if gamma is None else weight * gamma.to(weight.dtype)
    constant = bias if beta is None else bias + weight @ beta.to(weight.dtype)
    eps = getattr(norm, "eps", None) or torch.finfo(pooled.dtype).eps
    if any(kind in name for kind in _BATCH_NORMS):
        mean, var = norm.running_mean, norm.running_var  # type: ignore[union-attr]
        folded = scaled * torch.rsqrt(var.to(weight.dtype) + eps)  # type: ignore[union-attr]
        return ChannelWeights(folded, constant - folded @ mean.to(weight.dtype))  # type: ignore[union-attr]
    if any(kind in name for kind in _RMS_NORMS):
        scale = torch.rsqrt(pooled.square().mean(1, keepdim=True) + eps)
    elif any(kind in name for kind in _STD_NORMS):
        scale = torch.rsqrt(pooled.var(1, keepdim=True) + eps)
    else:
        scaled = scaled - scaled.mean(1, keepdim=True)
        scale = torch.rsqrt(pooled.var(1, keepdim=True, correction=0) + eps)
    return ChannelWeights(scaled * scale, constant)


def folded_weights(
    model: nn.Module, pooled: torch.Tensor, targets: torch.Tensor, logits: torch.Tensor
) -> Optional[ChannelWeights]:
    """Exact channel weights of a pool (+ norm) + linear head, or None if the head is another one.

    Whether the head has that form is decided by measurement: ``w'.pooled + c`` must give the
    model's own logits for every row. The bound allows the rounding of the logits' dtype; a head
    of another form misses it by orders of magnitude.

    Args:
        model: Model with ``get_classifier``.
        pooled: Mean of the gated features over the grid, one row per target, (N, C), float.
        targets: Class of each row, (N,).
        logits: The model's logit of each row's target, (N,), in the model's own dtype.
    """
    classifier = linear_classifier(model, pooled.shape[1])
    if classifier is None or targets.numel() == 0:
        return None
    weight = classifier.weight.flatten(1)[targets].to(pooled.dtype)  # type: ignore[union-attr, operator]
    bias = classifier.bias  # type: ignore[union-attr]
    bias = pooled.new_zeros(len(targets)) if bias is None else bias[targets].to(pooled.dtype)  # type: ignore[index]
    half = logits.dtype in (torch.float16, torch.bfloat16)
    tolerance = 5e-2 if half else 1e-3
    for norm in candidate_norms(model, pooled.shape[1]):
        folded = fold_norm(norm, weight, bias, pooled)
        terms = folded.weight * pooled
        error = (terms.sum(1) + folded.constant - logits.to(pooled.dtype)).abs()
        # Rounding grows like the root of the summed squares, so that is what it is held against.
        bound = tolerance * (terms.square().sum(1).sqrt() + logits.to(pooled.dtype).abs()) + 1e-6
        if bool((error <= bound).all()):
            return folded
    return None


def head_gradient(
    model: "nn.Module", gated: Features, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Gradient of each row's logit with respect to the gated features, through the head alone.

    Args:
        model: SE model; its ``classify`` maps gated features to logits.
        gated: Gated features as the backbone lays them out, one feature map per image.
        images: Index of each row's image, (N,).
        targets: Class of each row, (N,).

    Returns:
        Of the feature map's shape, with N rows, detached. No parameter's ``.grad`` is touched.
    """
    # The caller may be inside no_grad or inference_mode; a fresh copy outside of it can carry grad.
    with torch.inference_mode(False), torch.enable_grad():
        chosen = take(gated, images)
        leaf = feature_map(chosen).clone().requires_grad_(True)
        logits = model.classify(with_feature_map(chosen, leaf))  # type: ignore[operator]
        rows = torch.arange(len(targets), device=targets.device)
        (gradient,) = torch.autograd.grad(logits[rows, targets.clone()].sum(), leaf)
    return gradient.detach()


def reads_prefix_only(gradient_grid: torch.Tensor, gradient: torch.Tensor) -> bool:
    """Whether a head ignores the grid and reads prefix (class) tokens alone."""
    return bool(gradient.any()) and not bool(gradient_grid.any())


def split_rows(counts: Tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Image index of every row, for a number of rows per image: (2, 1) -> [0, 0, 1]."""
    return torch.repeat_interleave(
        torch.arange(len(counts), device=device), torch.tensor(counts, device=device)
    )
