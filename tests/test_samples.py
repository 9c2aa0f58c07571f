"""The picture of a finished run shows right and wrong answers."""

import json
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import torch

import se_zoo
from se_zoo.train import samples

from .brightness import brightness_model


def bright(*lights: float) -> torch.Tensor:
    """Images of one brightness each; above 0 the brightness model says class 0."""
    return torch.tensor(lights)[:, None, None, None].expand(-1, 3, 64, 64).contiguous()


def draw(
    monkeypatch: pytest.MonkeyPatch, path: Path, model: Any, images: Any, truth: torch.Tensor
) -> List[str]:
    names: List[str] = []
    save = se_zoo.Explanation.save

    def noting(self: Any, path: Any, **options: Any) -> None:
        names.extend(options["names"])
        save(self, path, **options)

    monkeypatch.setattr(se_zoo.Explanation, "save", noting)
    samples.draw_samples(path, model, images, truth)
    return names


def test_half_of_the_answers_are_wrong_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = brightness_model()
    images = bright(*np.linspace(0.0002, 0.002, 20).tolist())  # class 0 for all
    truth = torch.tensor([0] * 10 + [1] * 10)
    names = draw(monkeypatch, tmp_path / "samples.png", model, images, truth)
    assert names == ["right; truth: 0"] * 3 + ["wrong; truth: 1"] * 3
    report = json.loads((tmp_path / "samples.json").read_text())
    assert len(report["images"]) == 6 and {row["target"] for row in report["rows"]} == {0}
    sure = [row["probability"] for row in report["rows"]]
    assert sure[:3] == sorted(sure[:3], reverse=True)  # the most confident of each kind
    assert len(set(sure)) == 6, "an image is drawn once"


def test_a_model_without_errors_shows_right_answers_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = bright(*np.linspace(0.01, 0.05, 8).tolist())
    truth = torch.zeros(8, dtype=torch.long)
    names = draw(monkeypatch, tmp_path / "s.png", brightness_model(), images, truth)
    assert names == ["right; truth: 0"] * 6


def test_answers_of_independent_labels_are_of_different_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = brightness_model()
    model.multi_label = True
    with torch.no_grad():
        model.fc.bias.copy_(torch.tensor([0.0, 4.0]))  # both labels hold for all images
    images = bright(*np.linspace(0.001, 0.002, 12).tolist())
    truth = torch.tensor([[1.0, 1.0]] * 6 + [[0.0, 0.0]] * 6)
    names = draw(monkeypatch, tmp_path / "s.png", model, images, truth)
    assert set(names[:3]) == {"right; truth: 0", "right; truth: 1"}
    assert set(names[3:]) == {"wrong; truth: not 0", "wrong; truth: not 1"}
