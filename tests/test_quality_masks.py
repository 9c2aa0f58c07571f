"""Measures against masks, and the way of a mask through a model's preprocessing."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import se_zoo  # noqa: F401  registers the models
from se_zoo import InvalidInputError
from se_zoo.explanations.quality import (
    best_mask_iou,
    energy_in_region,
    mask_ious,
    mask_regions,
    pixel_average_precision,
    squared,
)


def test_mask_iou_by_hand() -> None:
    heatmap = torch.tensor([[[0.9, 0.6, 0.1], [0.6, 0.2, 0.0]]])
    region = torch.tensor([[[True, True, False], [False, False, False]]])
    found = mask_ious(heatmap, region, (0.0, 0.5, 0.8, 1.0))
    assert found.tolist() == [pytest.approx([2 / 6, 2 / 3, 1 / 2, 0])]
    known = torch.tensor([[[True, True, True], [False, True, True]]])
    assert mask_ious(heatmap, region, (0.5,), known).item() == 1


def test_best_threshold_is_that_of_all_images_together() -> None:
    ious = torch.tensor([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]])
    assert best_mask_iou(ious) == pytest.approx(0.5)


def test_squaring_a_map_raises_its_energy_and_not_its_precision() -> None:
    """Sharper is not better: the control that tells a gain in energy from a gain in place."""
    generator = torch.Generator().manual_seed(0)
    region = torch.zeros(4, 8, 8, dtype=torch.bool)
    region[:, 2:5, 2:5] = True
    heatmap = torch.rand(4, 8, 8, generator=generator) * 0.5 + 0.5 * region
    sharp = squared(heatmap)
    assert (energy_in_region(sharp, region) > energy_in_region(heatmap, region)).all()
    assert torch.equal(
        pixel_average_precision(sharp, region), pixel_average_precision(heatmap, region)
    )


@pytest.fixture(scope="module")
def model() -> Any:
    model: Any = timm.create_model("timm_sehead", backbone="test_resnet")
    model.pretrained_cfg.update(input_size=(3, 64, 64), crop_pct=0.5, crop_mode="center")
    return model


def test_a_mask_is_cropped_as_its_photo(model: Any) -> None:
    """crop_pct 0.5 keeps the middle half of the shorter side, however wide the photo is."""
    numbers = np.zeros((128, 256), np.uint8)
    numbers[32:64, 96:128] = 3  # the upper left quarter of what the model sees
    numbers[64:96, 128:160] = 255
    regions, known = mask_regions(model, [Image.fromarray(numbers)])
    assert regions.shape == known.shape == (1, 64, 64)
    quarter = torch.zeros(64, 64, dtype=torch.bool)
    quarter[:32, :32] = True
    assert torch.equal(regions[0], quarter)
    assert torch.equal(~known[0], quarter.flip(0, 1))


def test_classes_and_modes_of_masks(model: Any) -> None:
    numbers = np.zeros((64, 64), np.uint8)
    numbers[16:48, 16:32], numbers[16:48, 32:48] = 1, 2
    palette = Image.fromarray(numbers).convert("P")
    one, both = (mask_regions(model, [palette], classes)[0] for classes in ([2], [1, 2]))
    assert both.all() and one[0, :, 32:].all() and not one[0, :, :32].any()
    regions, known = mask_regions(model, [Image.fromarray(numbers > 1)])
    assert torch.equal(regions, one) and known.all()


def test_masks_of_a_model_that_pads_photos_and_was_made_larger() -> None:
    model: Any = timm.create_model(
        "timm_sehead", backbone="test_vit", img_size=96, global_pool="avg"
    )
    model.pretrained_cfg.update(crop_mode="border", crop_pct=1.0)
    regions, known = mask_regions(model, [Image.fromarray(np.full((48, 96), 2, np.uint8))])
    assert regions.shape == (1, 96, 96) and known.all()
    assert regions[0, 30:66].all() and not regions[0, :20].any()


def test_masks_of_several_channels_are_refused(model: Any) -> None:
    with pytest.raises(InvalidInputError, match="RGB"):
        mask_regions(model, [Image.new("RGB", (8, 8))])
    with pytest.raises(InvalidInputError, match="none"):
        mask_regions(model, [])
