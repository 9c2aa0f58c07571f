"""Classifiers that are no plain linear layer: quantised, wrapped, or made in inference mode."""

import warnings
from typing import Any, Callable

import pytest
import timm
import torch
from torch import nn

import se_zoo
from se_zoo import InvalidInputError


def make(backbone: str = "test_resnet", **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return se_zoo.squeeze(timm.create_model(backbone, num_classes=5, **kwargs)).eval()


def images(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


class LowRank(nn.Module):
    """PEFT's way to adapt a layer: the layer itself within, and a product beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)

    @property
    def weight(self) -> torch.Tensor:
        return self.base_layer.weight  # without the product, as in PEFT

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.up(self.down(x))


def test_wrapped_classifier_is_folded_as_what_it_computes() -> None:
    model = make()
    model.fc = LowRank(model.fc)
    explanation = model.eval().explain(images(), [0, 3])
    assert explanation.exact and explanation.weights == "folded"
    total = explanation.raw.flatten(1).mean(1) + explanation.constant
    assert torch.allclose(total, explanation.logits[:, [0, 3]].flatten(), atol=1e-5)
    nn.init.zeros_(model.fc.up.weight)  # as PEFT starts: the function is that without a wrapper
    expected = make().explain(images(), [0, 3])
    assert torch.allclose(model.explain(images(), [0, 3]).raw, expected.raw, atol=1e-5)


def test_adapter_that_is_switched_off_is_noticed() -> None:
    """PEFT's disable_adapter changes no parameter."""
    model = make()
    model.fc = LowRank(model.fc)
    model.eval().explain(images(), 0)
    model.fc.forward = model.fc.base_layer.forward
    expected = make().explain(images(), [0, 3])
    assert torch.allclose(model.explain(images(), [0, 3]).raw, expected.raw, atol=1e-5)


def test_classifier_of_several_layers_is_not_folded() -> None:
    model = make()
    model.fc = nn.Sequential(model.fc, nn.GELU(), nn.Linear(5, 5))
    explanation = model.eval().explain(images(), 0)
    assert not explanation.exact and explanation.weights == "gradient"


def quantised(model: nn.Module, kinds: Any = (nn.Linear,)) -> Any:
    """torch's dynamic quantisation to int8."""
    quantization = pytest.importorskip("torch.ao.quantization")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its own end
        return quantization.quantize_dynamic(model, set(kinds), dtype=torch.qint8)


def test_quantised_classifier_is_folded_up_to_its_rounding() -> None:
    expected = make().explain(images(), [0, 3])
    explanation = quantised(make()).explain(images(), [0, 3])
    assert explanation.exact
    assert torch.allclose(explanation.raw, expected.raw, atol=0.05 * expected.raw.abs().max())
    plain = quantised(timm.create_model("test_resnet", num_classes=5))
    assert se_zoo.squeeze(plain).eval().explain(images(), 0).exact


def test_quantised_head_without_a_gradient_names_what_works() -> None:
    model = quantised(make("test_vit"))  # its head reads the class token
    with pytest.raises(InvalidInputError, match='method="gate"'):
        model.explain(images(160), 0)
    assert model.explain(images(160), method="activation").raw.isfinite().all()


def in_inference_mode(make: Callable[[], Any]) -> Any:
    with torch.inference_mode():
        return make()


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("way", ["made", "cast", "loaded"])
def test_model_of_inference_mode_is_explained_as_any_other(backbone: str, way: str) -> None:
    size = 160 if "vit" in backbone else 64
    expected = make(backbone)
    model = {
        "made": lambda: in_inference_mode(lambda: make(backbone)),
        "cast": lambda: in_inference_mode(lambda: make(backbone).double().float()),
        "loaded": lambda: load(in_inference_mode(lambda: make(backbone)), expected),
    }[way]()
    for method in ("contribution", "support"):
        found, other = (m.explain(images(size), 0, method) for m in (model, expected))
        assert torch.allclose(found.raw, other.raw, atol=1e-6) and found.exact == other.exact
    assert all(p.grad is None for p in model.parameters())


def test_speaker_model_of_inference_mode_is_explained_as_any_other() -> None:
    torch.manual_seed(0)
    expected: Any = se_zoo.create_speaker_model("asd_tiny_sehead")
    with torch.inference_mode():
        model: Any = se_zoo.create_speaker_model("asd_tiny_sehead")
        model.load_state_dict(expected.state_dict())
    inputs = expected.example_inputs()
    raw = expected.explain(**inputs).raw
    assert torch.allclose(model.explain(**inputs).raw, raw, atol=1e-6)
    with torch.inference_mode():
        assert torch.allclose(expected.explain(**inputs).raw, raw, atol=1e-6)


def load(model: nn.Module, other: nn.Module) -> nn.Module:
    with torch.inference_mode():
        model.load_state_dict(other.state_dict())
    return model


def last_attention(model: Any) -> Any:
    return model.blocks[-1].attn


def test_adapter_in_the_last_attention_is_not_left_out_of_the_map() -> None:
    """The map of the class token reads the weight of the projection, which is not all there is."""
    model = make("test_vit")
    assert model.explain(images(160), 0).weights == "attention"
    last_attention(model).proj = LowRank(last_attention(model).proj)
    assert model.eval().explain(images(160), 0).weights == "projection"


def test_quantised_projection_of_the_last_attention_is_not_read() -> None:
    model = make("test_vit")
    last_attention(model).proj = quantised(nn.Sequential(last_attention(model).proj))[0]
    assert model.eval().explain(images(160), 0).weights == "projection"
