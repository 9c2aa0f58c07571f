"""``se-zoo explain`` on folders: a picture and a row for each file, whatever the files are."""

import csv
import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from PIL import Image

from benchmarks import many_photos
from se_zoo.cli import many
from se_zoo.cli.explain import DEFAULT_MODEL as MODEL
from se_zoo.cli.explained import Cutout, Question
from se_zoo.cli.many import Job, Settings
from se_zoo.cli.tables import COLUMNS
from se_zoo.inference.images import load_photo
from se_zoo.models.load_model import load_model

from .explain_command import draw, fails, files_in, rows_of, run
from .preloaded import start_python


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as people have them."""
    folder = tmp_path_factory.mktemp("photos") / "phone"
    for seed, name in enumerate(("a.jpg", "b.jpg", "a.gif", "trip/a.jpg", "trip/sea/a.JPG")):
        draw(folder / name, seed)
    whole = (folder / "a.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "red\x1b[31m.jpg").write_bytes(b"not a photo")
    (folder / "notes.txt").write_text("not taken")
    (folder / "clip.mp4").touch()
    draw(folder / ".hidden.png")
    draw(folder / ".thumbnails" / "a.png")
    return folder


class Result:
    """One run on the phone's folder: its exit status, output and folder."""

    def __init__(self, status: int, out: Path, said: str, warned: str):
        self.status, self.out, self.said, self.warned = status, out, said, warned


@pytest.fixture(scope="module")
def done(phone: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("done") / "new" / "out"
    said, warned = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", said)
        patch.setattr(sys, "stderr", warned)
        status = run("--target", "Smiling", phone, "--target", "Male", "--out", out)
    return Result(status, out, said.getvalue(), warned.getvalue())


def test_every_readable_file_has_a_picture_below_the_same_folders(done: Result) -> None:
    pictures = ["a.gif.png", "a.jpg.png", "b.png", "trip/a.png", "trip/sea/a.png"]
    assert files_in(done.out) == sorted([*pictures, "explanations.csv"])
    for name in pictures:
        with Image.open(done.out / name) as picture:
            picture.load()


def test_pictures_are_packed_at_the_fastest_level(done: Result) -> None:
    packed = (done.out / "b.png").read_bytes().split(b"IDAT", 1)[1]
    assert packed[:2] == b"\x78\x01", "zlib's header names its level"


def test_table_has_a_row_for_every_file(done: Result, phone: Path) -> None:
    rows = rows_of(done.out / "explanations.csv")
    names = ["a.gif", "a.jpg", "b.jpg", "empty.png", "half.jpg", "red\x1b[31m.jpg",
             "trip/a.jpg", "trip/sea/a.JPG"]  # fmt: skip
    assert [row["file"] for row in rows] == [str(phone / name) for name in names]
    assert list(rows[0]) == list(COLUMNS)
    broken = [row for row in rows if row["error"]]
    assert [Path(row["file"]).name[:4] for row in broken] == ["empt", "half", "red\x1b"]
    assert {row[name] for row in broken for name in COLUMNS if name not in ("file", "error")} == {
        ""
    }
    for row in (row for row in rows if not row["error"]):
        assert (row["target"], row["label"]) == ("31;20", "Smiling;Male")
        assert (done.out / row["picture"]).is_file()


def test_rows_say_what_the_model_says_of_each_photo_alone(done: Result, phone: Path) -> None:
    model = load_model(MODEL)
    for row in rows_of(done.out / "explanations.csv"):
        if row["error"]:
            continue
        photo = load_photo(Path(row["file"]))
        explanation = model.explain(photo, ["Smiling", "Male"])
        found = [float(p) for p in row["probability"].split(";")]
        assert found == pytest.approx(explanation.row_probability.tolist(), abs=1e-5)
        holds = explanation.predicted[0].nonzero().flatten().tolist()
        names = explanation.label_names or ()
        assert sorted(filter(None, row["predicted"].split(";"))) == sorted(names[i] for i in holds)
        x0, y0, x1, y1 = map(int, row["region"].split(";"))
        height, width = explanation.images.shape[2:]
        assert 0 <= x0 < x1 <= photo.width and 0 <= y0 < y1 <= photo.height
        assert (x1 - x0) / (y1 - y0) == pytest.approx(width / height, rel=0.05)


def test_broken_files_are_named_at_the_end(done: Result) -> None:
    assert done.status == 2
    assert "5 pictures" in done.said and "8 rows" in done.said
    assert "3 files could not be explained" in done.warned
    assert "empty.png: not an image" in done.warned and "half.jpg: cannot read" in done.warned
    assert "takes no videos: 1 left out" in done.warned


def test_control_characters_do_not_reach_the_terminal(done: Result) -> None:
    assert "red\\x1b[31m.jpg" in done.warned and "\x1b" not in done.warned + done.said


def test_existing_files_are_replaced_only_when_asked(done: Result, phone: Path) -> None:
    before = {name: (done.out / name).stat().st_mtime_ns for name in files_in(done.out)}
    assert "add --overwrite" in fails(phone, "--out", done.out)
    other = ("--out", done.out, "--table", "more.csv")
    assert "add --overwrite" in fails(phone, *other)  # the pictures exist, the table does not
    assert before == {name: (done.out / name).stat().st_mtime_ns for name in files_in(done.out)}


def test_overwrite_replaces_pictures_and_table(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "in" / "a.png").parent, tmp_path / "out"
    out.mkdir()
    (out / "a.png").touch()
    (out / "explanations.csv.part").touch()
    assert "explanations.csv.part would be replaced" in fails(photos, "--out", out)
    assert run(photos, "--out", out, "--overwrite") == 0
    assert files_in(out) == ["a.png", "explanations.csv"]
    assert (out / "a.png").stat().st_size and len(rows_of(out / "explanations.csv")) == 1


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_other_tables_hold_the_same_rows(
    done: Result, phone: Path, tmp_path: Path, ending: str
) -> None:
    """With other batches and threads, too."""
    if ending == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    options = ("--target", "Smiling", "Male", "--batch-size", 3, "--workers", 1, "--quiet")
    table = tmp_path / f"rows.{ending}"
    assert run(phone, *options, "--out", tmp_path, "--table", table.name) == 2
    if ending == "parquet":
        rows: List[Dict[str, Any]] = parquet.read_table(table).to_pylist()
    else:
        rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    for row, cells in zip(rows, rows_of(done.out / "explanations.csv"), strict=True):
        assert list(row) == list(COLUMNS)
        for name in ("file", "error", "picture"):
            assert row[name] == cells[name]
        for name in ("target", "label", "predicted", "region"):
            assert ";".join(map(str, row[name])) == cells[name]
        for name in ("probability", "predicted_probability"):
            given = [float(p) for p in filter(None, cells[name].split(";"))]
            assert row[name] == pytest.approx(given, abs=1e-5)
        assert ";".join(map(str, row["empty"])) == cells["empty"]
        assert len(row["empty"]) == len(row["target"])
    assert not list(tmp_path.glob("*.part"))


def test_table_of_unknown_kind_is_refused(phone: Path, tmp_path: Path) -> None:
    assert ".csv, .jsonl, .parquet" in fails(phone, "--out", tmp_path / "o", "--table", "x.xlsx")
    assert not (tmp_path / "o").exists()


def test_parquet_without_pyarrow_names_the_extra(
    phone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert 'se_zoo[predict]"' in fails(phone, "--out", tmp_path, "--table", "x.parquet")


def test_full_disk_leaves_whole_rows_and_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "in"
    for seed in range(6):
        draw(photos / f"{seed}.png", seed)
    written = many.write_picture

    def full(path: Path, *args: Any) -> None:
        if path.name == "4.png":
            raise OSError(28, "No space left on device")
        written(path, *args)

    monkeypatch.setattr(many, "write_picture", full)
    out = tmp_path / "out"
    options = ("--batch-size", 2, "--workers", 1, "--quiet")
    assert "No space left" in fails(photos, "--out", out, *options)
    assert not (out / "explanations.csv").exists()
    rows = rows_of(out / "explanations.csv.part")
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1.png", "2.png", "3.png"]


def test_killed_run_leaves_whole_pictures_and_rows(tmp_path: Path) -> None:
    photos, out = tmp_path / "in", tmp_path / "out"
    for seed in range(60):
        draw(photos / f"{seed:02}.png", seed)
    process = start_python(
        "-m", "se_zoo.cli", "explain", photos, "--out", out, "--batch-size", "2",
        cwd=tmp_path, env=os.environ, log=tmp_path / "log",
    )  # fmt: skip
    part = out / "explanations.csv.part"
    begun = time.monotonic()
    while process.exitcode is None and time.monotonic() - begun < 400:
        if part.is_file() and part.read_bytes().count(b"\n") > 4:
            process.kill()
            process.join()
        time.sleep(0.01)
    assert process.exitcode == -signal.SIGKILL, "it ended before it was killed, or never began"
    assert not (out / "explanations.csv").exists()
    text = part.read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.endswith("\n") and 4 <= len(rows) < 60
    assert all(row["region"].count(";") == 3 for row in rows)
    named = {row["picture"] for row in rows}
    pictures = {p.name for p in out.glob("*.png")}
    assert named <= pictures
    for name in pictures:
        with Image.open(out / name) as picture:
            picture.load()


def test_out_folder_is_not_searched_for_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.png")
    for _ in range(2):  # the second run must not explain the pictures of the first
        assert run(".", "--overwrite", "--quiet") == 0
        assert files_in(tmp_path) == [
            "a.png",
            "explanations/a.png",
            "explanations/explanations.csv",
        ]


def test_photos_are_never_written_over(tmp_path: Path) -> None:
    photo = draw(tmp_path / "in" / "a.png")
    before = photo.read_bytes()
    for out in (photo, photo.parent, tmp_path / "in" / ".." / "in" / "a.png"):
        assert "name another" in fails(photo, "--out", out, "--overwrite")
    assert "photos themselves" in fails(photo.parent, "--out", photo.parent, "--overwrite")
    assert photo.read_bytes() == before


def settings(**changed: Any) -> Settings:
    question = Question(None, "contribution", None, None, None)
    given: Dict[str, Any] = dict(
        model=None, question=question, clip_config=None, batch_size=4, workers=2, top=None,
        alpha=0.75, cmap=None, as_json=False, quiet=True,
    )  # fmt: skip
    return Settings(**{**given, **changed})


def test_few_files_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: List[Path] = []
    monkeypatch.setattr(many, "read", lambda path, *_: opened.append(path))
    jobs = [Job(Path(str(n)), Path(), "") for n in range(50)]
    with many.ThreadPoolExecutor(2) as pool:
        for used, one in enumerate(many._read_ahead(jobs, settings(), pool), 1):
            time.sleep(0.002)
            assert one.job == jobs[used - 1] and len(opened) <= used + 4
    assert len(opened) == 50


def test_large_photos_make_small_batches() -> None:
    small, large = (
        Cutout("a", Image.new("L", size), Image.new("L", (1, 1)), (1, 1), None)
        for size in ((10, 10), (8000, 5000))
    )
    job = Job(Path("a"), Path("b"), "c")
    photos = [small] * 5 + [large] * 3 + [None] * 6
    sizes = [
        len(batch) for batch in many._batches(iter([many._Opened(job, p, "") for p in photos]), 4)
    ]
    assert sizes == [4, 3, 4, 3]


def test_photos_above_pillows_warning_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panorama: Pillow warns above 89 megapixels, and refuses above twice as many."""
    width, height = 208, 256  # more than the model's input, whose cutting out Pillow checks too
    photo = draw(tmp_path / "a.png", size=(width, height))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", width * height - 1)
    assert run(photo, "--quiet", "--out", tmp_path / "x/") == 0
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", width * height // 3)
    assert run(photo, "--quiet", "--out", tmp_path / "y/") == 2


def test_the_default_model_says_that_it_reads_faces(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A folder of dogs would be explained as faces without a word."""
    photo, out = draw(tmp_path / "a.png"), tmp_path / "x/"
    assert run(photo, "--out", out) == 0
    said = capsys.readouterr().err
    assert "--face" in said and "--model se_zoo/tf_efficientnet_lite0_in1k" in said
    for given in (("--quiet",), ("--model", "se_zoo/resnet18_slim_celeba")):
        assert run(photo, "--out", out, "--overwrite", *given) == 0
        assert "framed" not in capsys.readouterr().err


HEIC = b"\0\0\0\x18ftypheic" + bytes(100)


def test_heic_without_its_reader_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.HEIC").write_bytes(HEIC)
    assert run(tmp_path / "in", "--out", tmp_path / "out") == 2
    (row,) = rows_of(tmp_path / "out" / "explanations.csv")
    assert 'pip install "se_zoo[heif]"' in row["error"]


def test_heic_is_read(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif (extra: heif)")
    with Image.open(draw(tmp_path / "a.png")) as image:
        pillow_heif.from_pillow(image).save(tmp_path / "a.heic", quality=95)
        read = load_photo(tmp_path / "a.heic")
        assert np.abs(np.asarray(read, float) - np.asarray(image, float)).mean() < 8
    (tmp_path / "b.heic").write_bytes(HEIC)
    assert "b.heic: " in fails(tmp_path / "b.heic", "--out", tmp_path / "x.png")


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_names_that_are_not_utf8_do_not_stop_a_run(tmp_path: Path) -> None:
    photos = tmp_path / "in"
    draw(photos / "a.png").rename(os.fsdecode(os.fsencode(photos) + b"/\xff.png"))
    for ending in ("csv", "jsonl"):
        out = tmp_path / ending
        assert run(photos, "--out", out, "--table", f"t.{ending}", "--quiet") == 0
        assert "udcff" in (out / f"t.{ending}").read_text("utf-8")


def test_a_long_name_is_no_reason_to_stop(tmp_path: Path) -> None:
    draw(tmp_path / "in" / ("\u0436" * 124 + ".png"))
    assert run(tmp_path / "in", "--out", tmp_path / "out", "--quiet") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 1


def test_a_photo_that_is_too_thin_costs_its_row_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = draw(tmp_path / "in" / "a.png").parent
    thin = draw(photos / "line.png", 1, (8000, 1))
    draw(photos / "z.png", 2)
    assert run(photos, "--out", tmp_path / "out") == 2
    assert files_in(tmp_path / "out") == ["a.png", "explanations.csv", "z.png"]
    errors = [row["error"] for row in rows_of(tmp_path / "out" / "explanations.csv")]
    assert errors == ["", "it is too thin (8,000 x 1 pixels) to be resized; cut it first", ""]
    assert f"{thin}: it is too thin" in capsys.readouterr().err
    assert f"{thin}: it is too thin" in fails(thin, "--out", tmp_path / "one.png")
    sheet = tmp_path / "sheet.png"
    assert run(photos / "a.png", thin, "--contact-sheet", "--out", sheet) == 2
    assert sheet.is_file() and f"{thin}: it is too thin" in capsys.readouterr().err


def test_a_photo_of_the_class_to_compare_with_is_one_error(tmp_path: Path) -> None:
    """All other photos have their maps."""
    photos = [draw(tmp_path / "in" / f"{n}.png", n) for n in range(4)]
    model: Any = load_model(MODEL)
    found = [set(model.explain(photo).target) for photo in photos]
    other = next(iter(set.union(*found) - set.intersection(*found)))
    label = model.class_labels()[other]
    out = tmp_path / "out"
    assert run(tmp_path / "in", "--method", "difference", "--versus", label, "--out", out) == 2
    rows = rows_of(out / "explanations.csv")
    errors = {row["file"]: row["error"] for row in rows if row["error"]}
    assert set(errors) == {
        str(p) for p, targets in zip(photos, found, strict=True) if other in targets
    }
    assert all("which is a target itself" in error for error in errors.values())
    assert len(list(out.glob("*.png"))) == len(photos) - len(errors)


@pytest.mark.slow  # three processes
def test_memory_does_not_grow_with_the_number_of_photos(tmp_path: Path) -> None:
    """The benchmark's small case: forty photos take at most a tenth more than ten."""
    photo = draw(tmp_path / "photo.jpg", size=(520, 640))
    bench = many_photos.Bench(
        counts=(10, 40), photos=photo.parent, target="Smiling", batch_size=2, workers=1,
        out=tmp_path / "figures.json",
    )  # fmt: skip
    figures = many_photos.main(bench)
    assert [figure["photos"] for figure in figures] == [1, 10, 40]
    assert figures[2]["peak_mb"] < 1.1 * figures[1]["peak_mb"]
    assert figures[2]["photos_a_second"] > 0
    assert json.loads((tmp_path / "figures.json").read_text("utf-8"))["figures"] == figures
