"""Explaining a model that is in train mode, maybe while another thread trains it."""

import functools
import threading
from typing import Any

import timm
import torch
from torch import nn

import se_zoo
from se_zoo.explanations.eval_mode import in_eval_mode


def make(backbone: str = "test_resnet") -> Any:
    torch.manual_seed(0)
    return se_zoo.squeeze(timm.create_model(backbone, num_classes=3))


def test_training_thread_never_sees_eval_mode() -> None:
    model, images = make().train(), torch.randn(2, 3, 64, 64)
    expected = make().eval().explain(images, 1)
    stop, seen = threading.Event(), []

    def train() -> None:
        while not stop.is_set():
            seen.append(all(module.training for module in model.modules()))

    thread = threading.Thread(target=train)
    thread.start()
    try:
        found = [model.explain(images, 1) for _ in range(5)]
        model.channel_logits(images, keep=[0])
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 100 and all(seen)
    assert all(torch.equal(each.raw, expected.raw) for each in found)
    assert found[0].exact


def test_view_shares_tensors_and_nothing_else() -> None:
    model = make("test_vit").train()
    with in_eval_mode(model) as view:
        assert view is not model and type(view) is type(model)
        assert not any(module.training for module in view.modules())
        assert all(module.training for module in model.modules())
        for name, tensor in model.state_dict(keep_vars=True).items():
            assert view.state_dict(keep_vars=True)[name] is tensor
    model.eval()
    with in_eval_mode(model) as view:
        assert view is model


def test_modules_that_cannot_be_viewed_are_switched_and_switched_back() -> None:
    """A replaced forward, as accelerate sets it, runs the module that it was made for."""
    for bend in (
        lambda m: setattr(m, "forward", functools.partial(type(m).forward, m)),
        lambda m: vars(m).update(held=[m]),
    ):
        model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
        bend(model[0])
        with in_eval_mode(model) as used:
            assert used is model and not model[1].training
        assert model[1].training
