"""What a call of explain adds to the forward pass, counted: on a GPU this is most of its time."""

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Tuple

import pytest
import timm
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from se_zoo.explanations import head_forms, heads

#: Heads of every kind that has exact maps: NCHW and NHWC, tokens, with and without a norm.
MODELS: Dict[str, Dict[str, Any]] = {
    "resnet": dict(backbone="test_resnet"),
    "convnext": dict(backbone="test_convnext"),
    "vit": dict(backbone="test_vit", global_pool="avg"),
    "efficientnet": dict(backbone="test_efficientnet"),
    "swin": dict(
        backbone="swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1, 1, 1), embed_dim=24
    ),
}
#: Most operations that a call may dispatch in addition to the forward pass, for two images.
MOST = {
    "contribution": 60,
    "gate": 60,
    "activation": 60,
    "support": 75,
    "class_gate": 150,
    "affinity": 92,
    "rivals": 118,
}
#: What patches that give back what they took add to it, with the norm and for each block.
OF_NORM, OF_BLOCK = 10, 125
_Tensor = torch.Tensor
#: Calls that make the host wait for a GPU.
WAITS = {
    _Tensor.tolist, _Tensor.item, _Tensor.__bool__, _Tensor.__float__, _Tensor.__int__,
    _Tensor.__index__, _Tensor.cpu, _Tensor.numpy, _Tensor.nonzero, torch.nonzero, torch.equal,
    _Tensor.equal, torch.allclose, torch.unique, _Tensor.unique, _Tensor.bincount,
}  # fmt: skip


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: List[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Waits(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: List[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITS:
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def counted(call: Callable[[], Any]) -> Tuple[List[str], List[str]]:
    """Operations that a call dispatches, and its calls that wait for the device."""
    with torch.no_grad(), Waits() as waits, Operations() as operations:
        call()
    # Reading a number, whoever asks for it.
    hidden = [n for n in operations.names if "_local_scalar_dense" in n or "nonzero" in n]
    return operations.names, waits.names + hidden


def made(kind: str, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    model: Any = timm.create_model("timm_sehead", **MODELS[kind], **kwargs).eval()
    torch.nn.init.normal_(model.get_classifier().weight, std=0.1)
    return model


def batch(model: Any) -> torch.Tensor:
    side = MODELS["swin"]["img_size"] if "Swin" in type(model).__name__ else 64
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", MODELS)
def test_operations_and_synchronisations(kind: str) -> None:
    model = made(kind, **({} if kind != "vit" else {"img_size": 64}))
    torch.nn.init.normal_(model.se.fc2.weight)  # one that was never trained is asked each time
    images = batch(model)
    assert model.explain(images).exact  # the first call asks what the head is
    forward = len(counted(lambda: model(images))[0])
    model.explain(images, method="gate")  # asks whether the gate was trained
    model.explain(images, method="affinity")  # asks what the attention is
    found = {}
    for method in MOST:
        operations, waits = counted(lambda method=method: model.explain(images, method=method))
        assert waits == ["tolist"], method
        found[method] = len(operations) - forward
    # Older versions of torch dispatch a few more for the same lines.
    more = 0 if torch.__version__ >= torch.torch_version.TorchVersion("2.9") else 5
    limits = {method: most + more for method, most in MOST.items()}
    if kind == "vit":
        blocks = len(model.blocks) // 2 - 1
        for method in ("affinity", "rivals"):
            limits[method] += OF_NORM + OF_BLOCK * blocks
    assert all(found[method] <= limits[method] for method in MOST), repr(found)


def test_one_synchronisation_whatever_is_asked() -> None:
    model = made("convnext", num_classes=8, multi_label=True)
    torch.nn.init.constant_(model.head.fc.bias[7:], -9.0)  # never predicted
    images = batch(model)
    model.explain(images)
    for options in (
        dict(), dict(target=[1, 2]), dict(target=3, method="difference", versus={1: 0.5, 2: 0.3}),
        dict(method="difference", versus=7),
    ):  # fmt: skip
        assert counted(lambda options=options: model.explain(images, **options))[1] == ["tolist"]


def test_head_is_asked_once_for_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = made("convnext"), []
    find = heads.find_form
    monkeypatch.setattr(heads, "find_form", lambda *a: asked.append(1) or find(*a))
    images = batch(model)
    for _ in range(3):
        model.explain(images)
    assert len(asked) == 1
    with torch.no_grad():
        model.head.fc.weight.mul_(2)  # as an optimiser does
    model.explain(images)
    assert len(asked) == 2
    model.head.fc = torch.nn.Linear(model.head.fc.in_features, 5)
    assert model.explain(images).exact and len(asked) == 3
    model.head.norm = torch.nn.Identity()
    assert model.explain(images).exact and len(asked) == 4


def test_changes_that_leave_no_trace_are_noticed() -> None:
    """A write through param.data does not count as a change, so the batch itself decides."""
    model = made("convnext")
    torch.nn.init.zeros_(model.head.fc.weight)
    torch.nn.init.zeros_(model.head.fc.bias)
    images = batch(model)
    model.explain(images)  # with a classifier of zeros every norm fits
    model.head.fc.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    found = model.explain(images, 3)
    assert found.exact
    total = found.raw.flatten(1).mean(1) + found.constant
    torch.testing.assert_close(total, found.logits[:, 3], rtol=1e-4, atol=1e-4)


def test_another_pooling_is_noticed() -> None:
    model = made("resnet")
    images = batch(model)
    assert model.explain(images).exact
    model.global_pool.pool = torch.nn.AdaptiveMaxPool2d(1)
    assert not model.explain(images).exact


def test_nothing_stays_on_the_model() -> None:
    model = made("convnext")
    images, before = batch(model), set(model.__dict__)
    expected = model.explain(images).raw
    assert set(model.__dict__) == before
    assert model in head_forms._KNOWN
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other not in head_forms._KNOWN
        assert torch.equal(other.explain(images).raw, expected)


def test_a_model_that_is_gone_is_forgotten() -> None:
    model = made("resnet")
    model.explain(batch(model))
    gc.collect()
    known = len(head_forms._KNOWN)
    del model
    gc.collect()
    assert len(head_forms._KNOWN) == known - 1


def test_images_of_any_size_leave_a_bounded_number_of_forms() -> None:
    """That of a quantised classifier holds a copy of all its rows."""
    model, most = made("resnet"), head_forms._MOST_FORMS
    for cells in range(1, most + 4):
        assert model.explain(torch.randn(1, 3, 32 * cells, 32)).exact
    assert len(head_forms._KNOWN[model].forms) == most


def test_threads_ask_and_forget_at_the_same_time() -> None:
    model = made("convnext")
    images = batch(model)
    expected = model.explain(images, 3).raw

    def work(n: int) -> bool:
        if n % 3 == 0:
            head_forms.forget(model)
        return torch.equal(model.explain(images, 3).raw, expected)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(24)))


def test_a_model_loaded_in_inference_mode_is_explained() -> None:
    with torch.inference_mode():
        model = made("resnet")
        assert model.explain(batch(model)).exact
    assert model not in head_forms._KNOWN
