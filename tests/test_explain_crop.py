"""``se-zoo explain --crop`` and ``--face``: what is cut out, and where it lies in the photo."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Tuple

import numpy as np
import pytest
import timm
from PIL import Image

from se_zoo import Explanation, FaceFinder, resolve_clip_config
from se_zoo.cli import forms, plan
from se_zoo.cli.explain import DEFAULT_MODEL as MODEL
from se_zoo.cli.explained import Question, explain_read, read
from se_zoo.data.faces.detect import Face
from se_zoo.models.load_model import load_model

from .explain_command import draw, fails, files_in, rows_of, run

FACE = Face(140, 60, 220, 150, ((165, 90), (195, 90)))
SMALL = Face(10, 10, 60, 60)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(MODEL)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return draw(tmp_path / "in" / "a.png", size=(300, 220))


def find(patch: pytest.MonkeyPatch, *faces: Face) -> FaceFinder:
    """Let the command find these faces in every photo that is not black."""
    finder = FaceFinder(lambda picture: faces if picture.any() else ())
    patch.setattr(plan, "_face_finder", lambda args: finder if args.finds_face else None)
    return finder


def numbers(picture: Path) -> Any:
    return json.loads(picture.with_suffix(".json").read_text("utf-8"))


def test_region_of_a_crop_is_in_the_photos_own_pixels(
    photo: Path, tmp_path: Path, model: Any, capsys: pytest.CaptureFixture
) -> None:
    out, crop = tmp_path / "x.png", (100, 20, 200, 140)
    assert run(photo, "--crop", *crop, "--target", "Smiling", "--out", out, "--json") == 0
    with Image.open(photo) as image:
        wanted = model.explain(image.crop(crop), "Smiling")
    x0, y0, x1, y1 = wanted.photos[0].region
    region = [100 + x0, 20 + y0, 100 + x1, 20 + y1]
    assert json.loads(capsys.readouterr().out)["region"] == [round(side) for side in region]
    (found,) = numbers(out)["images"]
    assert found["photo"]["region"] == pytest.approx(region, abs=1e-3)
    assert found["photo"]["name"] == "a.png" and found["photo"]["size"] == [300, 220]
    assert found["logits"] == pytest.approx(wanted.logits[0].tolist(), abs=1e-4)


def test_saved_crop_is_drawn_again_on_the_whole_photo(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    asked = ("--target", "Smiling", "--method", "contribution")
    run(photo, "--crop", 100, 20, 200, 140, *asked, "--out", out, "--quiet")
    with Image.open(photo) as image:
        picture: Any = Explanation.load(out).overlay([image.convert("RGB")])[0].astype(int)
    coloured = (picture.max(2) - picture.min(2)) > 0
    assert coloured[20:140, 100:200].any()
    coloured[20:140, 100:200] = False
    assert not coloured.any()


@pytest.mark.parametrize(
    "crop, tiles",
    [((100, 20, 160, 60), (164, 180)), ((10, 10, 290, 210), (300, 300))],
)
def test_small_crop_is_drawn_large_beside_the_photo(
    photo: Path, tmp_path: Path, crop: Tuple[int, ...], tiles: Tuple[int, int]
) -> None:
    """60 x 40 pixels three times as large, and the photo as high; most of it on the photo."""
    out = tmp_path / "x.png"
    run(photo, "--crop", *crop, "--target", "Smiling", "--out", out, "--quiet")
    with Image.open(out) as picture:
        assert picture.width == sum(tiles) + 6


def test_face_is_framed_as_the_library_frames_it(
    photo: Path, tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder, out = find(monkeypatch, FACE), tmp_path / "x.png"
    assert run(photo, "--face", "--target", "Smiling", "--out", out, "--quiet") == 0
    wanted = model.explain(photo, "Smiling", face=finder)
    (found,), (expected,) = numbers(out)["images"], wanted.to_dict()["images"]
    assert found["photo"] == expected["photo"] and "frame" in found["photo"]
    assert found["logits"] == pytest.approx(expected["logits"], abs=1e-4)
    wanted.save(tmp_path / "y.png")
    with Image.open(out) as ours, Image.open(tmp_path / "y.png") as theirs:
        difference = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs).astype(int))
    assert difference.max() <= 2


def test_photo_without_a_face_is_a_row_with_that_error(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    find(monkeypatch, FACE)
    Image.new("RGB", (60, 60)).save(photo.parent / "night.png")
    assert run(photo.parent, "--face", "--target", "Smiling", "--out", tmp_path / "out") == 2
    good, bad = rows_of(tmp_path / "out" / "explanations.csv")
    assert good["error"] == "" and good["label"] == "Smiling" and good["region"]
    assert bad["error"].startswith("no face is found") and not bad["picture"]
    assert files_in(tmp_path / "out") == ["a.png", "explanations.csv"]
    assert "night.png: no face is found" in capsys.readouterr().err
    message = fails(photo.parent / "night.png", "--face", "--out", tmp_path / "x.png")
    assert "night.png: no face is found" in message and "--crop" in message


def test_of_several_faces_one_line_says_which(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    find(monkeypatch, SMALL, FACE)
    assert run(photo, "--face", "--out", tmp_path / "x.png") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{photo} has 2 faces; the largest is explained")
    assert numbers(tmp_path / "x.png")["images"][0]["photo"]["region"][0] > 60


def test_face_is_looked_for_in_the_crop(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: List[Any] = []

    def detector(picture: np.ndarray) -> List[Face]:
        searched.append(picture.shape)
        return [Face(40, 40, 100, 110, ((58, 62), (80, 62)))]

    monkeypatch.setattr(plan, "_face_finder", lambda args: FaceFinder(detector))
    regions = []
    for x in (100, 110):
        out = tmp_path / f"{x}.png"
        run(photo, "--face", "--crop", x, 20, x + 150, 200, "--out", out, "--quiet")
        regions.append(numbers(out)["images"][0]["photo"]["region"])
    assert searched == [(180, 150, 3)] * 2
    assert regions[1] == pytest.approx(np.add(regions[0], (10, 0, 10, 0)).tolist())
    assert regions[0][0] < 140 < 200 < regions[0][2], "the face of the crop in the whole photo"


def test_contact_sheet_of_faces(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    find(monkeypatch, FACE)
    draw(photo.parent / "b.png", 1, (400, 300))
    Image.new("RGB", (60, 60)).save(photo.parent / "night.png")
    out = tmp_path / "sheet.png"
    assert run(photo.parent, "--face", "--contact-sheet", "--out", out, "--json") == 2
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.png"]
    frames = [image["photo"]["frame"] for image in numbers(out)["images"]]
    assert frames[0] == frames[1] and rows[0]["region"] == rows[1]["region"]


def test_face_of_the_portrait_is_found(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="finds faces: needs se_zoo[face]")
    out = tmp_path / "x.png"
    assert run("--face", "--out", out, "--quiet") == 0
    report = numbers(out)
    assert report["model"] == MODEL and report["images"][0]["photo"]["name"] == "grace_hopper.jpg"
    x0, y0, x1, y1 = report["images"][0]["photo"]["region"]
    assert x0 < 150 < 400 < x1 and y0 < 60 < 330 < y1


def test_face_without_opencv_names_the_extra(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert 'pip install "se_zoo[face]"' in fails(photo, "--face")


def test_missing_face_model_is_named(photo: Path) -> None:
    pytest.importorskip("cv2", reason="finds faces: needs se_zoo[face]")
    assert "no such file: yunet.onnx" in fails(photo, "--face-model", "yunet.onnx")


def test_face_is_not_for_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").touch()
    clips = SimpleNamespace(takes_clips=True, class_labels=lambda: None, num_classes=2)
    monkeypatch.setattr(forms, "load_on", lambda *_: clips)
    model = ("--model", "se_zoo/framewise_grid")
    message = fails(tmp_path / "a.mp4", *model, "--face", "--out", tmp_path / "x.mp4")
    assert "--face is for photos" in message


def test_region_of_a_clip_is_in_the_frames_own_pixels(tmp_path: Path) -> None:
    """The picture shows the region: red and green of a frame are its columns and rows."""
    pytest.importorskip("av", reason="needs PyAV (extra: video)")
    from .video_files import write_lossless

    model: Any = timm.create_model(
        "framewise_sehead", backbone="test_resnet", num_classes=2, num_frames=4
    )
    model.pretrained_cfg["input_size"] = (3, 32, 48)
    frame = np.zeros((96, 128, 3), np.uint8)
    frame[..., 0], frame[..., 1] = np.arange(128), np.arange(96)[:, None]
    video = write_lossless(tmp_path / "a.mkv", [frame] * 8)
    question = Question([0], "contribution", None, (16, 8, 112, 88), None)
    clip = read(video, question, resolve_clip_config(model))
    (one,) = explain_read(model.eval(), [clip], question)
    x0, y0, x1, y1 = one.region
    assert 16 <= x0 < x1 <= 112 and 8 <= y0 < y1 <= 88 and one.facts["region"] == [x0, y0, x1, y1]
    shown = one.drawn[0, 0].astype(float)
    assert (shown[:, 0, 0].mean(), shown[:, -1, 0].mean()) == pytest.approx((x0, x1 - 1), abs=1)
    assert (shown[0, :, 1].mean(), shown[-1, :, 1].mean()) == pytest.approx((y0, y1 - 1), abs=1)
