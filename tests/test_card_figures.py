"""What a card shows of test.json: intervals, thresholds, groups, and no figures that disagree."""

from copy import deepcopy
from typing import Any, Dict

import pytest
import timm
import torch

import se_zoo  # noqa: F401  (registers the models)
from se_zoo import InvalidInputError
from se_zoo.explanations.target_classes import above_threshold
from se_zoo.hub.card import Subject, render
from se_zoo.hub.facts import Data, Facts, License
from se_zoo.hub.figures import TOLERANCE, check_agreement
from se_zoo.hub.sources import read_sources
from se_zoo.models.pretrained.fetch import WEIGHTS_NAME
from se_zoo.models.pretrained.manifest import cards_folder, hub_folder, sha256_of
from se_zoo.models.pretrained.own_models import own_models
from se_zoo.statistics import People, describe

LABELS = ("Smiling", "Wearing_Hat", "Male")
FACTS = Facts(
    summary="Three attributes.", license=License("mit"), data=Data("faces", "Some faces."),
    intended_use="Tests.", limits=("None.",), bias="None.",
)  # fmt: skip


def measured(**more: Any) -> Dict[str, Any]:
    """The content of a test.json: 100 people, two images each, few of them with a hat."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(200, 3, generator=generator) < torch.tensor([0.5, 0.08, 0.5])
    logits = torch.randn(200, 3, generator=generator) + 2 * truth - 1
    thresholds = (0.3, 0.25, 0.5)
    people = People((torch.arange(200) // 2).tolist(), resamples=50)
    answers = above_threshold(logits, thresholds) > 0
    return {
        "command": "score", "commit": "0" * 40, "environment": {}, "weights_sha256": "0" * 64,
        "data": "the test part", "samples": {"valid": 90, "test": 200},
        "people": {"valid": 45, "test": 100}, "thresholds_stored": True,
        **describe(truth, logits, answers, thresholds, LABELS, people, ("Male",), LABELS[:2]),
        **more,
    }  # fmt: skip


def summary_of(test: Dict[str, Any], **figures: float) -> Dict[str, Any]:
    """A recipe's summary of the same model."""
    same = {name: row["value"] for name, row in test["figures"].items() if name != "f1"}
    return {
        "command": "train", "commit": "0" * 40, "seconds": 9.0,
        "environment": {"cpu": "x", "threads": 1, "torch": "2", "timm": "1"},
        "samples": {"train": 500, "valid": 90, "test": 200},
        "test": {**same, **figures},
    }  # fmt: skip


def card_of(**sources: Any) -> Any:
    model: Any = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3,
                                   multi_label=True)  # fmt: skip
    return render(
        Subject("faces", model, FACTS, sources, None, "published", "hf-hub:me/faces", "me/faces")
    )


def test_card_shows_figures_with_intervals_groups_and_reliability() -> None:
    test = measured()
    text = card_of(test=test, training=summary_of(test)).text
    for key in ("figures", "at_thresholds"):
        row = test[key]["balanced_accuracy"]
        low, high = (f"{100 * row[end]:.1f}" for end in ("low", "high"))
        assert f"{100 * row['value']:.1f} [{low}, {high}]" in text
    assert "200 images of 100 people" in text and "95 % interval" in text and "50 resamples" in text
    assert "bins of equal width" in text and "15 bins" in text
    assert f"{100 * test['reliability']['error']:.1f} %" in text
    assert "Figures by groups" not in text
    smiling = next(line for line in text.splitlines() if line.startswith("| Smiling | "))
    assert "0.300" in smiling and smiling.count("[") == 4


def test_rate_of_too_few_cases_is_said_not_shown() -> None:
    text = card_of(test=measured()).text
    true, false = [x for x in text.splitlines() if x.startswith("| Wearing_Hat, by Male")]
    assert "| too few (4) |" in true and true.endswith("| not known |")
    assert false.count(" of ") == 2 and "too few" not in false


def test_difference_beside_zero_is_bold() -> None:
    test = measured()
    row = test["groups"]["rows"][0]["true_positive_rate"]
    row["difference"] = {"value": -0.2, "low": -0.3, "high": -0.1}
    assert "**-20.0 [-30.0, -10.0]**" in card_of(test=test).text
    row["difference"] = {"value": -0.2, "low": -0.3, "high": 0.1}
    assert "| -20.0 [-30.0, +10.0] |" in card_of(test=test).text
    row["difference"] = {"value": -0.2, "low": None, "high": None}
    assert "| -20.0 |" in card_of(test=test).text


def test_what_was_not_measured_is_said() -> None:
    test = measured()
    without = measured(groups={**test["groups"], "rows": []})
    assert "Figures by groups of people were not measured." in card_of(test=without).text
    text = card_of(training=summary_of(test)).text
    assert "Figures by groups of people or conditions, and intervals, were not measured" in text
    assert "does not store them" in card_of(test=measured(thresholds_stored=False)).text
    assert "does not store them" not in card_of(test=test).text


def test_thresholds_of_a_run_are_shown_without_test_json() -> None:
    summary = summary_of(measured())
    summary["thresholds_from"] = "the largest F1 on valid"
    summary["test"]["at_thresholds"] = {"accuracy": 0.9, "balanced_accuracy": 0.8, "f1": 0.712}
    text = card_of(training=summary).text
    assert "(the largest F1 on valid)" in text and "F1 71.2 %" in text


def test_model_index_takes_the_figures_of_the_stored_weights() -> None:
    test = measured()
    accuracy = test["figures"]["accuracy"]["value"]
    training = summary_of(test, accuracy=accuracy + TOLERANCE / 2)
    found = card_of(test=test, training=training).data.eval_results
    results = {r.metric_type: r.metric_value for r in found}
    assert results == {
        m: test["figures"][m]["value"]
        for m in ("accuracy", "balanced_accuracy", "average_precision")
    }
    alone = card_of(training=training).data.eval_results
    assert {r.metric_type: r.metric_value for r in alone}["accuracy"] == accuracy + TOLERANCE / 2


def test_figures_of_one_name_that_disagree_are_refused() -> None:
    test = measured()
    value = test["figures"]["average_precision"]["value"]
    other = summary_of(test, average_precision=value - 2 * TOLERANCE)
    with pytest.raises(InvalidInputError, match=r"average_precision = .*not of the same weights"):
        card_of(test=test, training=other)
    other["samples"]["test"] = 1000  # another split under the same name
    card_of(test=test, training=other)


@pytest.mark.parametrize("wrong", [{}, {"accuracy": 0.9}, {"accuracy": {"value": 7.0}}])
def test_other_figures_under_this_name_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"test\.json says accuracy"):
        card_of(test=measured(figures=wrong))


def test_figures_of_the_zoo_are_of_the_weights_in_the_package() -> None:
    """And as near to the recipe's as :data:`TOLERANCE`, where both saw the same images."""
    for name in own_models():
        sources = read_sources(cards_folder() / name)
        if "test" not in sources:
            continue
        weights = hub_folder(name) / WEIGHTS_NAME
        if weights.is_file():
            assert sources["test"]["weights_sha256"] == sha256_of(weights), name
        assert sources["test"]["people"]["test"] > 0
        if "training" in sources:
            check_agreement(sources["training"], "test", sources["test"], name)


def test_disagreement_is_noticed_in_every_figure() -> None:
    test = measured()
    for metric in ("accuracy", "balanced_accuracy", "average_precision"):
        near, far = (deepcopy(summary_of(test)) for _ in range(2))
        near["test"][metric] += 0.9 * TOLERANCE
        far["test"][metric] += 1.1 * TOLERANCE
        check_agreement(near, "test", test, "faces")
        with pytest.raises(InvalidInputError, match=f"{metric} = "):
            check_agreement(far, "test", test, "faces")
