"""Rates of a model in groups of images, and the differences between groups."""

from typing import Any, Dict, List, Sequence, Tuple

import torch

from .bootstrap import FEWEST_PEOPLE, Estimate, People

#: Smallest number of cases for a rate.
FEWEST_CASES = 10


def group_rows(
    truth: torch.Tensor,
    answers: torch.Tensor,
    labels: Sequence[str],
    people: People,
    groups: Sequence[str],
    shown: Sequence[str],
) -> List[Dict[str, Any]]:
    """Compare the rates of images that have a group's label with those of the other images.

    Args:
        truth: True labels, bool (N, K).
        answers: Predicted labels, bool (N, K).
        labels: Names of the K labels.
        people: Bootstrap over the people on the images.
        groups: Labels that define a group each: the images that have the label.
        shown: Labels whose predictions are compared.

    Returns:
        A row for each group and label, with the true-positive rate (of images that have the label)
        and the false-positive rate (of images that lack it). Each rate has ``yes`` (in the group)
        and ``no`` (outside) with value, interval, cases and people, and ``difference``, yes less
        no. A rate of fewer than :data:`FEWEST_CASES` cases or :data:`FEWEST_PEOPLE` people is None.
        If all cases of a side have the same prediction, neither this side nor the difference has an
        interval.
    """
    truth, answers = truth.bool(), answers.bool()  # integers would be indices
    rows = []
    for group in groups:
        member = truth[:, labels.index(group)]
        for label in shown:
            place = labels.index(label)
            row: Dict[str, Any] = {"group": group, "label": label}
            for name, cases in (
                ("true_positive_rate", truth[:, place]),
                ("false_positive_rate", ~truth[:, place]),
            ):
                row[name] = _compared(answers[:, place], cases, member, people)
            rows.append(row)
    return rows


def _compared(
    answers: torch.Tensor, cases: torch.Tensor, member: torch.Tensor, people: People
) -> Dict[str, Any]:
    """Return the rate of yes among the cases, in the group and outside, and the difference."""
    (yes, values), (no, others) = (
        _rate(answers, cases & side, people) for side in (member, ~member)
    )
    difference = Estimate(None, None, None)
    if yes["value"] is not None and no["value"] is not None:
        difference = people.estimate(values - others)
        if yes["low"] is None or no["low"] is None:
            difference = Estimate(difference.value, None, None)
    return {"yes": yes, "no": no, "difference": difference.as_json()}


def _rate(
    answers: torch.Tensor, cases: torch.Tensor, people: People
) -> Tuple[Dict[str, Any], torch.Tensor]:
    """Return the rate of yes among the cases, and its values of all resamples, (1 + R,)."""
    hits, all_cases = people.sums(torch.stack([answers & cases, cases], 1)).unbind(1)
    values, number, persons = hits / all_cases, int(cases.sum()), people.number_of(cases)
    few = number < FEWEST_CASES or persons < FEWEST_PEOPLE
    found = Estimate(None, None, None) if few else people.estimate(values, persons)
    return found.as_json(cases=number, people=persons), values
