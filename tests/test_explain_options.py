"""Options of ``se-zoo explain``: one picture, contact sheets, what is printed, and their order."""

import io
import json
import sys
from pathlib import Path
from typing import Tuple

import pytest
import torch

from se_zoo.cli import forms, plan
from se_zoo.cli.empty_maps import summary_of_empty
from se_zoo.cli.explain import DEFAULT_MODEL, sources_first
from se_zoo.cli.tables import COLUMNS
from se_zoo.explanations.draw.colours import ALPHA
from se_zoo.models.load_model import load_model

from .explain_command import draw, fails, files_in, rows_of, run


def test_default_picture_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.jpg")
    for target in ("Smiling", "Male"):
        assert run("a.jpg", "--target", target, "--quiet") == 0
        report = json.loads((tmp_path / "explanation.json").read_text("utf-8"))
        assert [row["label"] for row in report["rows"]] == [target]
    assert "add --overwrite" in fails("a.jpg", "--out", "explanation.png")


def test_several_files_do_not_go_into_one_picture(tmp_path: Path) -> None:
    photos = [draw(tmp_path / f"{n}.png", n) for n in range(2)]
    message = fails(*photos, "--out", tmp_path / "x.png")
    assert "2 files" in message and "x/" in message and "--contact-sheet" in message


def test_contact_sheet_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHEET_LIMIT", 2)
    for n in range(3):
        draw(tmp_path / "in" / f"{n}.png", n)
    message = fails(tmp_path / "in", "--contact-sheet", "--out", tmp_path / "x.png")
    assert "at most 2 photos, not 3" in message


def test_contact_sheet_leaves_broken_photos_out(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = [draw(tmp_path / f"{n}.png", n) for n in range(2)]
    (tmp_path / "bad.png").touch()
    out = tmp_path / "sheet.png"
    assert run(*photos, tmp_path / "bad.png", "--contact-sheet", "--out", out) == 2
    printed = capsys.readouterr()
    assert "bad.png: not an image" in printed.err and all(str(p) in printed.out for p in photos)
    assert json.loads(out.with_suffix(".json").read_text("utf-8"))["photos"] == [*map(str, photos)]


def test_json_has_a_line_for_every_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    draw(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").touch()
    assert run(tmp_path / "in", "--out", tmp_path / "out", "--json", "--top", 3) == 2
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(good) == list(bad) == list(COLUMNS)
    assert len(good["predicted"]) == len(good["predicted_probability"]) == 3
    assert good["predicted_probability"] == sorted(good["predicted_probability"], reverse=True)
    assert bad["error"].startswith("not an image")


def test_json_of_one_photo_is_its_row(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photo = draw(tmp_path / "a.png")
    run(photo, "--json", "--target", "Smiling", "--out", tmp_path / "x.png")
    row = json.loads(capsys.readouterr().out)
    assert (row["file"], row["picture"], row["label"]) == (
        str(photo), str(tmp_path / "x.png"), ["Smiling"]
    )  # fmt: skip


@pytest.fixture
def speaks_against_male(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default model with a classifier that finds evidence against Male alone."""
    model = load_model(DEFAULT_MODEL)
    head = model.get_classifier()
    with torch.no_grad():
        head.weight[20], head.bias[20] = -head.weight[20].abs(), 99
        head.weight[31] = head.weight[31].abs()
    monkeypatch.setattr(forms, "load_on", lambda *_: model)


@pytest.mark.usefixtures("speaks_against_male")
def test_empty_map_is_said_in_the_text_and_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = [draw(tmp_path / "in" / f"{n}.png", n) for n in range(2)]
    options = ("--target=Male", "--target=Smiling", "--method", "contribution", "--out")
    run(photos[0], *options, tmp_path / "x.png")
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "note: nothing in the picture speaks for Male"
    run(*photos, "--contact-sheet", *options, tmp_path / "sheet.png")
    assert capsys.readouterr().out.endswith("speaks for Male (2 photos)\n")
    run(tmp_path / "in", *options, tmp_path / "out")
    said = capsys.readouterr().out.splitlines()[-1]
    table = tmp_path / "out" / "explanations.csv"
    assert said == f"note: 2 files with an empty map (Male 2); see the column empty of {table}"
    assert [row["empty"] for row in rows_of(table)] == ["True;False"] * 2
    run(photos[0], *options, tmp_path / "y.png", "--json")
    assert json.loads(capsys.readouterr().out)["empty"] == [True, False]


def test_summary_of_empty_maps_names_the_way_out() -> None:
    found = summary_of_empty({"Smiling": 11, "Male": 2}, 12, "class_gate", "t.csv")
    assert found == (
        "\nnote: 12 files with an empty map (Smiling 11 and Male 2); see the column empty of t.csv"
        "; --method contribution shows what speaks for and against a label"
    )
    assert summary_of_empty({}, 1, "gate", "t.csv") == (
        "\nnote: 1 file with an empty map; see the column empty of t.csv"
    )
    assert summary_of_empty({}, 0, "gate", "t.csv") == ""


def test_quiet_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photo = draw(tmp_path / "a.png")
    assert run(photo, "--quiet", "--out", tmp_path / "x.png") == 0
    assert run(photo, "--quiet", "--out", tmp_path / "x/") == 0
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_is_shown_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    draw(tmp_path / "in" / "a.png")
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    run(tmp_path / "in", "--out", tmp_path / "out", *(["--quiet"] if quiet else []))
    shown = stderr.getvalue()
    assert not shown if quiet else "1/1" in shown and "<00:00" in shown and "photo" in shown


def test_options_of_drawing_reach_the_picture(tmp_path: Path) -> None:
    photo = draw(tmp_path / "a.png")
    looks = [[], ["--alpha", "0.2"], ["--cmap", "RdBu_r"], ["--alpha", f"{ALPHA}"]]
    for form in ("x.png", "many/"):
        seen = set()
        for look in looks:
            run(photo, *look, "--overwrite", "--quiet", "--out", f"{tmp_path}/{form}")
            picture = tmp_path / form if form.endswith(".png") else tmp_path / "many" / "a.png"
            seen.add(picture.read_bytes())
        assert len(seen) == len(looks) - 1  # the last is the default


def test_help_names_the_default_opacity(capsys: pytest.CaptureFixture) -> None:
    assert run("--help") == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"Opacity of the strongest spots of the map, from 0 to 1; by default {ALPHA}." in shown


@pytest.mark.parametrize(
    "options, says",
    [
        (("--alpha", "2"), "from 0 to 1"),
        (("--cmap", "rainbows"), "no colour map"),
        (("--batch-size", "0"), "--batch-size must be 1 or more"),
        (("--workers", "0"), "--workers must be 1 or more"),
        (("--top", "0"), "--top must be 1 or more"),
        (("--device", "abacus"), "--device abacus cannot be used"),
        (("--start", "1"), "for videos"),
        (("--out", "x.jpg"), "must be a .png"),
        (("--crop", "10", "10"), "--crop takes four whole numbers, x0 y0 x1 y1"),
        (("--crop", "10", "10", "--quiet"), "not 10 10"),
        (("--crop", "0", "0", "9.5", "9"), "not 0 0 9.5 9"),
        (("--crop",), "not nothing"),
        (("--method", "difference"), "name the other label with --versus."),
        (("--versus", "Male", "--method", "gate"), "--versus is for --method difference only"),
    ],
)
def test_bad_options_take_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.png")
    assert says in fails("a.png", *options)
    assert files_in(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "options, says",
    [
        ((), "the default model takes photos"),
        (("--out", "new/"), "the default model takes photos"),
        (("--model", DEFAULT_MODEL, "--out", "new/"), f"{DEFAULT_MODEL} takes images"),
    ],
)
def test_video_without_a_clip_model_is_refused_with_the_name_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture, options: Tuple[str, ...], says: str
) -> None:
    (tmp_path / "a.mp4").touch()
    message = fails(tmp_path / "a.mp4", *options)
    assert says in message and message.endswith("such as --model se_zoo/framewise_grid")
    assert "note:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, ordered",
    [
        ("a.jpg --target A B", "a.jpg --target=A --target=B"),
        ("--target A a.jpg", "a.jpg --target=A"),
        ("--target A a.jpg --target B C --json b.jpg", "a.jpg b.jpg --target=A --target=B "
         "--target=C --json"),
        ("--crop -1 0 9 8 a.jpg", "a.jpg --crop -1 0 9 8"),
        ("--model m a.jpg --batch-size 3 b.jpg", "a.jpg b.jpg --model m --batch-size 3"),
        ("--batch_size 3 a.jpg --top=2 b.jpg", "a.jpg b.jpg --batch_size 3 --top=2"),
        ("--face a.jpg --quiet b.jpg", "a.jpg b.jpg --face --quiet"),
        ("--face-model y.onnx a.jpg", "a.jpg --face-model y.onnx"),
        ("--target=-1 a.jpg", "a.jpg --target=-1"),
        ("a.jpg --target", "a.jpg --target"),
        ("a.jpg --target A --out o -- -b.jpg", "--target=A --out o -- a.jpg -b.jpg"),
        ("--help", "--help"),
    ],
)  # fmt: skip
def test_options_go_before_or_after_the_files(words: str, ordered: str) -> None:
    assert sources_first(words.split()) == ordered.split()
