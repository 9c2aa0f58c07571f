"""What every model with an SE head has to do, written once; each family is a small subclass.

A subclass names an architecture that is cut down to a few milliseconds, and states what its head
is; see ``test_families.py``.
"""

import copy
import inspect
import io
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, Callable, ClassVar, Dict, List, Optional, Tuple

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models import create_feature_extractor, save_for_hf
from timm.optim import param_groups_layer_decay
from torch import nn

import se_zoo
from se_zoo import Explanation, SqueezeExcite
from se_zoo.explanations import METHODS

from .copies import Mould

Maps = Tuple[np.ndarray, np.ndarray]


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters as after training rather than as initialised: norms with scale, shift and batch
    statistics of their own, a classifier with weights of order one, and a gate that is spread out.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)

    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            centre = 0 if name.endswith("bias") else 1
            parameter.copy_(centre + 0.3 * normal(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.3 * normal(buffer))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + normal(buffer).abs())
    classifier = model.get_classifier()  # type: ignore[operator]
    classifiers = classifier if isinstance(classifier, tuple) else (classifier,)  # distilled models
    for layer in (layer for each in classifiers for layer in each.modules()):
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            layer.weight.copy_(0.3 * normal(layer.weight))
    if isinstance(getattr(model, "se", None), SqueezeExcite):
        block = model.se
        assert isinstance(block, SqueezeExcite)
        block.fc1.weight.copy_(normal(block.fc1.weight) / block.channels**0.5)
        # In pairs of opposite sign, one of which is alive whatever the features are.
        block.fc1.weight[1::2].copy_(-block.fc1.weight[: 2 * (len(block.fc1.weight) // 2) : 2])
        block.fc2.weight.copy_(normal(block.fc2.weight) / block.fc2.in_features**0.5)
    return model


def varied_images(batch: int, size: Tuple[int, int]) -> torch.Tensor:
    """Coloured blobs, (B, 3, H, W): noise alone looks the same to a network, image by image."""
    blobs = torch.randn(batch, 3, 4, 4) + torch.randn(batch, 3, 1, 1)
    return F.interpolate(blobs, size=size, mode="bicubic") + 0.2 * torch.randn(batch, 3, *size)


@torch.no_grad()
def spread_gate(model: Any, images: torch.Tensor) -> Any:
    """Scale the block until its gate lies well spread in (0, 1) on these images."""
    squeezed = model.se_layout.squeeze(model.forward_features(images))
    answers = model.se.fc2(torch.relu(model.se.fc1(squeezed)))
    assert answers.std() > 1e-6, "no hidden unit of the block is alive"
    model.se.fc2.weight.mul_(1.5 / answers.std())
    return model


def fingerprint(model: nn.Module) -> Dict[str, Any]:
    """Everything about a model that an explanation could leave changed."""
    hooks = [k for k in vars(nn.Module()) if "hooks" in k]
    return {
        "class": type(model),
        "state": {k: (v.dtype, v.detach().clone()) for k, v in model.state_dict().items()},
        "training": {n: m.training for n, m in model.named_modules()},
        "attributes": {n: sorted(vars(m)) for n, m in model.named_modules()},
        "hooks": {n: sum(len(vars(m)[h]) for h in hooks) for n, m in model.named_modules()},
        "grad": {n: p.grad for n, p in model.named_parameters()},
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "config": repr(model.pretrained_cfg),
        "rng": (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()),  # type: ignore[index, union-attr]
        "grad_mode": torch.is_grad_enabled(),
    }


def assert_unchanged(before: Dict[str, Any], model: nn.Module) -> None:
    """Assert that a model, and the random numbers to come, are as they were."""
    after = fingerprint(model)
    for name, (dtype, value) in before.pop("state").items():
        now_dtype, now = after["state"].pop(name)
        assert now_dtype == dtype and torch.equal(now, value), f"{name} changed"
    assert not after.pop("state"), "new entries in the state dict"
    for left, right in zip(before.pop("rng"), after.pop("rng"), strict=True):
        same = left == right
        assert same if isinstance(same, bool) else bool(same.all()), "random numbers were drawn"
    assert after == before


def same(left: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    """Equal up to a share of the largest value; NaN equals nothing."""
    assert left.shape == right.shape
    left, right = left.double(), right.double()
    return bool(((left - right).abs() <= tolerance * right.abs().max().clamp(min=1e-3)).all())


def paper_gate_map(features: np.ndarray, gate: np.ndarray) -> Tuple[np.ndarray, str]:
    """arXiv 2412.05134, section III, word by word: the SE vector's top 10 %, ``s > mean + 1.2816
    std``, and the mean of these channels of the gated features. (C, H, W), (C,) -> (H, W)."""
    features, gate = features.astype(np.float64), gate.astype(np.float64)
    chosen = gate > gate.mean() + 1.2816 * gate.std()
    rule = "threshold"
    if not chosen.any() or gate.min() == gate.max():
        rule = "rank"
        chosen = np.zeros(len(gate), dtype=bool)
        chosen[np.argsort(-gate, kind="stable")[: max(1, round(0.1 * len(gate)))]] = True
    return (gate[:, None, None] * features)[chosen].mean(0), rule


class SEHeadTester:
    """Checks of one family.

    Attributes:
        name: Architecture, as ``timm.create_model`` takes it.
        kwargs: Arguments that make it small.
        backbone: timm's name of the same backbone without the block, None where timm has none.
        size: Height and width of the test images.
        grid: Height and width of its maps.
        exact: Whether contribution maps add up to the logit.
        weights: What the explanation says about the channel weights.
        wide: Height and width of non-square images, with ``wide_kwargs`` for creating the model.
        feature_kwargs: Arguments for ``features_only``.
    """

    name: ClassVar[str]
    kwargs: ClassVar[Dict[str, Any]] = {}
    backbone: ClassVar[Optional[str]] = None
    size: ClassVar[int] = 64
    grid: ClassVar[Tuple[int, int]] = (2, 2)
    exact: ClassVar[bool] = True
    weights: ClassVar[str] = "folded"
    wide: ClassVar[Tuple[int, int]] = (64, 96)
    wide_kwargs: ClassVar[Dict[str, Any]] = {}
    feature_kwargs: ClassVar[Dict[str, Any]] = {}

    num_classes = 5
    _moulds: ClassVar[Dict[type, Mould]] = {}

    def create(self, **kwargs: Any) -> Any:
        own = {"num_classes": self.num_classes, "multi_label": False}
        return timm.create_model(self.name, **{**own, **self.kwargs, **kwargs})

    def model(self) -> Any:
        """A model of one's own with a sigmoid gate and weights as after training, in eval mode."""
        if type(self) not in self._moulds:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = randomise(self.create(gate="sigmoid")).eval()
                self._moulds[type(self)] = Mould(spread_gate(model, self.images(8)))
        return self._moulds[type(self)].cast()

    def plain(self) -> Any:
        """timm's own model of the same backbone, without the block."""
        if self.backbone is None:
            return randomise(se_zoo.unsqueeze(self.create())).eval()
        kwargs = {k: v for k, v in self.kwargs.items() if k != "backbone"}
        return randomise(timm.create_model(self.backbone, num_classes=5, **kwargs)).eval()

    def images(self, batch: int = 2, size: Optional[Tuple[int, int]] = None) -> torch.Tensor:
        return varied_images(batch, size or (self.size, self.size))

    # The prediction and its maps

    def test_gate_of_the_test_model_is_spread_out(self) -> None:
        explanation = self.model().explain(self.images())
        assert 0.05 < explanation.gate.std() and 0 < explanation.gate.min()
        assert not torch.allclose(explanation.gate[0], explanation.gate[1])

    def test_explanation_is_of_the_models_own_prediction(self) -> None:
        model, images = self.model(), self.images()
        with torch.no_grad():
            logits, features = model(images), model.forward_features(images)
        explanation = model.explain(images)
        assert torch.equal(explanation.logits, logits)
        assert torch.equal(explanation.gate, model.gate(features))
        assert explanation.target == tuple(logits.argmax(1).tolist())
        assert explanation.native_grid == self.grid
        assert explanation.heatmap.shape == (2, self.size, self.size)

    def test_contribution_adds_up_to_the_logit_where_it_says_so(self) -> None:
        """design.md: the map's mean over the grid plus a constant is the logit, to 1e-4."""
        explanation = self.model().explain(self.images(), list(range(self.num_classes)))
        assert (explanation.exact, explanation.weights) == (self.exact, self.weights)
        if self.exact:
            total = explanation.raw.flatten(1).mean(1) + explanation.constant
            assert (total - explanation.logits.flatten()).abs().max() < 1e-4
            assert explanation.raw.abs().max() > 1e-2  # not by an empty map

    def test_gate_map_is_the_papers(self) -> None:
        model, images = self.model(), self.images(3)
        explanation = model.explain(images, method="gate")
        with torch.no_grad():
            features = model.feature_grid(model.forward_features(images), images.shape[-2:])
        assert "threshold" in explanation.rule
        for i in range(3):
            expected, rule = paper_gate_map(features[i].numpy(), explanation.gate[i].numpy())
            assert explanation.rule[i] == rule
            assert same(explanation.raw[i], torch.from_numpy(expected), 1e-5)

    def test_activation_map_is_the_plain_channel_mean(self) -> None:
        model, images = self.model(), self.images()
        with torch.no_grad():
            features = model.feature_grid(model.forward_features(images), images.shape[-2:])
        assert same(model.explain(images, method="activation").raw, features.mean(1), 1e-5)

    def test_difference_is_one_contribution_less_the_other(self) -> None:
        model, images = self.model(), self.images()
        first, second = model.explain(images, 1), model.explain(images, 3)
        difference = model.explain(images, 1, "difference", versus=3)
        assert same(difference.raw, first.raw - second.raw, 1e-5)
        assert same(difference.constant, first.constant - second.constant, 1e-5)
        assert difference.exact == self.exact and difference.versus == (3, 3)

    def test_support_counts_half_of_what_speaks_against(self) -> None:
        model, images = self.model(), self.images()
        for_class = model.explain(images, 1, "support")
        net = model.explain(images, 1).raw
        assert (for_class.raw >= net - 1e-5 * net.abs().max()).all()
        assert for_class.weights == self.weights and not for_class.exact
        # Its sign says nothing, so it is not drawn; but it is of a class.
        assert not for_class.signed and for_class.evidence is for_class.heatmap
        assert for_class.titles() == model.explain(images, 1).titles()
        # With t+ + t-/2 of the class, its opposite is -t- - t+/2.
        opposite = copy.deepcopy(model)
        opposite.get_classifier().weight.data.neg_()
        against = opposite.explain(images, 1, "support").raw
        assert same(for_class.raw - against, 1.5 * net, 1e-4)
        total = for_class.raw.flatten(1).mean(1) + for_class.constant
        assert (total - for_class.logits[:, 1]).abs().max() < 1e-4

    def test_non_square_images(self) -> None:
        model = randomise(self.create(gate="sigmoid", **self.wide_kwargs)).eval()
        explanation = model.explain(self.images(2, self.wide), [0, 1])
        assert explanation.heatmap.shape == (4, *self.wide)
        rows, columns = (g * w / self.size for g, w in zip(self.grid, self.wide, strict=True))
        assert explanation.native_grid == (rows, columns)

    # Independence of batch, threads and precision

    @pytest.mark.parametrize("method", METHODS)
    def test_an_image_alone_and_in_a_batch_of_8_have_the_same_map(self, method: str) -> None:
        """Its heatmap is float32, in [0, 1] and of the input's size."""
        model, images = self.model(), self.images(8)
        together = model.explain(images, 1, method)
        assert together.heatmap.dtype == together.raw.dtype == torch.float32
        assert together.heatmap.shape == (8, self.size, self.size)
        assert together.heatmap.isfinite().all()
        assert together.heatmap.min() >= 0 and together.heatmap.max() <= 1
        for i in (0, 3, 7):
            alone = model.explain(images[i : i + 1], 1, method)
            assert same(alone.raw[0], together.raw[i], 1e-5)
            # Stretching from minimum to maximum enlarges the rounding of an even map.
            assert (alone.heatmap[0] - together.heatmap[i]).abs().max() < 1e-4
            assert alone.rule[0] == together.rule[i] and alone.exact == together.exact
            assert alone.versus is None or alone.versus[0] == together.versus[i]

    @pytest.mark.parametrize("training", [False, True])
    def test_four_threads_on_one_model(self, training: bool) -> None:
        model, images = self.model(), self.images(4)
        expected = [model.explain(images[i : i + 1], 2) for i in range(4)]
        model.train(training)
        next(m for n, m in model.named_modules() if n).train(not training)  # mixed on purpose
        before, barrier = fingerprint(model), Barrier(4)

        def work(thread: int) -> List[Explanation]:
            barrier.wait()
            return [model.explain(images[i : i + 1], 2) for i in (thread, 3 - thread)]

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(work, range(4)))
        for thread, found in enumerate(results):
            for i, explanation in zip((thread, 3 - thread), found, strict=True):
                assert torch.equal(explanation.raw, expected[i].raw)
                assert torch.equal(explanation.logits, expected[i].logits)
        assert_unchanged(before, model)

    def test_bfloat16_model(self) -> None:
        reference, images = self.model(), self.images()
        model = copy.deepcopy(reference).bfloat16()
        with pytest.MonkeyPatch.context() as patch:
            # The same features and so the same gate: what is compared is the explanation alone.
            # Maps of the attention read the tokens inside the backbone.
            if self.weights != "attention":
                patch.setattr(reference, "forward_features", lambda x: model.forward_features(
                    x.bfloat16()).float())  # fmt: skip
            expected = reference.explain(images, [0, 1, 2])
        explanation = model.explain(images, [0, 1, 2])
        assert explanation.logits.dtype == explanation.gate.dtype == torch.bfloat16
        assert explanation.heatmap.dtype == explanation.raw.dtype == torch.float32
        assert (explanation.exact, explanation.weights) == (self.exact, self.weights)
        assert same(explanation.raw, expected.raw, 0.3 if self.weights == "attention" else 0.1)

    def test_float64_model(self) -> None:
        model, images = self.model(), self.images()
        expected = model.explain(images, [0, 1])
        explanation = model.double().explain(images, [0, 1])
        assert explanation.logits.dtype == torch.float64
        assert explanation.raw.dtype == explanation.heatmap.dtype == torch.float32
        assert same(explanation.raw, expected.raw, 1e-4)
        assert (explanation.exact, explanation.weights) == (self.exact, self.weights)

    def test_autocast(self) -> None:
        model, images = self.model(), self.images()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            explanation = model.explain(images, [0, 1])
            assert torch.is_autocast_enabled("cpu")
        assert explanation.raw.isfinite().all() and explanation.raw.dtype == torch.float32
        assert (explanation.exact, explanation.weights) == (self.exact, self.weights)
        assert same(explanation.raw, model.explain(images, [0, 1]).raw, 0.2)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    def test_gradient_modes_change_nothing(self, mode: Callable[[], Any]) -> None:
        model, images = self.model(), self.images()
        expected = model.explain(images, [0, 1])
        with mode():
            explanation = model.explain(images, [0, 1])
        assert torch.equal(explanation.raw, expected.raw)
        for value in vars(explanation).values():
            assert not getattr(value, "requires_grad", False)

    # Nothing is left behind

    # Of one class, of chosen channels, and of two classes: the others are made in these ways.
    @pytest.mark.parametrize("method", ["contribution", "class_gate", "difference"])
    def test_nothing_is_left_on_the_model(self, method: str) -> None:
        model, images = self.model().train(), self.images().requires_grad_(True)
        model.se.eval()
        for i, parameter in enumerate(model.parameters()):
            parameter.requires_grad_(i % 2 == 0)
        before = fingerprint(model)
        model.explain(images, method=method)
        assert_unchanged(before, model)
        assert images.grad is None

    def test_nothing_is_left_after_an_exception(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, images = self.model().train(), self.images()
        before = fingerprint(model)

        def broken(self: object, squeezed: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError("in the middle of the forward pass")

        with monkeypatch.context() as patch:
            patch.setattr(SqueezeExcite, "excite", broken)
            with pytest.raises(ZeroDivisionError):
                model.explain(images)
            with pytest.raises(ZeroDivisionError):
                model.channel_logits(images, keep=[0])
        with pytest.raises(se_zoo.UnknownLabelError):  # raised behind the forward pass
            model.explain(images, self.num_classes)
        assert model.explain(images).raw.isfinite().all()
        assert_unchanged(before, model)

    def test_frozen_model(self) -> None:
        model, images = self.model(), self.images()
        expected = model.explain(images)
        model.requires_grad_(False)
        # Not bit for bit: with torch 2.6 the last digits differ in transformers.
        torch.testing.assert_close(model.explain(images).raw, expected.raw, rtol=1e-5, atol=1e-7)

    # Chosen channels

    def test_channel_logits_of_all_channels_are_the_logits(self) -> None:
        model, images = self.model(), self.images()
        with torch.no_grad():
            logits = model(images)
        channels = model.se.channels
        assert torch.equal(model.channel_logits(images, keep=range(channels)), logits)
        assert torch.equal(model.channel_logits(images, drop=[]), logits)
        assert torch.equal(
            model.channel_logits(images, drop=torch.zeros(channels, dtype=torch.bool)), logits
        )

    def test_channel_logits_of_no_channel_are_the_heads_own(self) -> None:
        model, images = self.model(), self.images()
        with torch.no_grad():
            nothing = model.classify(torch.zeros_like(model.forward_features(images)))
        assert torch.equal(model.channel_logits(images, keep=[]), nothing)
        assert torch.equal(nothing[0], nothing[1])

    # The model is still timm's

    def test_identity_gate_keeps_timms_logits_to_the_bit(self) -> None:
        plain = self.plain()
        model = self.create(gate="identity").eval()
        assert isinstance(model, type(plain))
        missing = model.load_state_dict(plain.state_dict(), strict=False)
        assert missing.missing_keys == ["se.gate_scale", "se.fc1.weight", "se.fc2.weight"]
        assert not missing.unexpected_keys
        images = self.images()
        with torch.no_grad():
            assert torch.equal(model(images), plain(images))
            assert torch.equal(model.forward_features(images), plain.forward_features(images))
        assert torch.equal(model.explain(images).gate, torch.ones(2, model.se.channels))

    def test_forward_is_gate_then_head(self) -> None:
        model, images = self.model(), self.images()
        with torch.no_grad():
            features = model.forward_features(images)
            gate = model.gate(features)
            assert gate.shape == (2, model.se.channels) == (2, model.num_features)
            assert torch.equal(model.forward_head(features), model(images))
            assert torch.equal(model.classify(model.gated(features)), model(images))
            assert not torch.allclose(model.classify(features), model(images))
            pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, model.head_hidden_size)

    def test_state_dict_holds_the_block_under_se(self) -> None:
        model = self.model()
        names = [n for n in model.state_dict() if n.startswith("se.")]
        assert names == ["se.gate_scale", "se.fc1.weight", "se.fc2.weight"]
        hidden = max(1, model.se.channels // 16)
        assert model.se.fc1.weight.shape == (hidden, model.se.channels)
        assert model.se.fc2.weight.shape == (model.se.channels, hidden)

    @pytest.mark.parametrize("copied", ["deepcopy", "pickle", "torch.save"])
    def test_copies_explain_alike(self, copied: str) -> None:
        model, images = self.model(), self.images()
        if copied == "deepcopy":
            other = copy.deepcopy(model)
        elif copied == "pickle":
            other = pickle.loads(pickle.dumps(model))
        else:
            buffer = io.BytesIO()
            torch.save(model, buffer)
            buffer.seek(0)
            other = torch.load(buffer, weights_only=False)
        assert type(other) is type(model) and other.se is not model.se
        assert other.se_args == model.se_args and other.se_layout == model.se_layout
        assert torch.equal(other.explain(images).raw, model.explain(images).raw)
        with torch.no_grad():
            other.se.fc2.weight.zero_()
        assert model.se.fc2.weight.any(), "the copy shares its weights"

    @pytest.mark.parametrize("gate", ["identity", "sigmoid"])
    def test_saved_model_comes_back(self, gate: str, tmp_path: Path) -> None:
        kwargs = dict(gate=gate, reduction=8, multi_label=True)
        model = randomise(self.create(**kwargs)).eval()
        args = {"num_classes": self.num_classes, **self.kwargs, **kwargs}
        # Old versions of timm keep the names of the pretrained weights' classes, which are refused.
        names = {"label_names": [f"label {n}" for n in range(model.num_classes)]}
        save_for_hf(model, str(tmp_path), names, args, safe_serialization=True)
        back = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
        assert type(back) is type(model) and back.se_args == model.se_args
        assert back.se_args == {"gate": gate, "reduction": 8} and back.is_multi_label()
        images = self.images()
        with torch.no_grad():
            assert torch.equal(back(images), model(images))
        assert torch.equal(back.explain(images).raw, model.explain(images).raw)

    def test_reset_classifier(self) -> None:
        model, images = self.model(), self.images()
        model.reset_classifier(3)
        assert model.num_classes == 3
        assert model.explain(images).logits.shape == (2, 3)
        model.reset_classifier(0)
        with torch.no_grad():
            assert model(images).shape == (2, model.head_hidden_size)
        with pytest.raises(se_zoo.InvalidInputError, match="reset_classifier"):
            model.explain(images)

    def test_forward_intermediates_agree_with_the_features(self) -> None:
        model, images = self.model(), self.images()
        with torch.no_grad():
            features = model.forward_features(images)
            final, levels = model.forward_intermediates(images)
            assert torch.equal(final, features)
            assert len(levels) >= 1 and all(level.dim() == 4 for level in levels)

    def test_pruned_model_loses_head_and_block(self) -> None:
        model, images = self.model(), self.images()
        with torch.no_grad():
            features = model.forward_features(images)
        model.prune_intermediate_layers(1, prune_head=True)
        assert not [n for n, _ in model.named_parameters() if n.startswith("se.")]
        with torch.no_grad():
            assert torch.equal(model.forward_features(images), features)
            assert model(images).shape[0] == 2

    def test_features_only(self) -> None:
        net = self.create(features_only=True, **self.feature_kwargs).eval()
        with torch.no_grad():
            levels = net(self.images())
        axis = 3 if getattr(net, "output_fmt", "NCHW") == "NHWC" else 1
        assert len(levels) >= 1
        assert [level.shape[axis] for level in levels] == net.feature_info.channels()
        assert not [n for n, _ in net.named_parameters() if n.startswith("se.")]

    def test_block_is_trained(self) -> None:
        """The block's parameters are in timm's optimiser groups, and receive a gradient."""
        model = self.model().train()
        groups = param_groups_layer_decay(model, weight_decay=0.1)
        grouped = {id(p) for group in groups for p in group["params"]}
        assert {id(p) for p in model.se.parameters()} <= grouped
        model(self.images()).square().sum().backward()
        assert all(bool(p.grad.any()) for p in model.se.parameters())

    def test_one_input_channel(self) -> None:
        model = self.create(in_chans=1).eval()
        explanation = model.explain(torch.randn(2, 1, self.size, self.size))
        assert explanation.overlay().shape == (2, self.size, self.size, 3)

    def test_dtype_and_device_reach_the_block(self) -> None:
        model = self.create(dtype=torch.bfloat16, device="meta")
        assert {(p.dtype, p.device.type) for p in model.parameters()} == {(torch.bfloat16, "meta")}

    def test_unknown_argument_is_a_type_error(self) -> None:
        signature = inspect.signature(type(se_zoo.unsqueeze(self.model())).__init__)
        if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            pytest.skip(f"timm {timm.__version__} swallows unknown arguments of this class")
        with pytest.raises(TypeError, match="no_such_argument"):
            self.create(no_such_argument=1)


class LinearHead(SEHeadTester):
    """For pooling + linear heads: no norm and no class token between them."""

    def test_contribution_equals_grad_cam_after_the_gate(self) -> None:
        """Grad-CAM (arXiv 1610.02391, eq. 1 and 2, without its ReLU), hooked after the gate."""
        model, images = self.model(), self.images()
        with torch.no_grad():
            features = model.forward_features(images)
        gated = model.gated(features).detach().requires_grad_(True)
        logits = model.classify(gated)
        for k in range(self.num_classes):
            gradient = torch.autograd.grad(logits[:, k].sum(), gated, retain_graph=True)[0]
            alpha = model.feature_grid(gradient).mean((2, 3))
            grad_cam = (alpha[:, :, None, None] * model.feature_grid(gated.detach())).sum(1)
            positions = self.grid[0] * self.grid[1]  # torch sums where the paper's Z divides
            assert same(model.explain(images, k).raw, positions * grad_cam, 1e-5)


class HandWrittenHead(SEHeadTester):
    """For the registered families, whose ``forward_head`` is written for TorchScript and FX."""

    def test_torchscript_follows_the_model(self) -> None:
        model, images = self.model(), self.images()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript announces its own end
            assert torch.allclose(torch.jit.script(model)(images), model(images), atol=1e-5)

    def test_fx_follows_the_model(self) -> None:
        model, images = self.model(), self.images()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "NOTE: The nodes obtained by tracing")
            graph = create_feature_extractor(model, ["se.fc2"])
            gate = torch.sigmoid(graph(images)["se.fc2"])
            assert torch.equal(gate, model.gate(model.forward_features(images)))
