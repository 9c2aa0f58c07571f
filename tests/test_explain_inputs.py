"""The images and models that ``explain`` takes and refuses, and threads that fail."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import timm
import torch

import se_zoo
from se_zoo import Explanation, InvalidInputError, SEZooWarning
from se_zoo.explanations import channel_logits
from se_zoo.explanations import eval_mode as mode

from .explain_models import (
    SIZE,
    images,
    plain,  # noqa: F401  (a fixture)
    ready,
)
from .tester import assert_unchanged, fingerprint, same

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
def test_images_that_cannot_be_explained_are_refused(plain: Any, bad: Any, message: str) -> None:
    for call in (plain.explain, lambda x: plain.channel_logits(x, keep=[0])):
        with pytest.raises(InvalidInputError, match=message):
            call(bad)


def unnormalised(low: float, high: float) -> torch.Tensor:
    return torch.linspace(low, high, 2 * 3 * SIZE * SIZE).view(2, 3, SIZE, SIZE)


def test_pixels_from_0_to_1_warn_of_the_missing_normalisation(plain: Any) -> None:
    batch = unnormalised(0, 1)
    with pytest.warns(SEZooWarning, match=r"from 0 to 1 .* model\.read_photos") as caught:
        plain.explain(batch)
    assert caught[0].filename == __file__
    with pytest.warns(SEZooWarning, match=r"from 0\.2 to 0\.9"):
        se_zoo.explain(plain, unnormalised(0.2, 0.9), method="activation")


def test_images_that_are_normalised_do_not_warn(plain: Any, monkeypatch: Any) -> None:
    """Nor do batches of one value, and models that take pixels from 0 to 1 as they are."""
    for value in (0.0, 0.5, 2.6):
        plain.explain(torch.full((2, 3, SIZE, SIZE), value))
    for low, high in ((-0.01, 1), (0, 1.01)):
        plain.explain(unnormalised(low, high))
    bright = np.full((SIZE, SIZE, 3), 150, np.uint8)
    bright[:9] = 140
    assert 0 <= plain.read_photos(bright)[0].min() < plain.read_photos(bright)[0].max() <= 1
    plain.explain(bright)
    monkeypatch.setitem(plain.pretrained_cfg, "mean", (0.0, 0.0, 0.0))
    plain.explain(unnormalised(0, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_are_taken_in_the_models_dtype(plain: Any, dtype: torch.dtype) -> None:
    batch = images().to(dtype)
    explanation = plain.explain(batch)
    assert explanation.logits.dtype == torch.float32
    assert torch.equal(explanation.raw, plain.explain(batch.float()).raw)
    assert explanation.images is batch


def test_float16_model_gives_the_maps_of_float32(plain: Any) -> None:
    batch = images()
    expected = plain.explain(batch, 1)
    explanation = plain.half().explain(batch, 1)
    assert explanation.logits.dtype == torch.float16 and explanation.exact
    assert same(explanation.raw, expected.raw, 0.05)


def test_channels_last_images_give_the_same_maps(plain: Any) -> None:
    batch = images()
    explanation = plain.explain(batch.to(memory_format=torch.channels_last))
    assert same(explanation.raw, plain.explain(batch).raw, 1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("resnet10t", (1, 1, 64, 64), "1, 64, 64"),
        ("vit_tiny_patch16_224", (2, 3, 128, 160), "128, 160"),
        ("swin_tiny_patch4_window7_224", (1, 3, 64, 64), "64, 64"),
    ],
)
def test_images_that_the_backbone_does_not_take_are_refused(
    name: str, shape: Any, message: str
) -> None:
    small = {"swin": dict(depths=(1, 1, 1, 1), embed_dim=24), "vit_": dict(depth=1)}
    model: Any = se_zoo.squeeze(name, **small.get(name[:4], {}))
    for call in (model.explain, lambda x: model.channel_logits(x, keep=[0])):
        with pytest.raises(InvalidInputError, match=rf"(?s){message}\): .+"):
            call(torch.randn(shape))


@pytest.mark.parametrize(
    "error",
    ["CUDA error: an illegal memory access was encountered", "DefaultCPUAllocator: can't allocate "
     "memory: you tried to allocate 9 bytes.", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"],
)  # fmt: skip
def test_errors_of_the_machine_are_not_taken_for_errors_of_the_images(
    plain: Any, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(error)

    monkeypatch.setattr(plain, "forward_features", broken)
    with pytest.raises(RuntimeError, match=error[:10]) as caught:
        plain.explain(images())
    assert not isinstance(caught.value, InvalidInputError)


def test_weights_that_are_spread_over_processes_say_what_to_do(
    plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sharded(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("aten.convolution.default: got mixed torch.Tensor and DTensor, need to")

    monkeypatch.setattr(plain, "forward_features", sharded)
    with pytest.raises(InvalidInputError, match=r"model\.unshard\(\)"):
        plain.explain(images())


# Models


def test_models_without_se_head_or_classifier_are_refused(plain: Any) -> None:
    with pytest.raises(InvalidInputError, match="squeeze"):
        se_zoo.explain(timm.create_model("resnet10t"), images())
    with pytest.raises(InvalidInputError, match="squeeze"):
        channel_logits(timm.create_model("resnet10t"), images(), keep=[0])
    plain.reset_classifier(0)
    with pytest.raises(InvalidInputError, match="reset_classifier"):
        plain.explain(images())


def test_weights_with_nan_are_refused(plain: Any) -> None:
    with torch.no_grad():
        plain.fc.bias[2] = torch.nan
    with pytest.raises(InvalidInputError, match="NaN"):
        plain.explain(images())


def test_model_without_a_config_is_explained() -> None:
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


def test_wrapped_model_is_refused_and_its_module_named(plain: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"\.module"):
        se_zoo.explain(torch.nn.DataParallel(plain), images())


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
