"""Measure how often the maps of the bundled model point at the part of the face they should.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.face_regions --out regions.json

Run time: about 2 minutes. `regions.json` in the model's folder of hub_cards is shown by its card.

CelebA is aligned, so the parts of the face lie at known places. Cases are test images with an
attribute of known place that the model predicts, too. Pointing is the share of maps whose maximum
lies in the region (Zhang et al., arXiv 1608.00507). Energy is the share of the heatmap inside the
region over the region's share of the area; chance is 1 (Wang et al., Score-CAM, arXiv 1910.01279).
"""

import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import timm
import torch
import tyro
from PIL import Image
from timm.data.config import resolve_data_config

import se_zoo  # registers the models
from benchmarks.face_cases import FACE_BOXES
from benchmarks.map_cases import fraction_region, read_images
from se_zoo.explanations.quality import energy_in_region, pointing_game
from se_zoo.models.pretrained.manifest import manifest
from se_zoo.provenance import provenance
from se_zoo.transform import evaluation_transform


@dataclass(frozen=True)
class Measure:
    """Options of the measurement."""

    model: str = "se_zoo/resnet18_slim_celeba"
    """A model that was trained on CelebA."""
    images: int = 1000
    """Number of test images, from the first on."""
    least: int = 5
    """Attributes with fewer cases do not count in the means."""
    out: Optional[Path] = None
    """Write the figures to this JSON file, too."""


def pointing_and_energy(
    heatmap: torch.Tensor, box: Tuple[float, float, float, float]
) -> Tuple[float, float]:
    """Return whether a heatmap's maximum lies in a box, and the energy there over chance.

    Args:
        heatmap: The heatmap, (H, W).
        box: x0 y0 x1 y1 in fractions of the image.
    """
    region = fraction_region(box, *heatmap.shape)[0][None]
    energy = energy_in_region(heatmap[None], region).nan_to_num()
    return float(pointing_game(heatmap[None], region)), float(energy)


def _load_test_split(folder: Path, images: int) -> Tuple[List[Image.Image], Dict[str, List[bool]]]:
    """Read images and attributes of the sample's test split."""
    pictures, table = read_images(folder / "celeba46k" / "test.parquet", slice(images))
    return pictures, {name: table[name].to_pylist() for name in FACE_BOXES}


def _model_and_images(
    options: Measure,
) -> Tuple[torch.nn.Module, torch.Tensor, Dict[str, List[bool]]]:
    """Load the model, the preprocessed test images (N, 3, H, W) and their attributes."""
    pictures, truth = _load_test_split(Path(os.environ["SE_ZOO_DATA"]), options.images)
    model = timm.create_model(options.model, pretrained=True).eval()
    transform = evaluation_transform(resolve_data_config(model=model))
    return model, torch.stack([transform(p) for p in pictures]), truth


def _measure(options: Measure, method: str) -> Dict[str, Tuple[int, float, float]]:
    """Measure cases, pointing and energy of every attribute with a known region."""
    model, batch, truth = _model_and_images(options)
    figures: Dict[str, List[Tuple[float, float]]] = {name: [] for name in FACE_BOXES}
    for start in range(0, len(batch), 50):
        explanation = se_zoo.explain(model, batch[start : start + 50], list(FACE_BOXES), method)
        probability = explanation.row_probability
        for n, image in enumerate(explanation.image_index.tolist()):
            name = explanation.labels[n]
            if truth[name][start + image] and probability[n] > 0.5:
                figures[name].append(pointing_and_energy(explanation.heatmap[n], FACE_BOXES[name]))
    result = {}
    for name, values in figures.items():
        count = len(values)
        hits, energies = sum(v[0] for v in values), sum(v[1] for v in values)
        result[name] = (count, hits / max(1, count), energies / max(1, count))
    return result


def _summarise(options: Measure, method: str) -> Dict[str, Any]:
    """Return means over the attributes with enough cases, and the figures of each attribute."""
    figures = _measure(options, method)
    counted = [f for f in figures.values() if f[0] >= options.least]
    return {
        "pointing": round(sum(f[1] for f in counted) / len(counted), 3),
        "energy": round(sum(f[2] for f in counted) / len(counted), 2),
        "attributes": len(counted),
        "each": {
            name: {"images": count, "pointing": round(hit, 3), "energy": round(energy, 2)}
            for name, (count, hit, energy) in figures.items()
        },
    }


def _weights_hash(model: str) -> Dict[str, str]:
    """Return the SHA-256 of the weights, if the zoo's manifest has it."""
    entry = manifest().get(model.removeprefix("se_zoo/"))
    return {} if entry is None else {"weights_sha256": entry.sha256["model.safetensors"]}


def _count_rules(options: Measure) -> Dict[str, int]:
    """Count the images for each rule by which channels were selected."""
    model, batch, _ = _model_and_images(options)
    rules: Counter = Counter()
    for part in batch.split(50):
        rules.update(se_zoo.explain(model, part, method="gate").rule)
    return dict(rules)


def main(options: Measure) -> None:
    """Measure three kinds of maps, print the figures, and write them if asked."""
    if "SE_ZOO_DATA" not in os.environ:
        sys.exit("Set SE_ZOO_DATA to the folder that holds celeba46k/test.parquet.")
    report = {m: _summarise(options, m) for m in ("contribution", "gate", "activation")}
    rules = _count_rules(options)
    for method, means in report.items():
        print(
            f"{method}: pointing {means['pointing']:.2f}, energy {means['energy']:.2f} "
            f"({means['attributes']} attributes)"
        )
    for name, each in report["contribution"]["each"].items():
        print(
            f"  {name:<22}{each['images']:>5} images  pointing {each['pointing']:.2f}  "
            f"energy {each['energy']:.2f}"
        )
    print(f"channels selected by: {rules}")
    if options.out is not None:
        settings = {"model": options.model, "images": options.images, "least": options.least}
        origin = {**provenance(), **_weights_hash(options.model)}
        content = {**origin, **settings, "rules": rules, **report}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
