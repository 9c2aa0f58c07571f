"""The result of ``explain``: its images, probabilities and captions."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import se_zoo
from se_zoo.cli.empty_maps import empty_notes
from se_zoo.explanations.target_classes import short_names

from .explain_models import (
    celeba,  # noqa: F401  (a fixture)
    images,
    plain,  # noqa: F401  (a fixture)
)


def test_index_gives_the_explanation_of_one_image(celeba: Any) -> None:
    batch = images(3)
    explanation = celeba.explain(batch, [31, 0], "difference", versus=5)
    assert len(explanation) == 3
    for index in (1, -2):
        one = explanation[index]
        assert len(one) == 1 and one.target == (31, 0) and one.versus == (5, 5)
        assert torch.equal(one.heatmap, explanation.heatmap[2:4])
        assert torch.equal(one.raw, explanation.raw[2:4])
        assert torch.equal(one.logits, explanation.logits[1:2])
        assert torch.equal(one.images, batch[1:2]) and one.rule == (explanation.rule[1],)
        assert one.image_index.tolist() == [0, 0]
        assert torch.equal(one.row_probability, explanation.row_probability[2:4])
    assert len(list(explanation)) == 3
    for index in (3, -4):
        with pytest.raises(IndexError):
            explanation[index]


def test_index_gives_each_image_its_own_number_of_rows(celeba: Any) -> None:
    explanation = celeba.explain(images(4))
    counts = [explanation[i].heatmap.shape[0] for i in range(4)]
    assert sum(counts) == explanation.heatmap.shape[0] and len(set(counts)) > 1
    joined = torch.cat([explanation[i].heatmap for i in range(4)])
    assert torch.equal(joined, explanation.heatmap)


def test_explanation_is_frozen_and_comparable(plain: Any) -> None:
    explanation = plain.explain(images())
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.method = "gate"
    assert explanation == explanation and explanation != plain.explain(images())


def test_probabilities_are_softmax_or_sigmoid(plain: Any, celeba: Any) -> None:
    batch = images()
    exclusive, several = plain.explain(batch), celeba.explain(batch)
    torch.testing.assert_close(exclusive.probabilities, exclusive.logits.softmax(1))
    torch.testing.assert_close(several.probabilities, several.logits.sigmoid())
    half = plain.bfloat16().explain(batch)
    assert half.probabilities.dtype == torch.float32
    torch.testing.assert_close(half.probabilities.sum(1), torch.ones(2))


def test_titles_name_label_probability_and_the_other_class(celeba: Any) -> None:
    explanation = celeba.explain(images(1), "Smiling", "difference", versus="Male")
    probability = float(explanation.logits.sigmoid()[0, 31])
    percent = f"{100 * probability:.0f} %"
    assert explanation.captions() == [("Smiling (not Male)", percent)]
    assert explanation.titles() == [f"Smiling (not Male): {percent}"]
    assert celeba.explain(images(1), "Wearing_Hat").captions()[0][0] == "Wearing Hat"


def test_single_output_has_a_sigmoid_probability() -> None:
    model: Any = se_zoo.squeeze("resnet10t", num_classes=1)
    explanation = model.explain(images(2))
    assert torch.allclose(explanation.probabilities, explanation.logits.float().sigmoid())


def test_captions_of_maps_without_a_class_say_so(plain: Any) -> None:
    assert plain.explain(images(), 1, "gate").titles() == ["gate map"] * 2
    assert plain.explain(images(), 1).titles()[0].startswith("class 1: ")


def test_slice_of_an_explanation_is_refused(plain: Any) -> None:
    with pytest.raises(TypeError, match="integer"):
        plain.explain(images())[0:1]


def test_caption_of_a_label_with_synonyms_is_its_first_name() -> None:
    model: Any = se_zoo.squeeze("resnet10t")  # its config names ImageNet-1k
    assert model.explain(images(1), "tench").titles()[0].startswith("tench: ")
    found = model.explain(images(1), "tench", "difference", versus=["goldfish", "hammerhead"])
    assert found.titles()[0].startswith("tench (not goldfish + hammerhead): ")


def test_labels_that_begin_alike_are_shown_whole() -> None:
    assert short_names(["Smith, Ann", "Smith, Bob", "red_fox, fox", ", no name"]) == [
        "Smith, Ann", "Smith, Bob", "red fox", ", no name"
    ]  # fmt: skip


def test_repr_is_one_line(plain: Any) -> None:
    assert "(1 image, 1 row: " in repr(plain.explain(images(1), 0))
    text = repr(plain.explain(images(), [0, 1, 2]))
    assert "\n" not in text and len(text) < 200
    assert "2 images, 6 rows" in text and "contribution, folded, exact" in text


def test_map_without_evidence_for_its_label_is_empty(plain: Any, tmp_path: Path) -> None:
    """The features are behind a ReLU, so that no cell speaks for class 2, whatever its bias."""
    with torch.no_grad():
        plain.fc.weight[2] = -plain.fc.weight[2].abs()
        plain.fc.bias[2] = 9
    found = plain.explain(images(), [1, 2])
    assert found.empty == (False, True, False, True) and found[1].empty == (False, True)
    assert (found.evidence[1] < 0).any()
    found.save(tmp_path / "why.png")
    assert [row["empty"] for row in found.to_dict()["rows"]] == [False, True] * 2
    assert se_zoo.Explanation.load(tmp_path / "why.json").empty == found.empty


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("contribution", "nothing in the picture speaks for Smiling"),
        ("class_gate", "the map of Smiling is empty; --method contribution shows what speaks for "
         "and against it"),
        ("support", "the map of Smiling is empty; --method contribution shows what speaks for and "
         "against it"),
        ("affinity", "nothing in the affinity map speaks for Smiling; --method contribution shows "
         "what speaks for and against it"),
        ("rivals", "nothing in the picture speaks for Smiling more than for the other labels; "
         "--method contribution shows what speaks for and against it"),
        ("difference", "nothing in the picture speaks for Smiling more than for Male; --method "
         "contribution shows what speaks for and against it"),
    ],
)  # fmt: skip
def test_note_names_the_label_and_the_way_out(celeba: Any, method: str, says: str) -> None:
    found = celeba.explain(images(1), [31, 39])
    heatmap, raw = found.heatmap.clone(), found.raw.clone()
    heatmap[0], raw[0] = 0, -raw[0].abs() - 1
    versus = (20, 20) if method == "difference" else None
    some = dataclasses.replace(found, heatmap=heatmap, raw=raw, method=method, versus=versus)
    assert empty_notes(found) == "" and empty_notes(some) == f"\nnote: {says}"


def test_note_of_several_labels_and_photos_is_one_line(celeba: Any) -> None:
    found = celeba.explain(images(2), [31, 39, 20])
    raw = -found.raw.abs() - 1
    none = dataclasses.replace(found, heatmap=found.heatmap * 0, raw=raw, method="class_gate")
    assert empty_notes(none) == (
        "\nnote: the maps of Smiling (2 photos), Young (2 photos) and Male (2 photos) are empty; "
        "--method contribution shows what speaks for and against them"
    )
    flat = dataclasses.replace(none, raw=found.raw * 0)[0]
    assert empty_notes(flat).endswith("Male are the same everywhere, so nothing is marked")
    gate = dataclasses.replace(flat, method="gate")
    assert empty_notes(gate) == "\nnote: the map is the same everywhere, so it marks no place"
    many = celeba.explain(images(1), list(range(9)))
    none = dataclasses.replace(many, heatmap=many.heatmap * 0, raw=-many.raw.abs() - 1)
    assert empty_notes(none).endswith(", Bags_Under_Eyes, Bald or 4 other labels")
