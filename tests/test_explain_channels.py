"""The channels that an explanation selects, and logits of chosen channels."""

from typing import Any

import numpy as np
import pytest
import torch

from se_zoo import InvalidInputError
from se_zoo.explanations import maps, select_channels

from .explain_models import (
    images,
    plain,  # noqa: F401  (a fixture)
)
from .tester import paper_gate_map, same

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
    raw = maps.weighted_maps(features, weights, [1] * len(gate))
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


def test_channels_selected_for_each_row_can_be_dropped(plain: Any) -> None:
    """The channels of a class gate are those of a row, as docs/explain.md shows."""
    explanation = plain.explain(images(), [1, 3, 5], "class_gate")
    with pytest.raises(InvalidInputError, match=r"images\[explanation\.image_index\]"):
        plain.channel_logits(images(), drop=explanation.selected)
    rows = explanation.images[explanation.image_index]
    logits = plain.channel_logits(rows, drop=explanation.selected)
    assert logits.shape == (6, 7)
    alone = plain.channel_logits(rows[4:5], drop=explanation.selected[4])
    torch.testing.assert_close(logits[4:5], alone)


ONE_OF_TWO = "exactly one of keep and drop"
RANGE = "must be from 0 to 511, not "
FORM = "must be indices or a bool mask, not "
MASK = r"must have shape \(512,\) or \(2, 512\), not "


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(dict(), ONE_OF_TWO), (dict(keep=[1], drop=[2]), ONE_OF_TWO),
     (dict(keep=[512]), RANGE + r"\[512\]"), (dict(keep=[-1]), RANGE + r"\[-1\]"),
     (dict(keep=[1.5]), RANGE + r"\[1\.5\]"), (dict(keep=[float("nan")]), RANGE + r"\[nan\]"),
     (dict(keep=["a"]), FORM + r"\['a'\]"), (dict(keep={1}), FORM + r"\{1\}"),
     (dict(drop=[True] * 3), MASK + r"\(3,\)"),
     (dict(drop=torch.ones(3, 512, dtype=torch.bool)), MASK + r"\(3, 512\)\. .*image_index\]")],
)  # fmt: skip
def test_bad_channels_are_refused(plain: Any, arguments: dict, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        plain.channel_logits(images(), **arguments)
