"""Measures of heatmaps, against values computed by hand and against what must hold."""

from typing import Any

import pytest
import torch

from se_zoo.errors import InvalidInputError
from se_zoo.explanations.quality import (
    adcc,
    blurred,
    centre_gaussian,
    deletion_insertion,
    drop_increase_gain,
    energy_in_region,
    impute,
    pixel_average_precision,
    pointing_game,
    rank_correlation,
    road,
)
from se_zoo.explanations.quality.cases import Cases, Drawn
from se_zoo.explanations.quality.compare import THRESHOLDS, score_regions
from se_zoo.explanations.quality.pixels import ranks


def spot(row: int, column: int, size: int = 8) -> torch.Tensor:
    heatmap = torch.zeros(1, size, size)
    heatmap[0, row, column] = 1
    return heatmap


def box(rows: slice, columns: slice, size: int = 8) -> torch.Tensor:
    region = torch.zeros(1, size, size, dtype=torch.bool)
    region[0, rows, columns] = True
    return region


def test_pointing() -> None:
    region = box(slice(2, 4), slice(2, 4))
    assert pointing_game(spot(3, 3), region).tolist() == [True]
    assert pointing_game(spot(3, 6), region).tolist() == [False]
    assert pointing_game(spot(3, 6), region, tolerance=3).tolist() == [True]
    assert pointing_game(spot(3, 6), region, tolerance=2).tolist() == [False]
    assert pointing_game(spot(5, 5), region, tolerance=2).tolist() == [False], "2.8 pixels away"
    both = torch.cat([spot(3, 3), spot(7, 7)])
    assert pointing_game(both, region.expand(2, -1, -1)).tolist() == [True, False]


def test_energy() -> None:
    region = box(slice(0, 4), slice(0, 8))
    flat = torch.ones(1, 8, 8)
    assert energy_in_region(flat, region).item() == pytest.approx(1)
    assert energy_in_region(spot(1, 1), region).item() == pytest.approx(2)
    signed = spot(1, 1) - 5 * spot(6, 6) + spot(7, 7)
    assert energy_in_region(signed, region).item() == pytest.approx(1), "what is negative is none"
    assert energy_in_region(-flat, region).isnan().all()


def test_pixel_average_precision_by_hand() -> None:
    ranked = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    ends = torch.tensor([[[True, False], [True, False]]])
    # The region's pixels come first and third: precision 1 of 1, and 2 of 3.
    assert pixel_average_precision(ranked, ends).item() == pytest.approx((1 + 2 / 3) / 2)
    # They come second and fourth.
    assert pixel_average_precision(ranked, ~ends).item() == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert pixel_average_precision(-ranked, ~ends).item() == pytest.approx((1 + 2 / 3) / 2)
    # Two pixels are equal, one of them of the region: precision 1 of 2, then 2 of 3.
    equal = torch.tensor([[[2.0, 2.0], [1.0, 0.0]]])
    assert pixel_average_precision(equal, ends).item() == pytest.approx((1 / 2 + 2 / 3) / 2)
    both = pixel_average_precision(torch.cat([ranked, equal]), ends.expand(2, -1, -1))
    assert both.tolist() == pytest.approx([5 / 6, 7 / 12])


def average_precision_by_thresholds(heatmap: torch.Tensor, region: torch.Tensor) -> float:
    """By the definition: what lies at or above each value of the map."""
    total, before = 0.0, 0.0
    for value in heatmap.unique().flip(0):
        marked = heatmap >= value
        recall = (marked & region).sum().item() / region.sum().item()
        total += (marked & region).sum().item() / marked.sum().item() * (recall - before)
        before = recall
    return total


def test_pixel_average_precision_is_that_of_all_thresholds() -> None:
    heatmaps = torch.randint(-9, 9, (5, 12, 7)).float()  # many equal pixels
    regions = torch.rand(5, 12, 7) < 0.2
    expected = [
        average_precision_by_thresholds(h, r) for h, r in zip(heatmaps, regions, strict=True)
    ]
    assert pixel_average_precision(heatmaps, regions).tolist() == pytest.approx(expected, rel=1e-5)
    clips = heatmaps.view(5, 3, 4, 7), regions.view(5, 3, 4, 7)
    assert pixel_average_precision(*clips).tolist() == pytest.approx(expected, rel=1e-5)


def test_pixel_average_precision_of_a_flat_map_is_the_share_of_the_region() -> None:
    region = box(slice(0, 2), slice(0, 8))
    assert pixel_average_precision(torch.zeros(1, 8, 8), region).item() == pytest.approx(1 / 4)
    assert pixel_average_precision(region.float(), region).item() == pytest.approx(1)


@pytest.mark.parametrize(
    "change", [lambda x: 3 * x - 2, torch.exp, lambda x: x**3, torch.atan],
    ids=["scaled and moved", "exponential", "cube", "arctangent"],
)  # fmt: skip
def test_a_strictly_increasing_change_of_a_map_keeps_its_pixel_average_precision(
    change: Any,
) -> None:
    signed = torch.randn(4, 16, 12, dtype=torch.float64)
    signed[:, ::3] = signed[:, :1]  # some pixels are equal
    regions = torch.rand(4, 16, 12) < 0.3
    before = pixel_average_precision(signed, regions)
    assert torch.equal(pixel_average_precision(change(signed), regions), before)
    # A map that is cut at 0 is another map, and energy another measure.
    assert not torch.allclose(pixel_average_precision(signed.clamp(min=0), regions), before)
    energy = energy_in_region(signed, regions)
    assert not torch.allclose(energy_in_region(change(signed), regions), energy)


def test_unknown_pixels_count_nowhere() -> None:
    """Whatever a map has there, the scores are those of the map without them."""
    region, known = box(slice(0, 2), slice(0, 4)), box(slice(0, 8), slice(0, 4))
    heatmap = torch.rand(1, 8, 8)
    wild = torch.where(known, heatmap, 100 * torch.randn(1, 8, 8))
    for measure in (pixel_average_precision, energy_in_region, pointing_game):
        expected = measure(heatmap[..., :4], region[..., :4])
        torch.testing.assert_close(measure(wild, region, known=known), expected)
    outside = spot(5, 5) + 0.5 * spot(1, 1)
    assert pointing_game(outside, region, known=known).item()
    assert not pointing_game(spot(5, 5), region, known=known).item(), "flat where it is known"


def test_the_bench_ranks_pixels_by_the_map_before_it_is_cut() -> None:
    """What speaks least against the class is first, though the heatmap shows nothing."""
    region = box(slice(0, 4), slice(0, 8))
    raw = torch.linspace(-1, -2, 64).view(1, 8, 8)
    cases = Cases(torch.zeros(1, 3, 8, 8), torch.tensor([0]), region, None, [0])
    scores = score_regions(cases, Drawn(torch.zeros(1, 8, 8), raw, -raw))
    assert scores.pop("mask_iou") == [[0.0] * len(THRESHOLDS)]
    assert scores.pop("pixel_ap_registered")[0] < 0.4  # of the other map
    assert scores == {
        "pointing": [0.0], "pixel_ap": [1.0], "energy": [0.0], "energy_squared": [0.0]
    }  # fmt: skip


def test_the_bench_leaves_out_unknown_pixels() -> None:
    """Of every second case as well as of all."""
    images, targets = torch.zeros(2, 3, 8, 8), torch.tensor([0, 0])
    regions = box(slice(0, 2), slice(0, 8)).expand(2, -1, -1)
    known = torch.cat([box(slice(0, 4), slice(0, 8)), box(slice(0, 8), slice(0, 8))])
    heatmaps = (spot(7, 7) + 0.5 * spot(1, 1)).expand(2, -1, -1)
    cases = Cases(images, targets, regions, None, [0, 1], known)
    scores = score_regions(cases, Drawn(heatmaps, heatmaps, heatmaps))
    assert scores["pointing"] == [1.0, 0.0]
    assert scores["energy"] == pytest.approx([2.0, 4 / 3])
    # The spot is first, then 31 equal pixels hold the other 15; or it is second, before 62.
    first = (1 + 15 * 16 / 32) / 16, (1 / 2 + 15 * 16 / 64) / 16
    assert scores["pixel_ap"] == pytest.approx(first)
    alone = cases.some([1])
    assert score_regions(alone, Drawn(*[heatmaps[1:]] * 3))["pointing"] == [0.0]
    assert alone.known is not None and alone.known.all() and alone.boxes is None


class Sum(torch.nn.Module):
    """Its logit is the sum of a fixed quarter of the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inside = images[:, :, :4, :4].sum((1, 2, 3))
        return torch.stack([inside, torch.zeros_like(inside)], 1)


def test_deletion_and_insertion_by_hand() -> None:
    """A map that marks the quarter that counts, and its opposite: deletion is over after a quarter
    of the pixels, or begins with the last one."""
    images = torch.full((2, 1, 8, 8), 0.25)
    right = torch.zeros(8, 8)
    right[:4, :4] = 1
    heatmaps = torch.stack([right, -right])
    found = deletion_insertion(Sum(), images, torch.tensor([0, 0]), heatmaps, steps=4)
    whole, none = torch.sigmoid(torch.tensor(4.0)), 0.5
    expected = torch.tensor([[whole, none, none, none, none], [whole, whole, whole, whole, none]])
    torch.testing.assert_close(found.deletion, expected)
    torch.testing.assert_close(found.deletion_auc[0], ((whole + none) / 2 + none * 3) / 4)
    assert found.deletion_auc[0] < found.deletion_auc[1]
    torch.testing.assert_close(found.insertion[:, -1], whole.expand(2))


def test_batches_do_not_change_the_curves() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.Flatten(), torch.nn.Linear(4 * 49, 5)
    ).eval()
    images, heatmaps, targets = (
        torch.randn(3, 3, 16, 16),
        torch.rand(3, 16, 16),
        torch.tensor([0, 3, 1]),
    )
    together = deletion_insertion(net, images, targets, heatmaps, 32)
    for index in range(3):
        alone = deletion_insertion(
            net, images[index : index + 1], targets[index : index + 1],
            heatmaps[index : index + 1], 32, batch_size=5,
        )  # fmt: skip
        torch.testing.assert_close(alone.deletion[0], together.deletion[index])
        torch.testing.assert_close(alone.insertion[0], together.insertion[index])
    assert together.deletion.shape == (3, 33)
    independent = deletion_insertion(net, images, targets, heatmaps, 4, torch.sigmoid)
    first = torch.sigmoid(net(images))[torch.arange(3), targets]
    torch.testing.assert_close(independent.deletion[:, 0], first)
    torch.testing.assert_close(independent.insertion[:, -1], first)


def test_equal_values_go_in_an_order_that_is_drawn() -> None:
    """In reading order a map with many zeros would be measured by what lies at the top."""
    flat = torch.zeros(2, 8, 8)
    found = ranks(flat)
    reading = torch.arange(64).view(8, 8)
    for rank in found:
        assert torch.equal(rank.flatten().sort().values, torch.arange(64))
        likeness = rank_correlation(rank[None].float(), reading[None].float())
        assert abs(float(likeness)) < 0.4
    assert not torch.equal(*found)
    assert torch.equal(ranks(flat[:1], seeds=[1])[0], found[1]), "the seed decides, not the batch"
    heatmap = flat.clone()
    heatmap[:, 5, 5] = 1
    assert ranks(heatmap)[:, 5, 5].tolist() == [0, 0]
    with pytest.raises(InvalidInputError, match="2 images need 2 seeds"):
        ranks(flat, seeds=[0])


def test_models_in_training_are_measured_as_they_predict_and_left_alone() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(),
        torch.nn.Dropout(0.5), torch.nn.LazyLinear(5),
    )  # fmt: skip
    images, heatmaps, targets = torch.randn(2, 3, 8, 8), torch.rand(2, 8, 8), torch.tensor([0, 3])
    net.eval()(images)
    wanted = [m(net, images, targets, heatmaps) for m in (drop_increase_gain, road)]
    curves = deletion_insertion(net, images, targets, heatmaps, 4)
    before = {k: v.clone() for k, v in net.train().state_dict().items()}
    found = [m(net, images, targets, heatmaps) for m in (drop_increase_gain, road)]
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(deletion_insertion(net, images, targets, heatmaps, 4), curves)
    assert net.training and all(torch.equal(before[k], v) for k, v in net.state_dict().items())


class Labels(Sum):
    def is_multi_label(self) -> bool:
        return True


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    """The image's dtype is the model's; and holes are not filled in half, which cannot be done."""
    heatmaps, targets = torch.rand(2, 8, 8), torch.tensor([0, 0])
    images = torch.full((2, 1, 8, 8), 0.25, dtype=dtype)
    whole = drop_increase_gain(Sum(), images.float(), targets, heatmaps)
    found = drop_increase_gain(Sum(), images, targets, heatmaps)
    torch.testing.assert_close(found.drop, whole.drop, rtol=0, atol=0.02)
    bright = torch.full((1, 1, 8, 8), 0.2, dtype=dtype)
    sure = drop_increase_gain(Labels(), bright, targets[:1], torch.ones(1, 8, 8))
    assert torch.isfinite(sure.gain).all()
    scene = 2 * torch.randn(1, 3, 32, 32)
    removed = torch.rand(1, 32, 32) > 0.3
    filled = impute(scene.to(dtype), removed)
    assert filled.dtype == dtype
    torch.testing.assert_close(filled.float(), impute(scene, removed), rtol=0, atol=0.05)


def test_what_logits_become_is_what_the_model_says() -> None:
    images, heatmaps = torch.full((1, 1, 8, 8), 0.1), torch.ones(1, 8, 8)
    given = images, torch.tensor([1]), heatmaps, 2
    assert deletion_insertion(Sum(), *given).deletion[0, 0] < 0.3  # softmax of 1.6 and 0
    assert deletion_insertion(Labels(), *given).deletion[0, 0] == 0.5  # sigmoid of 0


@pytest.mark.parametrize(
    "targets, heatmaps, says",
    [
        (31, torch.ones(2, 8, 8), "targets class indices.*int"),
        (torch.tensor([0]), torch.ones(2, 8, 8), "targets class indices"),
        (torch.tensor([0, 2]), torch.ones(2, 8, 8), "from 0 to 1"),
        (torch.tensor([0.0, 1.0]), torch.ones(2, 8, 8), "whole numbers"),
        (torch.tensor([0, 1]), torch.full((2, 8, 8), float("nan")), "finite"),
        (torch.tensor([0, 1]), torch.ones(2, 8, 7), "heatmaps"),
    ],
)
def test_what_does_not_belong_together_is_refused(targets: Any, heatmaps: Any, says: str) -> None:
    for measure in (drop_increase_gain, road, deletion_insertion):
        with pytest.raises(InvalidInputError, match=says):
            measure(Sum(), torch.zeros(2, 1, 8, 8), targets, heatmaps, **(
                {"steps": 4} if measure is deletion_insertion else {}
            ))  # fmt: skip


def test_adcc_by_hand() -> None:
    images, targets = torch.rand(2, 3, 4, 4), torch.tensor([0, 0])
    spot = torch.zeros(2, 4, 4)
    spot[:, 1, 1] = 1  # complexity 1/16
    turned = torch.stack([spot[0], 1 - spot[1]])  # the same map, and the opposite one
    marked = []

    def explain(product: torch.Tensor) -> torch.Tensor:
        marked.append(product)
        return turned

    found = adcc(explain, images, targets, spot, torch.tensor([0.2, 0.2]))
    assert torch.equal(marked[0], images * spot[:, None])
    wanted = 3 / (1 / 0.8 + 1 / 1.0 + 1 / (15 / 16))
    assert float(found[0]) == pytest.approx(wanted, abs=1e-6)
    assert float(found[1]) == 0  # no coherency


def test_adcc_of_maps_that_say_nothing_is_zero() -> None:
    images, targets = torch.rand(2, 3, 4, 4), torch.tensor([0, 0])
    for value, drop in ((0.0, 1.0), (1.0, 0.0)):
        even = torch.full((2, 4, 4), value)
        found = adcc(lambda product, even=even: even, images, targets, even, torch.full((2,), drop))
        assert found.tolist() == [0, 0]


def test_drop_increase_and_gain_by_hand() -> None:
    images = torch.full((2, 1, 8, 8), 0.25)
    images[1] *= -1
    half = torch.zeros(2, 8, 8)
    half[:, :2] = 1  # half of what counts
    found = drop_increase_gain(Sum(), images, torch.tensor([0, 0]), half)
    p = torch.sigmoid(torch.tensor([4.0, -4.0]))
    q = torch.sigmoid(torch.tensor([2.0, -2.0]))
    torch.testing.assert_close(found.drop, ((p - q) / p).clamp(min=0))
    torch.testing.assert_close(found.gain, ((q - p) / (1 - p)).clamp(min=0))
    assert found.increase.tolist() == [False, True]


def test_rank_correlation() -> None:
    left = torch.tensor([[[1.0, 2.0], [2.0, 4.0]]])
    assert rank_correlation(left, left.exp()).item() == pytest.approx(1)
    assert rank_correlation(left, -left).item() == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4.
    other = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert rank_correlation(left, other).item() == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert rank_correlation(left, torch.ones(1, 2, 2)).isnan().all()


def test_controls() -> None:
    gaussian = centre_gaussian((9, 13))
    assert gaussian.shape == (9, 13) and gaussian.argmax() == 4 * 13 + 6 and gaussian.max() == 1
    assert float(gaussian[4, 0]) == pytest.approx(float(gaussian[0, 6])), "a share of each side"
    smooth = blurred(spot(4, 4, 9), 1.0)
    assert smooth.shape == (1, 9, 9) and smooth.argmax() == 4 * 9 + 4
    assert float(smooth.sum()) == pytest.approx(1, abs=1e-4) and smooth.max() < 0.2
    flat = torch.ones(1, 9, 9)
    torch.testing.assert_close(blurred(flat, 3.0), flat)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: pointing_game(torch.ones(1, 8, 8), torch.ones(1, 8, 8)), "regions as bool"),
        (lambda: energy_in_region(torch.ones(1, 8, 8), box(slice(0, 0), slice(0, 8))), "is empty"),
        (
            lambda: pixel_average_precision(
                torch.full((1, 8, 8), float("nan")), box(slice(0, 4), slice(0, 8))
            ),
            "NaN",
        ),
        (
            lambda: pixel_average_precision(
                torch.ones(1, 8, 8), box(slice(0, 4), slice(0, 8)), torch.ones(1, 8, 8)
            ),
            "known must be bool",
        ),
        (
            lambda: energy_in_region(
                torch.ones(1, 8, 8),
                box(slice(0, 4), slice(0, 8)),
                box(slice(0, 3), slice(0, 8)),
            ),
            "not known",
        ),
        (
            lambda: deletion_insertion(
                Sum(), torch.ones(1, 1, 8, 8), torch.tensor([0]), torch.ones(1, 4, 4)
            ),
            r"images are tensors \(B, C, H, W\)",
        ),
        (
            lambda: deletion_insertion(
                Sum(), torch.ones(1, 1, 8, 8), torch.tensor([0]), torch.ones(1, 8, 8), 65
            ),
            "from 1 to 64 pixels",
        ),
        (
            lambda: drop_increase_gain(
                Sum(), torch.ones(1, 1, 8, 8), torch.tensor([0]), torch.full((1, 8, 8), 2.0)
            ),
            "normalise them first",
        ),
        (lambda: rank_correlation(torch.ones(1, 2, 2), torch.ones(1, 3, 3)), "maps are"),
    ],
)
def test_what_cannot_be_measured(call: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        call()
