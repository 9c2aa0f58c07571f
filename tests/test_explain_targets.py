"""Targets by name, index or default; the other class of a difference; bad options."""

import warnings
from typing import Any

import numpy as np
import pytest
import timm
import torch

import se_zoo
from se_zoo import InvalidInputError, UnknownLabelError
from se_zoo.explanations.target_classes import label_index, target_of
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES, imagenet_labels

from .explain_models import (
    SIZE,
    celeba,  # noqa: F401  (a fixture)
    images,
    plain,  # noqa: F401  (a fixture)
)
from .tester import same


@pytest.mark.parametrize(
    "target", ["Smiling", "smiling", " SMILING ", 31, np.int64(31), torch.tensor(31)]
)
def test_one_target_for_every_image(celeba: Any, target: Any) -> None:
    explanation = celeba.explain(images(3), target)
    assert CELEBA_ATTRIBUTES[31] == "Smiling"
    assert explanation.target == (31, 31, 31) and explanation.labels == ("Smiling",) * 3
    assert explanation.image_index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "name", ["Wearing_Hat", "wearing hat", "Wearing-Hat", "WEARING_HAT", "5 o clock shadow"]
)
def test_names_ignore_case_spaces_and_dashes(celeba: Any, name: str) -> None:
    wanted = 0 if name.startswith("5") else 35
    assert celeba.explain(images(1), name).target == (wanted,)


def test_list_of_targets_gives_a_row_per_image_and_target(celeba: Any) -> None:
    batch = images(2)
    explanation = celeba.explain(batch, ["Smiling", 0, "Young"])
    assert explanation.target == (31, 0, 39) * 2
    assert explanation.image_index.tolist() == [0, 0, 0, 1, 1, 1]
    for row, (i, k) in enumerate([(0, 31), (0, 0), (0, 39), (1, 31), (1, 0), (1, 39)]):
        alone = celeba.explain(batch[i : i + 1], k)
        assert same(explanation.raw[row], alone.raw[0], 1e-5)
    assert len({tuple(r.flatten().tolist()) for r in explanation.raw}) == 6, "maps are all alike"


def test_more_targets_than_images_give_a_map_each(celeba: Any) -> None:
    """grad-cam pairs targets with images and leaves the rest without a word."""
    explanation = celeba.explain(images(1), list(range(40)))
    assert explanation.heatmap.shape == (40, SIZE, SIZE)
    assert explanation.raw.flatten(1).any(1).all()
    total = explanation.raw.flatten(1).mean(1) + explanation.constant
    assert same(total, explanation.logits[0], 1e-5)


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_tensor_or_array_gives_one_target_per_image(celeba: Any, kind: Any) -> None:
    batch = images(3)
    explanation = celeba.explain(batch, kind([5, 31, 5]))
    assert explanation.target == (5, 31, 5) and explanation.raw.shape[0] == 3
    assert same(explanation.raw[1], celeba.explain(batch[1:2], 31).raw[0], 1e-5)


def test_no_target_is_the_top_class_of_each_image(plain: Any) -> None:
    batch = images(6)
    with torch.no_grad():
        plain.fc.bias.sub_(plain(batch).mean(0))  # no class wins everywhere
    explanation = plain.explain(batch)
    assert explanation.target == tuple(explanation.logits.argmax(1).tolist())
    assert len(set(explanation.target)) > 1


def test_no_target_on_a_multi_label_model_is_every_label_above_one_half(celeba: Any) -> None:
    explanation = celeba.explain(images(3))
    probabilities = explanation.logits.sigmoid()
    expected = [(i, k) for i in range(3) for k in range(40) if probabilities[i, k] > 0.5]
    rows = list(zip(explanation.image_index.tolist(), explanation.target, strict=True))
    assert rows == expected and len(rows) > 3


def test_no_target_on_a_multi_label_model_is_at_least_the_top_label(celeba: Any) -> None:
    with torch.no_grad():
        celeba.fc.bias.sub_(1000)
    explanation = celeba.explain(images(3))
    assert explanation.target == tuple(explanation.logits.argmax(1).tolist())
    assert explanation.image_index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", ["gate", "activation"])
def test_maps_without_a_class_have_one_row_per_image(celeba: Any, method: str) -> None:
    batch = images(3)
    explanation = celeba.explain(batch, method=method)
    assert explanation.raw.shape[0] == 3
    assert explanation.target == tuple(explanation.logits.argmax(1).tolist())
    asked = celeba.explain(batch, ["Smiling", "Young"], method)
    assert asked.raw.shape[0] == 6
    # One row and two go through different routines of some processors' BLAS.
    for rows in (asked.raw[::2], asked.raw[1::2]):
        torch.testing.assert_close(rows, explanation.raw, rtol=1e-5, atol=1e-5)
    assert not asked.exact and asked.weights == {"gate": "gate", "activation": "mean"}[method]
    assert not asked.constant.any()


def test_unknown_label_lists_labels_and_closest(celeba: Any) -> None:
    with pytest.raises(UnknownLabelError) as info:
        celeba.explain(images(), "Smilling")
    message = str(info.value)
    assert "'Smilling'" in message and "Did you mean Smiling?" in message
    assert all(label in message for label in CELEBA_ATTRIBUTES)


@pytest.mark.parametrize(
    ("label", "closest"),
    [
        ("cat", "tabby cat, tiger cat, Persian cat?"), ("dog", "Maltese dog, chrysanthemum dog, "),
        ("tie", "bolo tie, bow tie, Windsor tie?"), ("goldfsh", "goldfish, "),
        ("crane bird", "crane, "),
    ],
)  # fmt: skip
def test_labels_with_the_whole_word_are_the_closest(label: str, closest: str) -> None:
    with pytest.raises(UnknownLabelError) as info:
        label_index(label, imagenet_labels(), 1000)
    message = str(info.value)
    assert f"Did you mean {closest}" in message and "crane, crane" not in message
    assert message.endswith("The labels are 1000 names, such as tench and goldfish.")


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("smyth", "Did you mean 'Smith, Ann', 'Smith, Bob'? "),
        ("xx", "'xx'. The labels are: 'Smith, Ann', 'Smith, Bob', tea."),
        ("", "''. The labels"), ("e", "Did you mean tea?"),
    ],
)  # fmt: skip
def test_labels_with_commas_are_quoted(label: str, says: str) -> None:
    labels = ["Smith, Ann", "Smith, Bob", "tea"]
    with pytest.raises(UnknownLabelError) as info:
        label_index(label, labels, len(labels))
    assert says in str(info.value)


def test_label_on_a_model_without_names_is_refused(plain: Any) -> None:
    with pytest.raises(UnknownLabelError, match="no label names"):
        plain.explain(images(), "Smiling")


@pytest.mark.parametrize(
    "target",
    [40, -1, True, 1.0, 1.5, [True], [1.0], [None], [[1], [2]], [0, 40], ["Smiling", 41], object(),
     torch.tensor(1.5), torch.tensor(True), np.float64(2), "", {"a": 1}, b"\x04",
     np.bytes_(b"\x04"), bytearray(b"\x04")],
)  # fmt: skip
def test_targets_that_are_no_class_are_refused(celeba: Any, target: Any) -> None:
    with pytest.raises(UnknownLabelError):
        celeba.explain(images(), target)


@pytest.mark.parametrize(
    "target",
    [[], (), torch.tensor([1, 2, 3]), torch.tensor([1]), torch.tensor([1.0, 2.0]),
     torch.tensor([True, False]), torch.zeros(2, 1, dtype=torch.long), np.array([1, 2, 3]),
     np.array([0.5, 1.5])],
)  # fmt: skip
def test_forms_of_targets_that_do_not_fit_are_refused(celeba: Any, target: Any) -> None:
    with pytest.raises(InvalidInputError, match="target"):
        celeba.explain(images(), target)


def test_tensor_targets_outside_the_classes_are_refused(celeba: Any) -> None:
    for index in (40, -1):
        with pytest.raises(UnknownLabelError, match="0 to 39"):
            celeba.explain(images(), torch.tensor([0, index]))


def test_imagenet_synonyms_are_targets_and_labels_of_two_classes_are_refused() -> None:
    model = timm.create_model("resnet50_sehead.a1_in1k", layers=(1, 1, 1, 1), channels=(8, 8, 8, 8))
    labels = model.class_labels()
    assert labels == imagenet_labels() and len(labels) == 1000
    explanation = model.eval().explain(images(1), ["Tinca tinca", "goldfish", "tench"])
    assert explanation.target == (0, 1, 0)
    with pytest.raises(UnknownLabelError, match="2 classes"):
        model.explain(images(1), "crane")
    with pytest.raises(UnknownLabelError, match="1000 names"):
        model.explain(images(1), "no such animal")


def test_label_names_of_another_number_of_classes_are_not_used() -> None:
    model = timm.create_model("resnet18_slim_sehead.celeba", num_classes=7, multi_label=False)
    assert model.class_labels() is None
    explanation = model.eval().explain(images(1), 3)
    assert explanation.labels == ("3",) and explanation.label_names is None


def test_new_number_of_classes_is_single_label_unless_asked() -> None:
    model: Any = timm.create_model("se_zoo/resnet18_slim_celeba")
    assert model.is_multi_label()
    model.reset_classifier(40)
    assert model.is_multi_label()
    model.reset_classifier(3)
    assert not model.is_multi_label()
    model.reset_classifier(5, multi_label=True)
    assert model.is_multi_label() and model.num_classes == 5


def test_label_names_given_as_the_error_says_survive_saving(tmp_path: Any) -> None:
    from timm.models import save_for_hf

    model: Any = se_zoo.squeeze("resnet10t", num_classes=2)
    with pytest.raises(UnknownLabelError, match=r"update\(num_classes=2, label_names="):
        model.explain(images(1), "dog")
    model.pretrained_cfg.update(num_classes=2, label_names=["cat", "dog"])
    args = {**getattr(model, "_model_args", {}), "num_classes": 2}
    save_for_hf(model, str(tmp_path), model_args=args, safe_serialization=True)
    back: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert back.explain(images(1), "dog").target == (1,)


# The other class of a difference


def test_versus_is_a_name_or_index_and_required_for_multi_label(celeba: Any) -> None:
    batch = images(3)
    named = celeba.explain(batch, "Smiling", "difference", versus="male")
    assert named.versus == (20, 20, 20)
    assert torch.equal(named.raw, celeba.explain(batch, 31, "difference", versus=20).raw)
    with pytest.raises(InvalidInputError, match="versus"):  # its labels do not compete
        celeba.explain(batch, "Smiling", "difference")


def test_versus_is_the_runner_up_of_competing_classes(plain: Any) -> None:
    explanation = plain.explain(images(3), 2, "difference")
    others = explanation.logits.clone()
    others[:, 2] = -torch.inf
    assert explanation.versus == tuple(others.argmax(1).tolist())


def test_difference_changes_sign_with_its_classes(celeba: Any) -> None:
    batch = images()
    one = celeba.explain(batch, 3, "difference", versus=5)
    other = celeba.explain(batch, 5, "difference", versus=3)
    assert torch.equal(one.raw, -other.raw) and torch.equal(one.constant, -other.constant)


def test_difference_takes_several_classes_with_weights(plain: Any) -> None:
    batch = images(2)
    parts = {k: plain.explain(batch, k) for k in (1, 2, 4)}
    found = plain.explain(batch, 1, "difference", versus={2: 0.5, 4: 0.2})
    assert found.exact and found.versus == ((2, 4), (2, 4)) and found.versus_weights == (0.5, 0.2)
    for name in ("raw", "constant"):
        one, two, four = (getattr(parts[k], name) for k in (1, 2, 4))
        assert same(getattr(found, name), one - 0.5 * two - 0.2 * four, 1e-5)
    total = found.raw.flatten(1).mean(1) + found.constant
    logits = found.logits
    assert same(total, logits[:, 1] - 0.5 * logits[:, 2] - 0.2 * logits[:, 4], 1e-4)
    assert found.titles()[0].startswith("class 1 (not class 2 + 4)") and found[1].versus == (
        (2, 4),
    )
    assert found.to_dict()["rows"][0]["versus"] == (2, 4)
    alike = plain.explain(batch, 1, "difference", versus=[2, 4])
    assert alike.versus_weights == (0.5, 0.5)
    assert torch.equal(
        plain.explain(batch, 1, "difference", versus=2).raw,
        plain.explain(batch, 1, "difference", versus={2: 1.0}).raw,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(method="difference", target=1, versus={3: 0.0}), "positive weight"),
        (dict(method="difference", target=1, versus={3: "a"}), "positive weight"),
        (dict(method="difference", target=1, versus=[3, 3]), "each class once"),
        (dict(method="difference", target=1, versus=[]), "names no class"),
        (dict(method="difference", target=1, versus={3: 0.5, 1: 0.5}), "target itself"),
        (dict(versus=3), "difference"),
        (dict(method="gate", versus=3), "difference"),
        (dict(method="difference", target=3, versus=3), "target itself"),
        (dict(method="difference", target=[1, 3], versus=3), "target itself"),
        (dict(method="difference", target=1, versus=40), "0 to 39"),
        (dict(method="difference", target=1, versus=True), "not True"),
        (dict(method="difference", target=1, versus=b"\x04"), "not b'"),
        (dict(method="difference", target=1, versus=[1]), "target itself"),
        (dict(method="difference", target=1, versus=torch.tensor([2, 3])), "for every image"),
        (dict(method="difference", target=1, versus=np.array([2, 3])), "for every image"),
        (dict(method="difference", target=1, versus="Hat"), "Wearing_Hat"),
        (
            dict(method="contributions"),
            "contribution, affinity, rivals, support",
        ),
        (dict(method=""), "contribution, affinity, rivals, support"),
        (dict(method=3), "contribution, affinity, rivals, support"),
        (dict(normalize="images"), "positive number"),
        (dict(normalize=0), "positive number"),
        (dict(normalize=-1.0), "positive number"),
        (dict(normalize=float("nan")), "positive number"),
        (dict(normalize=float("inf")), "positive number"),
        (dict(normalize=True), "positive number"),
        (dict(normalize=None), "positive number"),
    ],
)
def test_bad_options_are_refused(celeba: Any, options: dict, message: str) -> None:
    with pytest.raises((InvalidInputError, UnknownLabelError), match=message):
        celeba.explain(images(), **options)


def test_unknown_option_is_a_type_error(celeba: Any) -> None:
    with pytest.raises(TypeError, match="colour"):
        celeba.explain(images(), colour="red")


def test_difference_needs_two_classes() -> None:
    model = timm.create_model("resnet10t_sehead", num_classes=1).eval()
    with pytest.raises(InvalidInputError, match="two classes"):
        model.explain(images(), method="difference")
    assert model.explain(images()).target == (0, 0)


# Labels that are alike, and one class per image by name


@pytest.mark.parametrize(
    ("labels", "target", "wanted"),
    [
        (["A", "a"], "a", 1), (["A", "a"], "A", 0), (["a", " a"], " a", 1), (["a ", "a"], "a ", 0),
        (["cafe\u0301", "tea"], "caf\u00e9", 0), (["caf\u00e9", "tea"], "cafe\u0301", 0),
        (["caf\u00e9", "cafe\u0301"], "cafe\u0301", 1), (["STRASSE", "x"], "stra\u00dfe", 0),
        (["a b", "a_b"], "a_b", 1), (["a-b", "a_b"], "a-b", 0), (["\uff21", "b"], "a", 0),
        (["cat, tom", "tom"], "tom", 1), (["x", "\u0130stanbul"], "\u0130STANBUL", 1),
    ],
)  # fmt: skip
def test_label_that_exists_can_be_named_as_it_is_written(
    labels: Any, target: str, wanted: int
) -> None:
    assert label_index(target, labels, len(labels)) == wanted
    for index, label in enumerate(labels):
        assert label_index(label, labels, len(labels)) == index
        assert target_of(label, labels, len(labels)) == index


def test_label_of_two_classes_names_both() -> None:
    with pytest.raises(UnknownLabelError, match=r"2 classes: 'A' \(0\), 'a' \(1\)"):
        label_index("\uff21", ["A", "a"], 2)


@pytest.mark.parametrize(
    ("text", "wanted"), [("7", 1), ("2", 2), ("-1", None), ("\u00b2", None), ("--5", None)]
)
def test_word_of_the_command_line_is_a_label_before_it_is_a_number(text: str, wanted: Any) -> None:
    if wanted is not None:
        assert target_of(text, ["a", "7", "c"], 3) == wanted
        return
    with pytest.raises(UnknownLabelError):
        target_of(text, ["a", "7", "c"], 3)


class Series:
    """What pandas and polars columns have in common."""

    def __init__(self, values: Any) -> None:
        self.values = np.array(values)

    def to_numpy(self) -> Any:
        return self.values

    def __iter__(self) -> Any:
        return iter(self.values)


@pytest.mark.parametrize("kind", [Series, np.array, lambda v: np.array(v, dtype=object)])
@pytest.mark.parametrize("values", [["Bald", "Smiling", "Bald"], [4, 31, 4]])
def test_column_or_array_gives_one_target_per_image(celeba: Any, kind: Any, values: Any) -> None:
    explanation = celeba.explain(images(3), kind(values))
    assert explanation.target == (4, 31, 4)
    with pytest.raises(InvalidInputError, match="one"):
        celeba.explain(images(2), kind(values))


def test_column_of_pandas_is_one_class_per_image(celeba: Any) -> None:
    pandas = pytest.importorskip("pandas")
    for values in (["Bald", "Smiling"], [4, 31]):
        series = pandas.Series(values, index=[7, 3])
        assert celeba.explain(images(2), series).target == (4, 31)


# A gate that was never trained


def test_untrained_identity_gate_is_said_and_warned_of() -> None:
    model: Any = se_zoo.squeeze("test_resnet", num_classes=3).eval()
    assert not model.gate_trained
    for use in (
        lambda: model.explain(images(), method="gate"),
        lambda: se_zoo.ExplainedModel(model, "gate"),
    ):
        with pytest.warns(UserWarning, match="never trained"):
            use()
    model.se.fc2.weight.data[0, 0] = 0.1  # as fused optimisers do, without a trace
    assert model.gate_trained
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.explain(images(), method="gate")
    assert se_zoo.squeeze("test_resnet", gate="sigmoid").gate_trained
    assert not se_zoo.create_speaker_model("asd_tiny_sehead").gate_trained


def test_identity_gate_that_an_adapter_has_trained_counts_as_trained() -> None:
    """PEFT wraps the layer, whose own weight stays as it was."""

    class Adapted(torch.nn.Module):
        def __init__(self, base: Any) -> None:
            super().__init__()
            self.base, self.weight = base, base.weight
            self.more = torch.nn.Linear(base.in_features, base.out_features, bias=False)
            torch.nn.init.zeros_(self.more.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.more(x)

    model: Any = se_zoo.squeeze("test_resnet", num_classes=3).eval()
    model.se.fc2 = Adapted(model.se.fc2)
    assert not model.gate_trained
    torch.nn.init.ones_(model.se.fc2.more.weight)
    assert model.gate_trained
    assert model.explain(images(), method="gate").exact is False


# A classifier that was replaced by hand


def test_names_of_the_classifier_before_are_not_used() -> None:
    backbone: Any = timm.create_model("resnet10t")  # its tag names ImageNet-1k
    backbone.fc = torch.nn.Linear(512, 3)
    model: Any = se_zoo.squeeze(backbone).eval()
    assert model.num_classes == 3 and model.class_labels() is None
    explanation = model.explain(images(1), 2)
    assert explanation.labels == ("2",) and explanation.label_names is None
    with pytest.raises(UnknownLabelError, match="no label names for its 3 classes"):
        model.explain(images(1), "tench")
    with pytest.raises(UnknownLabelError, match="no label names for its 3 classes"):
        se_zoo.ExplainedModel(model, targets=["tench"])


@pytest.mark.parametrize("thresholds", [(0.3,), (0.3,) * 40])
def test_thresholds_of_other_labels_are_refused(plain: Any, thresholds: Any) -> None:
    """One would hold for all labels; those of a classifier that was replaced mean other ones."""
    plain.multi_label, plain.thresholds = True, thresholds
    with pytest.raises(InvalidInputError, match=rf"{len(thresholds)} thresholds for 7 labels; set"):
        plain.explain(images())
    plain.thresholds = None
    assert plain.explain(images()).thresholds is None


@pytest.mark.parametrize("thresholds", [0.3, (50.0,) * 7, (float("nan"),) * 7, torch.ones(7, 2)])
def test_thresholds_that_are_no_probabilities_are_refused(plain: Any, thresholds: Any) -> None:
    """The logit of 50 is NaN: no label would be above it."""
    plain.multi_label, plain.thresholds = True, thresholds
    with pytest.raises(InvalidInputError, match="a probability from 0 to 1 for each label"):
        plain.explain(images())


def test_classifier_that_is_replaced_later_can_be_given_names() -> None:
    model: Any = se_zoo.squeeze("resnet10t")
    model.fc = torch.nn.Sequential(torch.nn.Linear(512, 4), torch.nn.Dropout())
    assert model.num_classes == 1000 and model.class_labels() is None
    model.pretrained_cfg.update(num_classes=4, label_names=["a", "b", "c", "d"])
    assert model.eval().explain(images(1), "d").target == (3,)


def test_names_of_another_number_than_the_logits_are_not_used() -> None:
    """Where nobody knows how many classes a classifier has, the logits tell."""
    model: Any = se_zoo.squeeze("resnet10t", num_classes=2)
    model.pretrained_cfg.update(num_classes=2, label_names=["cat", "dog"])
    model.fc = torch.nn.Sequential(torch.nn.Linear(512, 5), torch.nn.LogSoftmax(1))
    explanation = model.eval().explain(images(1), 4)
    assert explanation.labels == ("4",) and explanation.label_names is None
    with pytest.raises(UnknownLabelError, match="no label names for its 5 classes"):
        model.explain(images(1), "dog")
