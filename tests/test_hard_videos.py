"""Videos as they are in practice: which faces are tracked, when, and which sound they get.

A face is a square of one colour, found by its colour, so that places and times are known.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, List, Sequence, Tuple

import numpy as np
import pytest
import torch

av = pytest.importorskip("av", reason="needs PyAV (extra: video)")

from se_zoo.data.faces.mfcc import WINDOWS, mfcc  # noqa: E402
from se_zoo.data.faces.sound import sound_features  # noqa: E402
from se_zoo.speaker import SpeakerClip, load_speakers  # noqa: E402
from se_zoo.speaker.video_frames import Pictures  # noqa: E402

from .test_videos import turned  # noqa: E402

RATE = 16_000
SIZE = (160, 120)
RED, GREEN = (230, 30, 30), (30, 230, 30)
#: A face: its colour, and its left top corner in a frame; None where it is not seen.
Actor = Tuple[Tuple[int, int, int], Callable[[float], Any]]
SIDE = 40


def by_colour(picture: np.ndarray) -> List[Tuple[float, float, float, float]]:
    """Find the squares."""
    found = []
    for colour in (RED, GREEN):
        rows, columns = np.nonzero(np.abs(picture.astype(int) - colour).max(2) < 60)
        if len(rows) > 200:
            found.append((columns.min(), rows.min(), columns.max() + 1.0, rows.max() + 1.0))
    return [tuple(float(v) for v in box) for box in found]  # type: ignore[misc]


def film(
    path: Path,
    seconds: float,
    actors: Sequence[Actor],
    sounds: Sequence[np.ndarray] = (),
    fps: float = 25,
    rate: int = RATE,
    later: float = 0.0,
    room: Callable[[float], int] = lambda _: 90,
    codec: str = "ffv1",
) -> Path:
    """Write a video; sounds are int16 samples, one for each track, that begin later."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = SIZE
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        voices: List[Any] = [
            container.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", rate)
            for _ in sounds
        ]
        for voice in voices:
            voice.layout = "mono"
        for n in range(round(seconds * fps)):
            picture = np.full((SIZE[1], SIZE[0], 3), room(n / fps), np.uint8)
            for colour, place in actors:
                if (corner := place(n / fps)) is not None:
                    x, y = corner
                    picture[y : y + SIDE, x : x + SIDE] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
        for voice, samples in zip(voices, sounds, strict=True):
            kind = "s16" if path.suffix == ".mkv" else "fltp"
            for begin in range(0, len(samples), 1024):
                part = samples[None, begin : begin + 1024]
                part = part if kind == "s16" else part.astype(np.float32) / 32768
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), kind, "mono")
                frame.sample_rate, frame.pts = rate, begin + round(later * rate)
                container.mux(voice.encode(frame))
            container.mux(voice.encode())
    return path


def voice(seconds: float, begin: float, end: float, hertz: float = 440, rate: int = RATE) -> Any:
    """A tone from one second to another, and faint noise beside it."""
    time = np.arange(round(seconds * rate)) / rate
    tone = 9000 * np.sin(2 * np.pi * hertz * time) * ((time >= begin) & (time < end))
    noise = np.random.default_rng(0).normal(0, 3, len(time))
    return (tone + noise).round().astype(np.int16)


def still(x: int, y: int = 40) -> Callable[[float], Any]:
    return lambda second: (x, y)


def loud(clip: SpeakerClip) -> np.ndarray:
    """The frames of a clip in which its sound is loud, by the logarithm of the energy."""
    energy = clip.audio[0, :, 0].view(-1, WINDOWS).mean(1).numpy()
    return np.flatnonzero(energy > energy.max() - 5)


def test_two_faces_share_one_voice(tmp_path: Path) -> None:
    path = film(
        tmp_path / "v.mkv", 2, [(RED, still(10)), (GREEN, still(100))], [voice(2, 0.8, 1.2)]
    )
    left, right = load_speakers(path, by_colour)
    assert left.track.boxes[9].tolist() == [10, 40, 50, 80]
    assert right.track.boxes[9].tolist() == [100, 40, 140, 80]
    assert torch.equal(left.audio, right.audio) and left.face.shape == right.face.shape
    assert float(left.face.float().mean()) != float(right.face.float().mean())
    assert (loud(left)[0], loud(left)[-1]) == (20, 29)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.4])
def test_shifted_sound_is_heard_when_the_file_plays_it(tmp_path: Path, shift: float) -> None:
    path = film(
        tmp_path / "v.mkv", 2, [(RED, still(10))], [voice(2, 0.4, 0.8)], later=shift
    )  # fmt: skip
    (clip,) = load_speakers(path, by_colour)
    first, last = loud(clip)[[0, -1]]
    assert first == pytest.approx((0.4 + shift) * 25, abs=1)
    assert last == pytest.approx((0.8 + shift) * 25 - 1, abs=1)


@pytest.mark.parametrize("fps", [12.5, 15, 24, 30000 / 1001, 50])
def test_any_frame_rate_keeps_faces_and_sound_together(tmp_path: Path, fps: float) -> None:
    """The face jumps when the voice begins."""

    def jumps(second: float) -> Any:
        return (20 if second < 1 else 28, 40)

    path = film(tmp_path / "v.mkv", 2, [(RED, jumps)], [voice(2, 1, 1.6)], fps=fps)
    pictures = Pictures(path)
    assert len(pictures) == pytest.approx(50, abs=2)
    places = np.array([by_colour(picture)[0][0] for picture in pictures])
    moved = int(np.flatnonzero(places > 24)[0])
    assert moved == pytest.approx(25, abs=25 / fps)  # the file shows it by at most a frame later
    (clip,) = load_speakers(path, by_colour, every=1)
    assert len(clip.track) == len(pictures) and clip.audio.shape[1] == WINDOWS * len(pictures)
    assert loud(clip)[0] == pytest.approx(25, abs=1)


def test_telephone_sound_has_the_same_times(tmp_path: Path) -> None:
    sound = voice(2, 0.6, 1.0, rate=8000)
    path = film(tmp_path / "v.mkv", 2, [(RED, still(10))], [sound], rate=8000)
    (clip,) = load_speakers(path, by_colour)
    assert (loud(clip)[0], loud(clip)[-1]) == (15, 24)
    wide = film(tmp_path / "w.mkv", 2, [(RED, still(10))], [voice(2, 0.6, 1.0)])
    heard, wanted = sound_features(path, "v"), sound_features(wide, "w")
    assert abs(len(heard) - len(wanted)) <= 1
    voiced = slice(65, 95)  # the first coefficient is the energy, in logarithms
    torch.testing.assert_close(heard[voiced, 0], wanted[voiced, 0], atol=0.5, rtol=0)


def test_the_sound_track_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    path = film(
        tmp_path / "v.mkv", 2, [(RED, still(10))], [voice(2, 0.2, 0.6), voice(2, 1.2, 1.6, 700)]
    )
    (first,), (second,) = (load_speakers(path, by_colour, audio=n) for n in range(2))
    assert loud(first)[0] == 5 and loud(second)[0] == 30
    expected = mfcc(torch.from_numpy(voice(2, 1.2, 1.6, 700)))
    torch.testing.assert_close(second.audio[0, :190], expected[:190], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_searched_upright(tmp_path: Path, degrees: int) -> None:
    """Also the crops are upright, and in the places of the shown picture."""

    def write(name: str) -> Path:
        sound = [voice(1, 0.2, 0.6, rate=48_000)]
        actors = [(RED, still(10, 20)), (GREEN, still(100, 60))]
        return film(tmp_path / name, 1, actors, sound, rate=48_000, codec="libx264")

    lying, path = write("lying.mp4"), write("turned.mp4")
    path.write_bytes(turned(path.read_bytes(), degrees))
    wanted = sorted(by_colour(np.rot90(next(iter(Pictures(lying))), -degrees // 90)))
    clips = load_speakers(path, by_colour)
    assert len(clips) == 2
    for clip, box in zip(clips, wanted, strict=True):
        assert clip.track.boxes[5] == pytest.approx(np.array(box), abs=2)
        assert loud(clip)[0] == pytest.approx(5, abs=1)
        assert float(clip.face.float().std()) < 20, "the square alone"


def test_a_mirrored_video_has_mirrored_tracks_and_crops(tmp_path: Path) -> None:
    def walks(second: float) -> Any:
        return (20 + round(30 * second), 40)

    def mirrored(second: float) -> Any:
        return (SIZE[0] - SIDE - walks(second)[0], 40)

    sound = [voice(2, 0.4, 0.8)]
    (one,) = load_speakers(film(tmp_path / "a.mkv", 2, [(RED, walks)], sound), by_colour)
    (other,) = load_speakers(film(tmp_path / "b.mkv", 2, [(RED, mirrored)], sound), by_colour)
    np.testing.assert_allclose(other.track.boxes[:, 0], SIZE[0] - one.track.boxes[:, 2])
    assert torch.equal(one.audio, other.audio)
    assert torch.equal(one.face.flip(3), other.face)


def test_each_shot_has_its_own_tracks_with_the_sound_of_its_time(tmp_path: Path) -> None:
    """Two people at the same place; the voice is heard in the second shot."""
    actors: List[Actor] = [
        (RED, lambda second: (60, 40) if second < 1 else None),
        (GREEN, lambda second: (60, 40) if second >= 1 else None),
    ]
    path = film(
        tmp_path / "v.mkv", 2, actors, [voice(2, 1.2, 1.6)],
        room=lambda second: 40 if second < 1 else 180,
    )  # fmt: skip
    before, after = load_speakers(path, by_colour)
    assert (before.track.first, len(before.track)) == (0, 25)
    assert (after.track.first, len(after.track)) == (25, 25)
    assert (loud(after)[0], loud(after)[-1]) == (5, 14)
    assert float(before.audio[0, :, 0].max()) < float(after.audio[0, :, 0].max()) - 3
    assert float(before.face.float().std()) < 5 and float(after.face.float().std()) < 5


def test_a_face_that_leaves_and_comes_back_has_a_track_for_each_visit(tmp_path: Path) -> None:
    """A short disappearance, as behind a hand, is bridged."""
    gone, hidden = (1.0, 2.2), (3.0, 3.2)

    def visits(second: float) -> Any:
        away = any(begin <= second < end for begin, end in (gone, hidden))
        return None if away else (60, 40)

    path = film(tmp_path / "v.mkv", 4, [(RED, visits)], [voice(4, 2.4, 2.8)])
    first, second = load_speakers(path, by_colour)
    assert first.track.first == 0 and first.track.after == pytest.approx(25, abs=3)
    assert second.track.first == pytest.approx(55, abs=3) and second.track.after == 100
    assert loud(second)[0] == 60 - second.track.first


@pytest.mark.data
@pytest.mark.slow
def test_the_voice_belongs_to_the_face_that_moves(data_dir: Path, tmp_path: Path) -> None:
    """LR-ASD's weights, one person who speaks beside a photograph of another, in one picture."""
    pytest.importorskip("cv2", reason="finding faces needs OpenCV (extra: speaker)")
    from se_zoo.data.faces.detect import open_detector
    from se_zoo.models import create_speaker_model
    from se_zoo.models.speaker.lr_asd import write_converted
    from se_zoo.speaker import find_tracks, score_tracks

    write_converted(data_dir / "weights" / "lr_asd_ava.safetensors", tmp_path / "asd")
    model = create_speaker_model(f"local-dir:{tmp_path / 'asd'}")
    speaks, listens = (
        data_dir / "grid" / "video" / f"{name}.mpg" for name in ("s1_bbil5a", "multi_brbk7n")
    )
    photo = next(iter(Pictures(listens))).copy()
    pictures = [np.hstack([picture, photo]) for picture in Pictures(speaks)]
    detector = data_dir / "weights" / "face_detection_yunet_2026may.onnx"
    tracks = find_tracks(pictures, open_detector(detector))
    left, right = sorted(
        score_tracks(model, pictures, tracks, sound_features(speaks, "v")),
        key=lambda one: float(one.track.boxes[0, 0]),
    )
    assert (left.scores > 0.5).mean() > 0.3 and (right.scores > 0.5).mean() < 0.05
