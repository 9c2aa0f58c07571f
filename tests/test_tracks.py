"""Face tracks with sound: layouts, what can be wrong with them, and how they are cut and mixed."""

import csv
import shutil
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from se_zoo import cli
from se_zoo.data import TrackDataConfig, build_tracks, open_tracks
from se_zoo.data.checks.track_check import check_tracks
from se_zoo.data.faces.ava import AVA_COLUMNS, LABELS, SPEAKING, read_ava
from se_zoo.data.faces.mfcc import mfcc
from se_zoo.errors import DataError
from se_zoo.train import SpeakerAugmentConfig
from se_zoo.train.resume.order import Batches
from se_zoo.train.speaker.batches import Augmented, Cut, Whole, mix_in, padded
from se_zoo.train.speaker.lengths import LengthPlan
from tests.test_speaker_video import noise, write_video

pytest.importorskip("av", reason="needs PyAV (extra: video)")
RATE, SILENT = 16_000, LABELS[2]


def write_wav(file: Path, samples: np.ndarray, rate: int = RATE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(rate)
        opened.writeframes(samples.astype("<i2").tobytes())


def write_track(
    folder: Path,
    split: str,
    name: str,
    frames: int,
    fps: float = 25.0,
    begin: float = 2.0,
    video: str = "film",
    bodies: bool = False,
) -> List[List[Any]]:
    """Crops whose grey value is their number, noise for sound that is loud in the second half,
    where the face speaks; the rows of the table."""
    rows = []
    for n in range(frames):
        stamp = begin + n / fps
        for kind in ("clips_videos", *(["clips_bodies"] if bodies else [])):
            to = folder / kind / split / video / name
            to.mkdir(parents=True, exist_ok=True)
            grey = 255 - n if kind == "clips_bodies" else n
            Image.fromarray(np.full((40, 30), grey, np.uint8)).save(
                to / f"{stamp:.2f}.jpg", quality=100
            )
        label = SPEAKING if n >= frames / 2 else SILENT
        rows.append([video, stamp, 0.1, 0.1, 0.5, 0.6, label, name])
    samples = noise(frames / fps)
    samples[: len(samples) // 2] //= 100
    write_wav(folder / "clips_audios" / split / video / f"{name}.wav", samples)
    return rows


def write_table(file: Path, rows: Sequence[Sequence[Any]], header: bool = True) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([*([AVA_COLUMNS] if header else []), *rows])


def write_splits(folder: Path, tracks: int = 6, frames: int = 8, bodies: bool = False) -> Path:
    """A data set of three splits; the tracks differ in length."""
    for split, count in (("train", tracks), ("valid", 3), ("test", 3)):
        rows = []
        for n in range(count):
            rows += write_track(folder, split, f"{split}_{n}", frames + n % 3, bodies=bodies)
        write_table(folder / "csv" / f"{split}.csv", rows)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splits(tmp_path_factory.mktemp("tracks"), bodies=True)


@pytest.fixture
def tracks(made: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(made, tmp_path / "tracks")
    return tmp_path / "tracks"


# Layouts


@pytest.mark.parametrize("header", [True, False])
def test_rows_in_any_order_and_both_spellings(tmp_path: Path, header: bool) -> None:
    """AVA's entities have colons, which preparations may write otherwise; official tables have no
    header and end in _orig.csv."""
    rows = write_track(tmp_path, "val", "a_0000_0060_1", 6) + write_track(tmp_path, "val", "b:2", 4)
    for row in rows[:6]:
        row[-1] = "a_0000_0060:1"
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    write_table(tmp_path / "csv" / "val_orig.csv", [rows[i] for i in order], header)
    table = open_tracks(TrackDataConfig(str(tmp_path), splits=("val", "val", "val")), "val")
    assert len(table) == 2 and table.lengths == [6, 4]
    first = table.sample(0)
    assert first.speaking.tolist() == [False] * 3 + [True] * 3
    assert first.pictures(0, 6).float().mean((1, 2)).round().tolist() == [0, 1, 2, 3, 4, 5]
    assert [order[row] for row in table.rows_of(0)] == [0, 1, 2, 3, 4, 5]
    assert table.sample(1).pictures(2, 2).shape == (2, 112, 112)
    torch.testing.assert_close(first.wave(0, 6)[:100], first.wave(0, 1)[:100])
    assert table.inspect(0).error == "" and table.inspect(0).frames == 6


@pytest.mark.parametrize("fps", [25, 30, 59.94])
def test_sound_does_not_drift_at_other_rates(fps: float, tmp_path: Path) -> None:
    from se_zoo.data import FaceTrack

    count, samples = round(10 * fps), np.arange(10 * RATE) % 30_000
    write_wav(tmp_path / "a.wav", samples)
    rows = np.arange(count)
    track = FaceTrack(
        "a", rows / fps, rows > 0, rows, fps, True, tmp_path, None, tmp_path / "a.wav"
    )
    begin = round((count - 20) * RATE / fps)
    assert track.wave(count - 20, 2)[:9].tolist() == samples[begin : begin + 9].tolist()


def test_sound_of_some_frames(made: Path) -> None:
    """Frame n begins 640 samples after frame n - 1, and behind the end there is silence."""
    track = open_tracks(TrackDataConfig(str(made)), "train").sample(0)
    whole = torch.from_numpy(noise(len(track) / 25).astype(np.float32))
    whole[: len(whole) // 2] = torch.div(whole[: len(whole) // 2], 100, rounding_mode="floor")
    part = track.wave(3, 2)
    assert len(part) == 2 * 640 + 240
    torch.testing.assert_close(part, whole[3 * 640 : 5 * 640 + 240])
    end = track.wave(len(track) - 1, 1)
    assert bool((end[640:] == 0).all()) and bool(end[:640].any())
    features = track.features(track.wave(0, len(track)))
    assert features.shape == (4 * len(track), 13)
    # but for the windows that reach behind the end
    torch.testing.assert_close(features[:-2], mfcc(whole)[: 4 * len(track) - 2])


def test_other_frame_rates(tmp_path: Path) -> None:
    rows = write_track(tmp_path, "train", "fast", 40, fps=50.0)
    rows += write_track(tmp_path, "train", "slow", 10, fps=12.5)
    write_table(tmp_path / "csv" / "train.csv", rows)
    config = TrackDataConfig(str(tmp_path))
    table = open_tracks(config, "train")
    fast, slow = table.sample(0), table.sample(1)
    assert len(fast) == 20 and len(slow) == 20
    assert fast.row_of_frame.tolist() == list(range(0, 40, 2))
    assert slow.frame_of_row.tolist() == list(range(0, 20, 2))
    assert len(fast.frame_of_row) == 40 and fast.frame_of_row.max() == 19
    assert fast.features(fast.wave(0, 20)).shape == (80, 13)
    own = open_tracks(replace(config, fps=None), "train").sample(0)
    assert len(own) == 40 and own.fps == pytest.approx(50) and own.own_rate
    assert own.features(own.wave(0, 40)).shape == (160, 13), "four windows a frame, half as long"
    assert own.frame_of_row.tolist() == list(range(40))


def test_wav_of_another_rate(tracks: Path) -> None:
    """44.1 kHz: brought to 16 kHz."""
    file = tracks / "clips_audios" / "train" / "film" / "train_0.wav"
    seconds = np.arange(round(0.32 * 44_100)) / 44_100
    write_wav(file, np.sin(2 * np.pi * 440 * seconds) * 8000, 44_100)
    found = open_tracks(TrackDataConfig(str(tracks)), "train").sample(0).wave(0, 8)
    crossings = int(((found[:-1] < 0) & (found[1:] >= 0)).sum())
    assert crossings == pytest.approx(440 * 0.32, abs=3)


# What can be wrong


def remove(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    write_wav(file, np.zeros(0))


def cut(file: Path) -> None:
    file.write_bytes(b"no picture, no sound")


def long(file: Path) -> None:
    write_wav(file, noise(3.0))


DAMAGES = [
    ("clips_videos", "2.12.jpg", remove, "lacks 1 crops, such as 2.12.jpg"),
    ("clips_bodies", "2.04.jpg", remove, "lacks 1 crops, such as 2.04.jpg"),
    ("clips_audios", None, remove, "no such file"),
    ("clips_audios", None, empty, "train_1.wav is empty"),
    ("clips_audios", None, cut, "cannot be decoded"),
    ("clips_audios", None, long, "is 3.00 seconds long, the track 0.36"),
]


@pytest.mark.parametrize("kind, name, damage, says", DAMAGES)
def test_damage_is_named_or_left_out(
    tracks: Path, kind: str, name: Optional[str], damage: Callable[[Path], None], says: str
) -> None:
    entity = tracks / kind / "train" / "film" / "train_1"
    damage(entity.with_name("train_1.wav") if name is None else entity / name)
    config = TrackDataConfig(str(tracks), bodies="clips_bodies")
    table = open_tracks(config, "train")
    assert says in table.inspect(1).error and "train: train_1" in table.inspect(1).error
    assert table.inspect(0).error == ""
    rest = open_tracks(replace(config, broken="skip"), "train")
    assert len(rest) == 5 and len(rest.skipped) == 1 and says in rest.skipped[0]


def test_a_crop_that_is_none(tracks: Path) -> None:
    (tracks / "clips_videos" / "train" / "film" / "train_1" / "2.08.jpg").write_bytes(b"no")
    table = open_tracks(TrackDataConfig(str(tracks)), "train")
    assert "2.08.jpg as an image" in table.inspect(1).error
    with pytest.raises(DataError, match=r"2.08.jpg as an image"):
        table.sample(1).pictures(1, 2)
    counts, errors = check_tracks(TrackDataConfig(str(tracks), splits=("train",)), workers=0)
    assert counts.splitlines()[-1].split()[:3] == ["train", "6", "5"] and len(errors) == 1


@pytest.mark.parametrize(
    "change, says",
    [
        ({6: "TALKS"}, "row 1: the label is 'TALKS'; write one of SPEAKING_AUDIBLE"),
        ({1: "soon"}, "row 1: the time stamp is 'soon'; write seconds"),
        ({1: 2.04}, "train_0 has the time stamp 2.04 twice"),
    ],
)
def test_rows_that_cannot_be(tracks: Path, change: Any, says: str) -> None:
    file = tracks / "csv" / "train.csv"
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.reader(opened))[1:]
    for place, value in change.items():
        rows[0][place] = value
    write_table(file, rows)
    with pytest.raises(DataError, match=says):
        open_tracks(TrackDataConfig(str(tracks)), "train")


@pytest.mark.parametrize(
    "options, says",
    [
        ({"path": "nowhere"}, "nowhere is not a folder"),
        ({"csv": "tables"}, "has no train_orig.csv and no train.csv"),
        ({"splits": ("a", "b", "c")}, "there is no split train; splits is a, b, c"),
        ({"fps": 0.0}, "fps is 0.0; it must be positive"),
        ({"limit": 0}, "limit and limit_eval must be 1 or more"),
        ({"limit": 7}, "limit is 7, but .* has 6 tracks"),
    ],
)
def test_options_that_cannot_be(tracks: Path, options: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        open_tracks(TrackDataConfig(**{"path": str(tracks), **options}), "train")


@pytest.mark.parametrize("name", ["../out", "a/b", "", "a\\b", ".."])
def test_names_that_lead_elsewhere(tracks: Path, tmp_path: Path, name: str) -> None:
    file = tracks / "csv" / "train.csv"
    file.write_text(file.read_text("utf-8").replace("train_2", name), "utf-8")
    with pytest.raises(DataError, match="cannot be the name of a video or entity"):
        open_tracks(TrackDataConfig(str(tracks)), "train")
    with pytest.raises(DataError, match="cannot be the name of a video or entity"):
        build_tracks(tmp_path, file, tmp_path / "built")
    assert not (tmp_path / "built").exists()


def test_gaps_are_named_or_left_out(tracks: Path) -> None:
    """Over one, pictures would stand still, or the sound would be another moment's."""
    file = tracks / "csv" / "train.csv"
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.reader(opened))[1:]
    write_table(file, [r if r[-1] != "train_1" or float(r[1]) < 2.1 else
                       [r[0], float(r[1]) + 0.6, *r[2:]] for r in rows])  # fmt: skip
    config = TrackDataConfig(str(tracks))
    says = "train: train_1 has no row between second 2.08 and 2.72"
    with pytest.raises(DataError, match=f"{says}.*--data.broken skip"):
        open_tracks(config, "train")
    rest = open_tracks(replace(config, broken="skip"), "train")
    assert len(rest) == 5 and says in rest.skipped[0]
    others = open_tracks(replace(config, broken="skip"), "train", first=False)
    assert len(others.restored(rest.rows, rest.skipped)) == 5, "as another process has it"


def test_nothing_to_tell_apart(tracks: Path) -> None:
    file = tracks / "csv" / "train.csv"
    file.write_text(file.read_text("utf-8").replace("NOT_SPEAKING", SPEAKING), "utf-8")
    with pytest.raises(DataError, match="all of its 54 rows are SPEAKING_AUDIBLE"):
        open_tracks(TrackDataConfig(str(tracks)), "train")


def test_check_names_everything(tracks: Path, capsys: pytest.CaptureFixture) -> None:
    cli.main(["check", str(tracks), "--tracks", "--bodies", "clips_bodies", "--workers", "0"])
    printed = capsys.readouterr().out
    assert "no errors" in printed and "8 to 10" in printed and "48.1%" in printed
    (tracks / "clips_videos" / "train" / "film" / "train_1" / "2.08.jpg").write_bytes(b"no")
    (tracks / "clips_audios" / "test" / "film" / "test_0.wav").unlink()
    (tracks / "csv" / "valid.csv").unlink()
    table = tracks / "csv" / "test.csv"
    table.write_text(table.read_text("utf-8").replace("NOT_SPEAKING", SPEAKING), "utf-8")
    with pytest.raises(SystemExit) as stop:
        cli.main(["check", str(tracks), "--tracks", "--workers", "0"])
    printed = capsys.readouterr().out
    assert "4 errors in" in str(stop.value.code) and "all of its rows are SPEAKING" in printed
    assert "2.08.jpg as an image" in printed and "test_0.wav: no such file" in printed
    assert "no valid_orig.csv" in printed


def test_tracks_that_were_moved_are_the_same_and_changed_ones_are_noticed(tracks: Path) -> None:
    before = open_tracks(TrackDataConfig(str(tracks)), "train").fingerprint("train")
    moved = tracks.rename(tracks.with_name("moved"))
    table = open_tracks(TrackDataConfig(str(moved)), "train")
    assert table.fingerprint("train") == before
    crop = sorted(table.sample(0).faces.iterdir())[0]
    crop.write_bytes(crop.read_bytes() + b"0")
    after = table.fingerprint("train")
    assert after["files"] != before["files"] and after["labels"] == before["labels"]


def test_limits(made: Path) -> None:
    config = TrackDataConfig(str(made), limit=2, limit_eval=1)
    assert len(open_tracks(config, "train")) == 2 and len(open_tracks(config, "test")) == 1
    assert open_tracks(config, "train").where(1) == "train: train_3", "evenly spaced"


def test_bodies_under_wasds_names(tracks: Path) -> None:
    bodies, entity = tracks / "clips_bodies" / "train", "film_a_0_1"
    (bodies / "film_a").mkdir()
    for kind in ("clips_videos", "clips_audios", "clips_bodies"):
        folder = tracks / kind / "train" / "film"
        suffix = ".wav" if kind == "clips_audios" else ""
        (folder / f"train_0{suffix}").rename(folder / f"{entity}{suffix}")
    (bodies / "film" / entity).rename(bodies / "film_a" / entity)
    table = tracks / "csv" / "train.csv"
    table.write_text(table.read_text("utf-8").replace(",train_0", f",{entity}"), "utf-8")
    found = open_tracks(TrackDataConfig(str(tracks), bodies="clips_bodies"), "train")
    place = [found.where(i) for i in range(6)].index(f"train: {entity}")
    assert found.inspect(place).error == ""
    assert found.sample(place).bodies == bodies / "film_a" / entity


# The builder


def boxes(file: Path, frames: int, name: str = "talk", **change: Any) -> Path:
    x0, y0, x1, y1 = change.get("box", (0.25, 0.25, 0.75, 0.75))
    labels = [change.get("label", SPEAKING if n % 2 else SILENT) for n in range(frames)]
    stamps = change.get("stamps", [n / 25 for n in range(frames)])
    rows = [[name, t, x0, y0, x1, y1, label] for t, label in zip(stamps, labels, strict=True)]
    write_table(file, [[*row, "talk:0"] for row in rows])
    return file


def test_built_tracks_can_be_opened(tmp_path: Path, capsys: Any) -> None:
    """Of grey pictures that get lighter, at 25 frames a second, with sound of their length."""
    sound = noise(0.48)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "talk.mkv", 12, sound)
    table = boxes(tmp_path / "boxes.csv", 8, box=(-0.2, 0.25, 0.75, 1.3))
    options = ["--boxes", str(table), "--out", str(tmp_path / "out"), "--bodies", str(table)]
    cli.main(["tracks", str(tmp_path / "videos"), *options])
    printed = capsys.readouterr().out
    assert "8 crops, 50.0% of them speech; the folder has the splits train." in printed
    config = TrackDataConfig(str(tmp_path / "out"), bodies="clips_bodies")
    found = open_tracks(config, "train")
    assert len(found) == 1 and found.inspect(0).error == ""
    track = found.sample(0)
    assert track.pictures(0, 8).float().mean((1, 2)).round().tolist() == list(range(8))
    expected = torch.from_numpy(sound.astype(np.float32))[: 7 * 640]
    torch.testing.assert_close(track.wave(0, 7)[: 7 * 640], expected)
    rows = read_ava(tmp_path / "out" / "csv" / "train.csv", "label", boxes=True)
    assert rows == read_ava(table, "label", boxes=True)
    with pytest.raises(DataError, match="has a split train already"):
        build_tracks(tmp_path / "videos", table, tmp_path / "out")


def test_built_sound_begins_with_the_first_row(tmp_path: Path) -> None:
    """Two faces that come at different times, the bodies at other places than the faces."""
    sound = noise(2.0)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "talk.mkv", 50, sound)
    rows, bodies = [], []
    for entity, first in (("early", 5), ("late", 20)):
        for n in range(first, first + 10):
            label = SPEAKING if n % 2 else SILENT
            rows.append(["talk", n / 25, 0.0, 0.0, 0.5, 1.0, label, entity])
            bodies.append(["other", n / 25, 0.5, 0.0, 1.0, 1.0, "", entity])
    write_table(tmp_path / "boxes.csv", rows[::-1])
    write_table(tmp_path / "bodies.csv", bodies)
    build_tracks(
        tmp_path / "videos", tmp_path / "boxes.csv", tmp_path / "out", "train",
        tmp_path / "bodies.csv",
    )  # fmt: skip
    table = open_tracks(TrackDataConfig(str(tmp_path / "out"), bodies="clips_bodies"), "train")
    for index, first in enumerate((5, 20)):
        track = table.sample(index)
        expected = torch.from_numpy(sound.astype(np.float32))[first * 640 : (first + 9) * 640]
        torch.testing.assert_close(track.wave(0, 9)[: 9 * 640], expected)
        greys = list(range(first, first + 10))
        assert track.pictures(0, 10).float().mean((1, 2)).round().tolist() == greys
        assert track.pictures(0, 10, bodies=True).float().mean((1, 2)).round().tolist() == greys
    write_table(tmp_path / "bodies.csv", [*bodies, bodies[0]])
    with pytest.raises(DataError, match=r"bodies.csv, row 21: early at 0.2 occurs twice"):
        build_tracks(
            tmp_path / "videos", tmp_path / "boxes.csv", tmp_path / "out", "valid",
            tmp_path / "bodies.csv",
        )  # fmt: skip


@pytest.mark.parametrize(
    "change, says",
    [
        ({"name": "other"}, "has no video other"),
        ({"label": "talks"}, "row 1: the label is 'talks'; write one of SPEAKING_AUDIBLE"),
        ({"box": (25, 25, 75, 75)}, "is not in fractions of width and height"),
        (
            {"box": (0.5, 0.2, 0.4, 0.9)},
            "the box is 0.5, 0.2, 0.4, 0.9; write numbers x1",
        ),
        ({"box": (1.1, 0.2, 1.4, 0.9)}, "lies outside the picture"),
        ({"stamps": [0.0, 9.0]}, "talk:0 at 9.0 is outside the video: .* is 0.48 seconds long"),
        ({"stamps": [0.04, 0.041]}, "talk:0 at 0.04 twice"),
        ({"stamps": [0.0, "x"]}, "the time stamp of talk:0 is 'x'; write seconds"),
    ],
)
def test_boxes_that_cannot_be(tmp_path: Path, change: Any, says: str) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "talk.mkv", 12, noise(0.48))
    table = boxes(tmp_path / "boxes.csv", 2, **change)
    with pytest.raises(DataError, match=says):
        build_tracks(tmp_path / "videos", table, tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is half-written"


def test_no_folder_of_videos(tmp_path: Path) -> None:
    table = boxes(tmp_path / "boxes.csv", 2)
    with pytest.raises(DataError, match="vidoes is not a folder"):
        build_tracks(tmp_path / "vidoes", table, tmp_path / "out")


def test_videos_that_cannot_be_built_from(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "talk.mkv", 12)
    table = boxes(tmp_path / "boxes.csv", 4)
    with pytest.raises(DataError, match=r"talk.mkv has no sound"):
        build_tracks(tmp_path / "videos", table, tmp_path / "out")
    shutil.copy(tmp_path / "videos" / "talk.mkv", tmp_path / "videos" / "talk.avi")
    with pytest.raises(DataError, match=r"has 2 videos talk\.\*; it needs one"):
        build_tracks(tmp_path / "videos", table, tmp_path / "out")
    fewer = boxes(tmp_path / "bodies.csv", 3)
    with pytest.raises(DataError, match=r"bodies.csv lacks 1 rows, the first is talk:0 at 0.12"):
        build_tracks(tmp_path / "videos", table, tmp_path / "out", bodies=fewer)


# Batches


LENGTHS = (3, 50, 7, 20, 21, 22, 8, 90, 4, 19, 20, 5, 300)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_batches_by_length(processes: int) -> None:
    plan = LengthPlan(len(LENGTHS), 60, processes, 2, 4, 0, LENGTHS)
    seen, ends = set(), set()
    for epoch in range(4):
        groups = plan.groups(epoch)
        used = [index for group, _ in groups for index in group]
        assert len(groups) == plan.passes and len(set(used)) == len(used)
        assert len(used) == plan.used >= 8, "hardly any is left out, and those are the shortest"
        left = set(range(len(LENGTHS))) - set(used)
        assert max((LENGTHS[i] for i in left), default=0) <= min(LENGTHS[i] for i in used)
        for group, frames in groups:
            assert len(group) % processes == 0
            assert 1 <= frames <= min(LENGTHS[i] for i in group)
            assert frames * len(group) <= 60 * processes
        seen.update(used)
        ends.add(tuple(groups[-1][0]))
    assert len(seen) == plan.used and len(ends) > 1


def test_a_single_short_track_is_left_out_and_of_equals_others_are() -> None:
    plan = LengthPlan(41, 2000, 1, 1, 9, 0, (*[50] * 40, 1))
    assert [frames for _, frames in plan.groups(0)] == [50]
    plan = LengthPlan(41, 2000, 1, 1, 9, 0, (50,) * 41)
    left = {min(set(range(41)) - set(plan.groups(epoch)[0][0])) for epoch in range(9)}
    assert len(left) > 3


def test_tracks_of_one_length_come_together() -> None:
    """Of lengths as AVA's, little is cut off, and most of a batch is full."""
    lengths = tuple(np.random.default_rng(0).integers(10, 300, 300).tolist())
    plan = LengthPlan(len(lengths), 2000, 2, 1, 1, 0, lengths)
    kept = [frames * len(group) for group, frames in plan.groups(0)]
    assert sum(kept) > 0.85 * sum(lengths)
    assert sum(kept) / len(kept) > 0.75 * 2 * 2000


def test_batches_of_a_process_and_of_a_run_that_goes_on() -> None:
    plan = LengthPlan(len(LENGTHS), 60, 2, 2, 3, 0, LENGTHS)
    alone = [list(Batches(plan, process)) for process in (0, 1)]
    assert len(alone[0]) == len(Batches(plan, 0)) == plan.passes * 3
    for left, right in zip(*alone, strict=True):
        assert not {c.index for c in left} & {c.index for c in right}
        assert {c.frames for c in left} == {c.frames for c in right}
    for update in range(plan.total):
        passed = sum(plan.passes_of(u) for u in range(update))
        assert list(Batches(plan, 0, update)) == alone[0][passed:]
        assert len(Batches(plan, 0, update)) == len(alone[0]) - passed


# Augmentation


@pytest.mark.parametrize("snr", [-5.0, 0.0, 5.0, 3.3])
def test_sound_is_mixed_at_the_asked_ratio(snr: float) -> None:
    """In floats: squares of 16-bit samples do not fit into 16 bits."""
    wave = torch.randn(8000) * 12_000
    other = torch.randn(8000) * 3000
    added = mix_in(wave, other, snr) - wave
    ratio = 10 * torch.log10(wave.double().square().mean() / added.double().square().mean())
    assert float(ratio) == pytest.approx(snr, abs=1e-3)
    assert torch.equal(mix_in(wave, torch.zeros(8000), snr), wave)
    assert not mix_in(torch.zeros(8000), other, snr).any()


def augmented(made: Path, body: bool = False, **options: Any) -> Augmented:
    nothing = {"hflip": 0.0, "scale": (1.0, 1.0), "rotate": 0.0, "noise": 0.0}
    config = TrackDataConfig(str(made), bodies="clips_bodies" if body else None)
    table = open_tracks(config, "train")
    return Augmented(table, SpeakerAugmentConfig(**{**nothing, **options}), body, 0)


def test_nothing_is_done_that_was_not_asked_for(made: Path) -> None:
    found = augmented(made)
    track = found.table.sample(2)
    sample = found[Cut(0, 2, len(track))]
    assert torch.equal(sample["face"], track.pictures(0, len(track)))
    assert torch.equal(sample["labels"], track.labels) and "body" not in sample
    torch.testing.assert_close(sample["audio"], track.features(track.wave(0, len(track))))


def test_cuts_come_from_anywhere_with_their_own_sound(made: Path) -> None:
    found = augmented(made)
    track = found.table.sample(2)
    begins = set()
    for epoch in range(12):
        sample = found[Cut(epoch, 2, 4)]
        first = int(sample["face"][0].float().mean().round())
        begins.add(first)
        assert torch.equal(sample["labels"], track.labels[first : first + 4])
        torch.testing.assert_close(sample["audio"], track.features(track.wave(first, 4)))
    assert len(begins) > 3
    assert torch.equal(found[Cut(3, 2, 4)]["audio"], found[Cut(3, 2, 4)]["audio"])


def test_swapped_and_muted_sound_is_of_nobody(made: Path) -> None:
    muted, swapped = augmented(made, mute=1.0), augmented(made, swap=1.0)
    track = muted.table.sample(0)
    silence = mfcc(torch.zeros(len(track.wave(0, 8))))
    assert torch.equal(muted[Cut(0, 0, 8)]["audio"], silence)
    own = track.features(track.wave(0, 8))
    other = swapped[Cut(0, 0, 8)]
    assert not torch.allclose(other["audio"], own) and not torch.allclose(other["audio"], silence)
    for sample in (muted[Cut(0, 0, 8)], other):
        assert not sample["labels"].any() and sample["labels"].shape == (8,)
        assert torch.equal(sample["face_labels"], track.labels), "that cannot be seen"
    noisy = augmented(made, noise=1.0)[Cut(0, 0, 8)]
    assert torch.equal(noisy["labels"], track.labels), "noise changes no answer"
    assert not torch.allclose(noisy["audio"], own)


@pytest.mark.parametrize("options", [{"hflip": 1.0}, {"scale": (0.3, 0.3)}, {"rotate": 40.0}])
def test_pictures_are_augmented_alike(tmp_path: Path, options: Any) -> None:
    """All frames of a track, and face and body: here all show the same."""
    pattern = np.random.default_rng(0).integers(0, 255, (112, 112)).astype(np.uint8)
    rows = write_track(tmp_path, "train", "a", 4, bodies=True)
    rows += write_track(tmp_path, "train", "b", 4, bodies=True)
    write_table(tmp_path / "csv" / "train.csv", rows)
    for file in tmp_path.rglob("*.jpg"):
        Image.fromarray(pattern).save(file, quality=100)
    sample = augmented(tmp_path, body=True, **options)[Cut(1, 0, 4)]
    assert bool((sample["face"] == sample["face"][:1]).all())
    assert torch.equal(sample["face"], sample["body"])
    assert not torch.equal(sample["face"], augmented(tmp_path)[Cut(1, 0, 4)]["face"])


def test_whole_tracks_are_padded(made: Path) -> None:
    whole = Whole(open_tracks(TrackDataConfig(str(made)), "train"), False)
    pieces, inputs = padded([whole[0], whole[2]])
    assert [piece.index for piece in pieces] == [0, 2] and inputs["mask"].sum(1).tolist() == [8, 10]
    assert inputs["audio"].shape == (2, 40, 13) and inputs["face"].shape == (2, 10, 112, 112)
    assert torch.equal(inputs["face"][0, :8], whole[0][1]["face"])
