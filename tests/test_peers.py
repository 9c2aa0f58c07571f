"""Other libraries' methods behind our call."""

import gc
from typing import Any

import pytest
import timm
import torch

from se_zoo.errors import InvalidInputError
from se_zoo.explanations import class_maps
from se_zoo.explanations.quality import rank_correlation
from se_zoo.explanations.quality.cases import Cases, draw
from se_zoo.explanations.quality.compare import Settings, same_maps, score
from se_zoo.explanations.quality.peer_methods import GRID_PEERS, SLOW, AfterGate
from se_zoo.explanations.quality.peers import CLASS_TOKEN_PEERS, peer_explain, peer_maps
from se_zoo.explanations.quality.token_peers import TOKEN_PEERS, _torch_blocks

LIBRARIES = {
    "grad-cam": "pytorch_grad_cam", "captum": "captum", "torch-cam": "torchcam", "torch": "torch",
    "se_zoo": "se_zoo",
}  # fmt: skip
#: Those that are the gradient of a head of pooling and a linear layer, averaged: our map.
SAME = (
    "grad-cam/GradCAM", "grad-cam/HiResCAM", "grad-cam/XGradCAM", "grad-cam/ShapleyCAM",
    "captum/LayerGradCam", "torch-cam/CAM",
)  # fmt: skip


def need(method: str) -> None:
    package = LIBRARIES[method.split("/")[0]]
    pytest.importorskip(package, reason=f"{package} is not installed: extra compare")


def made(backbone: str, **options: Any) -> Any:
    torch.manual_seed(0)
    model: Any = timm.create_model("timm_sehead", backbone=backbone, gate="sigmoid", **options)
    torch.nn.init.normal_(model.get_classifier().weight, std=0.1)
    if backbone != "test_vit":  # which takes one size
        model.pretrained_cfg["input_size"] = (3, 96, 96)
    return model.eval()


def images(model: Any, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, *model.input_shape(), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit"])
def test_the_wrapped_model_is_the_model(backbone: str) -> None:
    model = made(backbone, **({"global_pool": "avg"} if "vit" in backbone else {}))
    wrapped, batch = AfterGate(model), images(model)
    seen: list = []
    wrapped.layer.register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.no_grad():
        torch.testing.assert_close(wrapped(batch), model(batch))
        native = model.forward_features(batch)
        grid = model.feature_grid(model.gated(native), batch.shape[-2:])
    torch.testing.assert_close(seen[0], grid)


@pytest.mark.parametrize("method", SAME)
def test_gradcam_behind_the_gate_is_our_map(method: str) -> None:
    need(method)
    model = made("test_resnet")
    batch, targets = images(model), torch.tensor([3, 8])
    ours = model.explain(batch, targets)
    assert ours.exact
    raw = peer_maps(model, batch, targets, method)
    assert (rank_correlation(raw, ours.raw) >= 0.99).all()
    found = peer_explain(model, batch, targets, method)
    torch.testing.assert_close(found.heatmap, ours.heatmap, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", GRID_PEERS)
def test_what_every_peer_gives(method: str) -> None:
    need(method)
    model = made("test_resnet")
    model.train()
    batch = images(model)
    first, *others = model.parameters()
    first.grad = before = torch.ones_like(first)
    found = peer_explain(model, batch, [3, 8], method)
    assert found.heatmap.shape == (4, *batch.shape[2:]) and found.target == (3, 8, 3, 8)
    assert found.method == method and found.weights == "peer" and not found.exact
    assert 0 <= float(found.heatmap.min()) and float(found.heatmap.max()) <= 1
    assert float(found.heatmap.flatten(1).amax(1).max()) > 0.5
    assert found.overlay().shape == (4, *batch.shape[2:], 3)
    assert found.titles() == model.explain(batch, [3, 8]).titles()
    # Nothing is left behind: modes, gradients, hooks.
    assert all(module.training for module in model.modules())
    assert first.grad is before and all(other.grad is None for other in others)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("method", GRID_PEERS)
def test_clips(method: str) -> None:
    need(method)
    model: Any = timm.create_model("framewise_sehead", backbone="test_resnet", num_frames=2).eval()
    clips = torch.randn(1, 3, 2, 64, 64)
    if method in ("grad-cam/ScoreCAM", "grad-cam/AblationCAM"):
        with pytest.raises(InvalidInputError, match="takes images only"):
            peer_maps(model, clips, torch.tensor([1]), method)
    else:
        assert peer_explain(model, clips, 1, method).heatmap.shape == (1, 2, 64, 64)
        single = clips[:, :, 0]  # to clip models an image is a clip of one frame
        assert peer_explain(model, single, 1, method).heatmap.shape == (1, 1, 64, 64)


def test_frozen_models_and_no_grad() -> None:
    need("captum/LayerGradCam")
    model = made("test_resnet").requires_grad_(False)
    batch = images(model)
    with torch.inference_mode():
        found = peer_explain(model, batch, 3, "captum/LayerGradCam")
        for method in ("grad-cam/GradCAM", "torch-cam/GradCAM"):
            need(method)
            peer_explain(model, batch, 3, method)
    with pytest.raises(InvalidInputError, match=r"model.float\(\)"):
        peer_explain(made("test_resnet").bfloat16(), batch, 3, "grad-cam/GradCAM")
    torch.testing.assert_close(found.heatmap, model.explain(batch, 3).heatmap, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", CLASS_TOKEN_PEERS)
def test_methods_that_take_class_tokens(method: str) -> None:
    need(method)
    model = made("test_vit")
    batch, blocks = images(model, 2), model.blocks
    found = peer_explain(model, batch, [1, 4], method)
    assert float(found.heatmap.flatten(1).std(1).min()) > 0
    # As in the benchmarks: the frozen model has the same maps, and nothing is left behind.
    frozen = peer_explain(model.requires_grad_(False), batch, [1, 4], method)
    torch.testing.assert_close(frozen.raw, found.raw)
    assert model.blocks is blocks
    assert not any(module._forward_hooks for module in model.modules())


def test_attention_of_torch_is_that_of_timm() -> None:
    model = made("test_vit")
    batch = images(model)
    with torch.no_grad():
        own = model(batch)
        with _torch_blocks(model) as blocks:
            torch.testing.assert_close(model(batch), own)
    assert torch.allclose(blocks[-1].attention.sum(-1), torch.ones(()))


def test_legrad_is_the_gradient_by_the_attention() -> None:
    """Positive gradients of a block's own class score, by its attention after the softmax."""
    need("torch-cam/LeGrad")
    model = made("test_vit")
    batch, targets, kept = images(model), torch.tensor([3, 8]), []
    expected = []
    for block in model.blocks[-4:]:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, given, out: kept.append(out))
    tokens = []
    hooks = [b.register_forward_hook(lambda m, i, out: tokens.append(out)) for b in model.blocks]
    model(batch)
    for out, attention in zip(tokens[-len(kept) :], kept, strict=True):
        logits = model.classify(model.gated(model.norm(out)))
        score = logits.gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, attention, retain_graph=True)
        expected.append(gradient.relu().mean((1, 2))[:, 1:])
    for hook in hooks:
        hook.remove()
    found = peer_maps(model, batch, targets, "torch-cam/LeGrad").flatten(1)
    torch.testing.assert_close(found, torch.stack(expected).mean(0), rtol=1e-3, atol=1e-7)


def test_projection_is_the_map_of_other_class_token_models(monkeypatch: Any) -> None:
    model = made("test_vit")
    batch = images(model)
    found = peer_maps(model, batch, torch.tensor([3, 3]), "se_zoo/projection")
    monkeypatch.setattr(class_maps, "_attention_maps", lambda *args: None)
    ours = model.explain(batch, 3)
    assert ours.weights == "projection"
    torch.testing.assert_close(found, ours.raw, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", TOKEN_PEERS)
def test_methods_for_class_tokens_refuse_other_models(method: str) -> None:
    need(method)
    model = made("test_resnet")
    with pytest.raises(InvalidInputError, match="class token"):
        peer_maps(model, images(model), torch.tensor([1, 1]), method)


@pytest.mark.filterwarnings("ignore")
def test_the_strongest_value_of_eigencam_is_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    need("grad-cam/EigenCAM")
    import pytorch_grad_cam.eigen_cam as theirs

    model = made("test_resnet")
    batch, targets = images(model), torch.tensor([3, 8])
    found = peer_maps(model, batch, targets, "grad-cam/EigenCAM")
    own = theirs.get_2d_projection
    monkeypatch.setattr(theirs, "get_2d_projection", lambda activations: -own(activations))
    torch.testing.assert_close(peer_maps(model, batch, targets, "grad-cam/EigenCAM"), found)
    assert (found.flatten(1).amax(1) >= found.flatten(1).amin(1).abs()).all()


def test_refusals() -> None:
    model = made("test_vit")  # reads the class token
    with pytest.raises(InvalidInputError, match="global_pool"):
        peer_explain(model, images(model), 1, "grad-cam/GradCAM")
    resnet = made("test_resnet")
    with pytest.raises(InvalidInputError, match="the peers are"):
        peer_maps(resnet, images(resnet), torch.tensor([1, 1]), "GradCAM")
    with pytest.raises(InvalidInputError, match="no SE head"):
        AfterGate(timm.create_model("test_resnet"))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    model = made("test_resnet")
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(InvalidInputError, match="extra compare"):
        peer_maps(model, images(model), torch.tensor([1, 1]), "captum/LayerGradCam")


def test_scores_do_not_depend_on_the_batch() -> None:
    pytest.importorskip("scipy", reason="boxes need SciPy: extra compare")
    model = made("test_resnet", num_classes=10)
    batch = torch.nn.functional.avg_pool2d(torch.randn(4, 3, 96, 96), 5, 1, 2) * 3
    regions = torch.zeros(4, 96, 96, dtype=torch.bool)
    regions[:, 20:60, 30:70] = True
    boxes = torch.tensor([[30.0, 20, 70, 60]] * 4)
    cases = Cases(batch, torch.tensor([1, 4, 2, 0]), regions, boxes, [0, 1, 2, 3])
    methods, settings = ("contribution", "gate", "centre"), Settings(steps=5, shares=(0.3,))
    before = {name: tensor.clone() for name, tensor in model.train().state_dict().items()}
    whole = score(model, cases, methods, settings, [1, 2], [])
    assert model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    model.eval()
    part = score(model, cases.some([2, 3]), methods, settings, [0], [])
    assert set(whole) == set(methods)
    for method, tables in part.items():
        for measure, values in tables.items():
            for case, value in values.items():
                assert value == pytest.approx(whole[method][measure][case], abs=1e-4), measure
    assert set(whole["contribution"]["road"]) == {"1", "2"}
    assert whole["contribution"]["likeness"] == pytest.approx(dict.fromkeys("0123", 1.0))
    assert whole["gate"]["random_classifier"] == pytest.approx(dict.fromkeys("12", 1.0))
    drawn = draw(model, cases, "contribution")
    other = draw(model, cases, "activation")
    assert same_maps(drawn.raw, 3 * drawn.raw) and not same_maps(drawn.raw, other.raw)
    with pytest.raises(InvalidInputError, match="there are contribution"):
        draw(model, cases, "GradCAM")


@pytest.mark.parametrize("method", [m for m in GRID_PEERS if m not in SLOW])
def test_no_peer_keeps_memory_after_its_call(method: str) -> None:
    """Nothing that a call made waits for Python's collector of cycles."""
    need(method)
    model = made("test_resnet")
    batch, targets = images(model), torch.tensor([3, 8])
    # What is there already is counted no more: there are a million objects.
    gc.freeze()
    gc.disable()
    try:
        peer_maps(model, batch, targets, method)
        before = _tensors()  # what a library keeps once, and what a call leaves
        peer_maps(model, batch, targets, method)
        assert _tensors() <= before
    finally:
        gc.enable()
        gc.unfreeze()


def _tensors() -> int:
    return sum(type(found) is torch.Tensor for found in gc.get_objects())


def test_peers_are_scored_where_they_are_drawn_and_where_the_offset_puts_them() -> None:
    need("grad-cam/GradCAM")
    model = made("test_resnet")
    model.map_offset = (9.0, -5.0)
    cases = Cases(images(model), torch.tensor([3, 8]), None, None, range(2))
    ours, peer = (draw(model, cases, name) for name in ("contribution", "grad-cam/GradCAM"))
    assert ours.raw is ours.registered and not same_maps(peer.raw, ours.raw)
    assert same_maps(peer.registered, ours.raw)
    likeness = score(model, cases, ["grad-cam/GradCAM"], Settings(), [], [])
    found = likeness["grad-cam/GradCAM"]["likeness"]
    assert min(found.values()) > 0.99, "maps are compared where the offset puts both"
