"""What a model gets right and wrong in groups of people, and how far the groups differ."""

from typing import Any, Dict, List, Sequence, Tuple

import torch

from .bootstrap import FEWEST_PEOPLE, Estimate, People

#: A rate of fewer cases is not given.
FEWEST_CASES = 10


def group_rows(
    truth: torch.Tensor,
    answers: torch.Tensor,
    labels: Sequence[str],
    people: People,
    groups: Sequence[str],
    shown: Sequence[str],
) -> List[Dict[str, Any]]:
    """Compare images that have a label with those that lack it.

    Args:
        truth: bool (N, K).
        answers: bool (N, K).
        labels: Names of the K labels.
        people: Who is on the images.
        groups: Labels that make groups: the images that have it, and the others.
        shown: Labels whose answers are compared.

    Returns:
        A row for each group and label, with the true-positive rate (of images that have the label)
        and the false-positive rate (of those that lack it): each with ``yes`` and ``no`` (value,
        interval, cases, people) and the ``difference`` yes less no. A rate of fewer than
        :data:`FEWEST_CASES` cases or :data:`FEWEST_PEOPLE` people is None; where all cases of a
        side were answered alike, neither it nor the difference has an interval.
    """
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
    """The rate of yes among the cases, in the group and outside of it, and the difference."""
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
    """Rate of yes among the cases, and its values (1 + R,)."""
    hits, all_cases = people.sums(torch.stack([answers & cases, cases], 1)).unbind(1)
    values, number, persons = hits / all_cases, int(cases.sum()), people.number_of(cases)
    few = number < FEWEST_CASES or persons < FEWEST_PEOPLE
    found = Estimate(None, None, None) if few else people.estimate(values, persons)
    return found.as_json(cases=number, people=persons), values
