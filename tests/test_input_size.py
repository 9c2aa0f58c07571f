"""The size of a model's input: as it was made, whatever its config says of the weights."""

from typing import Any

import pytest
import timm
import torch
from PIL import Image

import se_zoo
from se_zoo import ExplainedModel


@pytest.mark.parametrize(
    ("backbone", "kwargs", "shape"),
    [
        ("test_resnet", {}, (3, 160, 160)),
        ("test_resnet", {"in_chans": 1}, (1, 160, 160)),
        ("test_vit", {"img_size": 64, "global_pool": "avg"}, (3, 64, 64)),
        ("test_vit", {"img_size": (64, 96), "in_chans": 4, "global_pool": "avg"}, (4, 64, 96)),
    ],
)
@pytest.mark.parametrize("registered", [True, False])
def test_input_is_as_the_model_was_made(
    backbone: str, kwargs: Any, shape: Any, registered: bool
) -> None:
    model: Any = (
        timm.create_model("timm_sehead", backbone=backbone, num_classes=3, **kwargs)
        if registered
        else se_zoo.squeeze(timm.create_model(backbone, num_classes=3, **kwargs))
    ).eval()
    assert model.input_shape() == shape
    assert model.example_inputs()["x"].shape == (1, *shape)
    mean, std = model.image_stats()
    assert len(mean) == len(std) == shape[0]
    images = torch.randn(2, *shape)
    logits, heatmaps, _ = ExplainedModel(model)(images)
    assert heatmaps.shape == (2, 3, *shape[1:])
    assert torch.allclose(logits, model(images), atol=1e-5)
    state = torch.get_rng_state()
    assert model.has_exact_maps()
    assert torch.equal(torch.get_rng_state(), state)


def test_photos_are_brought_to_the_size_that_the_model_was_made_for() -> None:
    model: Any = se_zoo.squeeze("test_vit", num_classes=3, img_size=64, dynamic_img_size=False)
    explanation = model.eval().explain(Image.new("RGB", (90, 80)))
    assert explanation.heatmap.shape[-2:] == (64, 64)


def test_set_input_size_is_followed() -> None:
    model: Any = se_zoo.squeeze("test_vit", num_classes=3, global_pool="avg", img_size=64).eval()
    model.set_input_size(img_size=(96, 64))
    assert model.input_shape() == (3, 96, 64)
    assert ExplainedModel(model)(torch.randn(1, 3, 96, 64))[1].shape == (1, 3, 96, 64)


def test_config_counts_where_the_model_takes_any_size() -> None:
    model: Any = se_zoo.squeeze("test_resnet", num_classes=3)
    model.pretrained_cfg.update(input_size=(3, 40, 56))
    assert model.input_shape() == (3, 40, 56)
