"""What the gate alone predicts, without the features behind it; a run says if that is most."""

from itertools import combinations
from types import SimpleNamespace
from typing import Any, Optional, Tuple

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAveragePrecision

from se_zoo import InvalidInputError
from se_zoo.layers.grid import Layout
from se_zoo.statistics import weighted_average_precision
from se_zoo.train.classify import ClassifierTrainer
from se_zoo.train.gate_alone import GateAlone, _random_precision, measure_gate_alone

from .explain_models import plain  # noqa: F401  plain is a fixture


class OneLabel(nn.Module):
    """Features are the image; the first channel holds the label, the second is always 1.

    The classifier reads one of the two. With ``by_gate`` the gate of both channels follows the
    label, otherwise it is constant.
    """

    takes_clips = False

    def __init__(self, reads: int, by_gate: bool) -> None:
        super().__init__()
        self.reads, self.by_gate, self.layout = reads, by_gate, Layout("NCHW")
        self.weight = nn.Parameter(torch.ones(1))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def gate(self, features: torch.Tensor) -> torch.Tensor:
        label = (
            features.mean((2, 3))[:, :1] if self.by_gate else features.new_zeros(len(features), 1)
        )
        return label.sigmoid().expand(-1, features.shape[1])

    def gated(self, features: torch.Tensor, gate: Optional[torch.Tensor] = None) -> Any:
        return self.layout.scale(features, self.gate(features) if gate is None else gate)

    def classify(self, gated: torch.Tensor) -> torch.Tensor:
        return self.weight * gated.mean((2, 3))[:, self.reads, None]

    def feature_grid(self, features: torch.Tensor, size: Any) -> torch.Tensor:
        return features

    def image_stats(self) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
        return (0.5, 0.5), (0.5, 0.5)

    def is_multi_label(self) -> bool:
        return True


def labelled(count: int, seed: int = 0) -> Tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 2, 2, 2) and labels (N, 1); a third of them are yes."""
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.arange(count) % 3 == 0).float()
    images = torch.ones(count, 2, 2, 2)
    images[:, 0] = (2 * truth - 1 + 0.1 * torch.randn(count, generator=generator))[:, None, None]
    return images, truth[:, None]


def test_a_gate_that_decides_keeps_all_of_the_score() -> None:
    images, truth = labelled(96)
    found = measure_gate_alone(OneLabel(reads=1, by_gate=True), images, truth)
    assert found.whole == found.alone == found.kept == 1 and found.decides
    assert found.features == found.chance, "the features that are read are those of all images"
    assert found.chance == pytest.approx(1 / 3) and found.images == 96


def test_a_constant_gate_keeps_nothing() -> None:
    images, truth = labelled(96)
    found = measure_gate_alone(OneLabel(reads=0, by_gate=False), images, truth)
    assert found.whole == found.features == 1 and found.kept == 0 and not found.decides
    assert found.alone == pytest.approx(found.chance), "all images have the same answer"


def test_mean_features_are_those_of_all_images_whatever_the_batch() -> None:
    images, truth = labelled(96)
    order = truth[:, 0].argsort(stable=True)  # the first batches have no image with the label
    model = OneLabel(reads=0, by_gate=True)  # gate times the mean of the first channel, below 0
    found = measure_gate_alone(model, images[order], truth[order])
    assert found.whole == 1 and found.alone < found.chance and found.kept == 0


def test_a_gate_that_repeats_what_the_features_say_does_not_decide() -> None:
    images, truth = labelled(96)
    images[:, 0] += 1.5  # so that the mean of the first channel is positive
    found = measure_gate_alone(OneLabel(reads=0, by_gate=True), images, truth)
    assert found.features == found.alone == found.kept == 1 and not found.decides


def test_exclusive_classes_are_scored_by_their_probabilities(plain: Any) -> None:
    inputs, answers = torch.randn(64, 3, 64, 64), torch.arange(64) % 3  # the others never occur
    with torch.no_grad():
        chances = plain.eval()(inputs).softmax(1)
    found = measure_gate_alone(plain, inputs, answers)
    expected = MulticlassAveragePrecision(chances.shape[1], average=None)(chances, answers)[:3]
    assert found.whole == pytest.approx(expected.mean().item(), abs=1e-5)
    assert found.chance == pytest.approx(1 / 3)


def test_random_precision_is_the_mean_over_all_rankings() -> None:
    ranks, once = torch.arange(6), torch.ones(1, 6).double()
    expected = []
    for positives in (1, 3):
        truths = [torch.isin(ranks, torch.tensor(at)) for at in combinations(range(6), positives)]
        found = [float(weighted_average_precision(t, -ranks, once)) for t in truths]
        expected.append(sum(found) / len(found))
        assert _random_precision(truths[0][:, None]) == pytest.approx(expected[-1])
    both = torch.stack([ranks < 1, ranks < 3], 1)
    assert _random_precision(both) == pytest.approx(sum(expected) / 2)


def test_a_gate_as_good_as_random_rankings_does_not_decide() -> None:
    """One of 64 images has the label: random rankings reach 0.074, one equal answer 0.016."""
    images, truth = labelled(64)[0], torch.arange(64)[:, None] == 5
    random = measure_gate_alone(OneLabel(reads=1, by_gate=True), images, truth).random
    assert random == pytest.approx(0.074, abs=0.001)
    weak = GateAlone(0.08, 0.07, 0.03, 1 / 64, random, 64)
    assert weak.kept > 0.8 and not weak.decides
    assert weak._replace(alone=0.078).decides


def test_a_gate_better_than_the_model_keeps_all() -> None:
    assert GateAlone(0.5, 0.6, 0.3, 0.2, 0.21, 64).kept == 1


@pytest.mark.parametrize("count", [0, 63])
def test_too_few_images_are_refused(count: int) -> None:
    with pytest.raises(InvalidInputError, match=f"{count} images are too few"):
        measure_gate_alone(OneLabel(0, False), *labelled(count))


def test_images_of_one_answer_are_refused() -> None:
    images, truth = labelled(64)
    with pytest.raises(InvalidInputError, match="same labels"):
        measure_gate_alone(OneLabel(0, False), images, torch.ones_like(truth))


class Samples(list):
    def spread(self, count: int) -> Any:
        return self[:count]


@pytest.mark.parametrize(("by_gate", "count"), [(True, 70), (False, 70), (True, 8)])
def test_a_run_stores_the_figure_and_warns_if_the_gate_decides(
    by_gate: bool, count: int, capsys: Any
) -> None:
    trainer = object.__new__(ClassifierTrainer)
    trainer.config = SimpleNamespace(  # type: ignore[assignment]
        model=SimpleNamespace(se=True), augment=SimpleNamespace(hflip=0.0),
        data=SimpleNamespace(noun="image", splits=("train", "valid", "test")),
    )  # fmt: skip
    trainer.tables = {"valid": Samples(zip(*labelled(count), strict=True))}  # type: ignore[dict-item]
    trainer.transforms = (None, lambda image: image)
    summary = trainer.measure_maps(OneLabel(reads=int(by_gate), by_gate=by_gate))
    warned = capsys.readouterr().err
    if count == 8:
        assert summary["gate_alone"] is None and "too few" in summary["gate_alone_from"]
        assert not warned
        return
    assert summary["gate_alone"]["kept"] == by_gate
    assert "valid" in summary["gate_alone_from"]
    assert warned.count("\n") == by_gate
    assert ("keeps 100% of the model's gain" in warned) == by_gate
