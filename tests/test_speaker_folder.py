"""`se-zoo speaker` on a folder of videos, and with a table of the user's own boxes."""

import os
import shutil
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch

from se_zoo import cli
from se_zoo.data.faces.ava import read_ava
from se_zoo.models import create_speaker_model
from se_zoo.models.save_model import write_export

from .test_speaker_video import noise, write_video

parquet = pytest.importorskip("pyarrow.parquet", reason="rows need pyarrow (extra: predict)")
BOXES = [(5.0, 5.0, 25.0, 25.0), (35.0, 8.0, 60.0, 40.0)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    (folder / "more").mkdir()
    write_video(folder / "one.mkv", 20, noise(0.8))
    write_video(folder / "more" / "two.mkv", 15, noise(0.6))
    (folder / "broken.mp4").write_bytes(b"hello")
    (folder / "more" / "._two.mkv").write_bytes(b"what macOS writes beside a file")
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    model: Any = create_speaker_model("asd_tiny_sehead")
    folder = tmp_path_factory.mktemp("tiny")
    write_export(model, folder, model._model_args, model.state_dict())
    return f"local-dir:{folder}"


@pytest.fixture(autouse=True)
def faces(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """Two faces in every picture; the pictures that were looked at."""
    seen: List[int] = []
    detector = lambda picture: seen.append(1) or BOXES  # noqa: E731
    monkeypatch.setattr("se_zoo.data.faces.detect.open_detector", lambda _: detector)
    return seen


def speaker(*args: object) -> None:
    cli.main(["speaker", *map(str, args)])


def rows(out: Path) -> Dict[str, Any]:
    files = sorted(out.rglob("*.parquet"))
    return {
        p.relative_to(out).as_posix(): parquet.read_table(BytesIO(p.read_bytes())).to_pydict()
        for p in files
    }


def test_a_row_for_each_face_and_frame(
    videos: Path, tiny: str, tmp_path: Path, capsys: Any, faces: List[int]
) -> None:
    """Broken videos are named at the end; the same command does only what is left."""
    out = tmp_path / "out"
    command = [videos, "--model", tiny, "--out", out, "--no-draw", "--every", "1"]
    with pytest.raises(SystemExit, match="1 of 3 videos could not be scored, such as broken"):
        speaker(*command)
    found = rows(out)
    assert set(found) == {"one.parquet", "more/two.parquet"}
    two = found["more/two.parquet"]
    assert two["video"] == ["more/two"] * 30 and two["face"] == [0] * 15 + [1] * 15
    assert two["frame"] == [*range(15)] * 2 and two["seconds"][3] == pytest.approx(3 / 25)
    assert [two[name][20] for name in ("x0", "y0", "x1", "y1")] == list(BOXES[1])
    assert all(0 <= score <= 1 for score in two["score"])
    shares = zip(two["share_audio"], two["share_face"], strict=True)
    assert all(sum(pair) == pytest.approx(1, abs=1e-3) for pair in shares)
    assert not list(out.rglob("*.mp4")) and not list(out.rglob("*.tmp"))
    faces.clear()
    (out / "one.parquet").unlink()  # as if the run had been killed
    with pytest.raises(SystemExit, match="1 of 3"):
        speaker(*command)
    assert rows(out) == found and len(faces) == 20
    assert "1 of 3 videos are done already" in capsys.readouterr().out


def test_annotated_videos_lie_beside_the_rows(videos: Path, tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(videos / "more" / "two.mkv", folder)
    speaker(folder, "--model", tiny, "--out", folder / "out")
    assert sorted(p.name for p in (folder / "out").iterdir()) == [
        "options.json", "two.mp4", "two.parquet",
    ]  # fmt: skip
    speaker(folder, "--model", tiny, "--out", folder / "out")  # its own videos are not taken
    assert len(rows(folder / "out")) == 1


def test_a_video_without_faces_has_no_rows(
    videos: Path, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("se_zoo.data.faces.detect.open_detector", lambda _: lambda picture: [])
    speaker(videos / "more", "--model", tiny, "--out", tmp_path / "out")
    assert rows(tmp_path / "out")["two.parquet"]["score"] == []


def test_rows_of_another_folder_or_video_are_not_taken_for_done(
    videos: Path, tiny: str, tmp_path: Path, capsys: Any, faces: List[int]
) -> None:
    for day, video in (("monday", videos / "one.mkv"), ("tuesday", videos / "more" / "two.mkv")):
        (tmp_path / day).mkdir()
        shutil.copy(video, tmp_path / day / "cam1.mkv")
    command = ["--model", tiny, "--out", tmp_path / "out", "--no-draw"]
    speaker(tmp_path / "monday", *command)
    with pytest.raises(SystemExit, match=r"holds rows of the folder .*monday; name another --out"):
        speaker(tmp_path / "tuesday", *command)
    assert len(rows(tmp_path / "out")["cam1.parquet"]["score"]) == 40
    shutil.copy(tmp_path / "tuesday" / "cam1.mkv", tmp_path / "monday")
    speaker(tmp_path / "monday", *command)
    assert len(rows(tmp_path / "out")["cam1.parquet"]["score"]) == 30
    capsys.readouterr(), faces.clear()
    speaker(tmp_path / "monday", *command)
    assert "1 of 1 videos are done already" in capsys.readouterr().out and not faces


def test_videos_are_drawn_later_and_other_weights_are_refused(videos: Path, tmp_path: Path) -> None:
    def save(seed: int) -> None:
        torch.manual_seed(seed)
        model: Any = create_speaker_model("asd_tiny_sehead")
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        (tmp_path / "model").mkdir()
        write_export(model, tmp_path / "model", model._model_args, model.state_dict())

    save(0)
    command = [videos / "more", "--model", f"local-dir:{tmp_path / 'model'}", "--out",
               tmp_path / "out"]  # fmt: skip
    speaker(*command, "--no-draw")
    assert not list((tmp_path / "out").glob("*.mp4"))
    speaker(*command)
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 1
    save(1)
    with pytest.raises(SystemExit, match="holds rows of other weights"):
        speaker(*command)


def test_a_name_that_is_not_utf8_keeps_its_scores(videos: Path, tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    name = os.fsdecode(b"caf\xe9.mkv")
    shutil.copy(videos / "more" / "two.mkv", folder / name)
    speaker(folder, "--model", tiny, "--out", tmp_path / "out", "--no-draw")
    assert set(next(iter(rows(tmp_path / "out").values()))["video"]) == {r"caf\udce9"}
    speaker(folder / name, "--model", tiny, "--out", tmp_path / "one.mp4", "--no-draw")
    assert r"caf\udce9_0" in (tmp_path / "one.csv").read_text("utf-8")


def test_rows_without_pyarrow_are_refused_before_any_video(
    videos: Path, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: List[int]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SystemExit, match=r"se_zoo\[predict\]"):
        speaker(videos, "--model", tiny, "--out", tmp_path / "out")
    assert not faces and not (tmp_path / "out").exists()


def test_what_does_not_fit_is_refused(videos: Path, tiny: str, tmp_path: Path) -> None:
    out, more = tmp_path / "out", videos / "more"
    speaker(more, "--model", tiny, "--out", out, "--no-draw")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "same").mkdir()
    for name in ("a.mkv", "a.mp4"):
        (tmp_path / "same" / name).write_bytes(b"")
    cases: List[Any] = [
        ([more, "--out", out, "--every", 1], "made with --every 3"),
        ([more, "--out", tmp_path / "full"], "new or empty folder"),
        ([tmp_path / "empty", "--out", tmp_path / "x"], "has no videos"),
        ([tmp_path / "same", "--out", tmp_path / "x"], "differ in their ending alone"),
        ([more, "--out", tmp_path / "x", "--boxes", "boxes.csv"], "table of one video"),
    ]
    for args, says in cases:
        with pytest.raises(SystemExit) as stop:
            speaker(*args, "--model", tiny)
        assert says in str(stop.value.code)
    assert not (tmp_path / "x").exists()


def test_faces_of_a_table_are_scored(tiny: str, tmp_path: Path) -> None:
    """No detector is needed; the frames are the file's, which has 50 a second."""
    path = write_video(tmp_path / "talk.mkv", 60, noise(1.2), fps=50)
    table = tmp_path / "boxes.csv"
    table.write_text("frame,x0,y0,x1,y1,track\n0,8,8,30,30,a\n30,8,8,30,30,a\n58,8,8,30,30,a\n20,40,8,60,28,b\n"
                     "40,40,8,60,28,b\n", "utf-8")  # fmt: skip
    speaker(path, "--model", tiny, "--out", tmp_path / "out.mp4", "--boxes", table)
    rows = read_ava(tmp_path / "out.csv", "score", boxes=True)
    assert [row.key[0] for row in rows].count("talk_0") == 30
    second = [row for row in rows if row.key[0] == "talk_1"]
    assert [second[0].key[1], second[-1].key[1], len(second)] == ["0.4", "0.8", 11]
    assert second[0].box == pytest.approx((40 / 64, 8 / 48, 60 / 64, 28 / 48), abs=1e-5)
    assert (tmp_path / "out.mp4").is_file()


def test_the_table_of_boxes_is_not_written_over(videos: Path, tiny: str, tmp_path: Path) -> None:
    table = tmp_path / "talk.csv"
    table.write_text("frame,x0,y0,x1,y1\n0,8,8,30,30\n", "utf-8")
    with pytest.raises(SystemExit, match="would replace --boxes"):
        speaker(videos / "one.mkv", "--model", tiny, "--boxes", table, "--out",
                tmp_path / "talk.mp4")  # fmt: skip
    assert table.read_text("utf-8").startswith("frame") and not (tmp_path / "talk.mp4").exists()
