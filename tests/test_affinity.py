"""Affinity maps: evidence is shared among cells with like features."""

from typing import Any

import numpy as np
import pytest
import timm
import torch

import se_zoo
from se_zoo.explanations import affinity
from se_zoo.explanations.explained_model import smooth_images


def features(count: int = 2, channels: int = 6, grid: tuple = (5, 4)) -> torch.Tensor:
    return torch.rand(count, channels, *grid, generator=torch.Generator().manual_seed(0))


def model_of(backbone: str = "test_resnet", **kwargs: Any) -> Any:
    torch.manual_seed(0)
    made: Any = timm.create_model("timm_sehead", backbone=backbone, **kwargs).eval()
    torch.nn.init.normal_(made.get_classifier().weight, std=0.1)
    return made


def smooth(model: Any, count: int) -> torch.Tensor:
    return smooth_images((count, *model.input_shape()), torch.Generator().manual_seed(1))


def shares(given: torch.Tensor) -> torch.Tensor:
    """What each cell (row) gives to every cell (column) of images (B, C, H, W)."""
    cells = given.shape[2] * given.shape[3]
    each = torch.eye(cells).view(1, cells, *given.shape[2:]).expand(len(given), -1, -1, -1)
    return affinity.share_each(each, given).flatten(2)


def by_hand(raw: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Share a map (H, W) among the like cells of an image with features (C, H, W)."""
    cells = given.double().flatten(1).numpy()
    largest = np.abs(cells).max(1, keepdims=True).clip(1e-6)
    scaled = (cells - cells.mean(1, keepdims=True)) / largest
    unit = scaled / np.linalg.norm(scaled, axis=0)
    alike = np.clip(unit.T @ unit, 0, None)
    factor = np.ones(len(alike))
    for _ in range(3):
        factor = np.sqrt(factor / (alike @ factor))
    gives = raw.double().flatten().numpy() / (alike @ factor)
    return torch.from_numpy(factor * (alike @ gives)).view_as(raw).float()


def test_maps_are_shared_as_by_hand() -> None:
    given, raw = features(), torch.randn(2, 3, 5, 4)
    found = affinity.share_each(raw, given)
    for b in range(2):
        for n in range(3):
            assert torch.allclose(found[b, n], by_hand(raw[b, n], given[b]), atol=1e-5)


def test_each_cell_gives_all_of_its_evidence_and_gets_about_as_much() -> None:
    given = shares(features())
    assert (given >= 0).all()
    assert torch.allclose(given.sum(2), torch.ones(2, 20), atol=1e-5)
    assert (given.sum(1) - 1).abs().amax() < 0.1


def test_cells_of_two_kinds_share_among_their_own_kind_alone() -> None:
    left = torch.zeros(1, 2, 4, 6)
    left[:, 0, :, :3] = 1  # the left half has channel 0, the right half channel 1
    left[:, 1, :, 3:] = 1
    spot = torch.zeros(1, 1, 4, 6)
    spot[0, 0, 1, 1] = 12
    found = affinity.share_each(spot, left)[0, 0]
    assert torch.allclose(found[:, :3], torch.ones(4, 3), atol=1e-5)
    assert torch.allclose(found[:, 3:], torch.zeros(4, 3), atol=1e-5)
    part = affinity.share_each(spot, left, 0.9)[0, 0]  # a tenth stays
    assert torch.allclose(part[:, :3], 0.9 + 0.1 * spot[0, 0, :, :3], atol=1e-5)


def test_the_size_of_a_channel_does_not_count() -> None:
    given = features()
    scaled = given * torch.tensor([1.0, 10, 100, 0.1, 1, 7]).view(1, 6, 1, 1)
    assert torch.allclose(shares(given), shares(scaled), atol=1e-5)


def test_features_that_are_the_same_everywhere_share_nothing() -> None:
    even = torch.full((1, 8, 3, 4), 3.7) * torch.arange(1, 9).view(1, 8, 1, 1)
    assert torch.allclose(shares(even), torch.eye(12)[None], atol=1e-5)


def test_rows_are_shared_as_all_maps_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for grid in ((5, 4), (3, 5, 4)):
        given = features(3, grid=grid)
        raw = torch.randn(3, 2, *grid)
        rows, together = raw.flatten(0, 1), affinity.share_each(raw, given).flatten(0, 1)
        for most in (affinity._MOST, 1):  # all at once, and an image at a time
            monkeypatch.setattr(affinity, "_MOST", most)
            found = affinity.share(rows, given, [2, 2, 2])
            assert torch.allclose(found, together, atol=1e-5)
            found = affinity.share(rows[[0, 4, 5]], given, [1, 0, 2])
            assert torch.allclose(found, together[[0, 4, 5]], atol=1e-5)


def test_frames_of_a_clip_keep_their_evidence() -> None:
    given, raw = features(2, grid=(3, 5, 4)), torch.randn(2, 1, 3, 5, 4)
    found = affinity.share_each(raw, given)
    assert torch.allclose(found.sum((3, 4)), raw.sum((3, 4)), atol=1e-4)
    frame = affinity.share_each(raw[:, :, 1], given[:, :, 1])
    assert torch.allclose(found[:, :, 1], frame, atol=1e-5)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit"])
def test_affinity_maps_add_up_to_the_logit(backbone: str) -> None:
    pool = dict(global_pool="avg") if backbone == "test_vit" else {}
    model = model_of(backbone, num_classes=5, **pool)
    images = smooth(model, 2)
    found = model.explain(images, [0, 3], "affinity")
    assert found.exact and found.signed
    logits = found.logits[found.image_index, torch.tensor(found.target)]
    total = found.raw.flatten(1).mean(1) + found.constant
    assert torch.allclose(total, logits, atol=1e-4)
    plain = model.explain(images, [0, 3], "contribution")
    assert not torch.allclose(found.raw, plain.raw, atol=1e-3)
    assert torch.equal(found.constant, plain.constant)


@pytest.mark.parametrize("method", ["affinity", "class_gate"])
def test_one_module_draws_the_same(method: str) -> None:
    model = model_of(num_classes=4)
    images = smooth(model, 2)
    logits, heatmap, _ = se_zoo.ExplainedModel(model, method, targets=[1, 3])(images)
    found = model.explain(images, [1, 3], method)
    assert torch.equal(logits, found.logits)
    assert torch.allclose(heatmap.flatten(0, 1), found.heatmap, atol=1e-5)


def test_model_draws_its_own_method_by_default() -> None:
    model = model_of(num_classes=4, map_method="affinity")
    images = smooth(model, 1)
    assert model.explain(images).method == "affinity"
    assert se_zoo.ExplainedModel(model).method == "affinity"
    assert model.has_exact_maps()


def test_exact_maps_are_found_whatever_is_drawn_by_default() -> None:
    assert model_of(num_classes=4, map_method="class_gate").has_exact_maps()
