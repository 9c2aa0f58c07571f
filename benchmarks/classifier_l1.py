"""Measure what an L1 penalty on the classifier does to the bundled model's maps.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.classifier_l1

Run time: 20 minutes on one core. Each run trains the head of the bundled model on, on CelebA's
training part, as `recipes/squeeze_only.py --run.init` does, but on features that are averaged over
the grid: for a head of average pooling and a linear layer the logits are the same, and the cache is
small. Maps are scored on CelebA images with part masks, on the cases that the bundled model
predicts. Scores are means over the seeds; the intervals of differences to the first penalty are
paired, over images.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
import tyro

from benchmarks.face_cases import celeba_part_cases
from benchmarks.map_cases import CaseSet, sample
from benchmarks.map_report import Bootstrap
from se_zoo.data import DataConfig
from se_zoo.data.celeba import CELEBA_IGNORE
from se_zoo.explanations import quality
from se_zoo.explanations.quality.cases import draw
from se_zoo.files import write_json
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES
from se_zoo.models.load_model import load_model
from se_zoo.models.pretrained.manifest import hub_folder
from se_zoo.provenance import provenance
from se_zoo.train import Config, ModelConfig, OptimConfig, RunConfig, train
from se_zoo.train.head_only import HeadTrainer

MODEL = "resnet18_slim_celeba"
METHODS = ("contribution", "class_gate")
#: Measures of :func:`scores_of`.
MEASURES = ("pixel_ap", "pointing", "energy")


@dataclass(frozen=True)
class Measure:
    """Options of the measurement."""

    penalties: Tuple[float, ...] = (0.0, 0.003)
    """Values of --optim.l1-classifier; the others are compared with the first."""
    seeds: Tuple[int, ...] = (0, 1)
    """Seeds of the order of the images."""
    images: int = 14_000
    """Training images."""
    epochs: int = 15
    """Epochs of each run."""
    output: Path = Path("runs/classifier_l1")
    """Folder of the runs; finished ones are not repeated."""
    resamples: int = 2000
    """Resamples of the bootstrap."""


class PooledTrainer(HeadTrainer):
    """A run on cached features that are averaged over the grid."""

    def features_of(self, model: Any, batch: torch.Tensor) -> torch.Tensor:
        """Return the features of a batch, (B, C, 1, 1)."""
        return super().features_of(model, batch).mean((2, 3), keepdim=True)


def train_head(given: Measure, penalty: float, seed: int) -> Path:
    """Train a head and return the run's folder; a finished run is not repeated."""
    output = given.output / f"{penalty:g}-{seed}"
    if (output / "summary.json").is_file():
        return output
    done = [f for f in given.output.glob("*/features") if (f.parent / "summary.json").is_file()]
    if done and not output.exists():  # of the same backbone and images
        shutil.copytree(done[0], output / "features")
    data = DataConfig(
        path=str(sample("celeba46k")), attributes=CELEBA_ATTRIBUTES, ignore=CELEBA_IGNORE,
        splits=("train", "valid", "valid"), limit=given.images,
    )  # fmt: skip
    optim = OptimConfig(epochs=given.epochs, batch_size=64, lr=2e-3, ema_decay=0.995)
    run = RunConfig(output=output, init=hub_folder(MODEL), channels_last=False, seed=seed)
    model = ModelConfig("resnet18_slim_sehead")
    config = Config(data, model, optim=replace(optim, l1_classifier=penalty), run=run)
    return train(config, "celeba", PooledTrainer, last=False)


def scores_of(model: torch.nn.Module, found: CaseSet, method: str) -> Dict[str, List[float]]:
    """Return where a model's maps lie: the scores of every case, by measure."""
    scores: Dict[str, List[float]] = {name: [] for name in MEASURES}
    for start in range(0, len(found.groups), 32):
        cases = found.cases.some(range(start, min(start + 32, len(found.groups))))
        drawn = draw(model, cases, method)
        assert cases.regions is not None
        where = cases.regions, cases.known
        hits = quality.pointing_game(drawn.raw, cases.regions, known=cases.known)
        energy = quality.energy_in_region(drawn.heatmap, *where).nan_to_num(0.0)
        precision = quality.pixel_average_precision(drawn.raw, *where)
        for name, values in zip(MEASURES, (precision, hits.float(), energy), strict=True):
            scores[name] += values.tolist()
    return scores


def channels_of_most(weight: torch.Tensor, sigma: torch.Tensor) -> float:
    """Return the mean share of channels that hold 90 % of a class's ``|W| sigma``.

    Args:
        weight: The classifier's, (K, C).
        sigma: Standard deviation of each gated channel, (C,).
    """
    sizes = (weight.abs() * sigma).sort(1, descending=True)[0]
    reached = sizes.cumsum(1) / sizes.sum(1, keepdim=True)
    return float(((reached < 0.9).sum(1) + 1).double().mean() / weight.shape[1])


@torch.no_grad()
def facts_of(folder: Path) -> Dict[str, float]:
    """Return a run's validation score, and how few channels its classifier uses."""
    import numpy as np

    model = load_model(f"local-dir:{folder / 'export'}")
    features = torch.from_numpy(np.load(folder / "features" / "valid.npy")).float()[:, :, 0, 0]
    sigma = (features * model.se.excite(features)).std(0)
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    return {
        "average_precision": summary["valid"]["average_precision"],
        "channels": channels_of_most(model.get_classifier().weight, sigma),
        "gate_alone": summary["gate_alone"]["alone"],
    }


def main(given: Measure) -> None:
    """Train all heads, print the table, and write ``figures.json`` beside the runs."""
    made, rows = provenance(), []
    runs = {p: [train_head(given, p, s) for s in given.seeds] for p in given.penalties}
    found = celeba_part_cases(f"se_zoo/{MODEL}", ("train", "valid", "test"))
    bootstrap, first = Bootstrap(found, given.resamples), {}
    for penalty, folders in runs.items():
        facts = [facts_of(folder) for folder in folders]
        means = {k: sum(f[k] for f in facts) / len(facts) for k in facts[0]}
        row: Dict[str, Any] = {"penalty": penalty, **means}
        for method in METHODS:
            each = [
                scores_of(load_model(f"local-dir:{f / 'export'}"), found, method) for f in folders
            ]
            for name in MEASURES:
                values = torch.tensor([e[name] for e in each], dtype=torch.float64).mean(0)
                table = {str(n): v for n, v in enumerate(values.tolist())}
                interval = bootstrap.mean(name, table)
                less = bootstrap.difference(name, table, first.setdefault((method, name), table))
                assert less is not None
                row[f"{method} {name}"] = interval.mean
                row[f"{method} {name} difference"] = [less.mean, less.low, less.high]
        rows.append(row)
        print(json.dumps(row, indent=2), flush=True)
    write_json(given.output / "figures.json", {**made, "cases": len(found.groups), "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
