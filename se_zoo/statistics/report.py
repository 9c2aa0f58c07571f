"""All figures of a multi-label model on one split, for its card."""

from typing import Any, Dict, List, Sequence

import torch

from .bootstrap import FEWEST_PEOPLE, Estimate, People
from .calibration import calibration_error
from .groups import FEWEST_CASES, group_rows
from .precision import average_precisions
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
    """Return all figures of a split, each with its interval over people where it has one.

    Args:
        truth: True labels, bool (N, K).
        logits: (N, K).
        answers: Labels predicted at the thresholds, bool (N, K).
        thresholds: Probability above which each of the K labels is predicted.
        labels: Names of the K labels.
        people: Bootstrap over the people on the images.
        groups: See :func:`group_rows`.
        shown: See :func:`group_rows`.

    Returns:
        Figures as types of JSON: ``figures`` (means over the labels, at a threshold of one half),
        ``at_thresholds`` (at the given thresholds), ``majority`` (of always predicting the more
        frequent answer), ``labels``, ``groups`` and ``reliability``. The means of F1 and average
        precision leave out labels that no image has. A label's balanced accuracy has an interval
        only if enough people have the label and enough lack it, F1 and average precision only if
        enough have it; see :data:`FEWEST_PEOPLE`.
    """
    truth, answers = truth.bool(), answers.bool()
    half = {n: rate(people.sums(confusion(truth, logits > 0))) for n, rate in _RATES.items()}
    tuned = {n: rate(people.sums(confusion(truth, answers))) for n, rate in _RATES.items()}
    half["average_precision"] = average_precisions(truth, logits, people.weights())
    share = truth.double().mean(0)
    probabilities = logits.double().sigmoid()
    errors = calibration_error(truth, probabilities, _BINS)
    have, lack = ([people.number_of(c) for c in side.unbind(1)] for side in (truth, ~truth))
    described = {
        "balanced_accuracy": [min(pair) for pair in zip(have, lack, strict=True)],
        "average_precision": have,
    }
    by_label = {n: people.estimates(half[n], described.get(n)) for n in half if n != "f1"}
    by_label["f1"] = people.estimates(tuned["f1"], have)
    return {
        "confidence": people.confidence,
        "resamples": people.resamples,
        "seed": people.seed,
        "figures": _means(half, people),
        "at_thresholds": _means(tuned, people),
        "majority": _majority(share),
        "labels": _label_rows(labels, share, thresholds, by_label, errors),
        "groups": {
            "fewest_cases": FEWEST_CASES,
            "fewest_people": FEWEST_PEOPLE,
            "rows": group_rows(truth, answers, labels, people, groups, shown),
        },
        "reliability": _reliability(truth, probabilities, labels, errors),
    }


def _majority(share: torch.Tensor) -> Dict[str, float]:
    """Return the rates of always predicting the more frequent answer, of label shares (K,)."""
    # Balanced accuracy of one answer is one half, or 1 if all images have that answer.
    balanced = torch.where((share > 0) & (share < 1), 0.5, 1.0)
    return {
        "accuracy": _rounded(torch.maximum(share, 1 - share).mean()),
        "balanced_accuracy": _rounded(balanced.mean()),
    }


def _label_rows(
    labels: Sequence[str],
    share: torch.Tensor,
    thresholds: Sequence[float],
    estimates: Dict[str, List[Estimate]],
    errors: torch.Tensor,
) -> Dict[str, Any]:
    """Return the figures of each label, by its name."""
    return {
        label: {
            "prevalence": _rounded(share[k]),
            "threshold": float(thresholds[k]),
            **{name: column[k].as_json() for name, column in estimates.items()},
            "calibration_error": _rounded(errors[k]),
        }
        for k, label in enumerate(labels)
    }


def _reliability(
    truth: torch.Tensor, probabilities: torch.Tensor, labels: Sequence[str], errors: torch.Tensor
) -> Dict[str, Any]:
    """Return the calibration error of all labels together, and that of the worst label."""
    worst = int(errors.argmax())
    return {
        "bins": _BINS,
        "error": _rounded(calibration_error(truth.flatten(), probabilities.flatten(), _BINS)),
        "worst_label": labels[worst],
        "worst_error": _rounded(errors[worst]),
    }


def _rounded(value: torch.Tensor) -> float:
    return round(value.item(), 5)


def _means(values: Dict[str, torch.Tensor], people: People) -> Dict[str, Any]:
    """Return the means over the labels, of values (1 + R, K)."""
    return {n: people.estimate(found.nanmean(1)).as_json() for n, found in values.items()}
