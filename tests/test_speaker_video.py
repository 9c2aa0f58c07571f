"""From a raw video to who speaks in it."""

import csv
from fractions import Fraction
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
import torch

from se_zoo import cli
from se_zoo.data.faces.ava import read_ava
from se_zoo.data.faces.crops import cut_face
from se_zoo.data.faces.detect import overlap, without_nested
from se_zoo.data.faces.mfcc import mfcc
from se_zoo.errors import DataError
from se_zoo.models import create_speaker_model
from se_zoo.models.speaker.lr_asd import write_converted
from se_zoo.speaker import (
    Track,
    Tracker,
    find_tracks,
    load_speakers,
    score_tracks,
    sound_features,
)
from se_zoo.speaker.annotate import draw_scores, write_annotated, write_table
from se_zoo.speaker.scores import CHUNK, CONTEXT, ScoredTrack
from se_zoo.speaker.tracker import Cuts
from se_zoo.speaker.video_frames import Pictures

av = pytest.importorskip("av", reason="needs PyAV (extra: video)")

RATE = 16_000


def write_video(
    path: Path, frames: int, sound: Any = None, fps: int = 25, rate: int = RATE
) -> Path:
    """Grey frames that get lighter, and int16 samples as lossless sound; .mkv."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        voice: Any = container.add_stream("pcm_s16le", rate) if sound is not None else None
        if voice is not None:
            voice.layout = "mono"
        for n in range(frames):
            picture = np.full((48, 64, 3), n % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
        for begin in range(0, 0 if sound is None else len(sound), 4000):
            part = np.ascontiguousarray(sound[None, begin : begin + 4000])
            frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
            frame.sample_rate, frame.pts = rate, begin
            container.mux(voice.encode(frame))
    return path


def noise(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-9000, 9000, round(seconds * RATE)).astype(np.int16)


# Faces and tracks


def test_overlap_by_hand() -> None:
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 2, 2), (2, 0, 3, 2)) == 0 and overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1


def test_two_faces_are_kept_apart_and_gaps_are_filled() -> None:
    tracker = Tracker(smooth=1, shortest=3)
    tracks: List[Track] = []
    for frame in range(0, 21, 2):
        boxes = [(10.0 + frame / 4, 0.0, 30.0 + frame / 4, 20.0), (100.0, 0.0, 130.0, 30.0)]
        if frame in (8, 10, 12):
            boxes = boxes[::-1][:1]  # the first is not found for a while
        tracks += tracker.add(frame, boxes)
    tracks += tracker.end()
    assert len(tracks) == 2 and all((t.first, len(t)) == (0, 21) for t in tracks)
    moving, still = sorted(tracks, key=lambda t: float(t.boxes[0, 0]))
    np.testing.assert_allclose(moving.boxes[:, 0], 10.0 + np.arange(21) / 4)
    assert (still.boxes == [100, 0, 130, 30]).all()


def test_tracks_end_and_short_ones_are_dropped() -> None:
    tracker, box = Tracker(gap=5, shortest=10), (0.0, 0.0, 10.0, 10.0)
    ended = []
    for frame in range(40):
        ended += tracker.add(frame, [box] if frame < 12 or frame == 20 or frame > 28 else [])
    ended += tracker.end()
    assert [(t.first, len(t)) for t in ended] == [(0, 12), (29, 11)]


def test_trembling_boxes_are_smoothed() -> None:
    rng = np.random.default_rng(0)
    tracker = Tracker()
    for frame in range(40):
        shake = rng.normal(0, 2, 4)
        tracker.add(frame, [tuple(np.array([50, 50, 90, 90]) + shake)])  # type: ignore[list-item]
    (track,) = tracker.end()
    assert np.abs(track.boxes - [50, 50, 90, 90]).mean() < 1 and track.boxes.std(0).max() < 1


def test_last_look_holds_until_the_next_would_have_been() -> None:
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 32
    (track,) = find_tracks(pictures, lambda _: [(1.0, 1.0, 5.0, 5.0)], every=3)
    assert (track.first, len(track)) == (0, 32)
    assert find_tracks(pictures, lambda _: []) == [] and find_tracks([], lambda _: []) == []


def test_a_shot_that_ends_ends_its_tracks() -> None:
    """Another person at the same place is another track; a flicker, and a pan, are no cut."""
    rng = np.random.default_rng(0)
    rooms = [rng.integers(0, 255, (60, 80, 3)).astype(np.uint8) for _ in range(2)]
    noisy = [
        np.clip(rooms[n >= 20].astype(int) + rng.integers(-9, 9, (60, 80, 3)), 0, 255)
        for n in range(41)
    ]
    tracks = find_tracks([p.astype(np.uint8) for p in noisy], lambda _: [(9.0, 9.0, 40.0, 40.0)])
    assert [(t.first, len(t)) for t in tracks] == [(0, 20), (20, 21)]
    ramp = np.tile(np.arange(400) % 160, (60, 1))[..., None].repeat(3, 2).astype(np.uint8)
    pan = [ramp[:, 4 * n : 4 * n + 80] for n in range(40)]
    assert len(find_tracks(pan, lambda _: [(9.0, 9.0, 40.0, 40.0)])) == 1


def test_another_size_is_another_shot() -> None:
    """A stream may change the size of its pictures, and boxes are in pixels."""
    cuts, small = Cuts(), np.zeros((48, 64, 3), np.uint8)
    large = np.zeros((96, 128, 3), np.uint8)
    assert [cuts.seen(p) for p in (small, small, large, large)] == [False, False, True, False]


@pytest.mark.parametrize("each", [1, 2])
def test_a_shot_that_begins_in_motion_is_one_shot(each: int) -> None:
    """Also where the video has fewer frames a second, so that each picture comes several times."""
    room = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    moved = [np.roll(room, 4 * n, 1) for n in range(40)]
    pictures = [moved[n // each] for n in range(40)]
    (track,) = find_tracks(pictures, lambda _: [(9.0, 9.0, 40.0, 40.0)])
    assert track.first <= each and track.after == 40


def test_tracker_of_a_running_video_keeps_the_last_boxes_alone() -> None:
    whole, running = Tracker(), Tracker(whole=False)
    for frame in range(300):
        boxes = [(10.0 + frame / 9, 5.0, 60.0 + frame / 9, 55.0)]
        for tracker in (whole, running):
            assert not tracker.add(frame, boxes)
    (one,), (other,) = whole.at(295), running.at(295)
    assert np.array_equal(one.box, other.box) and one[2:] == other[2:] and other.frames == 300
    assert len(running._open[0].boxes) == 4 * running.smooth
    assert len(whole.end()[0]) == 300 and running.end() == []


def test_finds_inside_a_face_are_no_faces() -> None:
    large, part, beside = (0.0, 0.0, 40.0, 40.0), (10.0, 20.0, 25.0, 35.0), (30.0, 0.0, 60.0, 30.0)
    assert without_nested([part, large, beside]) == [large, beside]


def test_cut_goes_on_at_the_edge() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, :20] = 200
    face = cut_face(picture, (-20, 0, 20, 40))
    assert face.shape == (112, 112) and (face == 200).all()


# Sound


@pytest.mark.parametrize("seconds", [0.3, 9.99, 23.7])
def test_sound_in_pieces_is_that_of_the_whole(tmp_path: Path, seconds: float) -> None:
    wave = noise(seconds)
    found = sound_features(write_video(tmp_path / "v.mkv", 10, wave), "v")
    whole = mfcc(torch.from_numpy(wave))
    assert found.shape == whole.shape
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-5)


def test_sound_that_begins_elsewhere_than_the_pictures(tmp_path: Path) -> None:
    wave = noise(2)
    path = write_video(tmp_path / "v.mkv", 50, wave)
    later = sound_features(path, "v", begins=0.5)
    torch.testing.assert_close(later, mfcc(torch.from_numpy(wave[8000:])), atol=1e-4, rtol=1e-5)
    earlier = sound_features(path, "v", begins=-0.5)
    padded = np.concatenate([np.zeros(8000, np.int16), wave])
    torch.testing.assert_close(earlier, mfcc(torch.from_numpy(padded)), atol=1e-4, rtol=1e-5)


def timed_video(path: Path, parts: List[Tuple[float, np.ndarray]], frames: int = 75) -> Path:
    """A video whose sound comes in parts, each at its own second."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        voice: Any = container.add_stream("pcm_s16le", RATE)
        voice.layout = "mono"
        for n in range(frames):
            picture = np.full((48, 64, 3), n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        for second, wave in parts:
            for begin in range(0, len(wave), 800):
                block = np.ascontiguousarray(wave[None, begin : begin + 800])
                frame = av.AudioFrame.from_ndarray(block, "s16", "mono")
                frame.sample_rate, frame.pts = RATE, round(second * RATE) + begin
                container.mux(voice.encode(frame))
        container.mux(stream.encode())
    return path


def test_sound_stays_with_the_pictures(tmp_path: Path) -> None:
    """It begins late, and has a gap: silence is put in, for the scores and in what is written."""
    tone = (8000 * np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE)).astype(np.int16)
    source = timed_video(tmp_path / "v.mkv", [(0.5, tone[: RATE // 2]), (2.0, tone)])
    whole = np.zeros(3 * RATE, np.int16)
    whole[RATE // 2 : RATE], whole[2 * RATE :] = tone[: RATE // 2], tone
    expected = mfcc(torch.from_numpy(whole))
    found = sound_features(source, "v")
    torch.testing.assert_close(found, expected[: len(found)], atol=1e-2, rtol=1e-3)
    write_annotated(tmp_path / "out.mp4", source, Pictures(source), [])
    with av.open(str(tmp_path / "out.mp4")) as made:
        sound = np.concatenate([f.to_ndarray()[0] for f in made.decode(audio=0)])
    loud = np.array([np.abs(sound[i : i + 800]).mean() > 0.02 for i in range(0, 3 * RATE, 800)])
    seconds = np.arange(len(loud)) / 20
    right = ((seconds >= 0.5) & (seconds < 1)) | (seconds >= 2)
    assert (loud == right).mean() > 0.9


def test_no_sound(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mine has no sound"):
        sound_features(write_video(tmp_path / "v.mkv", 3), "mine")


# Scores


class _Fake:
    """Answers with what it is shown: the crop's grey as logit, so that every frame is known."""

    modalities = ("audio", "face")

    def __init__(self) -> None:
        self.lengths: List[int] = []

    def explain(self, audio: torch.Tensor, face: torch.Tensor, method: str) -> Any:
        assert audio.shape[1] == 4 * face.shape[1] and method == "gate"
        self.lengths.append(face.shape[1])
        grey = face.float().mean((2, 3))
        sound = audio[0, ::4, 0][None]
        return type("Found", (), {
            "scores": grey / 255, "raw": torch.rand(1, face.shape[1], 2, 2),
            "shares": {"features": torch.stack([sound, grey], 2)},
        })  # fmt: skip


@pytest.mark.parametrize("count", [12, CHUNK, CHUNK + 1, CHUNK + CONTEXT, 2 * CHUNK + 60])
def test_every_frame_is_scored_once_with_its_own_sound(count: int) -> None:
    first = 7
    pictures = [np.full((40, 40, 3), n % 256, np.uint8) for n in range(first + count + 5)]
    tracks = [
        Track(first, np.tile([5.0, 5.0, 30.0, 30.0], (count, 1))),
        Track(0, np.tile([0.0, 0.0, 9.0, 9.0], (10, 1))),
    ]
    sound = torch.arange(4.0 * len(pictures))[:, None].expand(-1, 13)
    model: Any = _Fake()
    scored, other = score_tracks(model, pictures, tracks, sound, "gate")
    shown = np.arange(first, first + count)
    np.testing.assert_allclose(scored.scores * 255, shown % 256, atol=1e-3)
    np.testing.assert_allclose(scored.shares[:, 0], 4 * shown)
    assert scored.maps.shape == (count, 2, 2) and scored.maps.dtype == np.uint8
    assert max(model.lengths) <= CHUNK + 2 * CONTEXT and len(other.scores) == 10


def test_pictures_at_25_a_second(tmp_path: Path) -> None:
    for fps, expected in ((50, list(range(0, 40, 2))), (25, list(range(40)))):
        pictures = Pictures(write_video(tmp_path / f"{fps}.mkv", 40, fps=fps))
        assert [int(p[0, 0, 0]) for p in pictures] == expected == pictures.numbers
    slow = Pictures(write_video(tmp_path / "slow.mkv", 5, fps=10))
    assert [int(p[0, 0, 0]) for p in slow] == slow.numbers and len(slow) == 12


# What is written


def scored_track(count: int = 6) -> ScoredTrack:
    scores = np.linspace(0, 1, count)
    boxes = np.tile([10.0, 12.0, 40.0, 42.0], (count, 1))
    maps = np.zeros((count, 4, 4), np.uint8)
    return ScoredTrack(Track(2, boxes), scores, maps, np.full((count, 2), 0.5), ("audio", "face"))


def test_boxes_are_green_where_somebody_speaks() -> None:
    picture, one = np.zeros((48, 64, 3), np.uint8), scored_track()
    assert not draw_scores(picture, 0, [one]).any() and not draw_scores(picture, 8, [one]).any()
    silent, speaks = draw_scores(picture, 2, [one])[30, 10], draw_scores(picture, 7, [one])[30, 10]
    assert silent[0] > silent[1] and speaks[1] > speaks[0]
    assert not picture.any(), "the picture itself stays"
    one.maps[5, 1:3, 1:3] = 255
    assert draw_scores(picture, 7, [one])[27, 25, 0] > 50  # warm in the middle of the face


def test_a_legend_names_the_colours_of_the_bar() -> None:
    picture, one = np.zeros((240, 320, 3), np.uint8), scored_track()
    drawn = draw_scores(picture, 2, [one])
    corner = drawn[-20:, :180].reshape(-1, 3).tolist()
    sound, face, body = ([70, 130, 220], [240, 170, 40], [150, 90, 200])
    assert sound in corner and face in corner and body not in corner
    assert not draw_scores(picture, 0, [one])[-20:].any(), "no legend without a face"
    bar = drawn[45, 12:40].tolist()
    assert sound in bar and face in bar


def test_score_and_bar_of_a_face_beyond_the_picture_are_seen() -> None:
    picture, one = np.zeros((240, 320, 3), np.uint8), scored_track()
    one.track.boxes[:] = (250, -60, 400, 300)
    drawn = draw_scores(picture, 7, [one])
    assert (drawn[:20, 240:] > 180).all(2).any(), "the score, at the upper edge"
    assert [70, 130, 220] in drawn[-6, 250:].tolist()


@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square_stay_as_they_were(tmp_path: Path, turned: bool) -> None:
    """As on a disc: the annotated video is shown as wide as the original."""
    source, aspect = tmp_path / "v.mkv", Fraction(16, 11)
    with av.open(str(source), "w") as container:
        stream: Any = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(12):
            picture = np.zeros((48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    assert Pictures(source).video.pixel_aspect == aspect
    pictures = [np.zeros((64, 48, 3) if turned else (48, 64, 3), np.uint8)] * 12
    write_annotated(tmp_path / "out.mp4", source, pictures, [])
    with av.open(str(tmp_path / "out.mp4")) as made:
        found = made.streams.video[0].sample_aspect_ratio
    assert found == (1 / aspect if turned else aspect)


def test_video_keeps_its_sound_and_the_table_is_avas(tmp_path: Path) -> None:
    wave = (8000 * np.sin(np.arange(2 * RATE) * 2 * np.pi * 440 / RATE)).astype(np.int16)
    source = write_video(tmp_path / "v.mkv", 50, wave)
    pictures = Pictures(source)
    out = tmp_path / "out.mp4"
    write_annotated(out, source, pictures, [scored_track()])
    with av.open(str(out)) as made:
        assert sum(1 for _ in made.decode(video=0)) == 50
    with av.open(str(out)) as made:
        frames = [f.to_ndarray() for f in made.decode(audio=0)]
    sound = np.concatenate(frames, 1)[0]
    assert len(sound) / RATE == pytest.approx(2, abs=0.1)
    spectrum = np.abs(np.fft.rfft(sound[RATE // 2 : RATE // 2 + RATE]))
    assert spectrum.argmax() == pytest.approx(440, abs=2)
    write_table(tmp_path / "out.csv", "v", [scored_track()], (64, 48))
    rows = read_ava(tmp_path / "out.csv", "score")
    assert [r.key for r in rows[:2]] == [("v_0", "0.08"), ("v_0", "0.12")] and len(rows) == 6
    with (tmp_path / "out.csv").open() as file:  # as AVA's script takes it: no header, one label
        table = list(csv.reader(file))
    assert float(table[0][2]) == pytest.approx(10 / 64) and len(table) == 6
    assert {row[6] for row in table} == {"SPEAKING_AUDIBLE"}
    assert {p.name for p in tmp_path.iterdir()} == {"v.mkv", "out.mp4", "out.csv"}


# On the command line


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: Any) -> str:
    from se_zoo.models.save_model import write_export

    model: Any = create_speaker_model("asd_tiny_sehead")
    folder = tmp_path_factory.mktemp("tiny")
    write_export(model, folder, model._model_args, model.state_dict())
    return f"local-dir:{folder}"


def speaker(*args: object) -> None:
    cli.main(["speaker", *map(str, args)])


def test_faces_and_sound_of_a_video(tmp_path: Path) -> None:
    """What `load_speakers` gives scores as `se-zoo speaker` does; the sound may end before."""
    path = write_video(tmp_path / "talk.mkv", 40, noise(1.2))

    def detector(picture: np.ndarray) -> List[Tuple[float, float, float, float]]:
        return [(10.0, 5.0, 50.0, 45.0)]

    (clip,) = load_speakers(str(path), detector)
    assert clip.audio.shape == (1, 160, 13) and clip.face.shape == (1, 40, 112, 112)
    model = create_speaker_model("asd_tiny_sehead")
    pictures = Pictures(path)
    (scored,) = score_tracks(model, pictures, [clip.track], sound_features(path, "talk"))
    scores = model.explain(clip.audio, clip.face).scores[0]
    torch.testing.assert_close(scores, torch.from_numpy(scored.scores), atol=1e-5, rtol=0)


def test_what_cannot_work_is_said_in_one_line(tiny: str, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="finding faces needs OpenCV (extra: speaker)")
    silent = write_video(tmp_path / "silent.mkv", 12)
    empty = write_video(tmp_path / "empty.mkv", 12, noise(0.5))
    (tmp_path / "broken.mp4").write_bytes(b"hello")
    out = tmp_path / "out.mp4"
    cases: List[Tuple[List[object], str]] = [
        ([silent, "--model", tiny, "--out", out], "has no sound"),
        ([empty, "--model", tiny, "--out", out], "no face was found"),
        ([tmp_path / "broken.mp4", "--model", tiny, "--out", out], "cannot be read as a video"),
        ([tmp_path / "gone.mp4", "--model", tiny, "--out", out], "no such file"),
        ([empty, "--model", tiny, "--out", tmp_path / "out.avi"], "must be an .mp4"),
        ([empty, "--model", tiny, "--out", out, "--every", "0"], "--every must be"),
        ([empty, "--model", tiny, "--out", out, "--faces", "0"], "--faces must be"),
        ([empty, "--model", tiny, "--out", out, "--smallest", "3"], "--smallest must lie"),
        ([empty, "--model", tiny, "--out", out, "--shortest", "inf"], "--shortest must be"),
        ([empty, "--model", tiny, "--out", out, "--boxes", tmp_path / "none.csv"], "no such file"),
        (
            [empty, "--model", tiny, "--boxes", empty, "--face-model", empty, "--out", out],
            "leave out --face-model",
        ),
        ([empty, "--model", tiny, "--face-model", empty, "--out", out], "no YuNet network"),
    ]
    for args, says in cases:
        with pytest.raises(SystemExit) as stop:
            speaker(*args)
        assert says in str(stop.value.code) and "\n" not in str(stop.value.code)
        assert not out.exists()


@pytest.mark.data
def test_speech_of_real_clips(data_dir: Path, tmp_path: Path) -> None:
    """The published weights against the word alignment, frame by frame; the same face frozen does
    not speak."""
    pytest.importorskip("cv2", reason="finding faces needs OpenCV (extra: speaker)")
    from se_zoo.speaker import HaarDetector

    write_converted(data_dir / "weights" / "lr_asd_ava.safetensors", tmp_path / "asd")
    clip = sorted((data_dir / "grid" / "video").glob("s1_*.mpg"))[0]
    speaker(clip, "--model", f"local-dir:{tmp_path / 'asd'}", "--out", tmp_path / "out.mp4")
    rows = read_ava(tmp_path / "out.csv", "score")
    assert {row.key[0] for row in rows} == {f"{clip.stem}_0"} and len(rows) == 75
    lines = (data_dir / "grid" / "align" / f"{clip.stem}.align").read_text().splitlines()
    spoken = np.zeros(75, bool)
    for begin, end, word in (line.split() for line in lines):
        if word != "sil":
            spoken[round(int(begin) / 1000) : round(int(end) / 1000)] = True
    said = np.array([float(row.value) > 0.5 for row in rows])
    assert (said == spoken).mean() > 0.9
    model = create_speaker_model(f"local-dir:{tmp_path / 'asd'}")
    frozen = [next(iter(Pictures(clip)))] * 75
    tracks = find_tracks(frozen, HaarDetector())
    (still,) = score_tracks(model, frozen, tracks, sound_features(clip, "clip"))
    assert (still.scores > 0.5).mean() < 0.05
