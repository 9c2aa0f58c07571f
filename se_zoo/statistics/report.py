"""All figures of a multi-label model on one split, as its card shows them."""

from typing import Any, Dict, Sequence

import torch

from .bootstrap import FEWEST_PEOPLE, People
from .calibration import calibration_error
from .groups import FEWEST_CASES, group_rows
from .precision import weighted_average_precision
from .rates import accuracy_of, balanced_accuracy_of, confusion, f1_of

_BINS = 15
_RATES = {"accuracy": accuracy_of, "balanced_accuracy": balanced_accuracy_of, "f1": f1_of}


def describe(
    truth: torch.Tensor,
    logits: torch.Tensor,
    answers: torch.Tensor,
    thresholds: Sequence[float],
    labels: Sequence[str],
    people: People,
    groups: Sequence[str] = (),
    shown: Sequence[str] = (),
) -> Dict[str, Any]:
    """Return the figures of a split, every one of a resample over people with its interval.

    Args:
        truth: bool (N, K).
        logits: (N, K).
        answers: What the model says at the thresholds, bool (N, K).
        thresholds: K probabilities.
        labels: Names of the K labels.
        people: Who is on the images.
        groups: See :func:`group_rows`.
        shown: See :func:`group_rows`.

    Returns:
        JSON's own types: ``figures`` (means over the labels, at one half), ``at_thresholds``,
        ``majority`` (always the most frequent answer), ``labels``, ``groups``, ``reliability``.
        Labels that no image has are left out of the means of F1 and average precision.
    """
    half = {n: rate(people.sums(confusion(truth, logits > 0))) for n, rate in _RATES.items()}
    tuned = {n: rate(people.sums(confusion(truth, answers))) for n, rate in _RATES.items()}
    half["average_precision"] = _precisions(truth, logits, people)
    share = truth.double().mean(0)
    probabilities = logits.double().sigmoid()
    errors = calibration_error(truth, probabilities, _BINS)
    own = {name: people.estimates(half[name]) for name in half if name != "f1"}
    own["f1"] = people.estimates(tuned["f1"])
    worst = int(errors.argmax())
    return {
        "confidence": people.confidence,
        "resamples": people.resamples,
        "seed": people.seed,
        "figures": _means(half, people),
        "at_thresholds": _means(tuned, people),
        "majority": {
            "accuracy": _rounded(torch.maximum(share, 1 - share).mean()),
            "balanced_accuracy": _rounded(_constant(share).mean()),
        },
        "labels": {
            label: {
                "prevalence": _rounded(share[k]),
                "threshold": float(thresholds[k]),
                **{name: column[k].as_json() for name, column in own.items()},
                "calibration_error": _rounded(errors[k]),
            }
            for k, label in enumerate(labels)
        },
        "groups": {
            "fewest_cases": FEWEST_CASES,
            "fewest_people": FEWEST_PEOPLE,
            "rows": group_rows(truth, answers, labels, people, groups, shown),
        },
        "reliability": {
            "bins": _BINS,
            "error": _rounded(calibration_error(truth.flatten(), probabilities.flatten(), _BINS)),
            "worst_label": labels[worst],
            "worst_error": _rounded(errors[worst]),
        },
    }


def _rounded(value: torch.Tensor) -> float:
    return round(value.item(), 5)


def _means(values: Dict[str, torch.Tensor], people: People) -> Dict[str, Any]:
    """Means over the labels, of values (1 + R, K)."""
    return {n: people.estimate(found.nanmean(1)).as_json() for n, found in values.items()}


def _constant(share: torch.Tensor) -> torch.Tensor:
    """Balanced accuracy of always one answer: one half, or one where all images agree."""
    return torch.where((share > 0) & (share < 1), 0.5, 1.0)


def _precisions(truth: torch.Tensor, logits: torch.Tensor, people: People) -> torch.Tensor:
    """Average precision of every label, (1 + R, K)."""
    weights = people.weights()
    found = [
        weighted_average_precision(truth[:, k], logits[:, k], weights)
        for k in range(truth.shape[1])
    ]
    return torch.stack(found, 1)
