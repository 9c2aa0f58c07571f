"""Comparison of methods: scores of their maps on images of which the class is known."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from .. import quality
from ..eval_mode import in_eval_mode
from ..explainer import explain
from ..se_model import check_images
from .cases import CONTROLS, OURS, Cases, Drawn, draw
from .peer_methods import SLOW
from .peers import PEERS

#: Thresholds at which boxes are drawn around the parts of a heatmap.
THRESHOLDS = tuple(i / 100 for i in range(1, 100))


@dataclass(frozen=True)
class Settings:
    """Settings of the measures that need forward passes."""

    steps: int = 20
    """Number of steps of the deletion and the insertion curve."""
    shares: Tuple[float, ...] = (0.25, 0.5, 0.75)
    """Shares of the pixels that ROAD replaces."""
    blur: float = 0.06
    """Standard deviation of the blurred copy, as a share of the shorter side."""
    shift: int = 4
    """Number of pixels by which the image is shifted for the stability."""


def score_regions(cases: Cases, drawn: Drawn) -> Dict[str, List[Any]]:
    """Score where the maps lie.

    The measures are pointing game, pixel average precision (also of the maps moved by the model's
    ``map_offset``), energy, that of the squared map, the IoU of the pixels above each threshold
    with the region, and that of the best box at each. A heatmap of zeros misses, and its energy is
    0. Pixels are ranked by the raw map, so evidence against the class ranks below no evidence.

    Args:
        cases: Cases with regions, boxes or both.
        drawn: Maps of these cases.

    Returns:
        The score of every case, by measure.
    """
    scores: Dict[str, List[Any]] = {}
    if cases.regions is not None:
        where = cases.regions, cases.known
        nonzero = (drawn.heatmap.flatten(1).amax(1) > 0).cpu()
        hits = quality.pointing_game(drawn.raw, cases.regions, known=cases.known).cpu() & nonzero
        scores["pointing"] = hits.float().tolist()
        scores["pixel_ap"] = quality.pixel_average_precision(drawn.raw, *where).tolist()
        moved = quality.pixel_average_precision(drawn.registered, *where)
        scores["pixel_ap_registered"] = moved.tolist()
        squared = quality.squared(drawn.heatmap)
        for name, heatmap in (("energy", drawn.heatmap), ("energy_squared", squared)):
            scores[name] = quality.energy_in_region(heatmap, *where).nan_to_num(0.0).tolist()
        ious = quality.mask_ious(drawn.heatmap, cases.regions, THRESHOLDS, cases.known)
        scores["mask_iou"] = ious.tolist()
    if cases.boxes is not None:
        scores["box"] = quality.box_ious(drawn.heatmap, cases.boxes, THRESHOLDS).tolist()
    return scores


def _score_pixels(
    model: nn.Module, cases: Cases, drawn: Drawn, method: str, settings: Settings
) -> Dict[str, List[Any]]:
    """Score whether the model needs the pixels that the maps mark.

    The measures are insertion, deletion, ROAD (also of the blurred map), drop, increase, gain and
    ADCC.
    """
    images, targets, seeds = cases.images, cases.targets, list(cases.ids)
    curves = quality.deletion_insertion(
        model, images, targets, drawn.raw, settings.steps, batch_size=16, seeds=seeds
    )
    sigma = settings.blur * min(images.shape[2:])

    def road(order: torch.Tensor) -> List[float]:
        found = quality.road(model, images, targets, order, settings.shares, seeds=seeds)
        return found.combined.tolist()

    def again(marked: torch.Tensor) -> torch.Tensor:
        return draw(model, cases._replace(images=marked), method).heatmap

    kept = quality.drop_increase_gain(model, images, targets, drawn.heatmap)
    summary = quality.adcc(again, images, targets, drawn.heatmap, kept.drop)
    return {
        "insertion": curves.insertion_auc.tolist(),
        "deletion": curves.deletion_auc.tolist(),
        "road": road(drawn.raw),
        "road_blurred": road(quality.blurred(drawn.raw, sigma)),
        "drop": kept.drop.tolist(),
        "increase": kept.increase.float().tolist(),
        "gain": kept.gain.tolist(),
        "adcc": summary.tolist(),
    }


def _score_dependence(
    model: nn.Module,
    cases: Cases,
    drawn: Drawn,
    method: str,
    settings: Settings,
    random_models: Dict[str, nn.Module],
) -> Dict[str, List[Any]]:
    """Score how the maps depend on the image and the model; NaN for constant maps.

    The measures are the rank correlations with the maps of shifted images, and with the maps of
    models in which the classifier, or everything, is random (``random_models``, by that part).
    """
    d = settings.shift

    def moved(images: torch.Tensor) -> torch.Tensor:
        return draw(model, cases._replace(images=images), method).raw

    shifts = ((d, 0), (-d, 0), (0, d), (0, -d))
    scores = {"stability": quality.shift_stability(moved, cases.images, shifts)}
    for name, other in random_models.items():
        found = draw(other, cases, method).raw
        scores[f"random_{name}"] = quality.rank_correlation(drawn.raw, found)
    return {name: values.tolist() for name, values in scores.items()}


def same_maps(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Return whether maps (N, H, W) are equal up to rounding and a factor per image."""
    scaled = [m / m.abs().flatten(1).amax(1).clamp(min=1e-12)[:, None, None] for m in (left, right)]
    return torch.allclose(*scaled, rtol=0, atol=1e-4)


def random_copies(model: nn.Module) -> Dict[str, nn.Module]:
    """Return copies with random weights: of the ``"classifier"`` only, and of ``"all"`` parts.

    Args:
        model: Model with an SE head; it is not changed.
    """
    copies = quality.randomised(model)
    first = last = next(copies)[1]
    for _, copy in copies:
        last = copy
    return {"classifier": first, "all": last}


def score(
    model: nn.Module,
    cases: Cases,
    methods: Sequence[str],
    settings: Settings,
    pixels: Sequence[int],
    slow: Sequence[int],
    random_models: Optional[Dict[str, nn.Module]] = None,
) -> Dict[str, Dict[str, Dict[str, Any]]]:
    """Score the maps of several methods with all measures.

    Methods with equal maps (GradCAM of three libraries) share the scores that need forward passes;
    only the scores of where the maps lie are computed for each method.

    Args:
        model: Model with an SE head; its mode is as before afterwards.
        cases: Cases to explain; moved to the model's device and dtype.
        methods: Names from :data:`METHODS`.
        settings: Settings of the measures.
        pixels: Rows that are scored by the measures that need forward passes.
        slow: Rows that are explained by the methods that take many passes.
        random_models: Copies of :func:`random_copies`; made if None.

    Returns:
        The score of each case, by method, measure and number of the case.

    Raises:
        InvalidInputError: If a method's library is missing, or it has no map of this model.
    """
    images = check_images(model, cases.images)
    cases = cases.to(images.device)._replace(images=images)
    random_models = random_copies(model) if random_models is None else random_models
    with in_eval_mode(model) as still:
        return _score(still, cases, methods, settings, pixels, slow, random_models)


def _score(
    model: nn.Module,
    cases: Cases,
    methods: Sequence[str],
    settings: Settings,
    pixels: Sequence[int],
    slow: Sequence[int],
    random_models: Dict[str, nn.Module],
) -> Dict[str, Dict[str, Dict[str, Any]]]:
    ours = draw(model, cases, "contribution")
    found: Dict[str, Dict[str, Dict[str, Any]]] = {}
    pixel_scores: List[_KnownScores] = []
    dependence: List[_KnownScores] = []
    for method in methods:
        rows = list(slow) if method in SLOW else list(range(len(cases.ids)))
        if not rows:
            continue
        part = cases.some(rows)
        drawn = draw(model, part, method)
        table = found.setdefault(method, {})
        _add(table, part.ids, score_regions(part, drawn))
        if method in OURS or method in PEERS:
            # Registered: the model's map_offset is no difference between the methods.
            likeness = quality.rank_correlation(drawn.registered, ours.registered[rows])
            _add(table, part.ids, {"likeness": likeness.tolist()})
        chosen = [n for n, row in enumerate(rows) if row in pixels]
        if not chosen:
            continue
        few, cut = part.some(chosen), Drawn(*(t[chosen] for t in drawn))
        ids = tuple(few.ids)
        values = _scores_of_same_maps(pixel_scores, ids, cut.raw)
        if values is None:
            values = _score_pixels(model, few, cut, method, settings)
            pixel_scores.append((ids, cut.raw, values))
        _add(table, few.ids, values)
        if method in (*SLOW, *CONTROLS):
            continue
        values = _scores_of_same_maps(dependence, ids, cut.raw)
        if values is None:
            values = _score_dependence(model, few, cut, method, settings, random_models)
            dependence.append((ids, cut.raw, values))
        _add(table, few.ids, values)
    return found


#: Numbers of cases, their raw maps, and the scores of these maps.
_KnownScores = Tuple[Tuple[int, ...], torch.Tensor, Dict[str, List[Any]]]


def _scores_of_same_maps(
    known: Sequence[_KnownScores], ids: Tuple[int, ...], raw: torch.Tensor
) -> Optional[Dict[str, List[Any]]]:
    """Return the scores of equal maps of the same cases, if there are any."""
    return next((s for n, m, s in known if n == ids and same_maps(m, raw)), None)


def _add(
    table: Dict[str, Dict[str, Any]], ids: Sequence[int], scores: Dict[str, List[Any]]
) -> None:
    """Add the scores of cases to the table, except NaN."""
    for measure, values in scores.items():
        known = {str(n): v for n, v in zip(ids, values, strict=True) if v == v}
        table.setdefault(measure, {}).update(known)


def score_channels(model: nn.Module, cases: Cases) -> Dict[str, Dict[str, Any]]:
    """Score what the class's logit loses without some channels, and without random channels.

    The channels are those that the gate selects, the tenth with the largest gates, those that the
    class gate selects, and the tenth that contributes most to the class.

    Args:
        model: Model with an SE head.
        cases: Images and their classes.

    Returns:
        For each rule that selects channels, the losses without the ``"selected"`` and without
        ``"random"`` channels, by number of the case.
    """
    gated = explain(model, cases.images, cases.targets, "gate")
    ways = {
        "gate": gated.selected,
        "gate, a tenth by rank": quality.top_channels(gated.gate),
        "class gate": explain(model, cases.images, cases.targets, "class_gate").selected,
        "contribution, a tenth": quality.top_channels(
            quality.channel_contributions(model, cases.images, cases.targets)
        ),
    }
    found = {}
    for name, selected in ways.items():
        deleted = quality.channel_deletion(
            model, cases.images, cases.targets, selected, seeds=cases.ids
        )
        table = {}
        _add(table, cases.ids, {k: v.tolist() for k, v in deleted._asdict().items()})
        found[name] = table
    return found
