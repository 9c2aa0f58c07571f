"""Maps are normalised, enlarged and signed as asked."""

import dataclasses
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from se_zoo.explanations import METHODS, maps

from .explain_models import (
    SIZE,
    celeba,  # noqa: F401  (a fixture)
    images,
    plain,  # noqa: F401  (a fixture)
)
from .tester import same


def test_per_image_normalisation_of_signed_maps_keeps_zero(plain: Any) -> None:
    explanation = plain.explain(images(4), list(range(7)))
    native = maps.to_unit_range(explanation.raw, from_zero=True)
    for raw, shown in zip(explanation.raw, native, strict=True):
        assert bool((shown[raw <= 0] == 0).all())
        if raw.max() > 0:
            torch.testing.assert_close(shown, raw.clamp(min=0) / raw.max())
    assert (explanation.raw < 0).any() and (explanation.raw > 0).any()


def test_per_image_normalisation_of_unsigned_maps_stretches() -> None:
    raw = torch.tensor([[[1.0, 3.0], [2.0, 1.5]], [[-5.0, -4.0], [-4.5, -4.75]]])
    shown = maps.to_unit_range(raw, from_zero=False)
    torch.testing.assert_close(shown[0], torch.tensor([[0.0, 1.0], [0.5, 0.25]]))
    torch.testing.assert_close(shown[1], torch.tensor([[0.0, 1.0], [0.5, 0.25]]))


def test_fixed_scale_is_the_same_for_every_image(plain: Any) -> None:
    batch = images(3)
    scale = float(plain.explain(batch, 1).raw.max())
    together = plain.explain(batch, 1, normalize=scale)
    for i in range(3):
        alone = plain.explain(batch[i : i + 1], 1, normalize=scale)
        assert same(alone.heatmap, together.heatmap[i : i + 1], 1e-4)
    torch.testing.assert_close(
        maps.to_unit_range(together.raw, True, scale), (together.raw / scale).clamp(0, 1)
    )
    weak = plain.explain(batch, 1, normalize=1e6)
    assert weak.heatmap.max() < 1e-3, "a weak map must look weak on a fixed scale"
    assert plain.explain(batch, 1).heatmap.max() > 0.5
    assert plain.explain(batch, 1, normalize=np.float32(2)).normalize == 2.0


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-30])
def test_constant_map_shows_nothing(from_zero: bool, value: float) -> None:
    raw = torch.full((1, 4, 4), value)
    raw[0, 0, 0] += abs(value) * 1e-7  # rounding
    assert not maps.to_unit_range(raw, from_zero).any()
    assert not maps.to_unit_range(raw[:, :1, :1], from_zero).any(), "one cell marks no place"


def test_small_but_real_maps_are_shown() -> None:
    raw = torch.zeros(1, 4, 4)
    raw[0, 1, 1] = 1e-12
    for from_zero in (True, False):
        assert maps.to_unit_range(raw, from_zero)[0, 1, 1] == 1


def test_heatmap_is_bicubic_in_half_pixels_and_clipped(plain: Any) -> None:
    """Half-pixel centres as in OpenCV; the undershoot of bicubic (-0.11) is cut."""
    raw = torch.zeros(1, 4, 4)
    raw[0, 1:3, 1:3] = 1
    up = maps.upsample(raw, (64, 64))
    assert up.min() < -0.05 and up.max() > 1.02, "no overshoot: this test says nothing"
    torch.testing.assert_close(up, up.flip(1))
    torch.testing.assert_close(up, up.flip(2))
    explanation = plain.explain(images(8), method="activation")
    native = maps.to_unit_range(explanation.raw, from_zero=False)
    free = maps.upsample(native, (SIZE, SIZE))
    assert free.min() < 0 or free.max() > 1
    torch.testing.assert_close(explanation.heatmap, free.clamp(0, 1))


def test_signed_evidence_keeps_both_signs(plain: Any) -> None:
    explanation = plain.explain(images(4), list(range(7)))
    evidence = explanation.evidence
    assert evidence.shape == explanation.heatmap.shape and evidence.dtype == torch.float32
    assert -1 <= evidence.min() < -0.5 and 0.5 < evidence.max() <= 1
    flipped = dataclasses.replace(explanation, raw=-explanation.raw)
    torch.testing.assert_close(flipped.evidence, -evidence)
    constant = dataclasses.replace(explanation, raw=torch.ones_like(explanation.raw))
    assert not constant.evidence.any()
    unsigned = plain.explain(images(), method="gate")
    assert unsigned.evidence is unsigned.heatmap


def test_gate_map_does_not_depend_on_the_classifier(celeba: Any) -> None:
    batch = images()
    before = celeba.explain(batch, method="gate").raw
    nn.init.normal_(celeba.fc.weight)
    assert torch.equal(celeba.explain(batch, method="gate").raw, before)


def test_every_method_draws_a_map_of_its_own(plain: Any) -> None:
    """One of the table that has no code would be drawn as a contribution map."""
    # Enough cells that some are like each other, and share their evidence.
    batch = nn.functional.interpolate(images(), scale_factor=4)
    drawn = {method: plain.explain(batch, 1, method).raw for method in METHODS}
    for one, other in combinations(METHODS, 2):
        assert not same(drawn[one], drawn[other], 1e-3), (one, other)
