"""Augmentation of face tracks: what a changed sound, picture or light makes of the labels."""

from typing import Any, List

import pytest
import torch

pytest.importorskip("accelerate", reason="needs se_zoo[train]")

from se_zoo.train import SpeakerAugmentConfig
from se_zoo.train.speaker.batches import APART, Augmented, relight
from se_zoo.train.speaker.lengths import Cut

FRAMES, SAMPLES = 60, 640  # frames of a track, samples of a frame
STILL = {"hflip": 0.0, "scale": (1.0, 1.0), "rotate": 0.0, "noise": 0.0}


class Talk:
    """A track whose crops and sound say which frame they are of."""

    labels = torch.ones(FRAMES)

    def __len__(self) -> int:
        return FRAMES

    def wave(self, first: int, count: int) -> torch.Tensor:
        numbers = torch.arange(first, first + count).repeat_interleave(SAMPLES)
        return numbers.float() % FRAMES + 1

    def pictures(self, first: int, count: int, bodies: bool = False) -> torch.Tensor:
        numbers = torch.arange(first, first + count, dtype=torch.uint8)
        return (numbers[:, None, None] + 60).expand(-1, 112, 112).contiguous()

    def features(self, wave: torch.Tensor) -> torch.Tensor:
        return wave


class Table:
    def __len__(self) -> int:
        return 3

    def sample(self, index: int) -> Talk:
        return Talk()


def cuts(count: int = 40, **options: Any) -> List[Any]:
    table: Any = Table()
    augmented = Augmented(table, SpeakerAugmentConfig(**{**STILL, **options}), False, 0)
    return [augmented[Cut(epoch, 0, 12)] for epoch in range(count)]


def first_frame(cut: Any) -> int:
    return int(cut["face"][0, 0, 0]) - 60


def test_moved_sound_is_the_tracks_own_of_another_time_and_nobody_speaks() -> None:
    for cut in cuts(shift=1.0):
        heard, seen = int(cut["audio"][0]) - 1, first_frame(cut)
        apart = (heard - seen) % FRAMES
        assert min(apart, FRAMES - apart) >= APART - 1
        assert not cut["labels"].any() and cut["face_labels"].all(), "the lips do move"
        assert len(cut["audio"]) == 12 * SAMPLES


def test_a_face_that_stands_still_does_not_speak() -> None:
    for cut in cuts(still=1.0):
        assert (cut["face"] == cut["face"][:1]).all()
        assert not cut["labels"].any() and not cut["face_labels"].any()
        assert int(cut["audio"][0]) - 1 == first_frame(cut), "its own sound goes on"
    shares = [not cut["face_labels"].any() for cut in cuts(200, still=0.3)]
    assert sum(shares) / 200 == pytest.approx(0.3, abs=0.1)


def test_light_changes_all_frames_alike() -> None:
    found = cuts(light=0.4)
    assert len({int(cut["face"][0, 0, 0]) - int(cut["face"][-1, 0, 0]) for cut in found}) > 3
    for cut in found:
        assert cut["face"].dtype == torch.uint8 and cut["labels"].all()
        assert cut["face"][:, 0, 0].diff().min() >= 0, "the order of the greys stays"


def test_without_these_options_cuts_are_as_before() -> None:
    """Their random numbers are drawn only if an option asks for them."""
    for cut, other in zip(cuts(8, noise=0.5), cuts(8, noise=0.5, shift=0.0), strict=True):
        assert all(torch.equal(cut[name], other[name]) for name in cut)
        assert (cut["face"][:, 0, 0].int().diff() == 1).all()


def test_brightness_and_contrast_by_hand() -> None:
    picture = torch.tensor([[100, 200]], dtype=torch.uint8)
    assert relight(picture, 0.0, 0.0).equal(picture)
    assert relight(picture, 0.1, 0.0).tolist() == [[110, 220]]
    assert relight(picture, 0.0, 0.5).tolist() == [[75, 225]]
    assert relight(picture, 0.5, 0.0).tolist() == [[150, 255]]
