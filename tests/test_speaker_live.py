"""Who speaks in a running video."""

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import torch

from se_zoo import InvalidInputError, cli
from se_zoo.data.faces.crops import cut_face
from se_zoo.data.faces.mfcc import mfcc
from se_zoo.errors import DataError
from se_zoo.models.speaker.model import SpeakerModel
from se_zoo.models.speaker.running import RunningEncoder
from se_zoo.speaker import FaceFilter, LiveFrame, LiveSpeakers, read_running, sound_features
from se_zoo.speaker.live_input import _Joined
from se_zoo.speaker.live_sound import LiveSound
from se_zoo.speaker.video_frames import Pictures

from .test_speaker_video import noise, write_video

av = pytest.importorskip("av", reason="needs PyAV (extra: video)")

BOX = (12.0, 8.0, 44.0, 40.0)
ALL = FaceFilter(shortest=0, found=0)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    made = SpeakerModel(channels=(4, 8, 12), hidden=6, gate="sigmoid", reduction=4)
    for parameter in made.detector.parameters():
        parameter.data *= 3  # so that frames far apart have to do with each other
    return made.eval()


@pytest.fixture(scope="module")
def film() -> Tuple[List[np.ndarray], np.ndarray]:
    """Sixty frames of noise, and their sound."""
    rng = np.random.default_rng(0)
    base = rng.integers(60, 180, (48, 64, 3))
    pictures = [
        (base + rng.integers(-20, 20, base.shape)).clip(0, 255).astype(np.uint8) for _ in range(60)
    ]
    return pictures, noise(60 / 25)


def run(
    model: Any, film: Any, lookahead: int, method: Any = None, detector: Any = None, **options: Any
) -> List[LiveFrame]:
    pictures, sound = film
    keep = options.pop("keep", ALL)
    live = LiveSpeakers(model, detector or (lambda p: [BOX]), lookahead, 3, method, keep, **options)
    found: List[LiveFrame] = []
    for n, picture in enumerate(pictures):
        new = live.add(picture, sound[640 * n : 640 * (n + 1)])
        assert all(frame.number <= n - 12 for frame in new)
        found += new
        assert len(found) >= n - lookahead, "no frame waits for longer than it may"
    found += live.end()
    assert [frame.number for frame in found] == list(range(len(pictures)))
    assert all(f.picture is p for f, p in zip(found, pictures, strict=True))
    return found


def scores(frames: List[LiveFrame], face: int = 0) -> np.ndarray:
    return np.array([float(frame.faces[face].scores[0]) for frame in frames])


@pytest.mark.parametrize("sizes", [[1] * 40, [3, 7, 1, 29], [40], [2], [9, 1]])
def test_features_of_a_running_video_are_those_of_the_whole(model: Any, sizes: List[int]) -> None:
    count = sum(sizes)
    crops = torch.randint(0, 256, (1, count, 112, 112), dtype=torch.uint8)
    encoder = RunningEncoder(model.visual_encoder)
    parts = [encoder.add(part) for part in crops.split(sizes, 1)]
    known = sum(part.shape[2] for part in parts if part is not None)
    assert known == max(0, count - encoder.delay)
    parts.append(encoder.add(crops[:, :0], last=True))
    with torch.no_grad():
        whole = model.visual_encoder(crops, None)
    found = torch.cat([part for part in parts if part is not None], 2)
    assert torch.allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize("step", [640, 1, 333, 5000])
def test_sound_in_pieces_has_the_windows_of_the_whole(step: int) -> None:
    wave = noise(0.5 if step == 1 else 3)
    whole, live = mfcc(torch.from_numpy(wave.astype(np.float32))), LiveSound(2000)
    for n in range(0, len(wave), step):
        live.add(wave[n : n + step])
    known = len(whole) - 2  # the last ones reach beyond the end
    assert torch.allclose(live.windows(0, known), whole[:known], atol=1e-5)
    silence = mfcc(torch.zeros(400))
    assert torch.equal(live.windows(known + 50, known + 52), silence.expand(2, -1))


def test_sound_that_is_gone_is_no_silence(model: Any) -> None:
    live = LiveSound(100)
    live.add(noise(3))
    assert live.windows(200, 210).shape == (10, 13)
    with pytest.raises(IndexError, match="window 50 is gone"):
        live.windows(50, 60)
    speakers = LiveSpeakers(model, lambda p: [BOX], lookahead=2000)
    assert speakers.sound._kept > 4 * 2000


@pytest.mark.parametrize("method", ["contribution", "gate", "activation"])
def test_with_all_frames_ahead_the_scores_are_those_of_the_clip(
    model: Any, film: Any, method: str
) -> None:
    pictures, sound = film
    frames = run(model, film, lookahead=200, method=method)
    face = torch.from_numpy(np.stack([cut_face(p, BOX) for p in pictures]))[None]
    live = LiveSound(2000)
    live.add(sound)
    live.end()
    whole = model.explain(live.windows(0, 240)[None], face, method=method)
    assert np.allclose(scores(frames), whole.scores[0].numpy(), atol=1e-5)
    shares = np.stack([frame.faces[0].shares[0] for frame in frames])
    assert np.allclose(shares, whole.shares["features"][0].numpy(), atol=1e-5)
    assert all(frame.faces[0].maps.shape == (1, 14, 14) for frame in frames)


@pytest.mark.parametrize("lookahead", [12, 20, 25])
def test_no_score_sees_more_frames_ahead_than_it_may(model: Any, film: Any, lookahead: int) -> None:
    pictures, sound = film
    until = 30
    other = [*pictures[:until], *(picture // 2 + 45 for picture in pictures[until:])]  # no cut
    quiet = np.concatenate([sound[: 640 * until], sound[640 * until :] // 9])
    found, changed = (
        scores(run(model, (shown, heard), lookahead))
        for shown, heard in ((pictures, sound), (other, quiet))
    )
    assert np.array_equal(found[: until - lookahead], changed[: until - lookahead])
    assert not np.array_equal(found[until:], changed[until:])


def test_more_frames_ahead_come_closer_to_the_whole(model: Any, film: Any) -> None:
    whole = scores(run(model, film, 200))
    far, near = (np.abs(scores(run(model, film, n)) - whole).mean() for n in (12, 40))
    assert near < far < 0.2


def test_faces_come_leave_and_end_at_cuts(model: Any, film: Any) -> None:
    """One face from frame 9 to 30, another that is too small; a cut at frame 45 with a new one."""
    pictures, sound = film
    shown = [*pictures[:45], *(255 - p // 4 for p in pictures[45:])]
    asked = iter(range(0, 60, 3))

    def detector(picture: np.ndarray) -> List[Any]:
        frame = next(asked)
        here = [BOX] if 9 <= frame <= 30 or frame >= 45 else []
        return [*here, (1.0, 1.0, 7.0, 7.0)]

    keep = FaceFilter(smallest=0.3, shortest=4, found=0)
    frames = run(model, (shown, sound), 20, detector=detector, keep=keep)
    seen = {n: [f.number for f in frames if n in f.faces] for n in range(6)}
    seen = {n: numbers for n, numbers in seen.items() if numbers}
    assert len(seen) == 2, "the small face is left out"
    first, second = seen.values()
    # The last look that finds it, at frame 30, holds until the next.
    assert first == list(range(9, 33)) and second == list(range(45, 60))


def test_the_largest_faces_are_scored(model: Any, film: Any) -> None:
    faces: List[Any] = [(0.0, 0.0, 10.0, 10.0), BOX]
    keep = FaceFilter(shortest=0, found=0, most=1)
    frames = run(model, film, 12, detector=lambda p: faces, keep=keep)
    assert {
        box for f in frames for one in f.faces.values() for box in [tuple(one.track.boxes[0])]
    } == {BOX}


@pytest.mark.parametrize("fps", [25, 50, 12])
def test_a_running_video_has_the_frames_and_sound_of_the_file(fps: int, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", 30, noise(30 / fps), fps)
    pictures = Pictures(path)
    pairs = list(read_running(str(path)))
    expected = [int(p[0, 0, 0]) for p in pictures]
    found = [int(picture[0, 0, 0]) for picture, _ in pairs]
    assert abs(len(found) - len(expected)) <= 1
    # Ties between two frames may go either way.
    assert max(abs(a - b) for a, b in zip(found, expected, strict=False)) <= (fps == 50)
    live = LiveSound(2000)
    for _, sound in pairs:
        live.add(sound)
    whole = sound_features(path, "v", pictures.begins)
    known = 4 * len(pairs) - 4
    assert torch.allclose(live.windows(0, known), whole[:known], atol=1e-4)


@pytest.mark.parametrize("heard", [1.0, 4.0])
def test_sound_that_does_not_come_is_said_once(heard: float, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", 100, noise(heard))
    said: List[str] = []
    pairs = list(read_running(str(path), said=said.append))
    assert len(pairs) == 100 and bool(pairs[-1][1].any()) == (heard == 4)
    assert ["counts as silence" in text for text in said[1:]] == [True] * (heard == 1)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mkv", 5)
    with pytest.raises(DataError, match="0 sound tracks"):
        list(read_running(str(silent)))
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\nhttp://127.0.0.1/x.ts\n")
    for path in (playlist, tmp_path / "none.mp4"):
        with pytest.raises(DataError, match="cannot be read"):
            list(read_running(str(path)))


def test_what_cannot_be_scored_live_is_refused(model: Any) -> None:
    with pytest.raises(InvalidInputError, match="it must be 12 or more"):
        LiveSpeakers(model, lambda p: [], 11)
    with pytest.raises(InvalidInputError, match="method is one of"):
        LiveSpeakers(model, lambda p: [], method="saliency")
    clip = SpeakerModel(channels=(4, 8, 12), hidden=6, pool="clip")
    with pytest.raises(InvalidInputError, match="pool='frame'"):
        LiveSpeakers(clip, lambda p: [])


def test_command_prints_a_line_for_each_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = write_video(tmp_path / "v.mkv", 40, noise(1.6))
    monkeypatch.setattr("se_zoo.data.faces.detect.open_detector", lambda _: lambda p: [BOX])
    command = ["speaker", str(path), "--model", "se_zoo/asd_tiny_grid", "--live"]
    cli.main([*command, "--lookahead", "15"])
    printed = capsys.readouterr()
    rows: List[Dict[str, Any]] = [json.loads(line) for line in printed.out.splitlines()]
    assert [row["frame"] for row in rows] == list(range(40)) and rows[25]["second"] == 1.0
    [face] = rows[30]["faces"]
    assert face["box"] == list(BOX) and 0 <= face["score"] <= 1
    assert sum(face["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert "40 frames" in printed.err and "0.60 s after their frame" in printed.err
    with path.open("rb") as file:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
        cli.main([command[0], "-", *command[2:], "--lookahead", "15"])
    assert capsys.readouterr().out == printed.out, "the standard input is read"
    for wrong in (["--out", str(tmp_path / "x.mp4")], ["--lookahead", "3"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main([*command, *wrong])
        assert "--live" in str(stopped.value.code) or "lookahead" in str(stopped.value.code)


def test_pictures_go_on_where_the_clock_starts_again() -> None:
    joined = _Joined()
    for n in range(100):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), n, np.uint8))
        frame.pts, frame.time_base = 250 + n % 50, Fraction(1, 25)
        joined.add_picture(frame)
    assert [int(picture[0, 0, 0]) for picture, _ in joined.rest()] == list(range(100))


def test_a_wrong_time_stamp_does_not_fill_the_memory_with_pictures() -> None:
    joined = _Joined()
    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    joined.add_picture(frame)
    frame.pts = 25 * 3600 * 1_000_000
    with pytest.raises(ValueError, match="leave out 1,000,000 hours"):
        joined.add_picture(frame)


@pytest.mark.parametrize("opposite", [True, False])
def test_two_channels_are_heard_as_in_a_file(opposite: bool, tmp_path: Path) -> None:
    path, left = tmp_path / "v.mkv", noise(1)
    right = -left if opposite else left // 2
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        voice: Any = container.add_stream("pcm_s16le", 16_000, layout="stereo")
        for n in range(25):
            picture = np.full((48, 64, 3), n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
        packed = np.ascontiguousarray(np.stack([left, right], 1).reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, "s16", "stereo")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(voice.encode(frame))
    said: List[str] = []
    found = np.concatenate([sound for _, sound in read_running(str(path), 0, said.append)])
    expected = left if opposite else (left.astype(int) + right) / 2
    assert len(found) == len(left) and np.abs(found - expected).max() < 2
    assert [text.startswith("sound track 0 of 1 (pcm_s16le") for text in said] == [True] * len(said)
    assert ["left channel alone" in text for text in said] == [False, True][: 1 + opposite]
    for wrong in (-1, 1):
        with pytest.raises(DataError, match=f"--audio {wrong} is none of them"):
            list(read_running(str(path), wrong))


def test_a_damaged_packet_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, damage = write_video(tmp_path / "v.mkv", 20, noise(0.8)), iter(range(1000))
    opened = av.open

    class Damaged:
        def __init__(self, packet: Any):
            self.packet, self.stream = packet, packet.stream

        def decode(self) -> Any:
            frames = self.packet.decode()
            if self.stream.type == "video" and next(damage) == 7:
                raise av.error.InvalidDataError(0, "damage")
            return frames

    class Container:
        def __init__(self, *args: Any, **options: Any):
            self.file = opened(*args, **options)
            self.streams = self.file.streams

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def demux(self, *streams: Any) -> Any:
            return map(Damaged, self.file.demux(*streams))

    monkeypatch.setattr(av, "open", Container)
    said: List[str] = []
    shown = [int(picture[0, 0, 0]) for picture, _ in read_running(str(path), 0, said.append)]
    assert len(shown) == 20 and 7 not in shown and {0, 6, 8, 19} <= set(shown)
    assert len(said) == 2 and "damaged in parts" in said[1]


def test_a_pipe_is_not_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffered reader waits until its buffer is full."""
    path = write_video(tmp_path / "v.mkv", 5, noise(0.2))
    given: List[Any] = []
    opened = av.open
    monkeypatch.setattr(av, "open", lambda file, **more: given.append(file) or opened(file, **more))
    assert len(list(read_running(str(path)))) == 5
    with path.open("rb") as file:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
        assert len(list(read_running("-"))) == 5
        assert given[1] is file.raw
    assert not hasattr(given[0], "raw"), "no buffer around the file"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DataError("broken")])
def test_command_prints_the_last_frames_of_a_video_that_breaks_off(
    error: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    path = write_video(tmp_path / "v.mkv", 1)

    def reading(*_: Any) -> Any:
        for n in range(20):
            yield np.full((48, 64, 3), n, np.uint8), np.zeros(640, np.int16)
        raise error

    monkeypatch.setattr("se_zoo.speaker.live_input.read_running", reading)
    monkeypatch.setattr("se_zoo.data.faces.detect.open_detector", lambda _: lambda p: [BOX])
    with pytest.raises(SystemExit):
        cli.main(["speaker", str(path), "--model", "se_zoo/asd_tiny_grid", "--live"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["frame"] for row in rows] == list(range(20)), "each once"


def test_ctrl_c_waits_for_the_frame_that_is_scored() -> None:
    import signal

    from se_zoo.cli.speaker_live import _Interrupt

    interrupt, before = _Interrupt(), signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        pytest.skip("the tests run with another handler of Ctrl-C")
    with interrupt:
        interrupt.held = True
        signal.raise_signal(signal.SIGINT)
        interrupt.held = False
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
        interrupt.held = True
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # the second one
    assert signal.getsignal(signal.SIGINT) is before
