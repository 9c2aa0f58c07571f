"""Class-token transformers: what each patch adds to the logit through the attentions."""

from typing import Any, Tuple

import pytest
import timm
import torch
from timm.layers.attention import Attention
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from se_zoo import InvalidInputError
from se_zoo.explanations import class_token, token_attention
from se_zoo.explanations.eval_mode import in_eval_mode
from se_zoo.explanations.explained_model import ExplainedModel
from se_zoo.explanations.quality import channel_contributions

from .tester import randomise, spread_gate, varied_images


def made(backbone: str = "test_vit", **kwargs: Any) -> Any:
    torch.manual_seed(0)
    model: Any = timm.create_model(
        "timm_sehead", backbone=backbone, img_size=64, num_classes=5, gate="sigmoid", **kwargs
    )
    return spread_gate(randomise(model).eval(), varied_images(4, (64, 64)))


SMALL = dict(embed_dim=48, depth=3, num_heads=4)


#: Plain, with registers and layer scale, with norms of queries and keys; EVA's with biases apart,
#: and with projections apart.
KINDS = {
    "plain": dict(),
    "registers": dict(reg_tokens=3, init_values=0.5),
    "qk_norm": dict(qk_norm=True),
    "two_tokens": dict(backbone="deit_tiny_distilled_patch16_224", **SMALL),
    "eva": dict(backbone="eva_giant_patch14_224", patch_size=16, global_pool="token", **SMALL),
    "eva02": dict(backbone="eva02_base_patch14_224", patch_size=16, global_pool="token", **SMALL),
    "dinov3": dict(backbone="vit_small_patch16_dinov3", global_pool="token", **SMALL),
    "rope": dict(backbone="vit_small_patch16_rope_224", **SMALL),
    "rope_mixed": dict(backbone="vit_small_patch16_rope_mixed_224", **SMALL),
}


@pytest.mark.parametrize("kind", KINDS)
def test_part_of_a_patch_is_what_its_values_add(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the values of one patch at 0, timm's own attention gives that much less."""
    # timm 1.0.21 has no mixed rotary embeddings in double.
    dtype, rtol, atol = torch.float64, 1e-6, 1e-9
    if kind == "rope_mixed":
        dtype, rtol, atol = torch.float32, 1e-3, 1e-5
    model = made(**KINDS[kind]).to(dtype)
    images = varied_images(2, (64, 64)).to(dtype)
    rows, targets = torch.tensor([0, 1]), torch.tensor([3, 1])
    with torch.no_grad():
        native: Any
        native, trace = class_token.traced_features(model, images)
        assert torch.equal(native, model.forward_features(images))
        gate, logits = model.gate(native), model(images)
        weights, fit = class_token.token_weights(model, trace, gate, rows, targets)
        torch.testing.assert_close(fit.logits, logits[rows, targets], rtol=1e-4, atol=1e-4)
        parts, both = token_attention.patch_parts(model, trace, weights[:, None])
        made_of_values, _ = token_attention.patch_parts(
            model, trace, weights[:, None].expand(-1, 20, -1, -1)
        )
        torch.testing.assert_close(made_of_values[:, 19:], parts, rtol=rtol, atol=atol)
        assert (both >= parts.abs()).all()
        parts, prefix = parts[:, 0], model.num_prefix_tokens
        read, attend = weights.shape[1], functional.scaled_dot_product_attention

        def added() -> torch.Tensor:
            total = torch.zeros(2, dtype=dtype)
            for number, block in enumerate(model.blocks[1:]):
                given = {} if trace.ropes is None else {"rope": trace.ropes[number]}
                scale: Any = getattr(block, "gamma_1", None)  # EVA's
                scale = getattr(getattr(block, "ls1", None), "gamma", scale)
                out = block.attn(block.norm1(trace.tokens(number)), **given)[:, :read]
                total += ((out if scale is None else out * scale) * weights).sum((1, 2))
            return total

        whole = added()
        for patch in (0, 5, parts.shape[1] - 1):

            def without(q: Any, k: Any, v: Any, patch: int = patch, **options: Any) -> Any:
                v = v.clone()
                v[:, :, prefix + patch] = 0
                return attend(q, k, v, **options)

            with monkeypatch.context() as patched:
                patched.setattr(functional, "scaled_dot_product_attention", without)
                expected = whole - added()
            torch.testing.assert_close(parts[:, patch], expected, rtol=rtol, atol=atol)
    assert parts.shape == (2, 16) and float(parts.std()) > 1e-4


#: Heads that read the mean of the patches: the norm behind the mean, and before it.
MEANS = {
    "norm_behind": dict(global_pool="avg"),
    "norm_before": dict(global_pool="avg", fc_norm=False),
    "registers": dict(global_pool="avg", reg_tokens=3, init_values=0.5),
    "no_prefix": dict(global_pool="avg", class_token=False),
    "qk_norm": dict(global_pool="avg", qk_norm=True),
    "dinov3": dict(backbone="vit_small_patch16_dinov3", **{**SMALL, "depth": 4}),
    "rope_mixed": dict(
        backbone="vit_small_patch16_rope_mixed_224", global_pool="avg", **{**SMALL, "depth": 6}
    ),
}


@pytest.mark.parametrize("kind", MEANS)
def test_patches_give_back_what_they_took(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the values of a patch at their bias, timm's own attention gives that much less."""
    model = made(**MEANS[kind])
    images, targets = varied_images(2, (64, 64)), torch.tensor([3, 1])
    attend = functional.scaled_dot_product_attention
    with torch.no_grad():
        assert class_token.reads_patches(model) and not class_token.reads_class_token(model)
        native: Any
        native, trace = class_token.traced_features(model, images)
        assert torch.equal(native, model.forward_features(images))
        assert token_attention.is_taken_apart(model, trace)
        weights = torch.randn(2, 1, trace.after.shape[2])
        raw, prefix = torch.randn(2, 1, 16), model.num_prefix_tokens
        direction, scale = weights[:, 0], torch.ones(2, 16)
        if isinstance(model.norm, torch.nn.LayerNorm):
            direction = direction * model.norm.weight
            direction = direction - direction.mean(1, keepdim=True)
            scale = (trace.after.var(2, correction=0) + model.norm.eps).rsqrt()
        expected = raw[:, 0].clone()
        for number in range(len(trace.before)):
            block = model.blocks[number + 1]
            given = {} if trace.ropes is None else {"rope": trace.ropes[number]}
            layer = getattr(block, "gamma_1", None)
            layer = getattr(getattr(block, "ls1", None), "gamma", layer)
            bias = token_attention._projections(block.attn)[2].bias
            bias = None if bias is None else bias.unflatten(0, (block.attn.num_heads, -1))

            def added(patches: Any, block: Any = block, given: Any = given, layer: Any = layer,
                      bias: Any = bias, number: int = number) -> torch.Tensor:  # fmt: skip
                def without(q: Any, k: Any, v: Any, **options: Any) -> Any:
                    v = v.clone()
                    v[:, :, [prefix + n for n in patches]] = 0 if bias is None else bias[:, None]
                    return attend(q, k, v, **options)

                with monkeypatch.context() as patched:
                    patched.setattr(functional, "scaled_dot_product_attention", without)
                    out = block.attn(block.norm1(trace.tokens(number)), **given)[:, prefix:]
                out = out if layer is None else out * layer
                return (out * direction[:, None]).sum(2) * scale

            whole = added([])
            expected -= whole - added(range(16))
            expected += torch.stack([(whole - added([n])).sum(1) for n in range(16)], 1)
        found = token_attention.give_back(model, trace, weights, raw)
        many = token_attention.give_back(
            model, trace, weights.expand(-1, 20, -1), raw.expand(-1, 20, -1)
        )
        rows = torch.tensor([0, 1, 1])
        uneven = token_attention.give_back_of_rows(
            model, trace, weights[rows, 0], raw[rows, 0].unflatten(1, (4, 4)), [1, 2]
        )
        with monkeypatch.context() as patched:
            patched.setattr(token_attention, "_MOST", 1)
            apart = token_attention.give_back_of_rows(
                model, trace, weights[:, 0], raw[:, 0].unflatten(1, (4, 4)), [1, 1]
            )
    torch.testing.assert_close(apart.flatten(1), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(uneven.flatten(1), expected[rows], rtol=1e-3, atol=1e-4)
    assert trace.before and float((expected - raw[:, 0]).abs().max()) > 1e-3
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(many[:, 19], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.sum(2), raw.sum(2), rtol=1e-3, atol=1e-3)

    shared, plain = model.explain(images, targets, "affinity"), model.explain(images, targets)
    assert shared.weights == "sources" and plain.weights == "folded"
    assert shared.exact and plain.exact
    torch.testing.assert_close(shared.constant, plain.constant, rtol=1e-3, atol=1e-3)
    total = shared.raw.flatten(1).mean(1) + shared.constant
    torch.testing.assert_close(total, shared.logits[torch.arange(2), targets], rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        heatmap = ExplainedModel(model, "affinity", targets=[3])(images)[1]
    wanted = model.explain(images, 3, "affinity").heatmap
    torch.testing.assert_close(heatmap[:, 0], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_map_and_constant_add_up_to_the_logit(kind: str) -> None:
    model, images = made(**KINDS[kind]), varied_images(3, (64, 64))
    found = model.explain(images, [0, 4])
    assert found.weights == "attention" and not found.exact and found.native_grid == (4, 4)
    total = found.raw.flatten(1).mean(1) + found.constant
    torch.testing.assert_close(total, found.logits[:, [0, 4]].flatten(), rtol=1e-4, atol=1e-4)
    # It is not the projection: it knows where the class token looks.
    assert found.raw.flatten(1).std(1).min() > 1e-4
    pair = model.explain(images, 0, "difference", versus=4)
    expected = found.raw[::2] - found.raw[1::2]
    torch.testing.assert_close(pair.raw, expected, rtol=1e-4, atol=1e-4)


def test_an_image_alone_has_the_map_that_it_has_in_a_batch() -> None:
    model, images = made(), varied_images(4, (64, 64))
    together = model.explain(images, [1, 2]).raw
    alone = model.explain(images[2:3], [1, 2]).raw
    torch.testing.assert_close(alone, together[4:6], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["plain", "rope_mixed"])
def test_images_may_have_different_numbers_of_rows(kind: str) -> None:
    model, images = made(**KINDS[kind]), varied_images(2, (64, 64))
    rows, targets = torch.tensor([0, 1, 1, 1]), torch.tensor([3, 1, 2, 0])
    with torch.no_grad():
        native, trace = class_token.traced_features(model, images)
        weights, _ = class_token.token_weights(model, trace, model.gate(native), rows, targets)
        found = token_attention.patch_parts_of_rows(model, trace, weights, [1, 3])
        single = [token_attention.patch_parts_of_rows(model, trace.image(n), row[None], [1])
                  for n, row in zip(rows.tolist(), weights, strict=True)]  # fmt: skip
    for parts, wanted in zip(found, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(parts, torch.cat(wanted), rtol=1e-4, atol=1e-5)


def traced_without_data(pool: str) -> Tuple[Any, class_token.TokenTrace, int]:
    """A ViT-Tiny on the meta device, its tokens, and the operations of its forward pass."""
    model: Any = timm.create_model(
        "timm_sehead", backbone="vit_tiny_patch16_224", global_pool=pool
    ).eval().to("meta")  # fmt: skip
    for block in model.blocks:
        block.attn.fused_attn = False  # on the meta device, its products would not be counted
    images = torch.empty(1, 3, 224, 224, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        _, trace = class_token.traced_features(model, images)
    return model, trace, forward.get_total_flops()


def test_parts_of_one_class_cost_little() -> None:
    model, trace, forward = traced_without_data("token")
    with torch.no_grad(), FlopCounterMode(display=False) as parts:
        token_attention.patch_parts(model, trace, trace.after[:, None])
    assert 0 < parts.get_total_flops() < forward / 100


def test_giving_back_costs_less_than_a_tenth() -> None:
    model, trace, forward = traced_without_data("avg")
    weights, raw = trace.after[:, :1], trace.after[:, None, :, 0]
    with torch.no_grad(), FlopCounterMode(display=False) as given:
        token_attention.give_back(model, trace, weights, raw)
    assert 0 < given.get_total_flops() < forward / 10


@pytest.mark.parametrize(
    ("backbone", "pool", "weights"),
    [
        ("beit_base_patch16_224", None, "folded"),
        ("beit_base_patch16_224", "token", "projection"),
        ("eva02_base_patch16_clip_224", None, "projection"),
        ("eva02_base_patch16_clip_224", "avg", "folded"),
        ("eva02_tiny_patch14_224", "avg", "sources"),
        ("test_vit", "avg", "sources"),
    ],
)
def test_affinity_maps_have_the_weights_that_the_docs_say(
    backbone: str, pool: Any, weights: str
) -> None:
    """docs/explain.md, on transformers that read the mean, and on those with a class token."""
    small = {} if backbone == "test_vit" else {**SMALL, "depth": 4}
    chosen = {} if pool is None else {"global_pool": pool}
    size = 56 if "patch14" in backbone else 64
    model: Any = timm.create_model(
        "timm_sehead", backbone=backbone, img_size=size, num_classes=5, **small, **chosen
    )
    found = model.eval().explain(torch.randn(1, 3, size, size), 1, "affinity")
    assert found.weights == weights and found.exact == (weights != "projection")


def test_other_methods_and_other_heads_keep_their_weights() -> None:
    model, images = made(), varied_images(1, (64, 64))
    assert model.explain(images, 1, "support").weights == "attention"
    assert model.explain(images, 1, "class_gate").weights == "projection"
    assert model.explain(images, method="gate").weights == "gate"
    average = made(global_pool="avg")
    assert not class_token.reads_class_token(average) and average.explain(images).exact
    single = made(depth=1)  # it reads the embeddings, which timm does not return
    assert single.explain(images, 1).weights == "projection"


def test_attention_that_computes_more_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a later timm may. Then the map is the projection, and says so."""
    own = Attention.forward

    def more(self: Any, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        return 2 * own(self, x, *args, **options)

    monkeypatch.setattr(Attention, "forward", more)
    monkeypatch.setattr(token_attention, "_TAKEN_APART", {})
    model, images = made(), varied_images(2, (64, 64))
    for method in ("contribution", "support"):
        assert model.explain(images, 1, method).weights == "projection"
    with pytest.raises(InvalidInputError, match="would need a gradient"):
        ExplainedModel(model, targets=1)


@pytest.mark.parametrize("factor", [1, 2])
def test_attention_is_measured_once_for_each_class(
    factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model in train mode, each explanation has a copy."""
    own, calls = Attention.forward, []

    def counted(self: Any, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        return factor * own(self, x, *args, **options)

    model, images = made().train(), varied_images(2, (64, 64))
    monkeypatch.setattr(token_attention, "_TAKEN_APART", {})
    with torch.no_grad(), in_eval_mode(model) as first, in_eval_mode(model) as second:
        assert first is not second
        trace = class_token.traced_features(first, images)[1]
        monkeypatch.setattr(Attention, "forward", counted)
        found = [token_attention.is_taken_apart(still, trace) for still in (first, second)]
    assert found == [factor == 1] * 2 and len(calls) == 1


def test_hook_of_one_attention_says_nothing_of_other_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a hook changes is not in the parts; one that only looks changes nothing."""
    monkeypatch.setattr(token_attention, "_TAKEN_APART", {})
    model, changed, seen, images = made(), made(), made(), varied_images(2, (64, 64))
    changed.blocks[-1].attn.register_forward_hook(lambda module, inputs, output: 2 * output)
    seen.blocks[-1].attn.register_forward_hook(lambda module, inputs, output: None)
    for _ in range(2):
        found = [each.explain(images, 1).weights for each in (changed, model, seen)]
        assert found == ["projection", "attention", "attention"]


class _Adapted(nn.Module):
    """A projection with an adapter of low rank, which has no weight of its own to read."""

    def __init__(self, layer: nn.Module, strength: float):
        super().__init__()
        self.layer = layer
        self.adapter = nn.Linear(layer.in_features, layer.out_features)  # type: ignore[arg-type]
        self.strength = strength

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(tokens) + self.strength * self.adapter(tokens)
        return found


def test_adapter_of_a_projection_counts() -> None:
    model, images = made(), varied_images(2, (64, 64))
    plain = model.explain(images, 1).raw
    projection = model.blocks[1].attn.qkv
    for strength in (0.0, 0.5):
        model.blocks[1].attn.qkv = _Adapted(projection, strength)
        found = model.explain(images, 1)
        assert found.weights == "attention"
        assert torch.allclose(found.raw, plain, rtol=1e-4, atol=1e-4) == (strength == 0)


def test_patches_behind_an_adapter_give_back_no_bias() -> None:
    model, images = made(**MEANS["norm_behind"]), varied_images(2, (64, 64))
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.qkv.bias)
    plain = model.explain(images, 1, "affinity").raw
    for block in model.blocks:
        block.attn.qkv = _Adapted(block.attn.qkv, 0.0)
    found = model.explain(images, 1, "affinity")
    assert found.weights == "sources"
    torch.testing.assert_close(found.raw, plain, rtol=1e-3, atol=1e-4)


def test_adapter_that_eva_does_not_call_is_noticed() -> None:
    model, images = made(**KINDS["eva"]), varied_images(2, (64, 64))
    assert model.explain(images, 1).weights == "attention"
    for block in model.blocks[1:]:
        adapted = _Adapted(block.attn.qkv, 0.5)
        adapted.weight = block.attn.qkv.weight  # as PEFT's layers have it
        block.attn.qkv = adapted
    assert model.explain(images, 1).weights == "projection"


def test_broken_weights_say_nothing_of_other_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_attention, "_TAKEN_APART", {})
    model, broken, images = made(), made(), varied_images(2, (64, 64))
    with torch.no_grad():
        broken.blocks[1].attn.proj.weight.fill_(float("nan"))
        trace = class_token.traced_features(model, images)[1]
        assert not token_attention.is_taken_apart(broken, trace)
        assert token_attention.is_taken_apart(model, trace)


def test_channels_of_a_class_token_are_told_apart() -> None:
    model, images = made(), varied_images(2, (64, 64))
    parts = channel_contributions(model, images, torch.tensor([1, 2]))
    assert parts.shape == (2, model.num_features) and (parts != 0).all()


def test_a_head_that_adds_its_strongest_patch_has_no_map_of_one_cell() -> None:
    model: Any = timm.create_model(
        "timm_sehead", backbone="volo_d1_224", img_size=64, num_classes=3
    ).eval()
    found = model.explain(varied_images(2, (64, 64)), 1)
    assert found.weights == "projection"
    assert ((found.raw != 0).flatten(1).sum(1) > 1).all()


def test_bfloat16_model() -> None:
    model, images = made(), varied_images(2, (64, 64))
    expected = model.explain(images, 1).raw
    found = model.bfloat16().explain(images, 1)
    assert found.weights == "attention" and found.raw.dtype == torch.float32
    assert float((found.raw - expected).abs().max()) < 0.2 * float(expected.abs().max())


@pytest.mark.parametrize("kind", ["two_tokens", "eva", "rope_mixed"])
def test_one_module_has_the_same_maps_of_every_kind(kind: str) -> None:
    model, images = made(**KINDS[kind]), varied_images(2, (64, 64))
    for method in ("contribution", "rivals"):
        with torch.no_grad():
            _, heatmap, _ = ExplainedModel(model, method, targets=[3, 1])(images)
        wanted = model.explain(images, [3, 1], method)
        assert wanted.weights == "attention"
        torch.testing.assert_close(heatmap.flatten(0, 1), wanted.heatmap, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["contribution", "support"])
def test_one_graph_has_the_same_map(method: str) -> None:
    model, images = made(**KINDS["registers"]), varied_images(3, (64, 64))
    module = ExplainedModel(model, method, targets=[3, 1])
    with torch.no_grad():
        logits, heatmap, _ = module(images)
    wanted = model.explain(images, [3, 1], method)
    torch.testing.assert_close(logits, wanted.logits)
    torch.testing.assert_close(heatmap.flatten(0, 1), wanted.heatmap, rtol=0, atol=1e-4)
    if method == "support":  # another sum of the same parts, and an export takes seconds
        return
    shapes = ({0: torch.export.Dim("batch", max=1024)},)
    with torch.no_grad():
        program = torch.export.export(module, (images,), dynamic_shapes=shapes)
        exported = program.module()(images[:2])
    torch.testing.assert_close(exported[1], heatmap[:2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["norm_before", "rope_mixed"])
def test_one_graph_gives_back(kind: str) -> None:
    """Weights are no parameters while torch.export traces; which model it is has to be known."""
    model, images = made(**MEANS[kind]), varied_images(3, (64, 64))
    module = ExplainedModel(model, "affinity", targets=[3, 1], raw=True)
    shapes = ({0: torch.export.Dim("batch", max=1024)},)
    with torch.no_grad():
        program = torch.export.export(module, (images,), dynamic_shapes=shapes)
        found = program.module()(images[:2])[1]
    wanted = model.explain(images[:2], [3, 1], "affinity")
    assert wanted.weights == "sources"
    torch.testing.assert_close(found.flatten(0, 1), wanted.raw, rtol=1e-3, atol=1e-4)
