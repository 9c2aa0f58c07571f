"""Rival maps: the contribution of a class less that of all others, by its probability."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import se_zoo
from se_zoo.errors import InvalidInputError
from se_zoo.explanations import affinity, answer

from .test_affinity import model_of, smooth


def less_others(values: torch.Tensor, logits: torch.Tensor, target: int) -> torch.Tensor:
    """Return a class's values, of (K, ...), less a part of the others' by their probability."""
    shares = logits.softmax(0) / 3
    others = [shares[k] * values[k] for k in range(len(logits)) if k != target]
    return values[target] - torch.stack(others).sum(0)


@pytest.mark.parametrize(
    "backbone, pool",
    [("test_resnet", "avg"), ("test_convnext", "avg"), ("test_vit", "avg"), ("test_vit", "token"),
     ("test_resnet", "max")],
)  # fmt: skip
def test_rival_map_is_the_contribution_less_that_of_the_others(
    backbone: str, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(backbone, num_classes=5, global_pool=pool)
    images = smooth(model, 2)
    with torch.no_grad():
        features = model.forward_features(images)
        features = model.feature_grid(features, tuple(images.shape[2:]))
    found = model.explain(images, [0, 3], "rivals")
    mean_of_patches = (backbone, pool) == ("test_vit", "avg")
    if mean_of_patches:  # of contributions that are given back, but not shared
        monkeypatch.setitem(answer.SHARED_PARTS, "affinity", 1e-9)
    every = model.explain(images, list(range(5)), "affinity" if mean_of_patches else "contribution")
    assert found.exact == every.exact and found.weights == every.weights and found.signed
    for n, (image, target) in enumerate([(0, 0), (0, 3), (1, 0), (1, 3)]):
        of_image, logits = every.raw.unflatten(0, (2, 5))[image], found.logits[image]
        plain = less_others(of_image, logits, target)
        shared = affinity.share_each(plain[None, None], features[image : image + 1], 0.8)[0, 0]
        assert torch.allclose(found.raw[n], shared, atol=1e-4)
        total = found.raw[n].mean() + found.constant[n]
        assert torch.allclose(total, less_others(logits, logits, target), atol=1e-4)
    weights = {
        ("test_vit", "token"): "attention", ("test_vit", "avg"): "sources",
        ("test_resnet", "max"): "gradient",
    }  # fmt: skip
    assert found.weights == weights.get((backbone, pool), "folded")


def test_a_saved_rival_map_is_read_again(tmp_path: Path) -> None:
    model = model_of(num_classes=4)
    found = model.explain(smooth(model, 2), [0, 2], "rivals")
    found.save(tmp_path / "why.png")
    loaded = se_zoo.Explanation.load(tmp_path / "why.json")
    assert (loaded.method, loaded.exact, loaded.target) == ("rivals", True, found.target)
    assert torch.allclose(loaded.constant, found.constant, atol=1e-4)
    assert (loaded.evidence - found.evidence).abs().max() < 1e-3


def test_predicted_class_and_several_rows_have_rivals_of_their_own() -> None:
    model = model_of(num_classes=4)
    images = smooth(model, 3)
    found = model.explain(images, method="rivals")
    for n, target in enumerate(found.target):
        alone = model.explain(images[n : n + 1], target, "rivals")
        assert torch.allclose(found.raw[n], alone.raw[0], atol=1e-4)


@pytest.mark.parametrize("options", [dict(multi_label=True), dict(num_classes=1)])
def test_classes_that_do_not_compete_have_no_rivals(options: dict) -> None:
    model = model_of(**{"num_classes": 4, **options})
    with pytest.raises(InvalidInputError, match="rivals"):
        model.explain(smooth(model, 1), 0, "rivals")


def test_multi_label_model_cannot_draw_rivals_by_default() -> None:
    with pytest.raises(InvalidInputError, match="multi-label model may draw contribution"):
        model_of(num_classes=4, multi_label=True, map_method="rivals")
    for options in (dict(num_classes=4, multi_label=True), dict(num_classes=1)):
        with pytest.raises(InvalidInputError, match="Unknown method 'rivals'"):
            se_zoo.ExplainedModel(model_of(**options), "rivals")


def test_logits_far_from_zero_stay_exact_in_half_precision() -> None:
    """A bias that all classes share cancels in the map, but not in the rounding of the logits."""
    model = model_of(num_classes=4)
    with torch.no_grad():
        model.get_classifier().bias += 50
    images = smooth(model, 2)
    expected = model.explain(images, 1, "rivals")
    found = model.bfloat16().explain(images, 1, "rivals")
    assert expected.exact and found.exact
    assert float((found.raw - expected.raw).abs().max()) < 0.2 * float(expected.raw.abs().max())


def test_memory_does_not_grow_with_classes_times_rows() -> None:
    """Of 300 rows of each image and 300 classes, nothing of that size is made."""
    model = model_of(num_classes=300)
    largest = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            made = func(*args, **(kwargs or {}))
            largest.append(made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    images = smooth(model, 2)
    with Sizes():
        model.explain(images, list(range(300)), "contribution")
    most, largest[:] = max(largest), []
    with Sizes():
        model.explain(images, list(range(300)), "rivals")
    assert max(largest) <= most


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_one_module_draws_the_same_rivals(pool: str) -> None:
    backbone = {} if pool == "avg" else {"backbone": "test_vit", "global_pool": pool}
    model = model_of(num_classes=4, **backbone)
    images = smooth(model, 2)
    _, heatmap, _ = se_zoo.ExplainedModel(model, "rivals", targets=[1, 3])(images)
    found = model.explain(images, [1, 3], "rivals")
    assert torch.allclose(heatmap.flatten(0, 1), found.heatmap, atol=1e-5)
