"""Measures of heatmaps that look into the model, or replace pixels; ROAD and the drop against
pytorch-grad-cam's own where it is installed."""

import itertools
from typing import Any, Tuple

import pytest
import timm
import torch

import se_zoo  # registers the models
from se_zoo.errors import InvalidInputError
from se_zoo.explanations.quality import (
    box_ious,
    channel_contributions,
    channel_deletion,
    deletion_insertion,
    drop_increase_gain,
    energy_in_region,
    impute,
    max_box_accuracy,
    mosaic,
    pointing_game,
    randomised,
    rank_correlation,
    road,
    shift_stability,
    top_channels,
)


def made(**options: Any) -> Any:
    torch.manual_seed(0)
    options = {"backbone": "test_resnet", "gate": "sigmoid", "num_classes": 6, **options}
    model: Any = timm.create_model("timm_sehead", **options)
    torch.nn.init.normal_(model.get_classifier().weight, std=0.3)
    return model.eval()


def photos(batch: int, size: Tuple[int, int] = (64, 48)) -> torch.Tensor:
    noise = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2) * 3


def maps(batch: int, size: Tuple[int, int] = (64, 48)) -> torch.Tensor:
    rough = torch.rand(batch, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(rough, size=size, mode="bicubic")[:, 0].clamp(0, 1)


# Boxes and mosaics


def test_boxes_by_hand() -> None:
    pytest.importorskip("scipy", reason="boxes need SciPy: extra compare")
    heatmap = torch.zeros(1, 10, 10)
    heatmap[0, 2:6, 2:6] = 0.5  # the box of the answer, less a row
    heatmap[0, 3, 3] = 1.0
    heatmap[0, 9, 9] = 0.8  # elsewhere
    ious = box_ious(heatmap, torch.tensor([[2.0, 2, 6, 7]]), (0.3, 0.6, 0.9, 1.1))
    expected = torch.tensor([[16 / 20, 1 / 20, 1 / 20, 0]], dtype=torch.float64)
    torch.testing.assert_close(ious, expected)
    corner = torch.zeros(1, 4, 4)
    corner[0, 0, 0] = corner[0, 1, 1] = 1  # touching at a corner is one part
    whole = box_ious(corner, torch.tensor([[0.0, 0, 2, 2]]), (0.5,))
    assert whole.item() == pytest.approx(1)


def test_the_threshold_is_the_same_for_all_images() -> None:
    ious = torch.tensor([[0.8, 0.2], [0.1, 0.6], [0.4, 0.35]])
    # At .3: 2 of 3 either way; at .5: 1 of 3; at .7: 1 of 3 at the first threshold.
    accuracy, best = max_box_accuracy(ious)
    assert accuracy == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)
    assert best == pytest.approx(1.3 / 3)


def test_mosaic() -> None:
    images = torch.arange(8.0)[:, None, None, None].expand(8, 3, 4, 6)
    whole, regions = mosaic(images)
    assert whole.shape == (2, 3, 8, 12) and regions.shape == (8, 8, 12)
    for n in range(8):
        inside = whole[n // 4, 0][regions[n]]
        assert inside.numel() == 24 and (inside == n).all()
    energy = energy_in_region(regions.float(), regions)
    assert energy.tolist() == [4.0] * 8, "all in one of four cells"
    with pytest.raises(InvalidInputError, match="4 images"):
        mosaic(images[:6])


def test_a_flat_map_points_nowhere_and_clips_have_regions() -> None:
    region = torch.ones(1, 4, 4, dtype=torch.bool)
    assert pointing_game(torch.zeros(1, 4, 4), region).tolist() == [False]
    clip = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    clip[:, :1] = True
    assert energy_in_region(clip.float(), clip).item() == pytest.approx(2)


# ROAD


def test_imputed_pixels_are_the_mean_of_their_neighbours() -> None:
    images = photos(2)
    removed = maps(2) > 0.5
    filled = impute(images, removed, tolerance=1e-6)
    for n in range(2):
        torch.testing.assert_close(filled[n][:, ~removed[n]], images[n][:, ~removed[n]])
    padded = torch.nn.functional.pad(filled, (1, 1, 1, 1))
    there = torch.nn.functional.pad(torch.ones_like(filled), (1, 1, 1, 1))
    total, weight = torch.zeros_like(filled), torch.zeros_like(filled)
    for y in range(3):
        for x in range(3):
            share = 0 if (y, x) == (1, 1) else 1 / 6 if 1 in (y, x) else 1 / 12
            total += share * padded[:, :, y : y + 64, x : x + 48]
            weight += share * there[:, :, y : y + 64, x : x + 48]
    for n in range(2):
        away = (filled - total / weight)[n][:, removed[n]]
        assert float(away.abs().max()) < 1e-4
    with pytest.raises(InvalidInputError, match="no pixel left"):
        impute(images, torch.ones_like(removed))


@pytest.mark.filterwarnings("ignore")  # of numpy, about grad-cam
@pytest.mark.parametrize("share", [0.2, 0.8])
def test_imputation_is_that_of_grad_cam(share: float) -> None:
    theirs = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="extra compare")
    images, heatmaps = photos(2, (32, 24)), maps(2, (32, 24))
    removed = heatmaps > heatmaps.flatten(1).quantile(1 - share, dim=1)[:, None, None]
    imputer = theirs.NoisyLinearImputer(noise=0)
    wanted = torch.stack([imputer(i, 1 - r.float()) for i, r in zip(images, removed, strict=True)])
    torch.testing.assert_close(impute(images, removed, 1e-6), wanted, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_road_is_that_of_grad_cam(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="extra compare")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    quiet = (0.0, theirs.neighbors_weights)
    monkeypatch.setattr(theirs.NoisyLinearImputer.__init__, "__defaults__", quiet)
    model, images, heatmaps = made(), photos(3), maps(3)
    targets = torch.tensor([0, 4, 2])
    # Their percentile is of the pixels that stay, ours of those that go; and without ties.
    heatmaps = heatmaps + 1e-5 * torch.rand(heatmaps.shape)
    wanted = theirs.ROADCombined([25, 50, 75])(
        images,
        heatmaps.numpy(),
        [ClassifierOutputSoftmaxTarget(t) for t in targets.tolist()],
        model,
    )
    found = road(model, images, targets, heatmaps, (0.75, 0.5, 0.25), noise=0)
    torch.testing.assert_close(found.combined, torch.from_numpy(wanted), rtol=0, atol=2e-3)


def test_road_tells_what_matters_and_does_not_depend_on_the_batch() -> None:
    model, images = made(), photos(4)
    targets = model(images).argmax(1)
    heatmaps = se_zoo.explain(model, images, targets).heatmap
    found = road(model, images, targets, heatmaps, seeds=[5, 6, 7, 8])
    assert found.most_relevant_first.shape == (4, 3 + 1)
    again = road(model, images[2:3], targets[2:3], heatmaps[2:3], seeds=[7])
    torch.testing.assert_close(again.combined[0], found.combined[2], rtol=0, atol=1e-4)
    turned = road(model, images, targets, -heatmaps, seeds=[5, 6, 7, 8])
    assert (found.combined - turned.combined).mean() > 0
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        road(model, images, targets, heatmaps, shares=(1.0,))


def test_drop_is_that_of_grad_cam() -> None:
    theirs = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image", reason="extra compare")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    model, images, heatmaps = made(), photos(3), maps(3)
    targets = torch.tensor([0, 4, 2])
    asked = [ClassifierOutputSoftmaxTarget(t) for t in targets.tolist()]
    found = drop_increase_gain(model, images, targets, heatmaps)
    given = images, heatmaps[:, None].numpy(), asked, model
    before = model(images).softmax(1)[torch.arange(3), targets].detach()
    drop = torch.from_numpy(theirs.DropInConfidence()(*given))
    torch.testing.assert_close(found.drop * before, drop, rtol=1e-4, atol=1e-6)
    increase = torch.from_numpy(theirs.IncreaseInConfidence()(*given))
    assert torch.equal(found.increase.float(), increase)


def test_drop_is_that_of_torch_cam() -> None:
    metrics = pytest.importorskip("torchcam.metrics", reason="extra compare")
    from torchcam.methods import GradCAM

    from se_zoo.explanations.quality.peer_methods import AfterGate
    from se_zoo.explanations.quality.peers import peer_maps

    model, images = made(), photos(3)
    wrapped = AfterGate(model)
    with GradCAM(wrapped, target_layer="layer") as cam:
        metric = metrics.ClassificationMetric(cam)  # of the logits themselves
        metric.update(images)
        theirs = metric.summary()
    targets = model(images).argmax(1)
    # Its maps are stretched from their minimum, and resized bilinearly.
    raw = peer_maps(model, images, targets, "torch-cam/GradCAM")
    low, high = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    heatmaps = torch.nn.functional.interpolate(
        ((raw - low) / (high - low + 1e-8))[:, None], size=(64, 48), mode="bilinear"
    )[:, 0]
    found = drop_increase_gain(model, images, targets, heatmaps, lambda logits: logits)
    assert theirs["avg_drop"] == pytest.approx(float(found.drop.mean()), abs=1e-4)
    assert theirs["conf_increase"] == pytest.approx(float(found.increase.float().mean()))


def test_wrapped_multi_label_model_has_the_probabilities_of_its_labels() -> None:
    model, images, targets = made(multi_label=True), photos(2), torch.tensor([1, 4])
    averaged = torch.optim.swa_utils.AveragedModel(model)
    found, expected = (
        deletion_insertion(each, images, targets, maps(2), steps=2) for each in (averaged, model)
    )
    torch.testing.assert_close(found.deletion, expected.deletion)


# Channels


def test_channel_contributions_add_up_to_the_logit() -> None:
    model, images = made(), photos(3)
    targets = torch.tensor([0, 4, 2])
    parts = channel_contributions(model, images, targets)
    bias = model.get_classifier().bias[targets]
    logits = model(images)[torch.arange(3), targets]
    torch.testing.assert_close(parts.sum(1) + bias, logits, rtol=1e-4, atol=1e-4)


def test_channel_deletion_by_hand() -> None:
    """Of a linear head the logit loses exactly what the channels contributed."""
    model, images = made(), photos(3)
    targets = torch.tensor([0, 4, 2])
    parts = channel_contributions(model, images, targets)
    selected = top_channels(parts)
    assert selected.sum(1).tolist() == [max(1, round(0.1 * parts.shape[1]))] * 3
    found = channel_deletion(model, images, targets, selected)
    torch.testing.assert_close(found.selected, (parts * selected).sum(1), rtol=1e-4, atol=1e-4)
    assert (found.selected > found.random).all()
    everything = channel_deletion(model, images, targets, torch.ones_like(selected), draws=1)
    torch.testing.assert_close(everything.selected, everything.random)
    alone = channel_deletion(model, images[1:2], targets[1:2], selected[1:2], seeds=[1])
    torch.testing.assert_close(alone.random[0], found.random[1], rtol=1e-4, atol=1e-4)
    with pytest.raises(InvalidInputError, match="3 images need 3 seeds"):
        channel_deletion(model, images, targets, selected, seeds=[0])
    with pytest.raises(InvalidInputError, match="channels are"):
        channel_deletion(model, images, targets, selected[:, :4])
    for wrong, message in (
        (torch.tensor([0, -1, 2]), "from 0 to 5"), (torch.tensor([0, 6, 2]), "from 0 to 5"),
        (torch.tensor([1]), "3 class indices"), (torch.rand(3), "3 class indices"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=message):
            channel_deletion(model, images, wrong, selected)
        with pytest.raises(InvalidInputError, match=message):
            channel_contributions(model, images, wrong)


# Sanity


def test_randomisation_goes_from_the_classifier_down() -> None:
    model, images = made(), photos(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names, changed = [], []
    for name, copy in randomised(model):
        names.append(name)
        state = copy.state_dict()
        changed.append({key for key, value in before.items() if not torch.equal(value, state[key])})
    assert names[:3] == ["classifier", "se", "layer4"] and names[-1] == "conv1"
    classifier = {f"fc.{part}" for part in ("weight", "bias")}
    assert changed[0] & classifier and changed[0] <= classifier
    assert all(small <= large for small, large in itertools.pairwise(changed))
    assert len(changed[-1]) > len(changed[0])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()), "not the model"
    # Of the first copy: what depends on the classifier changes, what does not does not.
    targets = torch.tensor([1, 2])
    first = next(iter(randomised(model)))[1]
    for method, same in (("contribution", False), ("gate", True), ("activation", True)):
        ours, theirs = (se_zoo.explain(m, images, targets, method).raw for m in (model, first))
        assert torch.equal(ours, theirs) == same
    again = next(iter(randomised(model)))[1]
    assert torch.equal(again.fc.weight, first.fc.weight)
    kept = [copy for _, copy in randomised(model)]
    assert torch.equal(kept[0].conv1[0].weight, model.conv1[0].weight), "each is a copy of its own"
    assert not torch.equal(kept[-1].conv1[0].weight, model.conv1[0].weight)
    with pytest.raises(InvalidInputError, match="no SE head"):
        next(randomised(timm.create_model("test_resnet")))


def test_a_pair_of_classifiers_is_randomised() -> None:
    model: Any = se_zoo.squeeze("deit_tiny_distilled_patch16_224", depth=1, img_size=32)
    name, first = next(randomised(model))
    assert name == "classifier"
    for head, other in zip(model.get_classifier(), first.get_classifier(), strict=True):  # type: ignore[operator]
        assert not torch.equal(head.weight, other.weight)


def test_stability_by_hand() -> None:
    images = photos(2)
    moves = shift_stability(lambda batch: batch[:, 0], images, ((3, 0), (0, -2), (-1, 4)))
    torch.testing.assert_close(moves, torch.ones_like(moves))
    fixed = maps(2)
    stays = shift_stability(lambda batch: fixed, images, ((3, 0), (0, -2)))
    assert (stays < 0.999).all() and (stays > 0).all()
    wanted = rank_correlation(fixed[:, :-3], fixed[:, 3:])
    torch.testing.assert_close(shift_stability(lambda batch: fixed, images, ((3, 0),)), wanted)


def test_every_kind_of_parameter_is_randomised() -> None:
    """Those of the model itself (class tokens, positions), scalars, and the zeros of an identity
    gate."""
    model: Any = timm.create_model("timm_sehead", backbone="test_vit", gate="identity").eval()
    model.scale = torch.nn.Parameter(torch.tensor(2.0))
    before = {name: p.clone() for name, p in model.named_parameters()}
    *_, (name, last) = randomised(model)
    after = dict(last.named_parameters())
    assert name == "rest"
    assert not torch.equal(before["pos_embed"], after["pos_embed"])
    assert after["se.fc2.weight"].abs().max() > 0 and after["scale"] == 2


def test_contribution_finds_what_the_model_needs_before_the_control() -> None:
    model, images = made(), photos(4)
    targets = model(images).argmax(1)
    ours, control = (
        deletion_insertion(
            model, images, targets, se_zoo.explain(model, images, targets, method).heatmap, 16
        ).deletion_auc.mean()
        for method in ("contribution", "activation")
    )
    assert ours < control
