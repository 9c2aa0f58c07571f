"""Video files: every frame is the one that was asked for, and broken files say so."""

import csv
import json
import struct
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import timm
import torch
from timm.models import save_for_hf

from se_zoo import cli
from se_zoo.data.video import frames
from se_zoo.data.video.frames import Decoder, read_frames
from se_zoo.data.video.index import is_video, open_video
from se_zoo.data.video.sampling import clip_indices
from se_zoo.errors import DataError

from .video_files import SIZE, number_of, write

av = pytest.importorskip("av", reason="needs PyAV (extra: video)")

KINDS = {
    "B-frames": {"codec": "libx264", "g": "12", "bf": "3"},
    "one keyframe": {"codec": "libx264", "g": "500", "bf": "2"},
    "keyframes alone": {"codec": "libx264", "g": "1"},
    "mpeg4": {"codec": "mpeg4", "g": "10"},
}


@pytest.fixture(scope="module", params=["pyav", "torchcodec"])
def decoder(request: Any, tmp_path_factory: Any) -> Decoder:
    """Each decoder that loads here."""
    try:
        read_frames(
            open_video(write(tmp_path_factory.mktemp("n") / "n.mp4", 1)), [0], request.param
        )
    except DataError as error:
        assert "FFmpeg's libraries" in str(error)
        pytest.skip(str(error))
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_are_those_that_were_asked_for(
    tmp_path: Path, kind: str, suffix: str, decoder: Decoder
) -> None:
    path = write(tmp_path / f"numbers{suffix}", 60, **KINDS[kind])
    for source in (path, path.read_bytes()):
        video = open_video(source, "numbers")
        assert len(video) == 60 and abs(video.fps - 25) < 0.5
        for wanted in ([0], [59], [3, 4, 5], [40, 10, 55, 10], list(range(60)), [1, 30, 31, 58]):
            found = [number_of(picture) for picture in read_frames(video, wanted, decoder)]
            assert found == wanted, (kind, wanted)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_pictures_are_upright(tmp_path: Path, degrees: int, decoder: Decoder) -> None:
    """A phone that is held upright writes lying pictures, and how to turn them."""
    path = write(tmp_path / "n.mp4", 3, bf="0")
    lying = read_frames(open_video(path), [0, 2])
    path.write_bytes(turned(path.read_bytes(), degrees))
    upright = read_frames(open_video(path), [0, 2], decoder)
    assert np.array_equal(upright, np.rot90(lying, -degrees // 90, axes=(1, 2)))


def turned(mp4: bytes, degrees: int) -> bytes:
    """The file with another display matrix (ISO 14496-12, section 8.3.2), clockwise."""
    one = 1 << 16
    a, b, c, d = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    at = mp4.index(b"tkhd") + 4 + 40
    return mp4[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + mp4[at + 36 :]


#: (a, b, c, d) of a display matrix that mirrors, and what it does to a picture (H, W, 3).
MIRRORED = {
    "left and right": ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
    "up and down": ((1, 0, 0, -1), lambda picture: picture[::-1]),
    "at the diagonal": ((0, 1, 1, 0), lambda picture: picture.transpose(1, 0, 2)),
    "at the other diagonal": (
        (0, -1, -1, 0),
        lambda picture: picture.transpose(1, 0, 2)[::-1, ::-1],
    ),
}


@pytest.mark.parametrize("kind", MIRRORED)
def test_mirrored_pictures_are_shown_as_the_file_says(tmp_path: Path, kind: str) -> None:
    """As a front camera stores them; FFmpeg's angle alone would turn them upside down."""
    path = write(tmp_path / "n.mp4", 3, bf="0")
    stored = read_frames(open_video(path), [0, 2])
    matrix, mirror = MIRRORED[kind]
    mp4 = path.read_bytes()
    at = mp4.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    path.write_bytes(
        mp4[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + mp4[at + 36 :]
    )
    shown = read_frames(open_video(path), [0, 2])
    assert all(np.array_equal(x, mirror(y)) for x, y in zip(shown, stored, strict=True))


def test_long_gaps_are_sought_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long video only what is asked for, and what it builds on, is decoded."""
    video = open_video(write(tmp_path / "n.mp4", 240, **KINDS["B-frames"]))
    decoded: List[int] = []
    timed = frames._timed
    monkeypatch.setattr(
        frames, "_timed",
        lambda v, n, f, s=None: timed(v, n, (decoded.append(1) or frame for frame in f), s),
    )  # fmt: skip
    found = read_frames(video, [5, 120, 235])
    assert [number_of(p) for p in found] == [5, 120, 235] and len(decoded) < 3 * 16


#: Files whose packets do not say which frame is shown when.
UNRELIABLE = {
    "intra refresh": (".mp4", {"codec": "libx264", "x264-params": "intra-refresh=1:keyint=20"}),
    "h264 with B-frames in wmv": (".wmv", {"codec": "libx264", "g": "12", "bf": "3"}),
    "h264 with B-frames in avi": (".avi", {"codec": "libx264", "g": "12", "bf": "3"}),
    "mpeg4 with B-frames in avi": (".avi", {"codec": "mpeg4", "g": "12", "bf": "2"}),
    "program stream": (".mpg", {"codec": "mpeg2video", "g": "12", "bf": "2"}),
    "transport stream": (".ts", {"codec": "libx264", "g": "12", "bf": "2"}),
    "open groups": (".mp4", {"codec": "libx264", "x264-params": "open-gop=1:keyint=12:bframes=3"}),
    "webm": (".webm", {"codec": "libvpx-vp9", "g": "12", "lag-in-frames": "16"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNRELIABLE)
def test_frames_of_difficult_files(tmp_path: Path, kind: str) -> None:
    suffix, options = UNRELIABLE[kind]
    if options["codec"] not in av.codecs_available:
        pytest.skip(f"this PyAV has no {options['codec']}")
    video = open_video(write(tmp_path / f"n{suffix}", 50, **options))
    assert len(video) == 50 and abs(video.fps - 25) < 1
    for wanted in (list(range(50)), [0, 1, 2, 3], [17], [40, 3], [13, 14, 49]):
        found = [number_of(picture) for picture in read_frames(video, wanted)]
        assert found == wanted, (kind, wanted)
    assert frames.inspect_frames(video, 0, 50) == (SIZE, SIZE), "it is not damaged"
    assert frames.inspect_frames(video, 20, 10) == (SIZE, SIZE)


def test_times_of_storing_that_were_carried_on(tmp_path: Path) -> None:
    """A file from an AVI, packet by packet: its times are those of storing, in mp4 too."""
    avi = write(tmp_path / "n.avi", 50, g="12", bf="3")

    def stamped(_: int, packet: Any) -> bool:
        packet.pts = packet.dts
        return True

    for suffix in (".mp4", ".mkv"):
        video = open_video(remuxed(avi, tmp_path / f"n{suffix}", stamped))
        assert video.counted and len(video) == 50
        assert [number_of(p) for p in read_frames(video, list(range(50)))] == list(range(50))


def remuxed(source: Path, target: Path, change: Any) -> Path:
    """The same packets in another file, each as ``change`` makes it (None: left out)."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for n, packet in enumerate(old.demux(video=0)):
            if packet.dts is not None and change(n, packet):
                packet.stream = stream
                new.mux(packet)
    return target


def test_repeated_times_are_counted(tmp_path: Path) -> None:
    """Two recordings one behind the other, whose times start again."""
    parts = [write(tmp_path / f"{n}.ts", 20, bf="0", g="10") for n in range(2)]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    video = open_video(both)
    assert video.counted and len(video) == 40
    found = [number_of(p) for p in read_frames(video, list(range(40)))]
    assert found == [*range(20), *range(20)] and bool((np.diff(video.times) > 0).all())
    assert video.seconds[39] == pytest.approx(39 / 25, abs=0.02)


def test_a_repeated_time_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    """Spaced evenly, the frames of a video of variable rate would leave their sound."""
    times = [0, 40, 80, 500, 540, 1500, 1510, 1510, 3000, *range(3040, 4600, 40)]
    video = open_video(write(tmp_path / "n.mkv", len(times), times=times, bf="0"))
    assert video.counted and len(video) == len(times)
    found = [round(1000 * second) for second in video.seconds]
    assert found == [t + (n == 7) for n, t in enumerate(times)]
    assert [number_of(p) for p in read_frames(video, [6, 7, 8])] == [6, 7, 8]


def test_frames_are_found_where_decoding_after_a_jump_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that begins between two keyframes may raise an error."""
    video = open_video(write(tmp_path / "n.mp4", 60, **KINDS["B-frames"]))
    timed = frames._timed

    def fails(video: Any, numbers: Any, decoded: Any, start: Any = None) -> Any:
        if start is not None:
            raise av.error.InvalidDataError(1, "no keyframe")
        yield from timed(video, numbers, decoded)

    monkeypatch.setattr(frames, "_timed", fails)
    assert [number_of(p) for p in read_frames(video, [5, 30, 55])] == [5, 30, 55]


def test_pictures_that_cannot_be_shown_are_not_counted(tmp_path: Path) -> None:
    """A file that was cut in front of a keyframe of an open group: its first pictures build on
    what is gone."""
    options = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"}
    whole = write(tmp_path / "whole.mp4", 48, **options)
    keys = 0

    def behind_the_first_group(_: int, packet: Any) -> bool:
        nonlocal keys
        keys += packet.is_keyframe
        return keys > 1

    cut = open_video(remuxed(whole, tmp_path / "cut.mkv", behind_the_first_group))
    shown = [number_of(p) for p in read_frames(cut, list(range(len(cut))))]
    assert shown == list(range(shown[0], 48)) and len(shown) >= 36


def test_what_an_edit_list_cuts_off_is_not_counted(tmp_path: Path) -> None:
    """A trimmed mp4 keeps the packets that its first frames build on."""
    path = write(tmp_path / "n.mp4", 50, bf="0", g="25")
    mp4 = bytearray(path.read_bytes())
    at = mp4.index(b"elst") + 4  # version and flags, number of entries, duration, media time
    version, count = mp4[at], struct.unpack(">I", mp4[at + 4 : at + 8])[0]
    assert version == 0 and count == 1
    begin = struct.unpack(">i", mp4[at + 12 : at + 16])[0]
    scale = struct.unpack(">I", mp4[mp4.index(b"mdhd") + 16 : mp4.index(b"mdhd") + 20])[0]
    frame = scale // 25
    mp4[at + 12 : at + 16] = struct.pack(">i", begin + 10 * frame)
    path.write_bytes(mp4)
    video = open_video(path)
    shown = [number_of(p) for p in read_frames(video, list(range(len(video))))]
    assert shown == list(range(10, 50)) and video.seconds[0] == 0


def test_damage_inside_is_found(tmp_path: Path) -> None:
    """Decoders repair what they can, and show something else; a strict one says so."""
    for suffix in (".mkv", ".mp4"):
        path = write(tmp_path / f"n{suffix}", 60, bf="2", g="12")
        video = open_video(path)
        assert (
            frames.inspect_frames(video, 0, 60)
            == (SIZE, SIZE)
            == (frames.inspect_frames(video, 30, 10))
        )
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 300] = bytes(i * 37 % 256 for i in range(300))
        (tmp_path / f"broken{suffix}").write_bytes(data)
        broken = open_video(tmp_path / f"broken{suffix}")
        with pytest.raises(DataError, match="is damaged"):
            frames.inspect_frames(broken, 0, len(broken))


def test_several_keyframes_were_sought() -> None:
    """The files above are worth the test: B-frames are reordered, and there is where to seek."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "n.mp4", 60, **KINDS["B-frames"])
        assert len(open_video(path).keyframes) >= 5
        with av.open(str(path)) as container:
            packets = [p.pts for p in container.demux(video=0) if p.pts is not None]
        assert packets != sorted(packets)


def test_variable_frame_rate(tmp_path: Path) -> None:
    """Frames are numbered as they are shown, and seconds are those of the file."""
    times = [0, 40, 80, 500, 540, 1500, 1510, 1520, 3000, 3040]
    video = open_video(write(tmp_path / "vfr.mkv", 10, times=times))
    assert [number_of(p) for p in read_frames(video, list(range(10)))] == list(range(10))
    assert [round(1000 * s) for s in video.seconds] == times
    assert video.fps == pytest.approx(9 / 3.04, rel=1e-3)


def test_file_that_was_cut(tmp_path: Path) -> None:
    """What is there can be read; what is not is an error that names the frame or the file."""
    whole = write(tmp_path / "whole.mkv", 60, **KINDS["B-frames"]).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    video = open_video(cut)
    assert 0 < len(video) < 60
    assert number_of(read_frames(video, [2])[0]) == 2
    (tmp_path / "stub.mp4").write_bytes(whole[:40])
    with pytest.raises(DataError, match=r"stub\.mp4 cannot be read as a video"):
        open_video(tmp_path / "stub.mp4")


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").touch()
    for name in ("text.mp4", "empty.mp4"):
        with pytest.raises(DataError, match=name):
            open_video(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        open_video(tmp_path / "nothing.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", 16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="only sound"):
        open_video(tmp_path / "sound.mp4")
    assert is_video(Path("A.MP4")) and not is_video(Path("a.png"))


@pytest.mark.parametrize("ending", "mp4 mov mkv mpg ts mts m2ts asf ogv vob mpe 3gp 3g2".split())
def test_endings_of_videos(ending: str) -> None:
    assert is_video(Path(f"a.{ending}")) and is_video(Path(f"A.{ending.upper()}"))


def test_a_cover_is_no_picture_of_a_video(tmp_path: Path) -> None:
    """FFmpeg lists it as a stream of pictures."""
    stream_kind = pytest.importorskip("av.stream")
    if not hasattr(stream_kind, "Disposition"):
        pytest.skip("this PyAV cannot write a cover")
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        voice: Any = container.add_stream("aac", 16000)
        cover: Any = container.add_stream("png", 25)
        cover.width, cover.height, cover.pix_fmt = SIZE, SIZE, "rgb24"
        cover.disposition = stream_kind.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((SIZE, SIZE, 3), np.uint8))
        container.mux(cover.encode(picture))
        container.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(voice.encode(frame))
        container.mux(voice.encode())
    with av.open(str(tmp_path / "song.mp4")) as container:
        assert len(container.streams.video) == 1, "the file has the cover"
    with pytest.raises(DataError, match="only sound"):
        open_video(tmp_path / "song.mp4")


def test_frames_that_are_not_there(tmp_path: Path) -> None:
    video = open_video(write(tmp_path / "n.mp4", 5))
    for wanted in ([5], [-1], []):
        with pytest.raises(IndexError, match="frames 0 to 4"):
            read_frames(video, wanted)


@pytest.mark.parametrize(
    "frames, num, stride, offset, expected",
    [
        (100, 4, 10, 0.0, [0, 10, 20, 30]),
        (100, 4, 10, 1.0, [69, 79, 89, 99]),
        (101, 4, 10, 0.5, [35, 45, 55, 65]),
        (31, 4, 10, 0.5, [0, 10, 20, 30]),
        (30, 4, 10, 0.5, [0, 10, 19, 29]),
        (2, 4, 10, 0.5, [0, 0, 1, 1]),
        (1, 3, 1, 0.5, [0, 0, 0]),
        (9, 1, 5, 0.5, [4]),
    ],
)
def test_which_frames_make_a_clip(
    frames: int, num: int, stride: int, offset: float, expected: List[int]
) -> None:
    assert clip_indices(frames, num, stride, offset) == expected


# On the command line


@pytest.fixture(scope="module")
def model(tmp_path_factory: Any) -> Path:
    """A clip model on disk."""
    torch.manual_seed(0)
    clips: Any = timm.create_model(
        "framewise_sehead", backbone="test_resnet", num_classes=3, num_frames=4, gate="sigmoid"
    )
    clips.pretrained_cfg.update(num_classes=3, label_names=["run", "jump", "sit"])
    folder = tmp_path_factory.mktemp("model")
    save_for_hf(clips, str(folder), model_args=clips._model_args, safe_serialization=True)
    return folder


def explain(*args: object) -> None:
    cli.main(["explain", *map(str, args)])


def test_explains_a_video(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    video = write(tmp_path / "numbers.mp4", 60, **KINDS["B-frames"])
    out = tmp_path / "why.mp4"
    explain(video, "--model", f"local-dir:{model}", "--target", "jump", "--out", out)
    assert "4 time steps" in capsys.readouterr().out
    assert len(open_video(out)) == 4
    content = json.loads(out.with_suffix(".json").read_text())
    assert content["frames"] == clip_indices(60, 4, 4) and content["rows"][0]["label"] == "jump"
    explain(
        video, "--model", f"local-dir:{model}", "--out", tmp_path / "strip.png", "--start", "1.0"
    )
    content = json.loads((tmp_path / "strip.json").read_text())
    assert content["frames"] == [25, 29, 33, 37]


def test_folder_of_videos_gives_a_video_and_a_row_for_each(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    videos = tmp_path / "videos"
    (videos / "more").mkdir(parents=True)
    write(videos / "a.mp4", 12)
    write(videos / "more" / "a.mp4", 12)
    (videos / "broken.mp4").write_bytes(b"no video")
    (videos / "photo.jpg").touch()  # left out: the model takes clips
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        explain(videos, "--model", f"local-dir:{model}", "--target", "jump", "--out", out)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "takes no photos: 1 left out" in said and "broken.mp4" in said
    with open(out / "explanations.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    done = [str(videos / "a.mp4"), str(videos / "more" / "a.mp4")]
    assert [bool(row["error"]) for row in rows.values()] == [False, True, False]
    assert [rows[name]["picture"] for name in done] == ["a.mp4", "more/a.mp4"]
    assert all(rows[name]["label"] == "jump" for name in done)
    assert all(len(open_video(out / rows[name]["picture"])) == 4 for name in done)


@pytest.mark.parametrize(
    "options, says",
    [
        (["VIDEO", "--model", "MODEL", "--start", "9"], "outside the video"),
        (["VIDEO", "--model", "MODEL", "--start", "-1"], "outside the video"),
        (["VIDEO", "VIDEO", "--model", "MODEL", "--contact-sheet", "--out", "x.png"], "for photos"),
        (["VIDEO", "--model", "se_zoo/resnet18_slim_celeba"], "takes images"),
        (["VIDEO", "--model", "MODEL", "--target", "walk"], "walk"),
        (["VIDEO", "--model", "MODEL", "--out", "why.gif"], ".mp4 or .png"),
        (["VIDEO", "--model", "MODEL", "--crop", "90", "0", "99", "9"], "shows nothing"),
        (["--model", "MODEL"], "name a video"),
        (["--start", "1"], "for videos"),
        (["nothing.mp4", "--model", "MODEL"], "no such file"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_mistakes_take_one_line(
    model: Path, tmp_path: Path, options: List[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"VIDEO": write(tmp_path / "n.mp4", 5), "MODEL": f"local-dir:{model}"}
    with pytest.raises(SystemExit) as stop:
        explain(*(names.get(o, o) for o in options))
    assert says in str(stop.value.code) and "\n" not in str(stop.value.code)
    assert {p.name for p in tmp_path.iterdir()} == {"n.mp4"}


@pytest.mark.data
def test_real_clip(model: Path, data_dir: Path, tmp_path: Path) -> None:
    """A clip of the GRID corpus: MPEG-1, 75 frames, 25 a second."""
    path = sorted((data_dir / "grid" / "video").glob("*.mpg"))[0]
    video = open_video(path)
    assert len(video) == 75 and video.fps == pytest.approx(25, rel=0.01)
    with av.open(str(path)) as container:
        plain = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    found = read_frames(video, [0, 37, 74])
    assert all(np.array_equal(found[n], plain[i]) for n, i in enumerate((0, 37, 74)))
    explain(path, "--model", f"local-dir:{model}", "--out", tmp_path / "why.mp4")
    assert (tmp_path / "why.mp4").is_file()


def test_damaged_headers_end_in_the_projects_error(tmp_path: Path) -> None:
    """Every fifth byte of the tables of a file, one after the other, is changed."""
    path = write(tmp_path / "n.mp4", 3, bf="0")
    mp4 = path.read_bytes()
    begin, refusals = mp4.index(b"moov"), 0
    for place in range(begin, len(mp4), 5):
        path.write_bytes(mp4[:place] + bytes([mp4[place] ^ 255]) + mp4[place + 1 :])
        try:
            video = open_video(path)
            read_frames(video, [0, len(video) - 1])
        except DataError as error:
            assert str(path) in str(error)
            refusals += 1
    assert refusals > 0
