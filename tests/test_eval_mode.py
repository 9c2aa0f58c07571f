"""Explaining a model that is in train mode, maybe while another thread trains it."""

import contextlib
import functools
import threading
from typing import Any

import pytest
import timm
import torch
from torch import nn

import se_zoo
from se_zoo.explanations.eval_mode import evaluating, in_eval_mode


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


def test_model_in_eval_mode_is_itself_while_another_explanation_runs() -> None:
    model = make().eval()
    with evaluating(model), in_eval_mode(model) as used:
        assert used is model
    with evaluating(model.train()), in_eval_mode(model) as used:
        assert used is not model, "it is in eval mode only until the first one ends"


def test_modules_that_cannot_be_viewed_are_switched_and_switched_back() -> None:
    """A replaced forward, as accelerate sets it, runs the module that it was made for."""
    for bend in (
        lambda m: setattr(m, "forward", functools.partial(type(m).forward, m)),
        lambda m: vars(m).update(held=[m]),
        lambda m: vars(m).update(held={"me": m}),
        lambda m: setattr(m, "features", lambda x: type(m).forward(m, x)),
        lambda m: setattr(m, "features", functools.wraps(m.forward)(lambda x: x)),
    ):
        model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
        bend(model[0])
        with in_eval_mode(model) as used:
            assert used is model and not model[1].training
        assert model[1].training


def test_compiled_method_of_a_model_in_training_runs_in_eval_mode() -> None:
    """torch.compile gives a function that is bound to the model, not to a copy of it."""
    model = make("test_resnet")
    images = torch.randn(2, 3, 64, 64)
    expected = model.eval().explain(images, 1).raw
    model.forward_features = torch.compile(model.forward_features, backend="eager")
    before = model.bn1.running_mean.clone()
    found = model.train().explain(images, 1).raw
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(model.bn1.running_mean, before) and model.training


def test_model_that_another_explanation_has_switched_stays_so_until_the_last_ends() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    model[0].forward = functools.partial(type(model[0]).forward, model[0])
    with contextlib.ExitStack() as later:
        with in_eval_mode(model):
            later.enter_context(in_eval_mode(model))
        assert not model[1].training, "the second one still runs"
    assert model[1].training


@pytest.mark.parametrize("switched", [False, True])
def test_what_attention_keeps_for_eval_mode_is_that_of_the_weights(switched: bool) -> None:
    """LeViT keeps its biases in eval mode until its mode is set, which an explanation does not."""
    torch.manual_seed(0)
    small = dict(embed_dim=(16, 24, 32), key_dim=8, num_heads=(1, 2, 2), depth=(1, 1, 1))
    model: Any = se_zoo.squeeze(timm.create_model("levit_128s", num_classes=3, **small)).train()
    if switched:
        model.head.forward = functools.partial(type(model.head).forward, model.head)
    images = torch.randn(1, 3, 224, 224)
    model.explain(images, 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "attention_biases" in name:
                parameter.normal_(0, 5)
    found = model.explain(images, 0)
    assert torch.equal(found.logits, model.eval().explain(images, 0).logits)
    model.explain(images, 0)
    caches = [m.attention_bias_cache for m in model.modules() if hasattr(m, "attention_bias_cache")]
    assert caches and all(caches), "in eval mode it is kept, as timm does"


def test_explaining_within_autocast_leaves_training_its_gradients() -> None:
    """Before torch 2.11, autocast gives weights that were cast without gradients to training."""
    model, images, kept = make().train(), torch.randn(2, 3, 64, 64), []
    model.fc.register_forward_hook(lambda *_: kept.append(torch.is_autocast_cache_enabled()))
    with torch.autocast("cpu", torch.bfloat16):
        model.explain(images, 0)
        with evaluating(model), torch.no_grad():
            model(images)
        assert kept and not any(kept) and torch.is_autocast_cache_enabled()
        total = model(images).float().sum()
    total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_each_thread_restores_its_own_cache_of_autocast() -> None:
    """torch keeps the setting for each thread, and explanations of several threads overlap."""
    model, kept = make().eval(), []
    both, first_ended = threading.Barrier(2), threading.Event()

    def explain(first: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            with in_eval_mode(model), in_eval_mode(model):
                both.wait()
                if not first:
                    first_ended.wait()
                kept.append(torch.is_autocast_cache_enabled())
            kept.append(torch.is_autocast_cache_enabled())
        first_ended.set()

    threads = [threading.Thread(target=explain, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept == [False, True] * 2
