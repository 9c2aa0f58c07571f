"""Figures of the predictions for a split, with torchmetrics, over all processes."""

import warnings
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryAveragePrecision,
    BinaryStatScores,
    MulticlassAccuracy,
    MulticlassAveragePrecision,
    MultilabelAveragePrecision,
    MultilabelStatScores,
)

from ..errors import InvalidInputError
from ..statistics import (
    THRESHOLDS,
    accuracy_of,
    balanced_accuracy_of,
    counts_at,
    f1_of,
    tally,
)

#: Average precision is exact up to this number of predictions, which are then all kept in memory;
#: beyond, it is computed at 200 thresholds.
_EXACT_LIMIT = 20_000_000


def metric_names(labels: int, multi_label: bool) -> Tuple[str, ...]:
    """Return the metrics that may select the best weights of a run."""
    names = ("balanced_accuracy", "accuracy", "average_precision")
    return names if multi_label or labels <= 5 else (*names, "top5_accuracy")


class _Tally(Metric):
    """Counts that give the answers at every threshold; see :func:`se_zoo.statistics.tally`."""

    counts: torch.Tensor

    def __init__(self, labels: int):
        super().__init__()
        counts = torch.zeros(2, labels, len(THRESHOLDS) + 1, dtype=torch.long)
        self.add_state("counts", counts, dist_reduce_fx="sum")

    def update(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch: logits (B, K), targets (B, K) of 0 and 1."""
        self.counts += tally(logits, targets)

    def compute(self) -> torch.Tensor:
        """Return the counts over all processes."""
        return self.counts


class _ClassCounts(Metric):
    """Hits, answers and samples of each class; torchmetrics' own counts take K * K numbers."""

    counts: torch.Tensor

    def __init__(self, labels: int):
        super().__init__()
        self.add_state("counts", torch.zeros(3, labels, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, chances: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch: probabilities (B, K), targets (B,)."""
        answers, labels = chances.argmax(1), self.counts.shape[1]
        kinds = (answers[answers == targets], answers, targets)
        self.counts += torch.stack([torch.bincount(kind, minlength=labels) for kind in kinds])

    def compute(self) -> torch.Tensor:
        """Return tp, fp, tn, fn and support of each class, (K, 5), over all processes."""
        hits, answers, samples = self.counts
        wrong, missed = answers - hits, samples - hits
        rest = samples.sum() - hits - wrong - missed
        return torch.stack([hits, wrong, rest, missed, samples], 1)


class Scores:
    """Collects the predictions of one evaluation.

    Args:
        labels: Names of the classes or attributes, K of them.
        multi_label: Whether they are independent attributes.
        samples: Size of the split.
        device: The device of the predictions.

    Attributes:
        tally: Counts of a multi-label split, to choose thresholds with; None for other splits.
    """

    labels: Sequence[str]
    multi_label: bool
    metrics: Any

    def __init__(self, labels: Sequence[str], multi_label: bool, samples: int, device: Any):
        self.labels, self.multi_label = labels, multi_label
        count = len(labels)
        thresholds = None if samples * count <= _EXACT_LIMIT else 200
        metrics: Dict[str, Any]
        if multi_label and count == 1:  # which torchmetrics' multi-label metrics refuse
            metrics = {
                "counts": BinaryStatScores(),
                "precision": BinaryAveragePrecision(thresholds=thresholds),
            }
        elif multi_label:
            metrics = {
                "counts": MultilabelStatScores(count, average=None),
                "precision": MultilabelAveragePrecision(count, average=None, thresholds=thresholds),
            }
        else:
            metrics = {
                "counts": _ClassCounts(count),
                "precision": MulticlassAveragePrecision(count, average=None, thresholds=thresholds),
            }
            if count > 5:
                metrics["top5"] = MulticlassAccuracy(count, top_k=5, average="micro")
        # Without compute groups, in which metrics would share a state.
        self.metrics = MetricCollection(metrics, compute_groups=False).to(device)
        self.tally: Optional[_Tally] = _Tally(count).to(device) if multi_label else None

    def update(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch: logits (B, K); targets (B,) long or (B, K) of 0 and 1."""
        logits = logits.float()
        if logits.isnan().any():
            raise InvalidInputError(
                "the model's logits are NaN, even if its loss is not yet; try a lower --optim.lr, "
                "--optim.clip-grad 1, or --run.mixed-precision no."
            )
        if self.tally is not None:
            self.tally.update(logits, targets)
        # Probabilities, because torchmetrics would mistake logits in [0, 1] for probabilities.
        chances = logits.sigmoid() if self.multi_label else logits.softmax(1)
        self.metrics.update(chances, targets.long())

    def compute(self) -> Dict[str, Any]:
        """Return the figures over all processes, each in [0, 1], rounded to five decimals."""
        with warnings.catch_warnings():
            # A class without samples has no average precision; the mean leaves it out.
            warnings.filterwarnings("ignore", "No positive samples", UserWarning)
            found = self.metrics.compute()
        # First to the CPU: Apple's GPUs (MPS) have no double.
        counts = found["counts"].cpu().double().view(-1, 5)  # (K, 5): tp, fp, tn, fn, support
        tp, fp, tn, fn, _ = counts.unbind(1)
        samples = tp + fp + tn + fn
        recall = tp / (tp + fn)
        present = (tp + fn) > 0
        average_precision = found["precision"].cpu().double().view(-1)[present].nanmean()
        result: Dict[str, Any] = {"average_precision": float(average_precision)}
        if self.multi_label:
            answers = counts[:, :4]
            result["accuracy"] = float(accuracy_of(answers).mean())
            result["balanced_accuracy"] = float(balanced_accuracy_of(answers).mean())
            result["majority_accuracy"] = float((torch.maximum(tp + fn, tn + fp) / samples).mean())
            both = ((tp + fn) > 0) & ((tn + fp) > 0)
            result["majority_balanced_accuracy"] = float(torch.where(both, 0.5, 1.0).mean())
            result["label_accuracy"] = self._named(accuracy_of(answers))
            result["label_balanced_accuracy"] = self._named(balanced_accuracy_of(answers))
        else:
            result["accuracy"] = float(tp.sum() / samples[0])
            result["balanced_accuracy"] = float(recall[present].mean())
            result["majority_accuracy"] = float((tp + fn).max() / samples[0])
            result["majority_balanced_accuracy"] = 1 / int(present.sum())
            if "top5" in found:
                result["top5_accuracy"] = float(found["top5"])
            result["label_recall"] = self._named(recall)
        return {k: round(v, 5) if isinstance(v, float) else v for k, v in result.items()}

    def _named(self, values: torch.Tensor) -> Dict[str, Any]:
        """Return values by label."""
        return _named(self.labels, values)


def thresholded(
    counts: torch.Tensor, thresholds: Sequence[float], labels: Sequence[str]
) -> Dict[str, Any]:
    """Return the figures of a multi-label split with a threshold for each label, in [0, 1].

    Args:
        counts: The split's tally.
        thresholds: One threshold for each label.
        labels: The names of the labels.

    Returns:
        ``accuracy``, ``balanced_accuracy`` and ``f1``, means over the labels, and ``label_f1``. The
        mean F1 is over the labels that some sample has, None if there are none.
    """
    answers = counts_at(counts, thresholds)
    rates = {"accuracy": accuracy_of, "balanced_accuracy": balanced_accuracy_of, "f1": f1_of}
    means = torch.stack([rate(answers).nanmean() for rate in rates.values()])
    return {**_named(list(rates), means), "label_f1": _named(labels, f1_of(answers))}


def _named(names: Sequence[str], values: torch.Tensor) -> Dict[str, Any]:
    """Return rounded values by name; None for NaN."""
    rounded = [None if v != v else round(v, 5) for v in values.tolist()]
    return dict(zip(names, rounded, strict=True))
