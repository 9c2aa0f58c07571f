"""Measure where the maps of a zoo's model lie and which of them is best; store both in its config.

    SE_ZOO_DATA=/path/to/data python -m tools.measure_offset resnet18_slim_celeba
    SE_ZOO_DATA=/path/to/data python -m tools.measure_offset tf_efficientnet_lite0_in1k

Run time: two to five minutes on two cores. Result: `hub_cards/<name>/offset.json`, with a check on
part masks for face models, and `map_offset` and `map_method` in `hub_cards/<name>/hub/config.json`.
Package the model again afterwards (`tools/package_zoo.py`).

Photos are explained beside their mirror images (`se_zoo.measure_offset`). CelebA models get images
of the validation part, mirrored left to right only, because they never saw a face upside down.
Their vertical offset is a share of the horizontal one: all of it, unless part masks say that
another share is better, beyond the interval. The masks are of images of CelebA's training part that
show nobody of the sample's training part.

The default map of a face model is the class-gate map, unless another one matches the annotated
boxes of CelebA's validation part better, beyond the interval. That of a model whose classes exclude
each other is the rival map (docs/evidence.md).
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from benchmarks.face_cases import celeba_cases, celeba_part_cases
from benchmarks.map_cases import CaseSet, read_images
from benchmarks.map_report import Bootstrap
from se_zoo import measure_offset
from se_zoo.explanations import explain
from se_zoo.explanations.maps import at_input_size
from se_zoo.explanations.quality.regions import pixel_average_precision
from se_zoo.files import write_json
from se_zoo.models.load_model import load_model
from se_zoo.models.pretrained.fetch import WEIGHTS_NAME
from se_zoo.models.pretrained.manifest import cards_folder, hub_folder, sha256_of
from se_zoo.provenance import provenance

#: Photos to explain, and as many others on which the stored offset is checked. The vertical offset
#: of the ImageNet model differs by 1.3 px between two sets of 200 of its photos, so it takes more.
PHOTOS, PHOTOS_OF_OBJECTS = 200, 500
#: Resamples of an interval.
RESAMPLES = 1000
#: Maps that may be the default of a face model. The first one is, unless another is better.
CANDIDATES = ("class_gate", "contribution", "affinity", "support")
#: Images of the validation part on which it is chosen, and most cases of an attribute.
BOXED_IMAGES, MOST = 2000, 24
#: Shares of the horizontal offset that a face model's vertical one may be, the usual one first.
SHARES = (1.0, 0.0, 0.25, 0.5, 0.75, 1.25)
#: Map by which the share is chosen: that which every model has.
NEUTRAL = "contribution"


def measure(name: str, data: Path, made: Dict[str, Any]) -> Dict[str, Any]:
    """Measure a model's offset and return the content of ``offset.json``.

    Args:
        name: Name of the model, such as ``resnet18_slim_celeba``.
        data: Folder of the sample data.
        made: Where the figures come from, see :func:`~se_zoo.provenance.provenance`.
    """
    faces = name.endswith("_celeba")
    file = data / ("celeba46k/valid.parquet" if faces else "imagenet_sample/train.parquet")
    photos, _ = read_images(file)
    count = PHOTOS if faces else PHOTOS_OF_OBJECTS
    order = random.Random(0).sample(range(len(photos)), 2 * count)
    measured_on, checked_on = ([photos[i] for i in part] for part in (order[:count], order[count:]))
    model = load_model(f"local-dir:{hub_folder(name)}")
    model.map_offset = (0.0, 0.0)
    found = measure_offset(model, measured_on, vertical=not faces)
    again = measure_offset(model, checked_on, vertical=not faces)
    offset, of_faces = found.offset, {"default_map": {"method": "rivals"}}
    if faces:
        offset, of_faces = measure_faces(name, found.offset[0])
    return {
        **made,
        "model": name,
        "weights_sha256": sha256_of(hub_folder(name) / WEIGHTS_NAME),
        "data": "CelebA's validation part" if faces else "photos of ImageNet-1k",
        "images": found.images,
        "offset": list(offset),
        "horizontal": found.horizontal._asdict(),
        "vertical": None if found.vertical is None else found.vertical._asdict(),
        **of_faces,
        "other_images": {
            "offset": list(again.offset),
            "horizontal": again.horizontal._asdict(),
            "vertical": None if again.vertical is None else again.vertical._asdict(),
        },
    }


def measure_faces(name: str, x: float) -> Tuple[Tuple[float, float], Dict[str, Any]]:
    """Return the offset of a face model, (x, y) in pixels, and what was measured on labelled faces.

    Args:
        name: Name of the model.
        x: Its horizontal offset.
    """
    source = f"local-dir:{hub_folder(name)}"
    masked = celeba_part_cases(source, ("train",))
    down = choose(masked, {f"{share:g}": (NEUTRAL, (x, round(share * x, 2))) for share in SHARES})
    offset = (x, round(float(down["chosen"]) * x, 2))
    boxed = celeba_cases(source, BOXED_IMAGES, MOST, "valid")
    maps = choose(boxed, {method: (method, offset) for method in CANDIDATES})
    method = maps.pop("chosen")
    return offset, {
        "down": {"data": "celeba_parts", "method": NEUTRAL, **down},
        "default_map": {"data": "CelebA's validation part", "method": method, **maps},
        "masks": {"data": "celeba_parts", **check_masks(masked, offset, method)},
    }


def choose(found: CaseSet, tried: Dict[str, Tuple[str, Tuple[float, float]]]) -> Dict[str, Any]:
    """Return which of several maps is best: the first, unless the interval says that another is.

    Args:
        found: Faces with regions.
        tried: Method and offset of each map, by its name.

    Returns:
        The name of the best one, and the average precision of the pixels of all.
    """
    scores: Dict[str, Dict[str, float]] = {}
    for method in dict.fromkeys(method for method, _ in tried.values()):
        offsets = {how: offset for how, (name, offset) in tried.items() if name == method}
        scores.update(zip(offsets, scored(found, method, list(offsets.values())), strict=True))
    resampled, (first, *others) = Bootstrap(found, RESAMPLES), scores
    means = {how: resampled.mean("pixel_ap", table).mean for how, table in scores.items()}
    gains = {how: _difference(resampled, scores[how], scores[first]) for how in others}
    better = [how for how, gain in gains.items() if gain and (gain[1] or 0) > 0]
    return {
        "chosen": max(better, key=lambda how: means[how], default=first),
        "images": len(set(found.images)), "cases": len(found.cases.images),
        "pixel_ap": means, f"less_{first}": gains,
    }  # fmt: skip


def check_masks(found: CaseSet, offset: Tuple[float, float], method: str) -> Dict[str, Any]:
    """Return how well the maps of a face model lie on part masks, unmoved and moved.

    Args:
        found: Faces with part masks.
        offset: The offset, (x, y) in pixels.
        method: The maps.
    """
    moves = {"unmoved": (0.0, 0.0), "sideways": (offset[0], 0.0), "both": offset}
    scores = dict(zip(moves, scored(found, method, list(moves.values())), strict=True))
    resampled = Bootstrap(found, RESAMPLES)
    return {
        "method": method, "images": len(set(found.images)), "cases": len(found.cases.images),
        **{how: resampled.mean("pixel_ap", table).mean for how, table in scores.items()},
        "gain": _difference(resampled, scores["both"], scores["unmoved"]),
    }  # fmt: skip


def scored(
    found: CaseSet, method: str, offsets: Sequence[Tuple[float, float]]
) -> List[Dict[str, float]]:
    """Return the pixel average precision of each case, by its number, for each offset."""
    cases, tables = found.cases, [dict[str, float]() for _ in offsets]
    assert cases.regions is not None
    for some in torch.arange(len(cases.images)).split(32):
        explained = explain(found.model, cases.images[some], cases.targets[some], method)
        known = None if cases.known is None else cases.known[some]
        for table, offset in zip(tables, offsets, strict=True):
            place = explained.placement._replace(offset=offset)
            maps = at_input_size(explained.raw, tuple(cases.images.shape[2:]), place)
            values = pixel_average_precision(maps, cases.regions[some], known)
            table.update(zip(map(str, some.tolist()), values.tolist(), strict=True))
    return tables


def _difference(
    resampled: Bootstrap, table: Dict[str, float], other: Dict[str, float]
) -> Optional[List[Optional[float]]]:
    """Return mean, lower and upper end of a difference; None without cases."""
    found = resampled.difference("pixel_ap", table, other)
    return None if found is None else [found.mean, found.low, found.high]


def store(name: str, found: Dict[str, Any]) -> None:
    """Write the figures beside the card, and offset and default map into the packaged config."""
    write_json(cards_folder() / name / "offset.json", found)
    config_file = hub_folder(name) / "config.json"
    config = json.loads(config_file.read_text("utf-8"))
    own = {"map_offset": found["offset"], "map_method": found["default_map"]["method"]}
    config["model_args"] = {**config["model_args"], **own}
    write_json(config_file, config)


def main() -> None:
    """Measure and store the models named on the command line."""
    root = os.environ.get("SE_ZOO_DATA")
    if not root or len(sys.argv) < 2:
        raise SystemExit("set SE_ZOO_DATA, and name models of the zoo")
    made = provenance()  # before the first model: storing it changes the checkout
    for name in sys.argv[1:]:
        found = measure(name, Path(root), made)
        store(name, found)
        print(name, found["offset"], "on other images", found["other_images"]["offset"], flush=True)
        print("default map:", found["default_map"], flush=True)


if __name__ == "__main__":
    main()
