"""The bench of explanations: its statistics by hand, and the recipe as a command."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import se_zoo
from se_zoo.errors import DataError, InvalidInputError, SEZooError
from se_zoo.explanations.methods import offered_methods
from se_zoo.explanations.quality.cases import Cases, draw
from se_zoo.explanations.quality.compare import Settings
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES

from .data_sets import cell
from .preloaded import run_python
from .tester import randomise

ROOT = Path(__file__).parents[1]

map_cases = pytest.importorskip("benchmarks.map_cases", reason="the recipes need the extra train")
import benchmarks.maps as recipe  # noqa: E402
from benchmarks import cost, face_cases, map_presets  # noqa: E402
from benchmarks import map_report as report  # noqa: E402

KEYS = ("set", "method", "measure", "cases")
LIGHT = ("contribution", "gate", "activation", "centre")


def covered(groups: List[str], spread: float, runs: int) -> float:
    """How often the 95 % interval of the mean holds the truth, 0, of normal scores."""
    random = np.random.default_rng(0)
    inside = 0
    bootstrap = report.Bootstrap(case_set(groups, list(range(len(groups)))), 400)
    for _ in range(runs):
        values = {str(n): float(v) for n, v in enumerate(random.normal(0, spread, len(groups)))}
        found = bootstrap.mean("energy", values)
        inside += found.low <= 0 <= found.high
    return inside / runs


@pytest.mark.parametrize(
    "groups", [[str(n) for n in range(24)] + list("01234567"), [str(n % 24) for n in range(240)]],
    ids=["mostly of one case", "of ten cases"],
)  # fmt: skip
def test_intervals_hold_the_truth_as_often_as_they_say(groups: List[str]) -> None:
    assert covered(groups, 1.0, 200) > 0.9


def case_set(groups: List[str], images: List[int]) -> Any:
    count = len(groups)
    cases = Cases(torch.zeros(count, 3, 4, 4), torch.zeros(count), None, None, range(count))
    return map_cases.CaseSet("made", torch.nn.Identity(), cases, groups, images)


def test_groups_weigh_alike() -> None:
    groups = ["hat", "hat", "hat", "nose", "lips"]
    found = report.Bootstrap(case_set(groups, [0, 1, 2, 3, 4]), 200).mean(
        "energy", {"0": 1.0, "1": 1.0, "2": 4.0, "3": 6.0, "4": 1.0}
    )
    assert found.mean == pytest.approx((2 + 6 + 1) / 3) and found.cases == 5
    assert found.low is not None and found.high is not None
    assert found.low < found.mean < found.high


def test_cases_of_one_image_are_drawn_together() -> None:
    """Sixty cases of six images are not sixty observations."""
    values = {str(n): float(n % 2) for n in range(60)}
    together = report.Bootstrap(case_set([""] * 60, [n % 6 for n in range(60)]), 400)
    apart = report.Bootstrap(case_set([""] * 60, list(range(60))), 400)
    lows = [b.mean("pointing", values).low for b in (together, apart)]
    assert lows[0] < 0.2 and 0.3 < lows[1] < 0.5  # type: ignore[operator]


def test_few_images_have_no_interval_and_no_mark() -> None:
    found = case_set([""] * 4, [0, 1, 2, 3])
    scores = {"contribution": {"energy": dict.fromkeys("0123", 1.0)},
              "gate": {"energy": dict.fromkeys("0123", 2.0)}}  # fmt: skip
    rows = report.summarise(found, scores, 50)
    assert all(row["low"] is None and row["high"] is None for row in rows)
    assert report.verdict(rows[1]) == "" and "+" not in report.quality_table(rows, ["gate"])
    more = {m: {"energy": {**t["energy"], "4": 1.5}} for m, t in scores.items()}
    *_, row = report.summarise(case_set([""] * 5, list(range(5))), more, 50)
    assert row["low"] is not None


def test_what_differs_between_groups_is_no_uncertainty() -> None:
    """Attributes weigh alike in every resample, so their own levels cannot widen the interval."""
    groups = [name for name in "abcdef" for _ in range(20)]
    bootstrap = report.Bootstrap(case_set(groups, list(range(120))), 300)
    found = bootstrap.mean("energy", {str(n): float(ord(g)) for n, g in enumerate(groups)})
    assert found.mean == pytest.approx(99.5) and found.high - found.low < 1e-9


def test_differences_are_paired() -> None:
    bootstrap = report.Bootstrap(case_set([""] * 20, list(range(20))), 400)
    noise = np.random.default_rng(1).normal(size=20)
    ours = {str(n): float(v) for n, v in enumerate(noise)}
    theirs = {n: v + 0.1 for n, v in ours.items() if int(n) < 12}
    found = bootstrap.difference("road", theirs, ours)
    assert found.mean == pytest.approx(0.1) and found.low == pytest.approx(0.1)
    assert found.cases == 12, "those that both have"
    assert bootstrap.difference("road", {}, ours) is None
    row = {"measure": "road", "difference_low": found.low, "difference_high": found.high}
    assert report.verdict(row) == " +"
    assert report.verdict({**row, "measure": "deletion"}) == " -", "smaller is better"
    assert report.verdict({**row, "difference_low": -0.2}) == ""


def test_box_accuracy_is_of_the_set() -> None:
    bootstrap = report.Bootstrap(case_set([""] * 3, [0, 1, 2]), 50)
    ious = {"0": [0.8, 0.2], "1": [0.1, 0.6], "2": [0.4, 0.35]}
    found = bootstrap.mean("box", ious)
    assert found.mean == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures with a label and a box; and a small model with these labels."""
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    model: Any = timm.create_model(
        "timm_sehead", backbone="test_resnet", num_classes=40, gate="sigmoid", multi_label=True
    )
    model.pretrained_cfg["input_size"] = (3, 64, 52)
    se_zoo.save(randomise(model), folder / "model", labels=CELEBA_ATTRIBUTES)
    random = np.random.default_rng(0)
    with (folder / "boxes.csv").open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["image", "label", "x0", "y0", "x1", "y1"])
        for n in range(8):
            pixels = random.integers(0, 255, (60, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((200, 240)).save(folder / f"{n}.png")
            table.writerow([f"{n}.png", ("Smiling", "Bald")[n % 2], 40, 60, 140, 180])
    return folder


def model_of(own: Path) -> str:
    return f"local-dir:{own / 'model'}"


def options(own: Path, output: Path, **changes: Any) -> Any:
    """A small bench of these pictures."""
    settings = Settings(steps=changes.pop("steps", 3), shares=(0.5,))
    return recipe.Own(
        model=model_of(own), csv=own / "boxes.csv", output=output, methods=LIGHT,
        pixel_cases=3, slow_cases=0, chunk=2, resamples=50, settings=settings, **changes,
    )  # fmt: skip


def rows_of(folder: Path) -> List[Dict[str, Any]]:
    rows: List[Dict[str, Any]] = json.loads((folder / "summary.json").read_text())["rows"]
    return rows


@pytest.fixture(scope="module")
def finished(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a bench of them."""
    pytest.importorskip("scipy", reason="boxes need SciPy: extra compare")
    output = tmp_path_factory.mktemp("finished")
    recipe.main(options(own, output))
    return output


def test_own_images(own: Path, finished: Path) -> None:
    """Tables and pictures; a second call does nothing twice; a lost piece comes back the same."""
    folder = finished / "own"
    assert "## boxes: 8 cases of 8 images" in (folder / "table.md").read_text()
    names = {file.name for file in folder.iterdir()}
    assert {"table.md", "table.csv", "channels.csv", "quality.png", "boxes.png"} <= names
    rows = rows_of(folder)
    assert {row["method"] for row in rows} == set(LIGHT)
    by_key = {(row["method"], row["measure"]): row for row in rows}
    assert by_key["contribution", "energy"]["cases"] == 8
    assert by_key["gate", "insertion"]["cases"] == 3
    assert by_key["activation", "random_classifier"]["mean"] == pytest.approx(1)
    assert by_key["gate", "likeness"]["mean"] < 0.99
    made = {file: file.stat().st_mtime_ns for file in (folder / "boxes" / "scores").iterdir()}
    assert len(made) == 4
    lost = sorted(made)[1]
    content = json.loads(lost.read_text())
    lost.unlink()
    recipe.main(options(own, finished))
    assert json.loads(lost.read_text()) == content and rows_of(folder) == rows
    assert all(file.stat().st_mtime_ns == t for file, t in made.items() if file != lost)
    with pytest.raises(InvalidInputError, match="holds scores of another model"):
        recipe.main(options(own, finished, steps=4))
    # A class by its number, and an image twice.
    more = (own / "boxes.csv").read_text() + "0.png,15,0,0,200,240\n"
    (own / "more.csv").write_text(more)
    twice = map_cases.own_cases(model_of(own), own / "more.csv")
    assert len(twice.groups) == 9 and len(set(twice.images)) == 8
    assert twice.cases.boxes[-1].tolist() == [0, 0, 52, 64]


@pytest.mark.slow
def test_two_processes_give_the_same(own: Path, finished: Path, tmp_path: Path) -> None:
    if torch.__version__.startswith("2.6."):
        pytest.skip("gloo of torch 2.6 can hang")
    command = ["own", "--model", model_of(own), "--csv", str(own / "boxes.csv"),
               "--output", "two", "--methods", *LIGHT, "--pixel-cases", "3", "--slow-cases", "0",
               "--chunk", "2", "--resamples", "50", "--steps", "3", "--shares", "0.5"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         "-m", "benchmarks.maps", *command],
        cwd=tmp_path, text=True, capture_output=True, check=False,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (rows_of(folder / "own") for folder in (finished, tmp_path / "two"))
    for left, right in zip(one, two, strict=True):
        assert [left[key] for key in KEYS] == [right[key] for key in KEYS]
        assert [k for k, v in left.items() if v is None] == [
            k for k, v in right.items() if v is None
        ]
        numbers = [{k: v for k, v in row.items() if k not in KEYS and v is not None}
                   for row in (left, right)]  # fmt: skip
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    "given, says",
    [
        (dict(methods=("GradCAM",)), "there are contribution"),
        (dict(methods=()), "none, or one twice"),
        (dict(chunk=0), "at least 1"),
        (dict(slow_cases=100), "from 0 to --pixel-cases"),
        (dict(settings=Settings(shares=(1.5,))), "between 0 and 1"),
        (dict(settings=Settings(blur=0.0)), "above 0"),
        (dict(methods=("grad-cam/ScoreCAM",), debug=True), "installed|another method"),
        (dict(resamples=0), "at least 1"),
        (dict(csv=Path("none.csv")), "no such file"),
    ],
)
def test_refusals(given: Dict[str, Any], says: str, own: Path, tmp_path: Path) -> None:
    with pytest.raises(SEZooError, match=says):
        recipe.main(replace(options(own, tmp_path), **given))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line, says",
    [
        ("0.png,Smilin,40,60,140,180", "line 2: Unknown label"),
        ("9.png,Smiling,40,60,140,180", "line 2: no such file"),
        ("0.png,Smiling,140,60,140,180", "does not lie in the picture"),
        ("0.png,Smiling,-5,60,140,180", "does not lie in the picture"),
        ("0.png,Smiling,nan,60,140,180", "does not lie in the picture"),
        ("0.png,Smiling,1,1,1.1,1.1", "holds no pixel"),
        ("0.png,Smiling", "line 2: has 2 values for 6 columns"),
        ("0.png,Smiling,40,60,140,180,5", "line 2: has 7 values"),
        ("0.png,Smiling,left,60,140,180", "line 2: x0 is 'left', no number"),
    ],
)
def test_tables_that_cannot_be(line: str, says: str, own: Path) -> None:
    table = own / "wrong.csv"
    table.write_text(f"image,label,x0,y0,x1,y1\n{line}\n")
    with pytest.raises(DataError, match=says):
        map_cases.own_cases(model_of(own), table)
    table.write_text("image,label,x0\n0.png,Smiling,3\n")
    with pytest.raises(DataError, match=r"all of x0 y0 x1 y1 or none.*it has image, label, x0"):
        map_cases.own_cases(model_of(own), table)


def test_a_table_of_a_spreadsheet(own: Path) -> None:
    """They begin it with a mark of the encoding."""
    table = own / "marked.csv"
    table.write_text("\ufeffimage,label\n0.png,Smiling\n", encoding="utf-8")
    assert map_cases.own_cases(model_of(own), table).groups == ["Smiling"]
    table.write_text("image , label\n\n0.png, Smiling\n", encoding="utf-8")
    assert map_cases.own_cases(model_of(own), table).groups == ["Smiling"]
    table.write_bytes("image,label\n0.png,Gr\xfc\xdfe\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"marked\.csv.*UTF-8"):
        map_cases.own_cases(model_of(own), table)


def test_boxes_of_one_label_in_an_image_are_one_case(own: Path) -> None:
    table = own / "two.csv"
    table.write_text(
        "image,label,x0,y0,x1,y1\n0.png,Smiling,0,0,100,240\n0.png,Bangs,0,0,50,120\n"
        "0.png,Smiling,100,0,200,240\n"
    )
    found = map_cases.own_cases(model_of(own), table)
    assert found.groups == ["Smiling", "Bangs"] and found.cases.boxes is None
    repeated = "image,label,x0,y0,x1,y1\n" + 2 * "0.png,Bangs,0,0,50,120\n"
    (own / "repeated.csv").write_text(repeated)
    same = map_cases.own_cases(model_of(own), own / "repeated.csv")
    assert same.groups == ["Bangs"] and same.cases.boxes is not None
    assert found.cases.regions is not None and found.cases.regions[0].all()


def test_presets_need_the_sample_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    faces = recipe.Faces(output=tmp_path, methods=("contribution",))
    monkeypatch.delenv("SE_ZOO_DATA", raising=False)
    with pytest.raises(DataError, match="the preset own"):
        recipe.main(faces)
    monkeypatch.setenv("SE_ZOO_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"has no celeba46k/test.parquet"):
        recipe.main(faces)
    monkeypatch.setenv("SE_ZOO_DATA", "")
    with pytest.raises(DataError, match="set SE_ZOO_DATA"):
        recipe.main(faces)


#: As the sample data numbers the parts.
MASK_CLASSES = [
    "background", "skin", "nose", "eye_glasses", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear",
    "r_ear", "mouth", "u_lip", "l_lip", "hair", "hat", "ear_ring", "necklace", "neck", "cloth",
]  # fmt: skip


def painted(mask: np.ndarray, part: int) -> Image.Image:
    """A black picture in which one part of a mask is white."""
    return Image.fromarray(np.where(mask == part, 255, 0).astype(np.uint8)).convert("RGB")


def face_mask() -> np.ndarray:
    """Hair above a nose, and unknown at the left; more than twice the model's input."""
    mask = np.zeros((290, 230), np.uint8)
    mask[20:90, 60:200], mask[150:190, 110:140], mask[:, :40] = 13, 2, 255
    return mask


def test_masks_lie_where_the_model_sees_the_parts() -> None:
    model: Any = timm.create_model("se_zoo/resnet18_slim_celeba", pretrained=True)
    mask = face_mask()
    parts = map_cases.mask_transform_of(model)(Image.fromarray(mask))
    assert parts.shape == (128, 104) and sorted(set(parts.flatten().tolist())) == [0, 2, 13, 255]
    for part in (2, 13, 255):
        image = map_cases.transform_of(model)(painted(mask, part))[0]
        white = (image - image.min()) / (image.max() - image.min()) > 0.5
        both, either = ((parts == part) & white).sum(), ((parts == part) | white).sum()
        # No more than a part of a pixel at the edges, which are drawn smoothly in the picture.
        assert both / either > 0.88, part


@pytest.fixture
def celeba_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three made up faces as the sample data has them, and a model that says everything of all."""
    import pyarrow
    import pyarrow.parquet as parquet

    folder = tmp_path / "celeba_parts"
    folder.mkdir()
    bald = np.where(face_mask() == 13, 0, face_mask()).astype(np.uint8)
    masks = [face_mask(), bald, face_mask()]
    columns: Dict[str, List[Any]] = {
        "image": [cell(painted(mask, 2).resize((115, 145))) for mask in masks],
        "mask": [cell(mask) for mask in masks],
        "split": ["train", "valid", "test"],
        **{name: [False] * 3 for name in face_cases.CELEBA_PARTS},
    }
    columns.update(Big_Nose=[True, True, False], Blond_Hair=[True] * 3)
    parquet.write_table(pyarrow.table(columns), folder / "parts.parquet")
    (folder / "classes.json").write_text(json.dumps(MASK_CLASSES))
    model: Any = timm.create_model("se_zoo/resnet18_slim_celeba", pretrained=True).eval()
    with torch.no_grad():
        model.get_classifier().bias.fill_(1000)
    monkeypatch.setattr(face_cases, "load_to_explain", lambda name: model)
    monkeypatch.setenv("SE_ZOO_DATA", str(tmp_path))
    return folder


def test_part_cases_are_of_attributes_that_are_there(celeba_parts: Path) -> None:
    """The second face has no hair, the third no big nose; at the left nothing is known."""
    found = face_cases.celeba_part_cases("any", ("train", "valid", "test"))
    cases = list(zip(found.groups, found.images, strict=True))
    assert cases == [("Big_Nose", 0), ("Big_Nose", 1), ("Blond_Hair", 0), ("Blond_Hair", 2)]
    regions, known = found.cases.regions, found.cases.known
    assert known[0, :, 20:].all() and not known[0, :, :17].any()
    rows, columns = regions[2].nonzero().T
    # Pixels 20 to 90 of 290 and 60 to 200 of 230, in 128 x 104.
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == [9, 39, 27, 89]
    assert not (regions & ~known).any() and found.cases.boxes is None


def test_part_cases_of_some_splits(celeba_parts: Path) -> None:
    assert face_cases.celeba_part_cases("any", ("valid", "test")).images == [1, 2]
    with pytest.raises(DataError, match="no images of the splits holdout"):
        face_cases.celeba_part_cases("any", ("holdout",))


@pytest.mark.data
def test_part_cases_of_celeba(data_dir: Path) -> None:
    """Whatever an attribute is about is known, and none of it is lost at the model's size."""
    found = face_cases.celeba_part_cases("se_zoo/resnet18_slim_celeba", ("valid", "test"))
    regions, known = found.cases.regions, found.cases.known
    assert len(set(found.images)) > 25 and len(set(found.groups)) >= 10
    assert not (regions & ~known).any() and 0.55 < known.float().mean() < 0.8
    heights = {name: [] for name in ("Black_Hair", "Smiling")}  # of the parts, 0 at the top
    for group, region in zip(found.groups, regions, strict=True):
        if group in heights:
            heights[group].append(float(region.nonzero()[:, 0].float().mean()) / region.shape[0])
    hair, mouth = (float(np.mean(values)) for values in heights.values())
    assert 0.25 < hair < 0.5 and mouth == pytest.approx(0.71, abs=0.03)


def test_rivals_are_left_out_for_independent_labels(capsys: pytest.CaptureFixture) -> None:
    cases = Cases(torch.zeros(1, 3, 64, 64), torch.zeros(1).long(), None, None, [0])
    for multi_label, kept in ((True, ("contribution",)), (False, ("contribution", "rivals"))):
        model: Any = timm.create_model(
            "timm_sehead", backbone="test_resnet", num_classes=3, multi_label=multi_label
        )
        found = map_cases.CaseSet("made", model, cases, [""], [0])
        given = map_presets.Own(model="m", csv=Path("c"), methods=("contribution", "rivals"))
        assert map_presets.offered(given, [found]).methods == kept
        assert ("without rivals" in capsys.readouterr().err) == multi_label
        alone = replace(given, methods=("rivals",))
        if multi_label:
            with pytest.raises(InvalidInputError, match="none of these maps"):
                map_presets.offered(alone, [found])
            capsys.readouterr()


def test_methods_that_have_no_map_of_a_class_token_are_left_out(
    own: Path, capsys: pytest.CaptureFixture
) -> None:
    need_peers()
    model = timm.create_model("timm_sehead", backbone="test_vit", num_classes=2)
    cases = Cases(torch.randn(1, 3, 160, 160), torch.tensor([1]), None, None, (0,))
    found = map_cases.CaseSet("made", model.eval(), cases, [""], [0])
    given = replace(
        options(own, own), methods=("contribution", "grad-cam/GradCAM", "captum/Occlusion")
    )
    assert map_presets.offered(given, [found]).methods == ("contribution", "captum/Occlusion")
    assert "without grad-cam/GradCAM" in capsys.readouterr().err
    tokens = ("torch-cam/LeGrad", "torch/rollout")
    assert map_presets.offered(replace(given, methods=tokens), [found]).methods == tokens
    with pytest.raises(InvalidInputError, match="none of these maps"):
        map_presets.offered(replace(given, methods=("grad-cam/GradCAM",)), [found])
    with pytest.raises(InvalidInputError, match="160 x 160 pixels"):
        recipe.check_sets(replace(given, settings=Settings(shift=160)), [found])


def in_a_fork(command: List[str], **options: Any) -> Any:
    """What subprocess.run gives, without the seconds of importing."""
    return run_python(*command[1:], cwd=options["cwd"], env=options["env"])


def need_peers() -> None:
    for package in ("captum", "pytorch_grad_cam"):
        pytest.importorskip(package, reason="extra compare")


def test_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = cost.Cost(
        tmp_path / "cost", ("test_resnet",), (1,), ("captum/LayerGradCam", "grad-cam/ScoreCAM"),
        runs=1, threads=1, memory_runs=0,
    )  # fmt: skip
    need_peers()
    threads = torch.get_num_threads()
    try:
        cost.run_cost(given)
        (row,) = json.loads((tmp_path / "cost" / "cost.json").read_text())["rows"]
        sides = row["sides"]
        assert list(sides) == ["plain", *offered_methods(False, 1000), *given.peers]
        assert sides["plain"]["ratio"] == 1 and sides["grad-cam/ScoreCAM"]["ratio"] > 5
        assert (tmp_path / "cost" / "cost.png").is_file()
        assert "| contribution | x" in capsys.readouterr().out
        cost.run_cost(given)
        (again,) = json.loads((tmp_path / "cost" / "cost.json").read_text())["rows"]
        assert again == row, "it is not measured again"
        monkeypatch.setattr(cost.subprocess, "run", in_a_fork)
        one = replace(given, memory_runs=1)
        assert cost.measure_memory(one, "test_resnet", 1, "contribution") >= 0
        with pytest.raises(InvalidInputError, match="memory of nothing could not be measured"):
            cost.measure_memory(one, "test_resnet", 1, "nothing")
    finally:
        torch.set_num_threads(threads)
    both = replace(given, peers=("torch/rollout", "torch-cam/GradCAM"))
    assert "torch/rollout" not in cost._sides(both, "test_resnet", 1)
    of_class_token = cost._sides(both, "test_vit", 1)
    assert "torch/rollout" in of_class_token and "torch-cam/GradCAM" not in of_class_token
    for wrong, says in ((dict(peers=("ScoreCAM",)), "there are"), (dict(device="cuda"), "no GPU"),
                        (dict(runs=0), "at least 1"), (dict(batches=()), "at least 1"),
                        (dict(models=("resnet5000",)), "neither a backbone")):  # fmt: skip
        if says != "no GPU" or not torch.cuda.is_available():
            with pytest.raises(InvalidInputError, match=says):
                cost.run_cost(replace(given, **wrong))


def test_peak_memory_is_that_of_the_call() -> None:
    """A call that fills 80 MB and gives them back; in a process that has none to reuse."""
    code = (
        "import torch; from benchmarks import cost; "
        "fill = lambda: torch.ones(20_000_000); fill(); "  # the first call loads code, too
        "print(cost.peak_growth(fill, 'cpu'))"
    )
    done = run_python("-c", code)
    assert float(done.stdout) == pytest.approx(80e6 / 2**20, abs=8), done.stderr


def test_both_classifiers_of_a_distilled_model_ask_for_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = timm.create_model(
        "timm_sehead", backbone="deit_tiny_distilled_patch16_224", img_size=64, embed_dim=48,
        depth=2, num_heads=4, num_classes=3,
    )  # fmt: skip
    monkeypatch.setattr(map_cases, "load_model", lambda name: model)
    loaded = map_cases.load_to_explain("any")
    asking = {name for name, values in loaded.named_parameters() if values.requires_grad}
    assert asking == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}


@pytest.mark.slow
def test_memory_of_a_new_process() -> None:
    """Where nothing is kept from an earlier call."""
    given = cost.Cost(models=("test_resnet",), memory_runs=1, threads=1)
    assert cost.measure_memory(given, "test_resnet", 1, "contribution") > 0


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    "preset, sets",
    [
        ("faces", ["celeba", "celeba_parts", "face_parts"]),
        ("objects", ["mosaics", "like_classes", "single"]),
    ],
)
def test_presets_on_real_images(preset: str, sets: List[str], tmp_path: Path) -> None:
    if "SE_ZOO_DATA" not in os.environ:
        pytest.skip("SE_ZOO_DATA is not set")
    pytest.importorskip("scipy", reason="boxes need SciPy: extra compare")
    kinds = {"faces": recipe.Faces, "objects": recipe.Objects}
    recipe.main(kinds[preset](output=tmp_path / "out", methods=LIGHT, debug=True))
    rows = rows_of(tmp_path / "out-debug" / preset)
    assert list(dict.fromkeys(row["set"] for row in rows)) == sets
    energy = {(r["set"], r["method"]): r["mean"] for r in rows if r["measure"] == "energy"}
    for name in sets:
        assert energy[name, "contribution"] > energy[name, "activation"]


def test_the_control_average_is_the_mean_of_the_maps_of_other_images() -> None:
    model: Any = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3).eval()
    torch.nn.init.normal_(model.get_classifier().weight)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([1, 1, 1, 2])
    cases = Cases(images, targets, None, None, range(4))
    found = map_cases.CaseSet("any", model, cases, ["a", "a", "a", "b"], [0, 0, 1, 2])
    with pytest.raises(InvalidInputError, match="mean maps of other images"):
        draw(model, cases, "average")
    averages = draw(model, map_cases.with_averages(found).cases, "average").heatmap
    maps = model.explain(images, targets).heatmap
    torch.testing.assert_close(averages[0], maps[2])  # the second is of the same image
    torch.testing.assert_close(averages[2], maps[:2].mean(0))
    assert not averages[3].any()  # there is no other


def test_remembered_features_are_those_of_the_images() -> None:
    """Each batch of images goes through the backbone once, and forwards give the usual logits."""
    model: Any = timm.create_model("timm_sehead", backbone="test_resnet").eval()
    calls: List[int] = []
    model.conv1.register_forward_hook(lambda *given: calls.append(1))
    batches = torch.randn(2, 2, *model.input_shape())
    with torch.no_grad():
        usual = [model(batch) for batch in batches]
        calls.clear()
        with map_cases.remembered_features(model):
            for _ in range(2):
                for batch, logits in zip(batches, usual, strict=True):
                    torch.testing.assert_close(model(batch), logits)
        assert len(calls) == 2 and "forward_features" not in vars(model)
        with map_cases.remembered_features(model), torch.enable_grad():
            model(batches[0].clone().requires_grad_())
    assert len(calls) == 3


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_transformers_have_the_maps_that_they_have_outside_the_bench(pool: str) -> None:
    """These need the tokens of the blocks, not the features alone."""
    model: Any = timm.create_model("timm_sehead", backbone="test_vit", global_pool=pool).eval()
    torch.nn.init.normal_(model.head.weight)
    images = torch.randn(2, *model.input_shape())
    usual = model.explain(images, 3, "affinity")
    with map_cases.remembered_features(model):
        found = model.explain(images, 3, "affinity")
    assert found.weights == usual.weights and found.weights in ("sources", "attention")
    assert torch.equal(found.raw, usual.raw)
