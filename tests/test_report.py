"""The report of a data set: regions, clusters, suspicious corners, and the page."""

import base64
import io
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import torch
from PIL import Image

pa = pytest.importorskip("pyarrow", reason="needs pyarrow (extra: predict)")
pytest.importorskip("sklearn", reason="needs scikit-learn (extra: report)")
import pyarrow.parquet as pq  # noqa: E402

from se_zoo import InvalidInputError, cli  # noqa: E402
from se_zoo.explanations.maps import to_heatmap  # noqa: E402
from se_zoo.inference.predict.open import open_source  # noqa: E402
from se_zoo.inference.predict.sources import SourceOptions  # noqa: E402
from se_zoo.inference.predictions import stored_placement  # noqa: E402
from se_zoo.inference.report.clusters import group_maps  # noqa: E402
from se_zoo.inference.report.collect import LabelMaps, collect, evidence_share  # noqa: E402
from se_zoo.inference.report.page import write_report  # noqa: E402
from se_zoo.inference.report.pictures import mean_map  # noqa: E402
from se_zoo.inference.report.regions import (  # noqa: E402
    Boxes,
    Cells,
    Masks,
    box_weights,
    cells_of,
    even_cells,
    fixed_regions,
)
from se_zoo.inference.report.suspects import find_suspects  # noqa: E402
from se_zoo.inference.rows import schema  # noqa: E402

LABELS, EACH, GRID = ("ant", "bee", "cat", "dog"), 60, (8, 8)
MODEL = {
    "method": "contribution", "label_names": None, "multi_label": False, "map_offset": [0, 0],
    "preprocessing": {"input_size": [3, 32, 32]},
}  # fmt: skip


def row_of(raw: np.ndarray, name: str = "a", predicted: int = 0) -> Any:
    """A row of MODEL with a map of class 0."""
    return SimpleNamespace(
        id=name, target=(0,), label=("ant",), map=raw[None], top=((predicted, "an insect", 0.9),),
        region=(0, 0, 8, 4), place=(0, 0),
    )  # fmt: skip


def maps(marked: str, seed: int = 0, strength: float = 12) -> List[Tuple[str, np.ndarray]]:
    """A label and a map for each photo: a blob near the centre, and noise.

    In three photos of ten of one label, the bottom right cell has so much more evidence.
    """
    rng, found = np.random.default_rng(seed), []
    rows, columns = np.mgrid[:8, :8]
    for label in LABELS:
        for i in range(EACH):
            y, x = 3.5 + rng.normal(0, 1, 2)
            blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 4)
            cells = blob + rng.normal(0, 0.15, GRID)
            if label == marked and i % 10 < 3:
                cells[7, 7] += strength
            found.append((label, cells.astype(np.float32)))
    return found


def write_predictions(
    folder: Path, marked: str, strength: float = 12, drawn: bool = False, names: Any = LABELS
) -> Path:
    """Predictions as ``se-zoo predict`` would write them, and their photos of noise.

    The photos of the maps with the mark show it only where it is ``drawn``.
    """
    rng = np.random.default_rng(1)
    photos, out = folder / "photos", folder / "out"
    photos.mkdir(parents=True)
    out.mkdir()
    rows = []
    for i, (label, cells) in enumerate(maps(marked, strength=strength)):
        pixels = rng.integers(0, 256, (5, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        if drawn and label == marked and i % 10 < 3:
            pixels[30:36, 30:36] = (255, 0, 255)  # the model saw the pixels from 4 to 36
        Image.fromarray(pixels).save(photos / f"{i:04d}.png")
        index = LABELS.index(label)
        rows.append({
            "id": f"{i:04d}.png", "error": None, "region": [4, 4, 36, 36],
            "top": [{"class": index, "label": names[index], "probability": 0.75}],
            "target": [index], "label": [names[index]], "probability": [0.75], "versus": None,
            "constant": [0.0], "map": [cells.ravel().astype(np.float16).tolist()],
            "grid": list(GRID), "exact": True, "weights": "folded", "gate": None,
        })  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema()), out / "part-00000-000000.parquet")
    model = {
        "model": "a model", "method": "contribution", "label_names": list(names),
        "multi_label": False, "thresholds": None, "map_offset": [0.0, 0.0], "num_classes": 4,
        "preprocessing": {"input_size": [3, 32, 32], "interpolation": "bicubic", "crop_pct": 0.8,
                          "crop_mode": "center", "mean": [0.5] * 3, "std": [0.5] * 3},
    }  # fmt: skip
    facts = {"format": 1, "model": model, "rows": {"batch_size": 64, "rows_per_file": 1024},
             "source": open_source(str(photos)).facts()}  # fmt: skip
    info = {"source": str(photos), "source_options": SourceOptions()._asdict()}
    (out / "predict.json").write_text(json.dumps({"facts": facts, "info": info}))
    (out / "complete.json").write_text(json.dumps({"rows": len(rows)}))
    return out


@pytest.fixture(scope="module")
def marked(tmp_path_factory: Any) -> Path:
    return write_predictions(tmp_path_factory.mktemp("marked"), "cat")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: Any) -> Path:
    return write_predictions(tmp_path_factory.mktemp("clean"), "")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: Any) -> Path:
    """Two classes are called cat, and photos of the first one show a mark."""
    names = ("cat", "bee", "cat", "dog")
    return write_predictions(tmp_path_factory.mktemp("twins"), "ant", drawn=True, names=names)


class Page(HTMLParser):
    """Headings, pictures and everything that a page would load."""

    def __init__(self, text: str):
        super().__init__()
        self.images: List[str] = []
        self.tags: List[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Any]]) -> None:
        found: Dict[str, Any] = dict(attrs)
        self.tags.append(tag)
        if tag == "img":
            self.images.append(found["src"])
        assert tag != "link" and not found.get("href", "").startswith("http")


def test_planted_corner_is_named_first_with_its_cluster(marked: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    found = write_report(marked, out)
    assert [(s.label, s.corner) for s in found.suspects] == [("cat", "bottom right")]
    assert found.photos == 240 and found.labels == 4
    text = out.read_text("utf-8")
    page = Page(text)
    assert "cat: bottom right corner." in text and "script" not in page.tags
    sections = re.findall(r"<h2>(.*?)</h2>", text)
    assert sections[1] == "cat" and sorted(sections[1:]) == list(LABELS)
    cat = text.split("<h2>cat</h2>")[1].split("<h2>")[0]
    assert re.search(r"Cluster \d of \d: 30 %", cat), "the marked photos are a cluster"
    assert len(page.images) > 4 * 10
    assert all(url.startswith("data:image/png;base64,") for url in page.images)


@pytest.mark.parametrize("drawn", [True, False])
def test_weak_lead_is_named_where_the_photos_show_the_same(drawn: bool, tmp_path: Path) -> None:
    folder = write_predictions(tmp_path, "cat", strength=1.5, drawn=drawn)
    out = tmp_path / "report.html"
    found = write_report(folder, out, most_labels=1)
    assert [(s.label, s.corner) for s in found.suspects] == [("cat", "bottom right")] * drawn
    text = " ".join(out.read_text("utf-8").split())
    assert ("100 % show the same thing there" in text) == drawn
    unseen = write_report(folder, out, most_labels=1, photos=False)
    assert not unseen.suspects and "photos were not looked at" in out.read_text("utf-8")


def test_clean_maps_name_no_label(clean: Path, tmp_path: Path) -> None:
    found = write_report(clean, tmp_path / "report.html", most_labels=1, photos=False)
    assert not found.suspects
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "No label is explained by one corner" in text and text.count("<h2>") == 2


def test_equal_names_are_told_apart_by_their_class(twins: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    found = write_report(twins, out, most_labels=1, photos=False)
    assert [(s.index, s.label) for s in found.suspects] == [(0, "cat (0)")]
    text = out.read_text("utf-8")
    assert "cat (0): bottom right corner." in text and "<h2>cat (0)</h2>" in text
    assert all(f"<td>{name}</td>" in text for name in ("cat (0)", "bee", "cat (2)", "dog"))


def test_single_label_is_judged_by_its_photos_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    one, out = write_predictions(tmp_path / "ants", "ant", drawn=True), tmp_path / "report.html"
    table = pq.read_table(one / "part-00000-000000.parquet")
    pq.write_table(table.slice(0, EACH), one / "part-00000-000000.parquet")
    found = write_report(one, out, most_labels=1)
    assert [(s.label, s.corner) for s in found.suspects] == [("ant", "bottom right")]
    text = " ".join(out.read_text("utf-8").split())
    assert "100 % show the same thing there" in text and "times the spread" not in text
    cli.main(["report", str(one), "--out", str(out), "--no-photos"])
    assert "; nothing could be judged" in capsys.readouterr().out
    assert "Nothing could be judged: ant" in out.read_text("utf-8")


def test_page_says_that_rows_of_a_finished_run_are_missing(clean: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "out", tmp_path / "report.html"
    shutil.copytree(clean, folder)
    write_report(folder, out, most_labels=1, photos=False)
    assert "not complete" not in out.read_text("utf-8")
    table = pq.read_table(folder / "part-00000-000000.parquet")
    pq.write_table(table.slice(0, 200), folder / "part-00000-000000.parquet")
    write_report(folder, out, most_labels=1, photos=False)
    assert "200 photos so far; the predictions are not complete" in out.read_text("utf-8")


def test_photos_that_moved_are_an_error_and_maps_alone_are_not(clean: Path, tmp_path: Path) -> None:
    moved = tmp_path / "out"
    shutil.copytree(clean, moved)
    manifest = json.loads((moved / "predict.json").read_text())
    manifest["info"]["source"] = str(tmp_path / "gone")
    (moved / "predict.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidInputError, match="no such file"):
        write_report(moved, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
    write_report(moved, tmp_path / "report.html", photos=False)


def test_command_writes_the_page_and_prints_the_suspect(
    marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("id,region,x0,y0,x1,y1\n0000.png,wing,4,4,20,36\n")
    cli.main(["report", str(marked), "--out", str(tmp_path / "r.html"), "--boxes", str(boxes),
              "--no-photos"])  # fmt: skip
    assert "suspicious: cat, bottom right corner" in capsys.readouterr().out
    assert "<th>wing</th>" in (tmp_path / "r.html").read_text("utf-8")


def test_places_and_numbers_that_cannot_be_are_refused(clean: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is a folder; name a file"):
        cli.main(["report", str(clean), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="--labels must be 0 or more"):
        cli.main(["report", str(clean), "--labels=-1"])


def test_labels_with_few_photos_are_not_judged(clean: Path, tmp_path: Path) -> None:
    few = tmp_path / "out"
    shutil.copytree(clean, few)
    table = pq.read_table(few / "part-00000-000000.parquet")
    pq.write_table(table.slice(0, 70), few / "part-00000-000000.parquet")
    found = write_report(few, tmp_path / "report.html", photos=False)
    assert found.labels == 1 and "left out: bee" in (tmp_path / "report.html").read_text("utf-8")
    assert "left out: bee (10 photos)." in (tmp_path / "report.html").read_text("utf-8")
    pq.write_table(table.slice(0, 9), few / "part-00000-000000.parquet")
    with pytest.raises(InvalidInputError, match="20 photos or more"):
        write_report(few, tmp_path / "report.html")


def with_rows(folder: Path, out: Path, change: Any) -> Path:
    """A copy of a folder of predictions whose rows are ``change`` of the old ones."""
    shutil.copytree(folder, out)
    file = out / "part-00000-000000.parquet"
    rows = change(pq.read_table(file).to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, schema()), file)
    (out / "complete.json").write_text(json.dumps({"rows": len(rows)}))
    return out


def without_evidence(row: Dict[str, Any], probability: float) -> Dict[str, Any]:
    """A row with a map that is below zero everywhere."""
    below = np.linspace(-2, -1, GRID[0] * GRID[1]).astype(np.float16)
    return {**row, "map": [list(below)], "probability": [probability]}


def test_photos_with_empty_maps_are_counted_and_named(clean: Path, tmp_path: Path) -> None:
    def change(rows: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        return [without_evidence(row, 0.5 + i / 100) for i, row in enumerate(rows[:25])] + rows[25:]

    folder, out = with_rows(clean, tmp_path / "out", change), tmp_path / "report.html"
    write_report(folder, out, most_labels=1, photos=False)
    text = " ".join(out.read_text("utf-8").split())
    assert "60 photos, 25 of them with an empty map; clusters and pictures are of 35 of" in text
    assert "<td>ant</td><td>60</td> <td>25</td>" in text
    names = ", ".join(f"{i:04d}.png" for i in range(24, 4, -1))  # the most probable first
    assert f"{names} and 5 more." in text
    write_report(folder, out, most_labels=1)
    drawn = out.read_text("utf-8").split("Predicted with an empty map")[1]
    assert re.findall('alt="(.*?)"', drawn) == [f"{i:04d}.png" for i in range(24, 18, -1)]
    assert "then 0018.png" in drawn


def test_label_with_empty_maps_alone_is_not_lost(clean: Path, tmp_path: Path) -> None:
    def change(rows: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        return [without_evidence(row, 0.9) for row in rows[:EACH]] + rows[EACH : 2 * EACH]

    folder, out = with_rows(clean, tmp_path / "out", change), tmp_path / "report.html"
    assert write_report(folder, out, photos=False).labels == 1
    text = out.read_text("utf-8")
    assert "left out: ant (60 photos, 60 of them with an empty map)." in text


@pytest.mark.parametrize(
    ("rows", "complete", "message"),
    [
        (0, False, "has no rows yet; give the `se-zoo predict` command"),
        (0, True, "has no rows: its data set has no photos"),
        (5, False, r"photos or more, in the 5 rows so far: ant \(5 photos\) comes nearest"),
        (5, True, r"20 photos or more: of 5 rows, ant \(5 photos\) comes nearest\. A report needs"),
    ],
)
def test_folder_without_a_frequent_label_says_why(
    clean: Path, tmp_path: Path, rows: int, complete: bool, message: str
) -> None:
    folder = with_rows(clean, tmp_path / "out", lambda found: found[:rows])
    if not complete:
        (folder / "complete.json").unlink()
    with pytest.raises(InvalidInputError, match=message):
        write_report(folder, tmp_path / "report.html", photos=False)


def test_folder_of_errors_says_so(clean: Path, tmp_path: Path) -> None:
    def change(rows: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        lists = ("top", "target", "label", "probability", "constant", "map")
        return [{**row, **dict.fromkeys(lists), "error": "no disk"} for row in rows[:30]]

    folder = with_rows(clean, tmp_path / "out", change)
    with pytest.raises(InvalidInputError, match=r"no photo of .* \(30 rows\); .* error: no disk"):
        write_report(folder, tmp_path / "report.html", photos=False)


@pytest.mark.parametrize(
    ("method", "says"),
    [("contribution", "Red speaks for the label, blue against it."),
     ("class_gate", "Red is where the map of the label is strong."),
     ("gate", "Red is where the map is strong, whatever the label.")],
)  # fmt: skip
def test_page_explains_the_colours_of_its_method(
    clean: Path, tmp_path: Path, method: str, says: str
) -> None:
    folder = with_rows(clean, tmp_path / "out", lambda rows: rows[:EACH])
    manifest = json.loads((folder / "predict.json").read_text())
    manifest["facts"]["model"]["method"] = method
    (folder / "predict.json").write_text(json.dumps(manifest))
    write_report(folder, tmp_path / "report.html", most_labels=0)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert says in text and ("blue" in text) == (method == "contribution")


@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (16, 13)])
def test_regions_have_their_areas_on_every_grid(grid: Tuple[int, int]) -> None:
    areas = {name: weights.mean() for name, weights in fixed_regions(even_cells(grid)).items()}
    expected = dict.fromkeys(["top left", "top right", "bottom left", "bottom right"], 1 / 16)
    assert areas == pytest.approx({**expected, "border": 7 / 16, "centre": 1 / 4})
    corner = fixed_regions(even_cells(grid))["bottom left"]
    assert corner[-1, 0] == pytest.approx(1) and corner[0].sum() == 0 and corner[:, -1].sum() == 0


def test_evidence_is_what_speaks_for_the_class() -> None:
    raw = np.array([[1.0, -5.0], [3.0, 0.0]])
    found = evidence_share(raw, from_zero=True)
    assert found is not None and found[0].tolist() == [[0.25, 0], [0.75, 0]] and found[1] == 4
    stretched = evidence_share(raw, from_zero=False)
    assert stretched is not None and stretched[0][0, 1] == 0 and stretched[1] == 19
    assert stretched[0].sum() == pytest.approx(1)
    assert evidence_share(-np.ones((2, 2)), from_zero=True) is None


@pytest.mark.parametrize(
    ("method", "share"), [("contribution", 1), ("support", 1), ("class_gate", 1), ("gate", 4 / 18)]
)
def test_evidence_begins_where_the_heatmap_of_the_method_does(method: str, share: float) -> None:
    raw = np.zeros((4, 4), np.float32)
    raw[0, 0], raw[3, 3] = 3, -1
    [label] = collect([row_of(raw)], {**MODEL, "method": method})
    assert label.mean[0, 0] == pytest.approx(share)


@pytest.mark.parametrize("marked", [True, False])
def test_mark_that_raises_the_cells_around_it_is_found(marked: bool) -> None:
    """What a mark of 4 px added to maps of a model of CIFAR-10, most of it beside its corner."""
    added = np.array([[0.5, 1.3, 1.4, 0.5], [2.4, 4.1, 3.5, 1.4], [5.6, 8.4, 5.8, 1.4],
                      [7.8, 13.5, 5.0, 0.6]])  # fmt: skip
    rng = np.random.default_rng(0)
    labels = [LabelMaps(index, f"label {index}") for index in range(10)]
    for label, i in itertools.product(labels, range(300)):
        cells = rng.gamma(1.0, 2.0, (4, 4)) + (marked and label.index == 3 and i % 10 < 3) * added
        evidence = evidence_share(cells, from_zero=True)
        assert evidence is not None
        row: Any = SimpleNamespace(id=f"{label.index} {i}", place=(0, i))
        label.add(row, *evidence, {})
    first, *others = find_suspects(labels)
    assert not any(other.suspicious for other in others)
    if marked:
        assert (first.label, first.corner) == ("label 3", "bottom left")
        assert first.spreads > 2 * others[0].spreads
    else:
        assert not first.suspicious


def test_boxes_and_masks_are_laid_on_what_the_model_saw(tmp_path: Path) -> None:
    """The model saw the middle of a photo of 8 x 4 pixels."""
    (tmp_path / "b.csv").write_text("id,region,x0,y0,x1,y1\na,dog,4,0,6,2\na,dog,4,2,6,4\n")
    boxes = Boxes(tmp_path / "b.csv")
    cells = even_cells((2, 2))
    assert boxes.of("a", (2, 0, 6, 4), cells)["dog"].tolist() == [[0, 1], [0, 1]]
    assert boxes.of("b", (2, 0, 6, 4), cells) == {}
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, 4:] = 1
    (tmp_path / "masks" / "x").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "masks" / "x" / "a.png")
    (tmp_path / "masks" / "classes.json").write_text('{"0": "other", "1": "dog"}')
    found = Masks(tmp_path / "masks").of("x/a.jpg", (2, 0, 6, 4), cells)
    assert {k: v.tolist() for k, v in found.items()} == {
        "other": [[1, 0], [1, 0]], "dog": [[0, 1], [0, 1]]
    }  # fmt: skip
    assert box_weights((0, 0, 0.25, 1), even_cells((1, 2))).tolist() == [[0.5, 0]]


def test_masks_are_named_like_the_photos(tmp_path: Path) -> None:
    files = ("train.parquet#16", "train.parquet#17", "cam.01", "cam.02", "x")
    for number, name in enumerate(files):
        Image.new("L", (4, 4), number).save(tmp_path / f"{name}.png")
    ids = ("train.parquet#16", "train.parquet#17", "cam.01.jpg", "cam.02", "x.JPEG")
    masks = Masks(tmp_path)
    found = [list(masks.of(name, (0, 0, 4, 4), even_cells((2, 2)))) for name in ids]
    assert found == [["0"], ["1"], ["2"], ["3"], ["4"]]


@pytest.mark.parametrize(
    ("kind", "palette"), [(bool, False), (np.uint8, False), (np.uint8, True), (np.uint16, False)]
)
def test_masks_have_one_channel_of_any_kind(kind: Any, palette: bool, tmp_path: Path) -> None:
    pixels = np.zeros((4, 8), kind)
    pixels[:, 4:] = 1
    mask = Image.fromarray(pixels)
    if palette:
        mask.putpalette([0, 0, 0, 255, 0, 0])
    mask.save(tmp_path / "a.png")
    found = Masks(tmp_path).of("a", (2, 0, 6, 4), even_cells((1, 2)))
    assert {k: v.tolist() for k, v in found.items()} == {"0": [[1, 0]], "1": [[0, 1]]}


@pytest.mark.parametrize(
    ("mode", "size", "message"),
    [
        ("RGB", (200, 100), "pixels of mode RGB; a mask has one channel"),
        ("L", (180, 100), "180 x 100 pixels, and its photo about 200 x 100"),
        ("L", (200, 94), "200 x 94 pixels"),
        ("L", (400, 200), "needs the size of the upright photo"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    mode: str, size: Tuple[int, int], message: str, tmp_path: Path
) -> None:
    Image.new(mode, size).save(tmp_path / "a.png")
    with pytest.raises(InvalidInputError, match=message):
        Masks(tmp_path).of("a", (50, 0, 150, 100), even_cells((2, 2)))


@pytest.mark.parametrize("cut", [0, 40, -200])
def test_damaged_masks_are_named(cut: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 9, (60, 80), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:cut])
    with pytest.raises(InvalidInputError, match=r"a\.png is no mask: "):
        Masks(tmp_path).of("a", (10, 0, 70, 60), even_cells((2, 2)))


@pytest.mark.parametrize("text", ["", "[", "7", '{"a": "b"}', '{"a": null}'])
def test_names_of_classes_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"classes\.json must be a list of names, or an"):
        Masks(tmp_path)


def test_masks_fit_photos_that_the_model_saw_with_padding(tmp_path: Path) -> None:
    Image.new("L", (100, 60)).save(tmp_path / "a.png")
    found = Masks(tmp_path).of("a", (0, -20.2, 100, 79.8), even_cells((2, 2)))
    assert list(found) == ["0"]


def test_regions_of_other_photos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("id,region,x0,y0,x1,y1\nphotos/a.jpg,dog,4,0,6,2\n")
    Image.new("L", (8, 4)).save(tmp_path / "b.png")
    raw, boxes, masks = np.ones((2, 2), np.float32), Boxes(tmp_path / "b.csv"), Masks(tmp_path)
    with pytest.raises(InvalidInputError, match=r"it has 'photos/a\.jpg', and the rows have ids"):
        collect([row_of(raw, "a.jpg")], MODEL, [boxes])
    with pytest.raises(InvalidInputError, match=r"that of 'a\.jpg' would be .*a\.png"):
        collect([row_of(raw, "a.jpg")], MODEL, [masks])
    other = row_of(raw, "photos/a.jpg", predicted=1)  # a row that the report leaves out
    assert len(collect([other, row_of(raw, "b.jpg")], MODEL, [boxes, masks])) == 1


def test_cells_that_do_not_tile_the_input_and_maps_that_are_moved() -> None:
    model = {"preprocessing": {"input_size": [3, 72, 72]}, "cells": [32, 32], "map_offset": [8, 0]}
    cells = cells_of((3, 3), model)
    assert (cells.rows * 72).tolist() == [0, 32, 64, 96]
    assert (cells.columns * 72).tolist() == [-8, 24, 56, 88]
    whole = box_weights((0, 0, 1, 1), cells)
    assert whole[0].tolist() == pytest.approx([24 / 32, 1, 16 / 32])
    assert whole[:, 1].tolist() == pytest.approx([1, 1, 8 / 32])
    regions = fixed_regions(cells)
    assert (regions["border"] <= whole + 1e-9).all()
    assert regions["top left"][0, 0] == pytest.approx(18 / 32 * 18 / 32)


def test_last_cell_reaches_to_the_edge_as_in_the_heatmap() -> None:
    """Those of se_zoo/convnext_atto_celeba end before a right corner begins."""
    model = {"preprocessing": {"input_size": [3, 128, 104]}, "cells": [16, 16],
             "map_offset": [19.44, 19.44]}  # fmt: skip
    cells, raw = cells_of((8, 6), model), torch.zeros(1, 8, 6)
    raw[0, :, -1] = 1
    placement = stored_placement(model, (8, 6))
    heatmap = to_heatmap(raw, True, "image", (128, 104), placement)[0]
    assert float(heatmap[:, 78:].min()) > 0.99
    regions = fixed_regions(cells)
    assert cells.rows[-1] == cells.columns[-1] == 1 and cells.columns[0] < 0
    assert regions["top right"][:, -1].max() == pytest.approx(26 / 43)
    assert regions["bottom right"][-1, -1] == pytest.approx(26 / 43 * 32 / 35)


def test_mean_map_is_drawn_where_its_cells_lie() -> None:
    share, even = np.zeros((2, 4)), even_cells((2, 4))
    share[:, 1] = 0.5

    def bright(cells: Cells) -> List[int]:
        png = base64.b64decode(mean_map(share, (64, 64), cells).split(",")[1])
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        assert pixels.shape == (128, 128)
        return np.flatnonzero(pixels[0] > 100).tolist()

    assert bright(even) == list(range(32, 64))
    assert bright(even._replace(columns=even.columns - 0.25)) == list(range(32))
    assert bright(even._replace(columns=even.columns / 2)) == list(range(16, 32))


def test_boxes_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    text = "id,region,x0,y0,x1,y1\na,dog,4,0,6,2\n"
    (tmp_path / "b.csv").write_text(text, encoding="utf-8-sig")
    assert Boxes(tmp_path / "b.csv").has("a")


def test_regions_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    row, file = row_of(np.ones((2, 2), np.float32), "a.jpg"), tmp_path / "b.csv"
    Image.new("L", (8, 4)).save(tmp_path / "a.png")
    (tmp_path / "classes.json").write_text('["dog"]')
    for name in ("centre", "dog"):
        file.write_text(f"id,region,x0,y0,x1,y1\na.jpg,{name},0,0,6,2\n")
        with pytest.raises(InvalidInputError, match=rf"a\.jpg has two regions '{name}'"):
            collect([row], MODEL, [Boxes(file), Masks(tmp_path)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "must be a csv with the columns"),
        ("region,x0,y0,x1,y1\ndog,4,0,6,2\n", r"right, bottom\): it lacks id$"),
        ("id,region,x0,y0,x1,y1\na,dog,4\n", r"bottom\): line 2 has too few cells$"),
        ("id,region,x0,y0,x1,y1\na,dog,4,0,6,z\n", r"bottom\): could not convert .* 'z'$"),
        ("id,region,x0,y0,x1,y1\na,dog,6,0,4,2\n", r"a box of a has \[6\.0, 0\.0, 4\.0, 2\.0\]"),
        ("id,region,x0,y0,x1,y1\na,dog,0,0,nan,2\n", r"a box of a has \[0\.0, 0\.0, nan, 2\.0\]"),
        (None, "No such file"),
    ],
)
def test_bad_boxes_are_refused(tmp_path: Path, text: Any, message: str) -> None:
    if text:
        (tmp_path / "b.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        Boxes(tmp_path / "b.csv")
    with pytest.raises(InvalidInputError, match="no folder of masks"):
        Masks(tmp_path / "none")


def test_groups_find_the_odd_maps(marked: Path) -> None:
    shares = [evidence_share(cells, True) for label, cells in maps("cat") if label == "cat"]
    groups = group_maps([s[0] for s in shares if s is not None])
    odd = {i for i in range(EACH) if i % 10 < 3}
    assert any(set(cluster.tolist()) == odd for cluster in groups.clusters)
    assert sorted(np.concatenate(groups.clusters).tolist()) == list(range(EACH))
    alone = [s[0] for s in shares[3:10] if s is not None] + [np.eye(8) / 8]
    assert group_maps(alone).unlike[0] == 7
