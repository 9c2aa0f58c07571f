"""Which sound of a file is taken: its track, and what two channels make together."""

from fractions import Fraction
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import torch

av = pytest.importorskip("av", reason="needs PyAV (extra: video)")

from se_zoo.data.faces import sound  # noqa: E402
from se_zoo.data.faces.sound import (  # noqa: E402
    SoundAligner,
    check_sound,
    probe_sound,
    read_sound,
    sound_features,
)
from se_zoo.errors import DataError  # noqa: E402

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (8000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


def write(path: Path, tracks: List[np.ndarray], begins: int = 0) -> Path:
    """A .mkv with sound tracks of (channels, N) int16 samples, from this second on."""
    with av.open(str(path), "w") as container:
        made: Any = []
        for samples in tracks:
            layout = ("mono", "stereo")[len(samples) - 1]
            made.append((container.add_stream("pcm_s16le", RATE, layout=layout), samples, layout))
        for stream, samples, layout in made:
            packed = np.ascontiguousarray(samples.T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(packed, "s16", layout)
            frame.sample_rate, frame.pts = RATE, begins * RATE
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def test_silent_first_track_is_named_and_the_other_can_be_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", [np.zeros((1, RATE), np.int16), tone(440)[None]])
    said = str(probe_sound(path, "v"))
    assert said.startswith("sound track 0 of 2 (pcm_s16le, ") and "--audio" in said
    other = probe_sound(path, "v", audio=1)
    assert not other.silent and "silent" not in str(other)
    assert np.abs(read_sound(path, "v")).max() == 0
    assert np.abs(read_sound(path, "v", audio=1)).max() > 7000
    assert not torch.equal(sound_features(path, "v"), sound_features(path, "v", audio=1))


def test_recording_whose_clock_began_earlier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence before its first sound would take gigabytes."""
    begun: List[float] = []
    aligned = sound.aligned_sound
    monkeypatch.setattr(
        sound,
        "aligned_sound",
        lambda c, begins, *rest: begun.append(begins) or aligned(c, begins, *rest),
    )
    probe_sound(write(tmp_path / "v.mkv", [tone(440)[None]], begins=36_000), "v")
    assert begun == [pytest.approx(36_000, abs=1)]


@pytest.mark.parametrize("number", [-1, 2])
def test_track_that_does_not_exist_is_refused(tmp_path: Path, number: int) -> None:
    path = write(tmp_path / "v.mkv", [tone(440)[None]] * 2)
    for look in (probe_sound, read_sound, check_sound):
        with pytest.raises(DataError, match=f"2 sound tracks, from 0; there is no track {number}"):
            look(path, "v", audio=number)


def test_channels_of_opposite_phase_do_not_become_silence(tmp_path: Path) -> None:
    """As of a microphone with swapped wires: the mean of both channels is nothing."""
    left = tone(440)
    path = write(tmp_path / "v.mkv", [np.stack([left, -left])])
    found = probe_sound(path, "v")
    assert found.cancels and "left channel alone" in str(found)
    assert np.abs(read_sound(path, "v").astype(int) - left).max() < 10


def test_usual_stereo_is_mixed_as_before(tmp_path: Path) -> None:
    left, right = tone(440), tone(660)
    path = write(tmp_path / "v.mkv", [np.stack([left, right])])
    assert not probe_sound(path, "v").cancels
    mean = (left.astype(int) + right) / 2
    assert np.abs(read_sound(path, "v") - mean).max() < 10


def test_sound_goes_on_where_the_clock_starts_again() -> None:
    """As in two recordings joined byte by byte; a small step back is an overlap, as before."""
    wave = np.random.default_rng(0).integers(-9000, 9000, 5 * RATE).astype(np.int16)
    aligner = SoundAligner(10.0, "s16", "mono", RATE)

    def heard(second: int, time: float) -> np.ndarray:
        part = wave[second * RATE : (second + 1) * RATE]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part[None]), "s16", "mono")
        frame.sample_rate, frame.pts = RATE, round(time * RATE)
        frame.time_base = Fraction(1, RATE)
        return np.concatenate([np.zeros(0, np.int16), *(p[0] for p in aligner.add(frame))])

    found = [heard(n, time) for n, time in enumerate((10, 11, 12, 10, 11))]
    assert np.array_equal(np.concatenate(found), wave)
    assert len(heard(0, 11.5)) == RATE // 2


def test_a_wrong_time_stamp_does_not_fill_the_memory_with_silence() -> None:
    aligner = SoundAligner(0.0, "s16", "mono", RATE)

    def parts(time: int) -> List[int]:
        frame = av.AudioFrame.from_ndarray(np.ones((1, RATE), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = RATE, time * RATE
        frame.time_base = Fraction(1, RATE)
        return [part.shape[1] // RATE for part in aligner.add(frame)]

    assert parts(0) == [1] and parts(151) == [60, 60, 30, 1]
    with pytest.raises(ValueError, match="leave out 28 hours"):
        parts(152 + 28 * 3600)
