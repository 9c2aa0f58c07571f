"""The result of ``explain``: its images, probabilities and captions."""

import dataclasses
from typing import Any

import pytest
import torch

import se_zoo
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
    text = repr(plain.explain(images(), [0, 1, 2]))
    assert "\n" not in text and len(text) < 200
    assert "2 images, 6 rows" in text and "contribution, folded, exact" in text
