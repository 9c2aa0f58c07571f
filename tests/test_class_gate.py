"""The class gate: channels that speak for a class, selected by the paper's rule."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import se_zoo
from se_zoo.explanations import maps, select_channels
from se_zoo.explanations.channel_selection import Selection
from se_zoo.explanations.explained_model import ExplainedModel

from .explain_models import celeba, images, plain  # noqa: F401  fixtures
from .test_affinity import by_hand as shared_by_hand
from .test_graph import inputs, made
from .tester import same


def by_hand(features: torch.Tensor, gate: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Class-gate map of one image: features (C, H, W), gate and slope (C,)."""
    signed = -features.min() > 0.5 * features.max()
    scale = features.abs().amax((1, 2)).clamp(min=1e-6).sqrt()
    if signed:
        scale = features.square().mean((1, 2)).sqrt()
    scale[features.mean((1, 2)) < 0] *= -1
    u = gate * slope * (scale if signed else scale.sign())
    chosen = u > u.mean() + 1.2816 * u.std(correction=0)
    drawn = features / scale[:, None, None]
    picked = (u[chosen, None, None] * drawn[chosen]).sum(0) / u[chosen].sum()
    return picked - drawn.mean(0)


@pytest.mark.parametrize("kind", ["resnet", "convnext", "vit", "clip"])
def test_every_layout_has_it(kind: str) -> None:
    model = made(kind)
    torch.nn.init.normal_(model.se.fc2.weight, std=0.3)
    batch = inputs(model, 2)
    found = model.explain(batch, [5, 2], "class_gate")
    with torch.no_grad():
        native = model.forward_features(batch)
        features = model.feature_grid(native, batch.shape[-2:])
    assert found.rule == ("threshold",) * 4 and not found.exact and found.weights == "folded"
    assert found.selected.shape == (4, features.shape[1])
    assert found.raw.shape == (4, *features.shape[2:])
    assert torch.equal(found.selected, select_channels(found.class_gate).mask)
    assert found.signed is False and (found.constant == 0).all()


def test_map_by_hand(plain: Any) -> None:
    batch = torch.nn.functional.interpolate(images(3), size=192)  # cells that are alike
    found = plain.explain(batch, [1, 4], "class_gate")
    with torch.no_grad():
        native = plain.forward_features(batch)
        features, gate = plain.feature_grid(native), plain.gate(native)
    for n, (image, target) in enumerate(zip(found.image_index.tolist(), found.target, strict=True)):
        unshared = by_hand(features[image], gate[image], plain.fc.weight[target].detach())
        assert same(found.raw[n], shared_by_hand(unshared, features[image]), 1e-4)
        assert not same(found.raw[n], unshared, 1e-2)


def test_map_of_signed_features_by_hand() -> None:
    torch.manual_seed(0)
    features, gate, slope = torch.randn(1, 60, 5, 5), torch.rand(1, 60), torch.randn(1, 60)
    weights, _ = maps.class_gate_weights(gate * slope, maps.channel_scale(features))
    raw = maps.weighted_maps(features, weights, [1])[0]
    assert same(raw, by_hand(features[0], gate[0], slope[0]), 1e-4)


def test_sign_and_size_of_a_signed_channel_do_not_matter() -> None:
    """ConvNeXt, ViT and Swin have signed features; a channel turned around says the same."""
    torch.manual_seed(0)
    features, gate, slope = torch.randn(1, 40, 5, 5), torch.rand(1, 40), torch.randn(1, 40)
    factors = torch.where(torch.rand(40) < 0.5, -1.0, 1.0) * (0.9 + 0.2 * torch.rand(40))

    def drawn(f: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        weights, _ = maps.class_gate_weights(gate * w, maps.channel_scale(f))
        return maps.weighted_maps(f, weights, [1])

    changed = features * factors.view(1, -1, 1, 1)
    assert same(drawn(features, slope), drawn(changed, slope / factors), 1e-5)


def test_dropping_its_channels_costs_more_than_dropping_those_of_the_gate(plain: Any) -> None:
    batch = images(4)
    targets = torch.tensor([0, 1, 2, 3])
    found = plain.explain(batch, targets, "class_gate")
    rows = torch.arange(4)
    left = plain.channel_logits(batch, drop=found.selected)[rows, targets]
    by_gate = plain.channel_logits(batch, drop=plain.explain(batch, method="gate").selected)
    lost = found.logits[rows, targets] - left
    assert (lost > 0).all()
    assert lost.mean() > 2 * (found.logits - by_gate)[rows, targets].abs().mean()


def test_classifier_of_zeros_selects_by_rank_and_stays_finite(plain: Any) -> None:
    torch.nn.init.zeros_(plain.fc.weight)
    found = plain.explain(images(), 2, "class_gate")
    assert found.rule == ("rank", "rank") and found.raw.isfinite().all()


def test_rows_of_one_image_keep_their_own_channels(celeba: Any) -> None:
    batch = images()
    found = celeba.explain(batch, ["Smiling", "Male"], "class_gate")
    alone = celeba.explain(batch, "Male", "class_gate")
    assert not torch.equal(found.selected[0], found.selected[1])
    one = found[1]
    assert torch.equal(one.selected, found.selected[2:]) and one.rule == found.rule[2:]
    # As of an explanation that was read from a file, where there are no gates to select from.
    kept = Selection(found.selected, found.rule)
    known = replace(found, class_gate=None, selection=kept)
    assert known[1].rule == one.rule and torch.equal(known[1].selected, one.selected)
    written = found.to_dict()
    assert known.to_dict()["rows"] == written["rows"]
    row = written["rows"][1]
    assert row["selected_channels"] == torch.where(alone.selected[0])[0].tolist()
    assert row["rule"] == alone.rule[0]
    gate = celeba.explain(batch, method="gate")
    expected = torch.where(gate.selected[0])[0].tolist()
    assert written["images"][0]["selected_channels"] == expected


def test_head_without_exact_weights_uses_the_slope_of_the_head() -> None:
    model: Any = se_zoo.squeeze("test_vit")  # reads the class token
    torch.nn.init.normal_(model.get_classifier().weight, std=0.1)
    batch = torch.randn(2, *model.input_shape())
    found = model.eval().explain(batch, 3, "class_gate")
    assert found.weights == "projection" and not found.exact
    assert found.raw.isfinite().all() and found.selected.any(1).all()


def test_graph_has_it_too() -> None:
    model = made("convnext")
    batch = inputs(model)
    with torch.no_grad():
        heatmap = ExplainedModel(model, "class_gate", [5, 2])(batch)[1]
    wanted = model.explain(batch, [5, 2], "class_gate").heatmap
    torch.testing.assert_close(heatmap.flatten(0, 1), wanted, rtol=0, atol=1e-5)
