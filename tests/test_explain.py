"""``model.explain``: targets, selected channels, options, bad input, threads that fail."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

import se_zoo
from se_zoo import Explanation, InvalidInputError, UnknownLabelError
from se_zoo.explanations import channel_logits, maps, select_channels
from se_zoo.explanations import eval_mode as mode
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES, imagenet_labels

from .tester import (
    assert_unchanged,
    fingerprint,
    paper_gate_map,
    randomise,
    same,
    spread_gate,
    varied_images,
)

SIZE = 64


def images(batch: int = 2) -> torch.Tensor:
    return varied_images(batch, (SIZE, SIZE))


def ready(model: Any) -> Any:
    return spread_gate(randomise(model).eval(), images(8))


@pytest.fixture
def celeba() -> Any:
    """40 named yes/no labels."""
    return ready(timm.create_model("resnet18_slim_sehead.celeba"))


@pytest.fixture
def plain() -> Any:
    """7 exclusive classes without names."""
    return ready(timm.create_model("resnet10t_sehead", num_classes=7, gate="sigmoid"))


# Selected channels: the rule of arXiv 2412.05134, and what saturated gates make of it

SPREAD = np.random.default_rng(0).normal(size=(3, 256)).astype(np.float32)
ONE_BELOW = np.nextafter(np.float32(1), np.float32(0))
GATES = {
    "spread out": (1 / (1 + np.exp(-SPREAD)), "threshold"),
    "few high": (np.where(np.arange(256) % 16 == 3, 0.9, 0.1)[None].repeat(2, 0), "threshold"),
    "all exactly one": (np.ones((2, 256)), "rank"),
    "all 0.9999": (np.full((2, 256), 0.9999), "rank"),
    "all 0.1": (np.full((2, 100), 0.1), "rank"),
    "all zero": (np.zeros((2, 256)), "rank"),
    "half on, half off": (np.arange(256)[None].repeat(2, 0) % 2, "rank"),
    "nearly all on": (np.where(np.arange(256) % 16 == 3, 0.1, 0.9)[None], "rank"),
    "saturated, some one step below": (
        np.where(np.arange(256) % 3 == 0, ONE_BELOW, np.float32(1))[None], "rank",
    ),
    "one channel": (np.full((2, 1), 0.5), "rank"),
    "seven channels": (np.linspace(0.4, 0.6, 7)[None], "threshold"),
}  # fmt: skip


@pytest.mark.parametrize("name", GATES)
def test_selected_channels_and_gate_map_follow_the_paper(name: str) -> None:
    values, rule = GATES[name]
    gate = torch.from_numpy(values.astype(np.float32))
    features = torch.randn(gate.shape[0], gate.shape[1], 3, 4)
    selection = select_channels(gate)
    weights = maps.gate_weights(gate)
    raw = maps.weighted_maps(features, weights, torch.arange(len(gate)))
    assert selection.rule == (rule,) * len(gate)
    for i in range(len(gate)):
        expected, literal_rule = paper_gate_map(features[i].numpy(), gate[i].numpy())
        assert literal_rule == rule
        assert same(raw[i], torch.from_numpy(expected), 1e-5)
        if rule == "rank":
            assert selection.mask[i].sum() == max(1, round(0.1 * gate.shape[1]))
            left_out = gate[i][~selection.mask[i]]
            assert not len(left_out) or gate[i][selection.mask[i]].min() >= left_out.max()


def test_rank_takes_the_highest_tenth_and_the_first_of_equals() -> None:
    gate = torch.full((1, 40), 0.9)
    gate[0, :20] = 0.1
    gate[0, 30] = gate[0, 35] = 0.95
    selection = select_channels(gate)
    assert selection.rule == ("rank",)
    assert selection.mask[0].nonzero()[:, 0].tolist() == [20, 21, 30, 35]


def test_each_image_has_its_own_rule() -> None:
    gate = torch.stack([torch.ones(256), torch.from_numpy(GATES["spread out"][0][0]).float()])
    selection = select_channels(gate)
    assert selection.rule == ("rank", "threshold")
    assert torch.equal(selection.mask[1], select_channels(gate[1:]).mask[0])


def test_half_precision_gates_select_like_their_own_values() -> None:
    """Saturated bfloat16 gates are exactly one, and must give no NaN."""
    gate = torch.sigmoid(torch.tensor([[9.0] * 100, [0.0] * 90 + [3.0] * 10])).bfloat16()
    selection = select_channels(gate)
    assert selection.rule == ("rank", "threshold")
    assert selection.mask.sum(1).tolist() == [10, 10]
    assert maps.gate_weights(gate.float()).isfinite().all()


def test_saturated_model_explains_by_rank_and_without_nan(plain: Any) -> None:
    with torch.no_grad():
        plain.se.fc1.weight.abs_()
        plain.se.fc2.weight.fill_(1e4)
    for model in (plain, plain.bfloat16()):
        explanation = model.explain(images(), method="gate")
        assert explanation.rule == ("rank", "rank")
        assert bool((explanation.gate == 1).all())
        assert explanation.raw.isfinite().all() and explanation.heatmap.max() > 0.5


# Targets


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


def test_more_targets_than_images(celeba: Any) -> None:
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


def test_gate_map_knows_no_classifier(celeba: Any) -> None:
    batch = images()
    before = celeba.explain(batch, method="gate").raw
    nn.init.normal_(celeba.fc.weight)
    assert torch.equal(celeba.explain(batch, method="gate").raw, before)


def test_unknown_label_lists_labels_and_closest(celeba: Any) -> None:
    with pytest.raises(UnknownLabelError) as info:
        celeba.explain(images(), "Smilling")
    message = str(info.value)
    assert "'Smilling'" in message and "Did you mean Smiling?" in message
    assert all(label in message for label in CELEBA_ATTRIBUTES)


def test_label_on_a_model_without_names_is_refused(plain: Any) -> None:
    with pytest.raises(UnknownLabelError, match="no label names"):
        plain.explain(images(), "Smiling")


@pytest.mark.parametrize(
    "target",
    [40, -1, True, 1.0, 1.5, [True], [1.0], [None], [[1], [2]], [0, 40], ["Smiling", 41], object(),
     torch.tensor(1.5), torch.tensor(True), np.float64(2), "", {"a": 1}],
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


def test_synonyms_of_imagenet_labels_and_labels_of_two_classes() -> None:
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


# The other class of a difference


def test_versus_by_name_by_index_and_by_default(celeba: Any) -> None:
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(versus=3), "difference"),
        (dict(method="gate", versus=3), "difference"),
        (dict(method="difference", target=3, versus=3), "target itself"),
        (dict(method="difference", target=[1, 3], versus=3), "target itself"),
        (dict(method="difference", target=1, versus=40), "0 to 39"),
        (dict(method="difference", target=1, versus=True), "not True"),
        (dict(method="difference", target=1, versus=[1]), "not"),
        (dict(method="difference", target=1, versus="Hat"), "Wearing_Hat"),
        (dict(method="contributions"), "contribution, support, gate, difference, activation"),
        (dict(method=""), "contribution, support, gate, difference, activation"),
        (dict(method=3), "contribution, support, gate, difference, activation"),
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


# Images


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3, SIZE, SIZE), r"images\[None\]"),
        (torch.zeros(0, 3, SIZE, SIZE), "empty"),
        (torch.zeros(2, 3, 0, SIZE), "empty"),
        (torch.zeros(1, 2, 3, SIZE, SIZE), "shape"),
        (torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), "uint8"),
        (torch.full((2, 3, SIZE, SIZE), torch.nan), "NaN"),
        (torch.full((2, 3, SIZE, SIZE), torch.inf), "infinite"),
        (np.zeros((2, 3, SIZE, SIZE), dtype=np.float32), "ndarray"),
        (None, "NoneType"),
        ([torch.zeros(3, SIZE, SIZE)], "list"),
    ],
)
def test_images_that_cannot_be_explained(plain: Any, bad: Any, message: str) -> None:
    for call in (plain.explain, lambda x: plain.channel_logits(x, keep=[0])):
        with pytest.raises(InvalidInputError, match=message):
            call(bad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_are_taken_in_the_models_dtype(plain: Any, dtype: torch.dtype) -> None:
    batch = images().to(dtype)
    explanation = plain.explain(batch)
    assert explanation.logits.dtype == torch.float32
    assert torch.equal(explanation.raw, plain.explain(batch.float()).raw)
    assert explanation.images is batch


def test_float16_model(plain: Any) -> None:
    batch = images()
    expected = plain.explain(batch, 1)
    explanation = plain.half().explain(batch, 1)
    assert explanation.logits.dtype == torch.float16 and explanation.exact
    assert same(explanation.raw, expected.raw, 0.05)


def test_channels_last_images(plain: Any) -> None:
    batch = images()
    explanation = plain.explain(batch.to(memory_format=torch.channels_last))
    assert same(explanation.raw, plain.explain(batch).raw, 1e-5)


def test_models_without_se_head_or_classifier_are_refused(plain: Any) -> None:
    with pytest.raises(InvalidInputError, match="squeeze"):
        se_zoo.explain(timm.create_model("resnet10t"), images())
    with pytest.raises(InvalidInputError, match="squeeze"):
        channel_logits(timm.create_model("resnet10t"), images(), keep=[0])
    plain.reset_classifier(0)
    with pytest.raises(InvalidInputError, match="reset_classifier"):
        plain.explain(images())


def test_damaged_weights_are_named_not_drawn(plain: Any) -> None:
    with torch.no_grad():
        plain.fc.bias[2] = torch.nan
    with pytest.raises(InvalidInputError, match="NaN"):
        plain.explain(images())


def test_model_made_by_hand_has_no_config() -> None:
    """timm's factory leaves a config on a model; a class that is called directly has none."""
    from timm.models.resnet import BasicBlock, ResNet

    net = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=3, channels=(8, 8, 16, 16))
    model = se_zoo.squeeze(net).eval()
    explanation = se_zoo.explain(model, images())
    assert explanation.exact and explanation.label_names is None
    assert explanation.overlay().shape == (2, SIZE, SIZE, 3)


def test_function_and_method_are_the_same(plain: Any) -> None:
    batch = images()
    left, right = se_zoo.explain(plain, batch, 2), plain.explain(batch, 2)
    for field in dataclasses.fields(Explanation):
        a, b = getattr(left, field.name), getattr(right, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


# Normalisation


def test_per_image_normalisation_of_signed_maps_keeps_zero(plain: Any) -> None:
    explanation = plain.explain(images(4), list(range(7)))
    native = maps.to_unit_range(explanation.raw, from_zero=True)
    for raw, shown in zip(explanation.raw, native, strict=True):
        assert bool((shown[raw <= 0] == 0).all())
        if raw.max() > 0:
            torch.testing.assert_close(shown, raw.clamp(min=0) / raw.max())
    assert (explanation.raw < 0).any() and (explanation.raw > 0).any()


def test_per_image_normalisation_of_unsigned_maps_stretches() -> None:
    raw = torch.tensor([[[1.0, 3.0], [2.0, 1.5]], [[-5.0, -4.0], [-4.5, -4.75]]])
    shown = maps.to_unit_range(raw, from_zero=False)
    torch.testing.assert_close(shown[0], torch.tensor([[0.0, 1.0], [0.5, 0.25]]))
    torch.testing.assert_close(shown[1], torch.tensor([[0.0, 1.0], [0.5, 0.25]]))


def test_fixed_scale_compares_images(plain: Any) -> None:
    batch = images(3)
    scale = float(plain.explain(batch, 1).raw.max())
    together = plain.explain(batch, 1, normalize=scale)
    for i in range(3):
        alone = plain.explain(batch[i : i + 1], 1, normalize=scale)
        assert same(alone.heatmap, together.heatmap[i : i + 1], 1e-4)
    torch.testing.assert_close(
        maps.to_unit_range(together.raw, True, scale), (together.raw / scale).clamp(0, 1)
    )
    weak = plain.explain(batch, 1, normalize=1e6)
    assert weak.heatmap.max() < 1e-3, "a weak map must look weak on a fixed scale"
    assert plain.explain(batch, 1).heatmap.max() > 0.5
    assert plain.explain(batch, 1, normalize=np.float32(2)).normalize == 2.0


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-30])
def test_constant_map_shows_nothing(from_zero: bool, value: float) -> None:
    raw = torch.full((1, 4, 4), value)
    raw[0, 0, 0] += abs(value) * 1e-7  # rounding
    assert not maps.to_unit_range(raw, from_zero).any()


def test_small_but_real_maps_are_shown() -> None:
    raw = torch.zeros(1, 4, 4)
    raw[0, 1, 1] = 1e-12
    for from_zero in (True, False):
        assert maps.to_unit_range(raw, from_zero)[0, 1, 1] == 1


def test_heatmap_is_bicubic_in_half_pixels_and_clipped(plain: Any) -> None:
    """Half-pixel centres as in OpenCV; the undershoot of bicubic (-0.11) is cut."""
    raw = torch.zeros(1, 4, 4)
    raw[0, 1:3, 1:3] = 1
    up = maps.upsample(raw, (64, 64))
    assert up.min() < -0.05 and up.max() > 1.02, "no overshoot: this test says nothing"
    torch.testing.assert_close(up, up.flip(1))
    torch.testing.assert_close(up, up.flip(2))
    explanation = plain.explain(images(8), method="activation")
    native = maps.to_unit_range(explanation.raw, from_zero=False)
    free = maps.upsample(native, (SIZE, SIZE))
    assert free.min() < 0 or free.max() > 1
    torch.testing.assert_close(explanation.heatmap, free.clamp(0, 1))


def test_signed_evidence_keeps_both_signs(plain: Any) -> None:
    explanation = plain.explain(images(4), list(range(7)))
    evidence = explanation.evidence
    assert evidence.shape == explanation.heatmap.shape and evidence.dtype == torch.float32
    assert -1 <= evidence.min() < -0.5 and 0.5 < evidence.max() <= 1
    flipped = dataclasses.replace(explanation, raw=-explanation.raw)
    torch.testing.assert_close(flipped.evidence, -evidence)
    constant = dataclasses.replace(explanation, raw=torch.ones_like(explanation.raw))
    assert not constant.evidence.any()
    unsigned = plain.explain(images(), method="gate")
    assert unsigned.evidence is unsigned.heatmap


# Chosen channels


def test_channel_logits_is_the_head_on_a_manipulated_gate(plain: Any) -> None:
    batch = images()
    with torch.no_grad():
        features = plain.forward_features(batch)
        gate = plain.gate(features)
        gate[:, [1, 5, 9]] = 0
        pooled = (features * gate[:, :, None, None]).mean((2, 3))
        expected = pooled @ plain.fc.weight.T + plain.fc.bias
    dropped = plain.channel_logits(batch, drop=[1, 5, 9])
    torch.testing.assert_close(dropped, expected)
    mask = torch.zeros(512, dtype=torch.bool)
    mask[[1, 5, 9]] = True
    assert torch.equal(plain.channel_logits(batch, drop=mask), dropped)
    assert torch.equal(plain.channel_logits(batch, keep=~mask), dropped)
    assert torch.equal(plain.channel_logits(batch, drop=torch.tensor([1, 5, 9])), dropped)
    assert torch.equal(plain.channel_logits(batch, drop=[9, 1, 5, 1]), dropped)
    assert not torch.allclose(dropped, plain.explain(batch).logits, atol=1e-3)


def test_keeping_no_channel_leaves_the_bias(plain: Any) -> None:
    logits = plain.channel_logits(images(), keep=[])
    assert torch.equal(logits, plain.fc.bias.detach().expand(2, -1))
    assert not logits.requires_grad


def test_channels_can_differ_between_images(plain: Any) -> None:
    batch = images()
    mask = torch.rand(2, 512) > 0.5
    logits = plain.channel_logits(batch, keep=mask)
    for i in range(2):
        alone = plain.channel_logits(batch[i : i + 1], keep=mask[i])
        torch.testing.assert_close(logits[i : i + 1], alone)


def test_selected_channels_can_be_dropped(plain: Any) -> None:
    batch = images()
    explanation = plain.explain(batch)
    logits = plain.channel_logits(batch, drop=explanation.selected)
    assert (logits - explanation.logits).abs().max() > 1e-3


@pytest.mark.parametrize(
    "arguments",
    [dict(), dict(keep=[1], drop=[2]), dict(keep=[512]), dict(keep=[-1]), dict(keep=[1.5]),
     dict(keep=[float("nan")]), dict(keep=["a"]), dict(keep={1}), dict(drop=[True] * 3),
     dict(drop=torch.ones(3, 512, dtype=torch.bool))],
)  # fmt: skip
def test_bad_channels_are_refused(plain: Any, arguments: dict) -> None:
    with pytest.raises(InvalidInputError):
        plain.channel_logits(images(), **arguments)


# Threads


def test_mode_is_restored_once_by_the_last_of_several_threads(plain: Any) -> None:
    """The first thread to come in finds the modes, the last to go puts them back; in between
    dropout stays off, even when one of the threads fails."""
    plain.train()
    plain.bn1.eval()
    before = fingerprint(plain)
    inside, go_on = threading.Barrier(2), threading.Event()

    def failing() -> None:
        with mode.evaluating(plain):
            inside.wait()
            raise ZeroDivisionError

    def staying() -> bool:
        with mode.evaluating(plain):
            inside.wait()
            go_on.wait()
            return any(m.training for m in plain.modules())

    with ThreadPoolExecutor(2) as pool:
        stays, fails = pool.submit(staying), pool.submit(failing)
        assert isinstance(fails.exception(), ZeroDivisionError)
        assert not any(m.training for m in plain.modules())
        go_on.set()
        assert stays.result() is False
    assert_unchanged(before, plain)
    assert plain not in mode._ACTIVE


def test_dropout_is_off_and_batch_statistics_stay_in_train_mode() -> None:
    model = ready(timm.create_model("resnet10t_sehead", num_classes=3, drop_rate=0.5))
    batch = images()
    expected = model.explain(batch)
    model.train()
    before = fingerprint(model)
    for _ in range(3):
        assert torch.equal(model.explain(batch).logits, expected.logits)
    assert torch.equal(model.channel_logits(batch, drop=[]), expected.logits)
    assert_unchanged(before, model)


# The result object


def test_explanation_of_one_image(celeba: Any) -> None:
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


def test_explanation_of_one_image_with_rows_of_different_number(celeba: Any) -> None:
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
    assert explanation.titles() == [f"Smiling (not Male) {probability:.0%}"]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("resnet10t", (1, 1, 64, 64), "1, 64, 64"),
        ("vit_tiny_patch16_224", (2, 3, 128, 160), "128, 160"),
        ("swin_tiny_patch4_window7_224", (1, 3, 64, 64), "64, 64"),
    ],
)
def test_images_that_the_backbone_does_not_take(name: str, shape: Any, message: str) -> None:
    small = {"swin": dict(depths=(1, 1, 1, 1), embed_dim=24), "vit_": dict(depth=1)}
    model: Any = se_zoo.squeeze(name, **small.get(name[:4], {}))
    for call in (model.explain, lambda x: model.channel_logits(x, keep=[0])):
        with pytest.raises(InvalidInputError, match=rf"(?s){message}\): .+"):
            call(torch.randn(shape))


def test_wrapped_model_says_what_to_explain(plain: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"\.module"):
        se_zoo.explain(torch.nn.DataParallel(plain), images())


def test_single_output_is_a_yes_or_no() -> None:
    model: Any = se_zoo.squeeze("resnet10t", num_classes=1)
    explanation = model.explain(images(2))
    assert torch.allclose(explanation.probabilities, explanation.logits.float().sigmoid())


def test_other_classes_are_other_labels() -> None:
    model: Any = timm.create_model("se_zoo/resnet18_slim_celeba")
    assert model.is_multi_label()
    model.reset_classifier(40)
    assert model.is_multi_label()
    model.reset_classifier(3)
    assert not model.is_multi_label()
    model.reset_classifier(5, multi_label=True)
    assert model.is_multi_label() and model.num_classes == 5


def test_captions_of_maps_without_a_class_say_so(plain: Any) -> None:
    assert plain.explain(images(), 1, "gate").titles() == ["gate map"] * 2
    assert plain.explain(images(), 1).titles()[0].startswith("1 ")


def test_slice_is_no_image(plain: Any) -> None:
    with pytest.raises(TypeError, match="integer"):
        plain.explain(images())[0:1]


def test_caption_of_a_label_with_synonyms_is_its_first_name() -> None:
    model: Any = se_zoo.squeeze("resnet10t")  # its config names ImageNet-1k
    assert model.explain(images(1), "tench").titles()[0].startswith("tench ")


def test_repr_is_one_line(plain: Any) -> None:
    text = repr(plain.explain(images(), [0, 1, 2]))
    assert "\n" not in text and len(text) < 200
    assert "2 images, 6 rows" in text and "contribution, folded, exact" in text


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
