"""Measure what the bundled model's gate predicts alone, without the features behind it.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.gate_alone

Run time: a minute. The images are evenly spaced over CelebA's validation part. For the gate alone,
features are replaced by their mean over all images; for the features alone, gates are; see
`se_zoo.train.gate_alone`.
"""

from dataclasses import dataclass

import torch
import tyro
from timm.data.config import resolve_data_config

from benchmarks.map_cases import read_images, sample
from benchmarks.maps import evenly_spaced
from se_zoo.models.load_model import load_model
from se_zoo.train.gate_alone import GateAlone, measure_gate_alone
from se_zoo.transform import evaluation_transform


@dataclass(frozen=True)
class Measure:
    """Options of the measurement."""

    model: str = "se_zoo/resnet18_slim_celeba"
    """A model that was trained on CelebA."""
    images: int = 500
    """Number of validation images."""


def measure(given: Measure) -> GateAlone:
    """Return the average precisions of the model and of its gate alone."""
    model = load_model(given.model)
    pictures, table = read_images(sample("celeba46k", "valid.parquet"))
    rows = evenly_spaced(given.images, len(pictures))
    transform = evaluation_transform(resolve_data_config(model=model))
    images = torch.stack([transform(pictures[n]) for n in rows])
    labels = list(model.class_labels())  # type: ignore[arg-type]
    targets = torch.tensor([table[name].to_pylist() for name in labels]).T[rows]
    return measure_gate_alone(model, images, targets)


if __name__ == "__main__":
    found = measure(tyro.cli(Measure, description=__doc__))
    print(
        f"average precision {found.whole:.3f}, gate alone {found.alone:.3f} (keeps "
        f"{found.kept:.0%}), features alone {found.features:.3f}, chance {found.chance:.3f}; "
        f"{found.images} images"
    )
