"""Measure what an L1 penalty on the classifier does to the bundled model's maps.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.classifier_l1

Run time: 15 minutes on one core. The SE head of the bundled model is trained anew on CelebA's
training part, with and without `--optim.l1-classifier`, on features that are averaged over the
grid: for a head of average pooling and a linear layer the logits are the same, and 25 epochs take
seconds. Maps are scored on CelebA images with part masks, on the cases that the bundled model
predicts. Scores are means over the seeds; the intervals of differences to the first penalty are
paired, over images.
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
import torch.nn.functional as F
import tyro
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.face_cases import celeba_part_cases
from benchmarks.map_cases import CaseSet, read_images, sample, transform_of
from benchmarks.map_report import Bootstrap
from se_zoo.explanations.quality.cases import draw
from se_zoo.explanations.quality.compare import score_regions
from se_zoo.files import write_json
from se_zoo.models.load_model import load_model
from se_zoo.provenance import provenance
from se_zoo.statistics import average_precisions
from se_zoo.train.classifier_l1 import classifier_l1

METHODS = ("contribution", "class_gate")
#: Measures of :func:`scores_of`.
MEASURES = ("pixel_ap", "pointing", "energy")
_BATCH = 128
#: Features (N, C) and attributes (N, K) of a split.
Split = Tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Measure:
    """Options of the measurement."""

    penalties: Tuple[float, ...] = (0.0, 0.003)
    """Values of --optim.l1-classifier; the others are compared with the first."""
    seeds: Tuple[int, ...] = (0, 1)
    """Seeds of the heads' first weights and of the order of the images."""
    model: str = "se_zoo/resnet18_slim_celeba"
    """A model that was trained on CelebA, with a head of average pooling and a linear layer."""
    train: int = 14_016
    """Training images, from the first on."""
    valid: int = 4_032
    """Validation images, from the first on."""
    epochs: int = 25
    """Epochs of each training."""
    output: Path = Path("runs/classifier_l1")
    """Folder for the figures and the features, which are computed once."""
    resamples: int = 2000
    """Resamples of the bootstrap."""


@torch.no_grad()
def pooled_features(given: Measure, model: Any, split: str, count: int) -> Split:
    """Return the mean features of the first images of a split, from the folder if they are there.

    Args:
        given: The options.
        model: The model.
        split: ``train`` or ``valid``.
        count: Number of images.
    """
    file = given.output / f"{split}-{count}.pt"
    if not file.is_file():
        transform, found = transform_of(model), []
        pictures, table = read_images(sample("celeba46k", f"{split}.parquet"), slice(count))
        for start in range(0, count, 64):
            batch = torch.stack([transform(p) for p in pictures[start : start + 64]])
            found.append(model.forward_features(batch).mean((2, 3)))
        truth = torch.tensor([table[name].to_pylist() for name in model.class_labels()]).T
        given.output.mkdir(parents=True, exist_ok=True)
        torch.save((torch.cat(found), truth.float()), file)
    features, truth = torch.load(file, weights_only=True)
    return features, truth


def train_head(given: Measure, model: Any, split: Split, penalty: float, seed: int) -> Any:
    """Return a copy of the model with a head that was trained anew."""
    torch.manual_seed(seed)
    made, (features, truth) = copy.deepcopy(model), split
    classifier = made.get_classifier()
    for layer in (made.se.fc1, made.se.fc2, classifier):
        layer.reset_parameters()
    decayed = [*made.se.parameters(), *([] if penalty else [classifier.weight])]
    free = [classifier.bias, *([classifier.weight] if penalty else [])]
    groups = [
        {"params": decayed, "weight_decay": 0.05},
        {"params": free, "weight_decay": 0.0},
    ]
    updates = len(features) // _BATCH
    optimizer = torch.optim.AdamW(groups, 3e-3)
    schedule = OneCycleLR(optimizer, 3e-3, total_steps=given.epochs * updates)
    for _ in range(given.epochs):
        for rows in torch.randperm(len(features))[: updates * _BATCH].split(_BATCH):
            batch = features[rows][:, :, None, None]
            loss = F.binary_cross_entropy_with_logits(made.forward_head(batch), truth[rows])
            if penalty:
                loss = loss + penalty * classifier_l1(made, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return made


def scores_of(model: torch.nn.Module, found: CaseSet, method: str) -> Dict[str, List[float]]:
    """Return where a model's maps lie: the scores of every case, by measure."""
    scores: Dict[str, List[float]] = {name: [] for name in MEASURES}
    for start in range(0, len(found.groups), 32):
        cases = found.cases.some(range(start, min(start + 32, len(found.groups))))
        measured = score_regions(cases, draw(model, cases, method))
        for name in MEASURES:
            scores[name] += measured[name]
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
def facts_of(model: Any, split: Split) -> Dict[str, float]:
    """Return a model's average precision, and how few channels its classifier uses."""
    features, truth = split
    logits = model.forward_head(features[:, :, None, None])
    once = torch.ones(1, len(logits), dtype=torch.float64)
    sigma = (features * model.se.excite(features)).std(0)
    return {
        "average_precision": float(average_precisions(truth > 0, logits, once).mean()),
        "channels": channels_of_most(model.get_classifier().weight, sigma),
    }


def main(given: Measure) -> None:
    """Train all heads, print the figures, and write ``figures.json``."""
    made, rows = provenance(), []
    found = celeba_part_cases(given.model, ("train", "valid", "test"))
    model = load_model(given.model)
    train = pooled_features(given, model, "train", given.train)
    valid = pooled_features(given, model, "valid", given.valid)
    bootstrap, first = Bootstrap(found, given.resamples), {}
    for penalty in given.penalties:
        heads = [train_head(given, model, train, penalty, seed) for seed in given.seeds]
        facts = [facts_of(head, valid) for head in heads]
        means = {name: sum(f[name] for f in facts) / len(facts) for name in facts[0]}
        row: Dict[str, Any] = {"penalty": penalty, **means}
        for method in METHODS:
            each = [scores_of(head, found, method) for head in heads]
            for name in MEASURES:
                values = torch.tensor([e[name] for e in each], dtype=torch.float64).mean(0)
                table = {str(n): v for n, v in enumerate(values.tolist())}
                less = bootstrap.difference(name, table, first.setdefault((method, name), table))
                assert less is not None
                row[f"{method} {name}"] = bootstrap.mean(name, table).mean
                row[f"{method} {name}, difference"] = [less.mean, less.low, less.high]
        rows.append(row)
        print(json.dumps(row, indent=2), flush=True)
    write_json(given.output / "figures.json", {**made, "cases": len(found.groups), "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
