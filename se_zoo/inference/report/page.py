"""Write the report of a folder of predictions as one HTML page."""

from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple

import numpy as np

from ...errors import InvalidInputError
from ...explanations.methods import CLASSLESS_METHODS, SIGNED_METHODS
from ...files import read_json, write_text
from ...text import counted
from ...version import __version__
from ..predictions import Predictions
from .clusters import group_maps
from .collect import FEWEST, LabelMaps, RegionsOfPhotos, collect
from .pictures import mean_map, overlay
from .regions import FIXED, even_cells
from .suspects import SPREADS, Suspect, find_suspects

#: Pictures of a cluster, of the photos most unlike the others, and of those with an empty map.
OF_CLUSTER, UNLIKE, EMPTY = 4, 6, 6


class Findings(NamedTuple):
    """What a report says in short.

    Attributes:
        photos: Number of photos.
        labels: Number of labels with maps.
        suspects: Labels and corners that are suspicious, the most suspicious first.
        judged: Whether corners could be judged at all: by several labels, or by the photos.
    """

    photos: int
    labels: int
    suspects: List[Suspect]
    judged: bool


def write_report(
    folder: Path,
    out: Path,
    most_labels: int = 12,
    of_photos: Iterable[RegionsOfPhotos] = (),
    photos: bool = True,
) -> Findings:
    """Write what a model looks at over a data set, as one page without scripts.

    Args:
        folder: Predictions, of ``se-zoo predict``.
        out: The page to write.
        most_labels: Labels that are shown with pictures: the suspicious ones, then the most
            frequent. The table has all labels.
        of_photos: Boxes and masks of the photos.
        photos: Whether to show photos, and to compare their corners. They are read from where the
            data set was.

    Returns:
        What the page says in short.

    Raises:
        InvalidInputError: If there are no predictions, no label has enough maps, boxes or masks do
            not fit the photos, or the photos are not where they were.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    predictions = Predictions(folder)
    model = predictions.facts["model"]
    labels = collect(predictions, model, of_photos)
    judged = [label for label in labels if label.count >= FEWEST]
    if not judged:
        raise InvalidInputError(_nothing_to_judge(predictions, labels))
    suspects = find_suspects(judged, predictions if photos else None)
    named = [suspect for suspect in suspects if suspect.suspicious]
    shown = _first(judged, named, most_labels)
    regions = [*FIXED, *sorted({r for label in judged for r in label.regions} - {*FIXED})]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    rows, compared = len(predictions), len(judged) > 1
    text = environment.get_template("template.html").render(
        folder=str(folder), facts=predictions.facts, rows=rows,
        complete=_is_complete(folder, rows), compared=compared, version=__version__,
        named=named, first=suspects[0], spreads=SPREADS, fewest=FEWEST,
        regions=regions, table=[_line(label, regions) for label in judged],
        few=[_in_words(label) for label in labels if label.count < FEWEST],
        empty=any(label.empty for label in judged), red=_red(model["method"]),
        sections=[_section(predictions, label, model, photos) for label in shown], photos=photos,
    )  # fmt: skip
    write_text(out, text)
    return Findings(rows, len(judged), named, compared or photos)


def _nothing_to_judge(predictions: Predictions, labels: List[LabelMaps]) -> str:
    """Return why there is no report, and what to do."""
    folder, rows = predictions.folder, len(predictions)
    complete = _is_complete(folder, rows)
    if not rows and complete:
        return f"{folder} has no rows: its data set has no photos."
    if not rows:
        return (
            f"{folder} has no rows yet; give the `se-zoo predict` command that made the folder "
            "again, and it goes on."
        )
    errors = [row.error for row in predictions if row.error is not None]
    if len(errors) == rows:
        return f"no photo of {folder} could be read ({rows:,} rows); the first error: {errors[0]}"
    found = max(labels, key=lambda label: (label.count, label.photos), default=None)
    most = "none is predicted for any" if found is None else f"{_in_words(found)} comes nearest"
    least = f"no label of {folder} is predicted for {FEWEST} photos or more"
    if any(label.empty for label in labels):
        least += " with a map that is not empty"
    if complete:
        return (
            f"{least}: of {rows:,} rows, {most}. A report needs a larger data set, or labels that "
            "are more frequent in it."
        )
    return (
        f"{least}, in the {rows:,} rows so far: {most}. The run is not complete; give its `se-zoo "
        "predict` command again, and it goes on."
    )


def _in_words(label: LabelMaps) -> str:
    """Return a label and its number of photos."""
    empty = f", {label.empty:,} of them with an empty map" if label.empty else ""
    return f"{label.label} ({counted(label.photos, 'photo')}{empty})"


def _red(method: str) -> str:
    """Return what the colours of the pictures mean."""
    if method in SIGNED_METHODS:
        return "Red speaks for the label, blue against it."
    if method in CLASSLESS_METHODS:
        return "Red is where the map is strong, whatever the label."
    return "Red is where the map of the label is strong."


def _is_complete(folder: Path, rows: int) -> bool:
    """Return whether the rows are all of a finished run; files may have been removed since."""
    try:
        record = read_json(folder / "complete.json")
    except (OSError, ValueError):  # a damaged record is as good as none
        return False
    return isinstance(record, dict) and record.get("rows") == rows


def _first(judged: List[LabelMaps], named: List[Suspect], most: int) -> List[LabelMaps]:
    """Return the labels to show: the suspicious ones, then the most frequent."""
    suspicious = list(dict.fromkeys(suspect.index for suspect in named))
    by_index = {label.index: label for label in judged}
    others = sorted(judged, key=lambda label: -label.photos)
    order = [by_index[index] for index in suspicious]
    order += [label for label in others if label.index not in suspicious]
    return order[:most]


def _line(label: LabelMaps, regions: List[str]) -> Dict[str, Any]:
    """Return a label's line of the table: the share of evidence and of area in each region."""
    cells = [(label.share(region), label.area_of(region)) for region in regions]
    return {"label": label.label, "photos": label.photos, "empty": label.empty, "cells": cells}


def _section(
    predictions: Predictions, label: LabelMaps, model: Mapping[str, Any], photos: bool
) -> Dict[str, Any]:
    """Return a label's pictures: mean map, clusters, maps unlike the others, and empty maps."""
    sample = sorted(label.sample, reverse=True)
    shares = [kept.share.astype(np.float32) for kept in sample]
    groups = group_maps(shares)
    size = model["preprocessing"]["input_size"][-2:]
    cells = label.cells or even_cells((shares[0].shape[0], shares[0].shape[1]))

    def drawn(number: int) -> Dict[str, Any]:
        row = predictions.at(sample[number].place)
        probability = row.probability[row.target.index(label.index)]
        if photos:
            url = overlay(predictions, row, label.index)
        else:
            url = mean_map(shares[number], size, cells)
        return {"url": url, "id": row.id, "probability": probability}

    clusters = []
    for cluster in groups.clusters:
        mean = np.mean([shares[n] for n in cluster], axis=0)
        distance = [float(np.abs(shares[n] - mean).sum()) for n in cluster]
        nearest = cluster[np.argsort(distance, kind="stable")][:OF_CLUSTER]
        clusters.append({
            "share": len(cluster) / len(sample),
            "mean": mean_map(mean, size, cells),
            "pictures": [drawn(int(n)) for n in nearest],
        })  # fmt: skip
    sure = sorted(label.sure, reverse=True)
    drawn_empty = sure[:EMPTY] if photos else []  # without the photos, all would be black
    return {
        "label": label.label,
        "photos": label.photos,
        "count": label.count,
        "empty": label.empty,
        "empty_pictures": [
            {
                "url": overlay(predictions, predictions.at(kept.place), label.index),
                "id": kept.id,
                "probability": kept.probability,
            }
            for kept in drawn_empty
        ],
        "empty_names": [kept.id for kept in sure[len(drawn_empty) :]],
        "sampled": len(sample),
        "mean": mean_map(label.mean, size, cells),
        "clusters": clusters,
        "unlike": [drawn(int(n)) for n in groups.unlike[:UNLIKE]],
    }
