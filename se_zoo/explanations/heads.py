"""What a classifier head reads off the features: its weight on every channel.

A head that averages the grid and applies a linear layer is linear in the gated features, so its
weights explain the logit exactly. With a norm between (ConvNeXt, Swin, ViT with average pooling)
the norm's statistics of this very sample are folded into the weights, which is exact as well.
Every other head is asked for its gradient; the backbone never sees one.

A folding is never trusted by its looks: it has to reproduce what the head answers to made-up
features with known channel means (:func:`probe_head`), and the logits that the model gave for the
batch at hand, or it is not used (:func:`find_folding`).
"""

from typing import Callable, Iterator, NamedTuple, Optional, Tuple

import torch
from torch import nn

from ..layers.grid import Features, feature_map, take, with_feature_map

#: Made-up features that a head is asked about; several, so that one class is as safe as many.
_PROBES = 4
#: Classes whose answers are compared, spread over all; more would cost time and prove no more.
_PROBED_CLASSES = 16

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


class Probe(NamedTuple):
    """What a head answers to made-up gated features.

    Attributes:
        means: Channel means of the made-up features, (P, C).
        logits: The head's answers, (P, num_classes).
    """

    means: torch.Tensor
    logits: torch.Tensor


def probe_head(
    model: nn.Module, like: Features, to_grid: Callable[[torch.Tensor], torch.Tensor]
) -> Probe:
    """Ask the head about features that only an average over the grid sees as they are meant.

    Twice the mean on one half of the grid, nothing on the other, and its negative on prefix
    tokens: maximum or attention pooling and class-token heads answer something else entirely. On
    real features they can come close to the average, the more so in half precision.

    Args:
        model: SE model; its ``classify`` maps gated features to logits.
        like: Features in the backbone's own layout and in the head's dtype.
        to_grid: The (B, C, *grid) view of a feature map; it must not copy.
    """
    features = feature_map(like).new_zeros(_PROBES, *feature_map(like).shape[1:])
    grid = to_grid(features)
    channels, positions = grid.shape[1], grid[0, 0].numel()
    angles = torch.outer(
        torch.arange(1, _PROBES + 1, device="cpu"), torch.arange(channels, device="cpu")
    )
    # Neither centred nor of unit variance, so that no norm leaves them as they are.
    means = (0.5 + 2 * torch.cos(angles.double())).to(features)
    share = means.new_zeros(positions)
    share[: positions // 2] = 2
    share[positions // 2 : (positions + 1) // 2] = 1  # the middle one of an odd number
    if features.numel() != grid.numel():
        # Prefix tokens; tokens are channels last.
        features.copy_(-means.view(len(means), *[1] * (features.dim() - 2), channels))
    grid.copy_((means[:, :, None] * share).view(grid.shape))
    others = take(like, torch.zeros(_PROBES, dtype=torch.long, device=features.device))
    return Probe(means, model.classify(with_feature_map(others, features)))  # type: ignore[operator]


def _rows_of(
    classifier: nn.Module, targets: torch.Tensor, dtype: torch.dtype
) -> Tuple[torch.Tensor, torch.Tensor]:
    """The classifier's weight (N, C) and bias (N,) for the targets."""
    weight = classifier.weight.flatten(1)[targets].to(dtype)  # type: ignore[operator, union-attr]
    bias = classifier.bias
    return weight, weight.new_zeros(len(targets)) if bias is None else bias[targets].to(dtype)  # type: ignore[index]


def _gives(folded: ChannelWeights, pooled: torch.Tensor, logits: torch.Tensor) -> bool:
    """Whether the folded weights give the logits (N,), up to the rounding of the logits' dtype."""
    half = logits.dtype in (torch.float16, torch.bfloat16)
    tolerance = 5e-2 if half else 5e-3  # TF32 products round float32 logits to 1e-3
    terms, logits = folded.weight * pooled, logits.to(pooled.dtype)
    error = (terms.sum(1) + folded.constant - logits).abs()
    # Rounding grows like the root of the summed squares, so that is what it is held against.
    return bool((error <= tolerance * (terms.square().sum(1).sqrt() + logits.abs()) + 1e-6).all())


class Folding(NamedTuple):
    """What a head of pooling (+ norm) + linear layer is made of.

    Attributes:
        weights: The classifier's rows with the norm's statistics of these samples folded in.
        norm: Between pooling and classifier, or None.
        rows: Weight (N, C) and bias (N,) of the classifier for the targets.
    """

    weights: ChannelWeights
    norm: Optional[nn.Module]
    rows: Tuple[torch.Tensor, torch.Tensor]


def find_folding(
    model: nn.Module,
    pooled: torch.Tensor,
    targets: torch.Tensor,
    logits: torch.Tensor,
    probe: Callable[[], Probe],
) -> Optional[Folding]:
    """Exact channel weights of a pool (+ norm) + linear head, or None if the head is another one.

    Whether the head has that form is decided by measurement: ``w'.pooled + c`` must give the
    head's answers to the probe, and the model's own logits for every row.

    Args:
        model: Model with ``get_classifier``.
        pooled: Mean of the gated features over the grid, one row per target, (N, C), float.
        targets: Class of each row, (N,).
        logits: The model's logit of each row's target, (N,), in the model's own dtype.
        probe: Gives the answers of :func:`probe_head`; called where they are needed.
    """
    classifier = linear_classifier(model, pooled.shape[1])
    if classifier is None or targets.numel() == 0:
        return None
    rows = _rows_of(classifier, targets, pooled.dtype)
    means, answers = probe()
    means = means.to(pooled.dtype)
    step = -(-answers.shape[1] // _PROBED_CLASSES)
    asked = _rows_of(classifier, torch.arange(0, answers.shape[1], step), pooled.dtype)
    for norm in candidate_norms(model, pooled.shape[1]):
        right = all(
            _gives(fold_norm(norm, *asked, mean), mean, answer)
            for mean, answer in zip(means.unsqueeze(1), answers[:, ::step], strict=True)
        )
        folded = fold_norm(norm, *rows, pooled)
        if right and _gives(folded, pooled, logits):
            return Folding(folded, norm, rows)
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
