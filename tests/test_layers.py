"""The SE block against its equations, and the view of every feature layout."""

import numpy as np
import pytest
import torch

from se_zoo import SqueezeExcite
from se_zoo.layers import GATES, Layout, token_grid
from se_zoo.layers.grid import feature_map, in_dtype, take, with_feature_map

GRIDS = [(5,), (3, 4), (2, 3, 4)]


def literal_gate(block: SqueezeExcite, x: torch.Tensor) -> np.ndarray:
    """Hu et al., arXiv 1709.01507, equations 2 and 3, in float64."""
    z = x.double().numpy().reshape(*x.shape[:2], -1).mean(2)
    w1, w2 = (w.detach().double().numpy() for w in (block.fc1.weight, block.fc2.weight))
    s = 1 / (1 + np.exp(-(w2 @ np.maximum(w1 @ z.T, 0)).T))
    return s * (2 if block.gate_kind == "identity" else 1)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("gate", GATES)
def test_block_is_the_papers_equation(grid: tuple, gate: str) -> None:
    block = SqueezeExcite(32, reduction=4, gate=gate)
    torch.nn.init.normal_(block.fc2.weight)
    x = torch.randn(3, 32, *grid)
    with torch.no_grad():
        s, y = block.gate(x), block(x)
    expected = literal_gate(block, x)
    np.testing.assert_allclose(s.numpy(), expected, rtol=1e-5)
    scaled = expected.reshape(3, 32, *[1] * len(grid)) * x.double().numpy()
    np.testing.assert_allclose(y.numpy(), scaled, rtol=1e-5, atol=1e-6)


def test_sigmoid_gate_lies_in_the_open_unit_interval() -> None:
    block = SqueezeExcite(64)
    torch.nn.init.normal_(block.fc2.weight)
    gate = block.gate(torch.randn(8, 64, 4, 4))
    assert 0 < gate.min() and gate.max() < 1


def test_identity_gate_is_one_to_the_bit_and_can_be_trained() -> None:
    block = SqueezeExcite(64, gate="identity")
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(block.gate(x), torch.ones(2, 64))
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.fc2.weight.grad is not None and block.fc2.weight.grad.any()


def test_gate_is_per_image() -> None:
    """Pooling a gate over the batch (published code does) would change a sample by its batch."""
    block, x = SqueezeExcite(32), torch.randn(4, 32, 3, 3)
    torch.testing.assert_close(block.gate(x)[2:3], block.gate(x[2:3]))


@pytest.mark.parametrize(
    ("channels", "reduction", "hidden"), [(512, 16, 32), (40, 16, 2), (8, 16, 1), (1, 1, 1)]
)
def test_hidden_units(channels: int, reduction: int, hidden: int) -> None:
    block = SqueezeExcite(channels, reduction)
    assert block.fc1.weight.shape == (hidden, channels)
    assert block.fc2.weight.shape == (channels, hidden)
    assert list(block.state_dict()) == ["gate_scale", "fc1.weight", "fc2.weight"], (
        "the paper has no biases"
    )
    assert f"reduction={reduction}" in repr(block)


def test_block_takes_dtype_and_device() -> None:
    block = SqueezeExcite(32, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in block.parameters()} == {("meta", torch.bfloat16)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(channels=0), "positive"),
        (dict(channels=8, reduction=0), "positive"),
        (dict(channels=8, gate="softmax"), "sigmoid, identity"),
    ],
)
def test_block_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SqueezeExcite(**arguments)


@pytest.mark.parametrize("gate", GATES)
def test_fx_follows_the_gate(gate: str) -> None:
    block, x = SqueezeExcite(32, gate=gate), torch.randn(2, 32, 3, 4)
    graph = torch.fx.symbolic_trace(GateOf(block))
    assert torch.equal(graph(x.mean((2, 3))), block.gate(x))


def test_fx_follows_the_block_on_any_grid() -> None:
    block = SqueezeExcite(32)
    graph = torch.fx.symbolic_trace(block)
    for grid in GRIDS:
        x = torch.randn(2, 32, *grid)
        assert torch.equal(graph(x), block(x))
    x = torch.randn(2, 32, 3, 4).contiguous(memory_format=torch.channels_last)
    for found in (graph(x), block(x)):
        assert found.is_contiguous(memory_format=torch.channels_last)


class GateOf(torch.nn.Module):
    def __init__(self, block: SqueezeExcite) -> None:
        super().__init__()
        self.block = block

    def forward(self, squeezed: torch.Tensor) -> torch.Tensor:
        return self.block.excite(squeezed)


def test_weights_of_another_gate_do_not_change_its_scale() -> None:
    block = SqueezeExcite(8, gate="sigmoid")
    with pytest.raises(RuntimeError, match="trained with gate='identity'"):
        block.load_state_dict(SqueezeExcite(8, gate="identity").state_dict())
    assert block.gate_scale == 1


def test_gate_scale_may_be_rounded_but_must_be_that_of_a_gate() -> None:
    block = SqueezeExcite(8, gate="identity")
    weights = block.state_dict()
    weights["gate_scale"] = torch.tensor(2.0).nextafter(torch.tensor(3.0))  # an average of weights
    block.load_state_dict(weights)
    weights["gate_scale"] = torch.tensor(1.5)
    with pytest.raises(RuntimeError, match=r"gate_scale is 1\.5, which is no gate"):
        block.load_state_dict(weights)


def test_plain_weights_are_not_dequantized(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPS and XPU cannot."""

    def refuse(self: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    monkeypatch.setattr(torch.Tensor, "dequantize", refuse)
    block = SqueezeExcite(8, gate="identity")
    assert not block.trained
    torch.nn.init.ones_(block.fc2.weight)
    assert block.trained


# Layouts


def laid_out(kind: str, prefix: int) -> "tuple[Layout, torch.Tensor, torch.Tensor]":
    """A layout, features in it, and their (B, C, *grid) view built without the layout's help.

    The value at every place tells batch, channel and place, so that no mix-up can go unseen.
    """
    batch, channels, grid = 2, 3, (4, 5, 6)[: 3 if "T" in kind else 2]
    view = torch.arange(batch * channels * int(np.prod(grid)), dtype=torch.float32)
    view = view.view(batch, channels, *grid)
    layout = Layout(kind, prefix)  # type: ignore[arg-type]
    if kind in ("NCHW", "NCTHW"):
        return layout, view, view
    if kind == "NCL":
        return layout, view.reshape(batch, channels, -1), view
    if kind == "NHWC":
        return layout, view.permute(0, 2, 3, 1), view
    if kind == "NTHWC":
        return layout, view.permute(0, 2, 3, 4, 1), view
    patches = torch.stack([view[:, :, h, w] for h in range(grid[0]) for w in range(grid[1])], dim=1)
    return layout, torch.cat([torch.full((batch, prefix, channels), -7.0), patches], 1), view


LAYOUTS = [
    ("NCHW", 0), ("NHWC", 0), ("NLC", 0), ("NLC", 1), ("NLC", 5), ("NCL", 0), ("NCTHW", 0),
    ("NTHWC", 0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "prefix"), LAYOUTS)
def test_view(kind: str, prefix: int) -> None:
    layout, features, view = laid_out(kind, prefix)
    assert torch.equal(layout.to_grid(features, (40, 50)), view)


@pytest.mark.parametrize(("kind", "prefix"), LAYOUTS)
def test_view_shares_memory(kind: str, prefix: int) -> None:
    """Explanations write into a view to ask a head; a copy would be asked about zeros."""
    layout, features, _ = laid_out(kind, prefix)
    features = features.clone()
    layout.to_grid(features, (40, 50)).fill_(9.0)
    kept = features[:, prefix:] if kind == "NLC" else features
    assert bool((kept == 9).all())
    assert not prefix or bool((features[:, :prefix] == -7).all())


@pytest.mark.parametrize(("kind", "prefix"), LAYOUTS)
def test_squeeze_is_the_mean_over_the_grid(kind: str, prefix: int) -> None:
    layout, features, view = laid_out(kind, prefix)
    torch.testing.assert_close(layout.squeeze(features), view.flatten(2).mean(2))
    assert layout.channels(features) == 3


@pytest.mark.parametrize(("kind", "prefix"), LAYOUTS)
def test_scale_multiplies_channels_prefix_tokens_too(kind: str, prefix: int) -> None:
    layout, features, view = laid_out(kind, prefix)
    gate = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    scaled = layout.scale(features, gate)
    assert isinstance(scaled, torch.Tensor)
    expected = view * gate.view(2, 3, *[1] * (view.dim() - 2))
    assert torch.equal(layout.to_grid(scaled, (40, 50)), expected)
    if prefix:
        assert torch.equal(scaled[:, 0], -7 * gate)


def test_layout_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="NCHW"):
        Layout("NWHC")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prefix"):
        Layout("NCHW", 1)
    with pytest.raises(ValueError, match="4 axes"):
        Layout("NCHW").squeeze(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="image size"):
        Layout("NLC").to_grid(torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match=r"5 tokens do not form the fixed grid \(2, 3\)"):
        Layout("NLC", 1, (2, 3)).to_grid(torch.zeros(2, 6, 4))


@pytest.mark.parametrize(
    ("tokens", "image", "grid"),
    [
        (196, (224, 224), (14, 14)),
        (24, (64, 96), (4, 6)),
        (24, (96, 64), (6, 4)),
        (36, (32, 72), (4, 9)),  # 6 x 6 is a grid too, of cells that are no squares
        (1, (16, 16), (1, 1)),
        (16 * 27, (256, 432), (16, 27)),
    ],
)
def test_token_grid(tokens: int, image: tuple, grid: tuple) -> None:
    assert token_grid(tokens, image) == grid


@pytest.mark.parametrize("tokens", [197, 0, 2, 13])
def test_tokens_that_form_no_grid_are_refused(tokens: int) -> None:
    with pytest.raises(ValueError, match=f"{tokens} tokens"):
        token_grid(tokens, (224, 224))


def test_lists_of_features_keep_their_other_entries() -> None:
    first, last = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    features = [first, last]
    assert feature_map(features) is last
    scaled = Layout("NCHW").scale(features, torch.full((2, 3), 2.0))
    assert scaled[0] is first and torch.equal(scaled[1], 2 * last)
    assert with_feature_map(features, first)[1] is first and features[1] is last
    picked = take(features, torch.tensor([1, 1, 0]))
    assert [entry.shape[0] for entry in picked] == [3, 3]
    assert torch.equal(picked[1][2], last[0])
    assert [entry.dtype for entry in in_dtype(features, torch.float64)] == 2 * [torch.float64]
    assert in_dtype(last, torch.float32) is last
