"""``explain``: a prediction and its heatmaps from one forward pass.

An explanation is features, gate, head, and a weighted sum of the channels. It uses no hooks and no
gradient through the backbone, so it is thread-safe, leaves nothing on the model, and costs no more
than a forward pass.
"""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple, Union

import torch
from torch import nn

from ..errors import InvalidInputError
from . import head_forms, maps
from .answer import Found, Request, answer
from .class_maps import Maps
from .eval_mode import in_eval_mode
from .explanation import Explanation
from .forward_pass import ForwardPass
from .methods import FROM_ZERO_METHODS, METHODS, default_method
from .se_model import (
    SEModel,
    as_batch,
    check_model,
    label_names,
    placement_of,
    to_batch,
    uncompiled,
    warn_unnormalised,
)
from .target_classes import Target, Versus

if TYPE_CHECKING:
    from .se_model import Face, Images


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

    Warns with :class:`~se_zoo.SEZooWarning` of a tensor that looks like pixels from 0 to 1.

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
            heads. ``"affinity"``: the same, each cell's evidence shared among the cells whose
            features are like its own; as exact. ``"rivals"``: the contribution of the target less
            a third of that of every other class times its probability, shared in the same way; for
            models whose classes compete. ``"support"``: contribution with evidence against
            the class counted by half, not exact. ``"class_gate"``: the channels whose gate times
            classifier weight stands out, less the mean of all channels, shared among like cells;
            not exact, ours. ``"gate"``: mean of the gated features
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
    model = uncompiled(model)
    method = _check_method(model, method, versus)
    normalize = maps.check_normalize(normalize)
    images, photos = as_batch(check_model(model), images, face)
    batch = to_batch(model, images)
    with torch.no_grad(), in_eval_mode(model) as still:
        se_model = check_model(still)
        if method == "gate" and not head_forms.gate_trained(still):
            warn_untrained()
        state, request, found = answer(still, batch, target, method, versus, normalize)
        if photos is None:
            warn_unnormalised(se_model, *found.extent)
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
    model = uncompiled(model)
    method = _check_method(model, method, versus)
    check_model(model)
    batch = to_batch(model, images)
    with torch.no_grad(), in_eval_mode(model) as still:
        state, _, found = answer(still, batch, target, method, versus, "image")
    return RawMaps(
        state.logits, state.model_gate, found.images, found.targets, found.versus, found.maps,
        method,
    )  # fmt: skip


def warn_untrained() -> None:
    """Warn that the gate of a model cannot say anything yet."""
    warnings.warn(
        "The model's gate was never trained: it is 1 for every channel and selects none by itself. "
        'Train the model, or use method="contribution" or "activation".',
        stacklevel=4,
    )


def _check_method(model: nn.Module, method: Optional[str], versus: Versus) -> str:
    """Return the method, by default the model's own."""
    method = default_method(model) if method is None else method
    if method not in METHODS:
        raise InvalidInputError(f"Unknown method {method!r}; the methods are {', '.join(METHODS)}.")
    if versus is not None and method != "difference":
        raise InvalidInputError(f'versus is for method="difference" only, not {method!r}.')
    return method


def _explanation(
    model: SEModel,
    images: torch.Tensor,
    state: ForwardPass,
    request: Request,
    found: Found,
    heatmap: torch.Tensor,
    placement: maps.Placement,
) -> Explanation:
    labels = label_names(model, state.logits.shape[1])
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
