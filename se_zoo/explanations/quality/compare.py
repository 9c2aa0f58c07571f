"""Methods against measures: the scores of a method's maps on cases with known answers."""

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import nn

from ...errors import InvalidInputError
from .. import maps, quality
from ..eval_mode import evaluating
from ..explainer import check_images, explain
from .peers import PEERS, SLOW, peer_explain

#: Maps that cost a forward pass; the others are the peers and a control that looks at nothing.
OURS = ("contribution", "support", "gate", "activation")
CENTRE = "centre"
METHODS = (*OURS, CENTRE, *PEERS)
#: Thresholds at which boxes are drawn around the parts of a heatmap.
THRESHOLDS = tuple(i / 100 for i in range(1, 100))


class Cases(NamedTuple):
    """Images with a class each, and where the answer lies.

    Attributes:
        images: One of each case, normalised, (N, C, H, W); an image may stand several times.
        targets: Class of each, (N,).
        regions: Where the answer lies, (N, H, W) bool; None where it is not known.
        boxes: Its box, x0 y0 x1 y1 in pixels, (N, 4); None where there is none.
        ids: Number of each case, which seeds what is random, (N,).
        known: Of which pixels is known whether the answer lies there, (N, H, W) bool; None where
            it is of all.
    """

    images: torch.Tensor
    targets: torch.Tensor
    regions: Optional[torch.Tensor]
    boxes: Optional[torch.Tensor]
    ids: Sequence[int]
    known: Optional[torch.Tensor] = None

    def tensors(self) -> Dict[str, torch.Tensor]:
        """Those that there are, by their names."""
        return {k: v for k, v in self._asdict().items() if isinstance(v, torch.Tensor)}

    def some(self, rows: Sequence[int]) -> "Cases":
        """Chosen cases."""
        chosen = {name: tensor[list(rows)] for name, tensor in self.tensors().items()}
        return self._replace(**chosen, ids=[self.ids[n] for n in rows])

    def to(self, device: torch.device) -> "Cases":
        """All tensors on a device."""
        return self._replace(**{name: t.to(device) for name, t in self.tensors().items()})


class Drawn(NamedTuple):
    """A method's maps at the size of the images."""

    heatmap: torch.Tensor
    """(N, H, W) in [0, 1]: what is seen; a plateau where the interpolation was cut at 1."""
    raw: torch.Tensor
    """(N, H, W): the map before it was normalised, signed where the method is: where its maximum
    lies, what pixels are sorted by, and what is compared with other maps."""


def draw(model: nn.Module, cases: Cases, method: str) -> Drawn:
    """The maps of a method.

    Args:
        model: Model with an SE head.
        cases: Images and their classes.
        method: One of :data:`METHODS`.

    Raises:
        InvalidInputError: If there is no such method, or its library is missing.
    """
    size = tuple(cases.images.shape[2:])
    if method == CENTRE:
        centre = quality.centre_gaussian((size[0], size[1])).to(cases.images)
        return Drawn(*[centre.expand(len(cases.targets), -1, -1)] * 2)
    if method in PEERS:
        found = peer_explain(model, cases.images, cases.targets, method)
    elif method in OURS:
        found = explain(model, cases.images, cases.targets, method)
    else:
        raise InvalidInputError(f"Unknown method {method!r}; there are {', '.join(METHODS)}.")
    return Drawn(found.heatmap, maps.upsample(found.raw, size))


@dataclass(frozen=True)
class Settings:
    """How the measures that need forward passes are taken."""

    steps: int = 20
    """Of the deletion and the insertion curve."""
    shares: Tuple[float, ...] = (0.25, 0.5, 0.75)
    """Of the pixels that ROAD replaces."""
    blur: float = 0.06
    """Of the blurred copy, standard deviation in parts of the shorter side."""
    shift: int = 4
    """Pixels by which the image is moved for the stability."""


def score_regions(cases: Cases, drawn: Drawn) -> Dict[str, List[Any]]:
    """Where the maps lie: pointing, pixel average precision, energy, and the best box's IoU at each
    threshold.

    A map that is zero everywhere points nowhere: it misses, and has no energy. Pixels are ranked by
    the raw map: what speaks against the class comes after what says nothing.
    """
    scores: Dict[str, List[Any]] = {}
    if cases.regions is not None:
        where = cases.regions, cases.known
        energy = quality.energy_in_region(drawn.heatmap, *where).nan_to_num(0.0)
        seen = (drawn.heatmap.flatten(1).amax(1) > 0).cpu()
        hits = quality.pointing_game(drawn.raw, cases.regions, known=cases.known).cpu() & seen
        scores["pointing"] = hits.float().tolist()
        scores["pixel_ap"] = quality.pixel_average_precision(drawn.raw, *where).tolist()
        scores["energy"] = energy.tolist()
    if cases.boxes is not None:
        scores["box"] = quality.box_ious(drawn.heatmap, cases.boxes, THRESHOLDS).tolist()
    return scores


def score_pixels(
    model: nn.Module, cases: Cases, drawn: Drawn, settings: Settings
) -> Dict[str, List[Any]]:
    """What the model needs of the maps: insertion, deletion, ROAD (and that of the blurred map),
    average drop, increase and gain."""
    images, targets, seeds = cases.images, cases.targets, list(cases.ids)
    curves = quality.deletion_insertion(
        model, images, targets, drawn.raw, settings.steps, batch_size=16, seeds=seeds
    )
    sigma = settings.blur * min(images.shape[2:])

    def road(order: torch.Tensor) -> List[float]:
        found = quality.road(model, images, targets, order, settings.shares, seeds=seeds)
        return found.combined.tolist()

    kept = quality.drop_increase_gain(model, images, targets, drawn.heatmap)
    return {
        "insertion": curves.insertion_auc.tolist(),
        "deletion": curves.deletion_auc.tolist(),
        "road": road(drawn.raw),
        "road_blurred": road(quality.blurred(drawn.raw, sigma)),
        "drop": kept.drop.tolist(),
        "increase": kept.increase.float().tolist(),
        "gain": kept.gain.tolist(),
    }


def score_dependence(
    model: nn.Module, cases: Cases, drawn: Drawn, method: str, settings: Settings, broken: Any
) -> Dict[str, List[Any]]:
    """What the maps depend on: their likeness when the image moves, and when the classifier, or
    everything, is random. NaN where a map is the same everywhere, which is like nothing.

    Args:
        broken: Copies of the model by what is random in them.
    """
    d = settings.shift

    def moved(images: torch.Tensor) -> torch.Tensor:
        return draw(model, cases._replace(images=images), method).raw

    shifts = ((d, 0), (-d, 0), (0, d), (0, -d))
    scores = {"stability": quality.shift_stability(moved, cases.images, shifts)}
    for name, other in broken.items():
        found = draw(other, cases, method).raw
        scores[f"random_{name}"] = quality.rank_correlation(drawn.raw, found)
    return {name: values.tolist() for name, values in scores.items()}


def same_maps(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two methods gave the same maps (N, H, W) but for rounding and one scale an image."""
    scaled = [m / m.abs().flatten(1).amax(1).clamp(min=1e-12)[:, None, None] for m in (left, right)]
    return torch.allclose(*scaled, rtol=0, atol=1e-4)


def random_copies(model: nn.Module) -> Dict[str, nn.Module]:
    """The model with a random classifier, and all random."""
    copies = quality.randomised(model)
    first = last = next(copies)[1]
    for _, copy in copies:
        last = copy  # those between are not kept
    return {"classifier": first, "all": last}


def score(
    model: nn.Module,
    cases: Cases,
    methods: Sequence[str],
    settings: Settings,
    pixels: Sequence[int],
    slow: Sequence[int],
    broken: Optional[Dict[str, nn.Module]] = None,
) -> Dict[str, Dict[str, Dict[str, Any]]]:
    """All scores of the cases.

    Maps that are the same (GradCAM of three libraries) are scored once where that takes forward
    passes, which would be the same too; where they lie is scored for each.

    Args:
        model: Model with an SE head; its mode is as before afterwards.
        cases: What the methods are to explain; moved to the model's device and dtype.
        methods: Of :data:`METHODS`.
        settings: Of the measures.
        pixels: Rows that are scored by what the model needs of the map.
        slow: Rows for which the methods that take many passes are drawn at all.
        broken: Of :func:`random_copies`; made if None.

    Returns:
        Of each method and measure the score of each case, by its number.

    Raises:
        InvalidInputError: If a method's library is missing, or it has no map of this model.
    """
    images = check_images(model, cases.images)
    cases = cases.to(images.device)._replace(images=images)
    broken = random_copies(model) if broken is None else broken
    with evaluating(model):
        return _score(model, cases, methods, settings, pixels, slow, broken)


def _score(
    model: nn.Module,
    cases: Cases,
    methods: Sequence[str],
    settings: Settings,
    pixels: Sequence[int],
    slow: Sequence[int],
    broken: Dict[str, nn.Module],
) -> Dict[str, Dict[str, Dict[str, Any]]]:
    ours = draw(model, cases, "contribution")
    found: Dict[str, Dict[str, Dict[str, Any]]] = {}
    pixel_scores: List[_Scored] = []
    dependence: List[_Scored] = []
    for method in methods:
        rows = list(slow) if method in SLOW else list(range(len(cases.ids)))
        if not rows:
            continue
        part = cases.some(rows)
        drawn = draw(model, part, method)
        table = found.setdefault(method, {})
        _add(table, part.ids, score_regions(part, drawn))
        if method in OURS or method in PEERS:
            likeness = quality.rank_correlation(drawn.raw, ours.raw[rows])
            _add(table, part.ids, {"likeness": likeness.tolist()})
        chosen = [n for n, row in enumerate(rows) if row in pixels]
        if not chosen:
            continue
        few, cut = part.some(chosen), Drawn(*(t[chosen] for t in drawn))
        at = tuple(few.ids)
        values = _known(pixel_scores, at, cut.raw)
        if values is None:
            values = score_pixels(model, few, cut, settings)
            pixel_scores.append((at, cut.raw, values))
        _add(table, few.ids, values)
        if method in (*SLOW, CENTRE):
            continue
        values = _known(dependence, at, cut.raw)
        if values is None:
            values = score_dependence(model, few, cut, method, settings, broken)
            dependence.append((at, cut.raw, values))
        _add(table, few.ids, values)
    return found


#: Numbers of cases, their maps, and the scores of those.
_Scored = Tuple[Tuple[int, ...], torch.Tensor, Dict[str, List[Any]]]


def _known(
    scored: Sequence[_Scored], ids: Tuple[int, ...], maps: torch.Tensor
) -> Optional[Dict[str, List[Any]]]:
    """The scores of the same maps of the same cases, if there are any."""
    return next((s for n, m, s in scored if n == ids and same_maps(m, maps)), None)


def _add(
    table: Dict[str, Dict[str, Any]], ids: Sequence[int], scores: Dict[str, List[Any]]
) -> None:
    """Add the scores of cases; those that are not known (NaN) are left out."""
    for measure, values in scores.items():
        known = {str(n): v for n, v in zip(ids, values, strict=True) if v == v}
        table.setdefault(measure, {}).update(known)


def score_channels(model: nn.Module, cases: Cases) -> Dict[str, Dict[str, Any]]:
    """What the logit loses without some channels: those that the gate selects, the tenth with the
    largest gates, the tenth that contributes most to the class; and as many random ones."""
    gated = explain(model, cases.images, cases.targets, "gate")
    ways = {
        "gate": gated.selected,
        "gate, a tenth by rank": quality.top_channels(gated.gate),
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
