"""Colours of maps: legible on any photo and for colour-blind people, without lines at zero."""

import itertools
from typing import Tuple

import numpy as np
import pytest

from se_zoo.explanations.draw.colours import ALPHA, paint
from se_zoo.explanations.draw.tiles import Legend

#: Machado et al., doi 10.1109/TVCG.2009.113: what people without one kind of cones see, linear RGB.
CONES = {
    "all": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
PICTURES = {
    "blue sky": (110, 170, 235),
    "deep blue": (20, 50, 200),
    "orange": (250, 140, 20),
    "red": (210, 30, 30),
    "dark suit": (20, 20, 28),
    "snow": (245, 248, 250),
    "lawn": (70, 130, 40),
}


def lab(colour: np.ndarray, cones: str = "all") -> np.ndarray:
    """CIE L*a*b* of an sRGB colour in [0, 255]; a distance of 2.3 is just noticeable."""
    rgb = np.asarray(colour, float) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ CONES[cones].T).clip(0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def difference(one: np.ndarray, other: np.ndarray, cones: str = "all") -> float:
    return float(np.linalg.norm(lab(one, cones) - lab(other, cones)))


def on(colour: Tuple[int, int, int], evidence: float) -> np.ndarray:
    """Colour in which evidence is drawn on a picture of one colour."""
    return paint(np.full((1, 1, 3), colour, np.uint8), np.full((1, 1), evidence), ALPHA)[0, 0]


@pytest.mark.parametrize("cones", CONES)
@pytest.mark.parametrize("picture", PICTURES)
def test_evidence_is_seen_on_any_picture_by_anybody(picture: str, cones: str) -> None:
    colour = PICTURES[picture]
    without = on(colour, 0)
    for evidence in (1, -1):
        assert difference(on(colour, evidence), without, cones) > 20
        if cones == "all":
            assert difference(on(colour, evidence), np.array(colour)) > 10
        assert difference(on(colour, evidence / 2), without, cones) > 8
    assert difference(on(colour, 1), on(colour, -1), cones) > 30


@pytest.mark.parametrize("picture", PICTURES)
def test_more_evidence_is_more_colourful(picture: str) -> None:
    for sign in (1, -1):
        steps = [on(PICTURES[picture], sign * v) for v in np.linspace(0, 1, 21)]
        apart = [difference(step, steps[0]) for step in steps]
        # Strong colours are darker than weak ones, so on dark pictures brightness alone may fall.
        assert apart[20] > apart[5] > apart[2] > 0
        assert all(b > a - 2 for a, b in itertools.pairwise(apart))


@pytest.mark.parametrize("picture", PICTURES)
def test_a_map_that_crosses_zero_shows_no_line(picture: str) -> None:
    """A line is a band whose sides both differ from it within a few pixels."""
    ramp = np.linspace(-1, 1, 401)[None]
    drawn = paint(np.full((1, 401, 3), PICTURES[picture], np.uint8), ramp, ALPHA)[0]
    lightness = lab(drawn)[:, 0]
    steps = np.abs(np.diff(lightness))
    assert steps.max() < 1  # a step of 1/200 of the evidence
    zero = 200
    near = np.abs(lightness[zero - 20 : zero + 21] - lightness[zero])
    assert near.max() < 5  # evidence up to a tenth looks as zero does


def test_legend_shows_both_colours_and_what_they_mean() -> None:
    legend = Legend("against the label", "for the label", (), True, ALPHA, None)
    bar = legend.bar().astype(int)
    assert bar[5, 0, 2] > bar[5, 0, 0] + 80 and bar[5, -1, 0] > bar[5, -1, 2] + 80
    middle = bar[5, bar.shape[1] // 2]
    assert middle[0] == middle[1] == middle[2]
    unsigned = legend._replace(signed=False).bar().astype(int)
    assert unsigned[5, 0, 0] == unsigned[5, 0, 2] and unsigned[5, -1, 0] > unsigned[5, -1, 2] + 80


def test_a_colour_map_replaces_the_colours() -> None:
    grey = np.full((1, 3, 3), 128, np.uint8)
    drawn = paint(grey, np.array([[-1.0, 0.0, 1.0]]), 1.0, "PiYG")[0].astype(int)
    assert drawn[0, 0] > drawn[0, 1] and drawn[2, 1] > drawn[2, 0]  # pink against, green for
    assert len(set(drawn[1])) == 1


def test_what_the_model_did_not_see_is_pale() -> None:
    black, seen = np.zeros((1, 2, 3), np.uint8), np.array([[True, False]])
    drawn = paint(black, np.zeros((1, 2)), ALPHA, seen=seen)[0]
    assert drawn[1, 0] > drawn[0, 0] + 80
