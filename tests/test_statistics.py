"""Statistics of multi-label models: by hand, against other libraries, and by simulation."""

from typing import Any, Dict

import numpy as np
import pytest
import torch

from se_zoo.errors import InvalidInputError
from se_zoo.explanations.target_classes import above_threshold
from se_zoo.statistics import (
    FEWEST_CASES,
    FEWEST_PEOPLE,
    THRESHOLDS,
    People,
    accuracy_of,
    balanced_accuracy_of,
    best_thresholds,
    calibration_error,
    confusion,
    counts_at,
    describe,
    f1_of,
    group_rows,
    tally,
    weighted_average_precision,
)

NAN = float("nan")


def chance(*shape: int) -> torch.Tensor:
    """Yes or no at random."""
    return torch.rand(*shape) < 0.4


# Rates


def test_rates_by_hand() -> None:
    """Three of four right answers for the first label; the second has no case, the third only."""
    truth = torch.tensor([[1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1]]).bool()
    answers = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 0]]).bool()
    counts = confusion(truth, answers).sum(0)
    assert counts.tolist() == [[1, 0, 2, 1], [0, 1, 3, 0], [3, 0, 0, 1]]
    assert accuracy_of(counts).tolist() == [0.75, 0.75, 0.75]
    assert balanced_accuracy_of(counts).tolist() == [0.75, 0.75, 0.75]
    expected = torch.tensor([2 / 3, NAN, 6 / 7], dtype=torch.float64)
    torch.testing.assert_close(f1_of(counts), expected, equal_nan=True)


def test_rates_of_integers_are_those_of_bools() -> None:
    truth, answers = chance(30, 2), chance(30, 2)
    assert torch.equal(confusion(truth.long(), answers.long()), confusion(truth, answers))


def test_rates_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    truth, answers = chance(200, 3), chance(200, 3)
    counts = confusion(truth, answers).sum(0)
    for k in range(3):
        pair = truth[:, k].numpy(), answers[:, k].numpy()
        assert accuracy_of(counts)[k].item() == pytest.approx(metrics.accuracy_score(*pair))
        assert f1_of(counts)[k].item() == pytest.approx(metrics.f1_score(*pair))
        balanced = metrics.balanced_accuracy_score(*pair)
        assert balanced_accuracy_of(counts)[k].item() == pytest.approx(balanced)


# Scores


def test_scores_that_are_nan_are_refused() -> None:
    """Sorted, they would be first; binned, last; above no threshold or all."""
    truth, scores = chance(8), torch.rand(8)
    scores[3] = NAN
    for ask in (
        lambda: weighted_average_precision(truth, scores, torch.ones(1, 8).double()),
        lambda: calibration_error(truth, scores),
        lambda: tally(scores[:, None], truth[:, None]),
    ):
        with pytest.raises(InvalidInputError, match="a score is NaN"):
            ask()


def test_without_samples_nothing_is_known() -> None:
    truth, scores = torch.ones(0).bool(), torch.ones(0)
    found = weighted_average_precision(truth, scores, torch.ones(3, 0).double())
    assert found.shape == (3,) and found.isnan().all()
    assert calibration_error(truth, scores).isnan()


def test_tensors_are_made_on_the_device_of_the_scores() -> None:
    truth, scores, weights = chance(20), torch.rand(20), torch.ones(1, 20).double()
    with torch.device("meta"):  # where tensors are made that name no device
        precision = weighted_average_precision(truth, scores, weights)
        error = calibration_error(truth, scores)
    assert precision.device.type == error.device.type == "cpu"


# Average precision


def test_average_precision_by_hand() -> None:
    """Right at ranks 1, 3 and 4 of 5; with the second sample left out at 1, 2 and 3 of 4."""
    truth = torch.tensor([1, 0, 1, 1, 0]).bool()
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    weights = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 1], [0, 1, 0, 0, 1]]).double()
    found = weighted_average_precision(truth, scores, weights)
    expected = torch.tensor([(1 + 2 / 3 + 3 / 4) / 3, 1.0, NAN], dtype=torch.float64)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_average_precision_is_scikit_learns_with_ties_and_weights() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    truth, scores = chance(300), torch.randint(0, 40, (300,)) / 40
    weights = torch.randint(0, 4, (6, 300)).double()
    found = weighted_average_precision(truth, scores, weights)
    for value, weight in zip(found, weights, strict=True):
        known = metrics.average_precision_score(truth, scores, sample_weight=weight)
        assert value.item() == pytest.approx(known)


# Calibration


def test_calibration_error_by_hand() -> None:
    """Two bins: 0.1 and 0.3 with one yes of two, 0.9 with a yes."""
    probabilities, truth = torch.tensor([0.1, 0.3, 0.9]), torch.tensor([False, True, True])
    expected = 2 / 3 * abs(0.2 - 0.5) + 1 / 3 * abs(0.9 - 1)
    assert calibration_error(truth, probabilities, 2).item() == pytest.approx(expected)
    assert calibration_error(torch.ones(3).bool(), torch.ones(3)).item() == 0


def test_calibration_error_is_that_of_torchmetrics() -> None:
    calibration = pytest.importorskip("torchmetrics.functional.classification")
    probabilities = torch.rand(500, 2)
    truth = torch.rand(500, 2) < probabilities**2
    found = calibration_error(truth, probabilities)
    for k in range(2):
        column = probabilities[:, k].contiguous(), truth[:, k].contiguous()
        known = calibration.binary_calibration_error(*column, n_bins=15)
        assert found[k].item() == pytest.approx(known.item(), abs=1e-6)


# Thresholds


def test_threshold_has_the_largest_f1_of_all() -> None:
    logits, truth = torch.randn(400, 3), chance(400, 3)
    logits += truth * torch.tensor([2.0, 1.0, 0.3]) - torch.tensor([3.0, 0.0, -1.0])
    counts = tally(logits, truth)
    found = best_thresholds(counts)
    chosen = f1_of(counts_at(counts, found))
    for threshold in THRESHOLDS[::7]:
        answers = above_threshold(logits, [threshold] * 3) > 0
        assert (f1_of(confusion(truth, answers).sum(0)) <= chosen + 1e-12).all()
    assert len(set(found)) == 3 and min(found) > 0.01


def test_counts_at_thresholds_are_those_of_the_model_s_answers() -> None:
    """Also for probabilities that lie on a threshold."""
    edges = torch.tensor(THRESHOLDS, dtype=torch.float32).logit()
    logits = torch.stack([edges, edges.flip(0)], 1)
    truth = chance(*logits.shape)
    counts = tally(logits, truth)
    for pair in ((0.01, 0.99), (0.5, 0.333), (0.724, 0.1)):
        answers = above_threshold(logits, pair) > 0
        expected = confusion(truth, answers).sum(0).long()
        assert counts_at(counts, pair).tolist() == expected.tolist()


def test_tallies_of_parts_add_up() -> None:
    logits, truth = torch.randn(50, 4), chance(50, 4)
    parts = [tally(logits[rows::3], truth[rows::3]) for rows in range(3)]
    assert torch.equal(sum(parts), tally(logits, truth))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probabilities", "positives", "threshold"),
    [
        ([0.2, 0.8], [False, True], 0.5),  # all from 0.2 on do: the nearest to one half
        ([0.6004, 0.9], [False, True], 0.601),
        ([0.1, 0.3006], [False, True], 0.3),
        ([0.2, 0.8], [False, False], 0.5),  # no case
        ([0.2, 0.8], [True, True], 0.199),
        ([0.001, 0.002], [False, True], 0.5),  # beyond all thresholds: nothing is found by any
        ([0.9991, 0.9999], [False, True], 0.5),
    ],
)
def test_of_equal_thresholds_the_nearest_to_one_half(
    probabilities: Any, positives: Any, threshold: float
) -> None:
    logits = torch.tensor(probabilities).logit()[:, None]
    assert best_thresholds(tally(logits, torch.tensor(positives)[:, None])) == (threshold,)


# Intervals


def test_people_are_drawn_with_all_their_images() -> None:
    people = People(["b", "a", "b", "c", "a", "b"], resamples=50)
    weights = people.weights()
    assert weights.shape == (51, 6) and (weights[0] == 1).all()
    assert torch.equal(weights[:, 0], weights[:, 2]) and torch.equal(weights[:, 0], weights[:, 5])
    assert torch.equal(weights[:, 1], weights[:, 4])
    drawn = weights[:, [0, 1, 3]]
    assert (drawn.sum(1) == 3).all() and drawn.std(0).min() > 0.3
    for values in (torch.randn(6), torch.randn(6, 2, 3)):
        expected = torch.einsum("rn,n...->r...", weights, values.double())
        torch.testing.assert_close(people.sums(values), expected)


@pytest.mark.parametrize("ids", [[], ["a", None], [1, None, 2], [1.0, NAN, NAN]])
def test_image_without_a_person_is_refused(ids: Any) -> None:
    with pytest.raises(InvalidInputError, match="every image needs a person"):
        People(ids)


def test_the_same_images_again_make_no_interval_narrower() -> None:
    """Unless they are taken for other people's."""
    truth, answers, ids = chance(80, 1), chance(80, 1), torch.arange(80) // 2
    counts = confusion(truth, answers)
    once = People(ids.tolist()).estimate(accuracy_of(People(ids.tolist()).sums(counts))[:, 0])
    many = counts.repeat(4, 1, 1)
    same = People(ids.repeat(4).tolist())
    assert same.estimate(accuracy_of(same.sums(many))[:, 0]) == once
    others = People(range(320))
    narrow = others.estimate(accuracy_of(others.sums(many))[:, 0])
    assert narrow.high - narrow.low < 0.7 * (once.high - once.low)  # type: ignore[operator]


def test_interval_covers_what_it_promises() -> None:
    """People with five images each and a skill of their own; the truth is the mean skill."""
    rng, ids = np.random.default_rng(0), np.repeat(np.arange(60), 5)
    runs, held = 200, {"people": 0, "images": 0}
    for _ in range(runs):
        right = torch.from_numpy(rng.random((60, 5)) < rng.beta(2, 1, (60, 1))).flatten()
        for by, who in (("people", ids), ("images", np.arange(300))):
            found = People(who.tolist(), resamples=200)
            low, high = found.estimate(found.sums(right[:, None])[:, 0] / 300)[1:]
            held[by] += low <= 2 / 3 <= high  # type: ignore[operator]
    assert 0.9 <= held["people"] / runs <= 0.98
    assert held["images"] / runs < 0.88, "images of one person taken for independent"


def test_seed_decides_the_interval() -> None:
    values = chance(60, 1)
    found = []
    for seed in (0, 0, 1):
        people = People(range(60), resamples=100, seed=seed)
        found.append(people.estimate(people.sums(values)[:, 0] / 60))
    assert found[0] == found[1] and found[0] != found[2]


def test_few_people_have_no_interval() -> None:
    for count in (1, FEWEST_PEOPLE - 1, FEWEST_PEOPLE):
        people = People(torch.arange(40).remainder(count).tolist(), resamples=100)
        found = people.estimate(people.sums(chance(40, 1))[:, 0] / 40)
        assert found.value is not None
        assert (found.low is None) == (found.high is None) == (count < FEWEST_PEOPLE)
    assert people.estimate(torch.full((101,), NAN)) == (None, None, None)


def test_figure_of_a_label_of_few_people_has_no_interval() -> None:
    """Two images each of 60 people; three of them have the first label, all others the second."""
    ids = torch.arange(120) // 2
    truth = torch.stack([ids < 3, ids >= 3, chance(120)], 1)
    logits = torch.randn(120, 3) + truth
    people, labels = People(ids.tolist(), resamples=100), ["rare", "usual", "even"]
    rows = describe(truth, logits, logits > 0.2, [0.55] * 3, labels, people)["labels"]
    figures = ("accuracy", "balanced_accuracy", "average_precision", "f1")
    shown = {n: {key for key in figures if rows[n][key]["low"] is not None} for n in labels}
    assert shown["rare"] == {"accuracy"}
    assert shown["usual"] == {"accuracy", "average_precision", "f1"}
    assert shown["even"] == set(figures)
    assert all(rows["rare"][key]["value"] is not None for key in figures)


# Groups


def groups_of(truth: torch.Tensor, answers: torch.Tensor, people: Any) -> Dict[str, Any]:
    row = group_rows(truth, answers, ["hat", "old"], People(people, 200), ["old"], ["hat"])[0]
    assert (row["group"], row["label"]) == ("old", "hat")
    return row


def test_groups_by_hand() -> None:
    """20 images a group, half of them with a hat: of the old 6 of 10 are found, of the others 9;
    one false alarm among the old."""
    hat, old = torch.arange(40) % 2 == 0, torch.arange(40) < 20
    answers = hat.clone()
    answers[[0, 2, 4, 6, 20]] = False
    answers[1] = True
    row = groups_of(torch.stack([hat, old], 1), torch.stack([answers, old], 1), range(40))
    found = row["true_positive_rate"]
    assert (found["yes"]["value"], found["no"]["value"]) == (0.6, 0.9)
    assert (found["yes"]["cases"], found["yes"]["people"]) == (10, 10)
    assert found["difference"]["value"] == -0.3
    assert found["difference"]["low"] < -0.3 < found["difference"]["high"] <= 0.1
    assert found["yes"]["low"] < 0.6 < found["yes"]["high"]
    false = row["false_positive_rate"]
    assert (false["yes"]["value"], false["no"]["value"]) == (0.1, 0.0)


def test_groups_of_integers_are_those_of_bools() -> None:
    truth, answers = chance(40, 2), chance(40, 2)
    expected = groups_of(truth, answers, range(40))
    assert groups_of(truth.long(), answers.long(), range(40)) == expected


def test_difference_is_paired_within_people() -> None:
    """Everyone is in both groups, and nearly as good in one as in the other: little doubt is left,
    though either rate alone is uncertain."""
    hat, old = torch.ones(80).bool(), torch.arange(80) % 2 == 0
    answers = chance(40).repeat_interleave(2)
    answers[0] = ~answers[0]
    ids = (torch.arange(80) // 2).tolist()
    found = groups_of(torch.stack([hat, old], 1), torch.stack([answers, old], 1), ids)
    rates = found["true_positive_rate"]
    doubt = {side: rates[side]["high"] - rates[side]["low"] for side in ("yes", "no", "difference")}
    assert doubt["difference"] < min(doubt["yes"], doubt["no"]) / 2


def test_cases_that_are_all_answered_alike_give_no_interval() -> None:
    """None of 20 is no proof of never; nor is the difference from another rate known by it."""
    hat, old = torch.ones(60).bool(), torch.arange(60) < 20
    answers = torch.where(old, False, chance(60))
    found = groups_of(torch.stack([hat, old], 1), torch.stack([answers, old], 1), range(60))
    rates = found["true_positive_rate"]
    assert rates["yes"]["value"] == 0 and rates["yes"]["low"] is rates["yes"]["high"] is None
    assert rates["no"]["low"] is not None
    assert rates["difference"]["value"] == -rates["no"]["value"]
    assert rates["difference"]["low"] is rates["difference"]["high"] is None


@pytest.mark.parametrize("few", ["cases", "people"])
def test_group_with_too_few_is_said_not_shown(few: str) -> None:
    """One case too few, or all cases those of one person."""
    hat, answers = torch.ones(60).bool(), chance(60)
    old = torch.arange(60) < (FEWEST_CASES - 1 if few == "cases" else 30)
    ids = list(range(60)) if few == "cases" else [0] * 30 + list(range(1, 31))
    row = groups_of(torch.stack([hat, old], 1), torch.stack([answers, old], 1), ids)
    rates = row["true_positive_rate"]
    assert rates["yes"]["value"] is rates["yes"]["low"] is None and rates["no"]["low"] is not None
    assert rates["yes"][few] == (FEWEST_CASES - 1 if few == "cases" else 1)
    assert set(rates["difference"].values()) == {None}
    assert row["false_positive_rate"]["no"] == {
        "value": None, "low": None, "high": None, "cases": 0, "people": 0
    }  # fmt: skip


# All of it


def test_description_holds_the_figures_of_its_parts() -> None:
    truth, ids = chance(200, 3), (torch.arange(200) // 4).tolist()
    truth[:, 2] = False  # a label that nobody has
    logits = torch.randn(200, 3) + 2 * truth
    thresholds = (0.4, 0.6, 0.5)
    answers = above_threshold(logits, thresholds) > 0
    people = People(ids, resamples=100)
    names = ["hat", "old", "none"]
    found = describe(truth, logits, answers, thresholds, names, people, ["old"], ["hat"])
    half = confusion(truth, logits > 0).sum(0)
    assert found["figures"]["accuracy"]["value"] == round(accuracy_of(half).mean().item(), 5)
    tuned = f1_of(confusion(truth, answers).sum(0))
    assert found["at_thresholds"]["f1"]["value"] == round(tuned[:2].mean().item(), 5)
    assert found["labels"]["hat"]["f1"]["value"] == round(tuned[0].item(), 5)
    assert found["labels"]["none"]["f1"] == {"value": None, "low": None, "high": None}
    precisions = [found["labels"][n]["average_precision"]["value"] for n in names]
    assert precisions[2] is None
    mean = found["figures"]["average_precision"]
    assert mean["value"] == pytest.approx(sum(precisions[:2]) / 2, abs=1e-5)
    assert mean["low"] < mean["value"] < mean["high"]
    errors = {n: row["calibration_error"] for n, row in found["labels"].items()}
    worst = max(errors, key=lambda name: errors[name])
    assert found["reliability"]["worst_label"] == worst
    assert found["reliability"]["worst_error"] == errors[worst]
    assert found["labels"]["old"]["threshold"] == 0.6 and found["resamples"] == 100
    assert len(found["groups"]["rows"]) == 1
    assert found["majority"]["accuracy"] == pytest.approx(
        torch.maximum(truth.double().mean(0), (~truth).double().mean(0)).mean().item(), abs=1e-5
    )


def test_description_of_tensors_on_a_gpu_is_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    truth, logits = chance(60, 2), torch.randn(60, 2)
    given = (truth, logits, logits > 0.2)
    more: Any = ([0.55] * 2, ["hat", "old"], People(range(60), resamples=50), ["old"], ["hat"])
    expected, found = describe(*given, *more), describe(*(t.cuda() for t in given), *more)
    assert all(found[key] == expected[key] for key in ("figures", "at_thresholds", "groups"))
