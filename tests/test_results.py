"""What docs/ shows of measured explanations is what the files of figures say."""

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest

pytest.importorskip("pyarrow", reason="the recipes need the extra train")

from se_zoo.explanations.quality.cases import METHODS
from se_zoo.explanations.quality.peer_methods import SLOW
from tools import write_results as results
from tools.card_maps import card_maps
from tools.write_results import report

#: Sets with several classes in one picture.
OBJECTS = ("mosaics", "like_classes")


def test_documents_and_overview_are_generated() -> None:
    for file, text in results.document_texts().items():
        assert file.read_text("utf-8") == text, results.__doc__
    assert results.OVERVIEW.read_text("utf-8") == results.overview_text(), results.__doc__


@pytest.mark.parametrize("name", [*results.PRESETS, "cost", "support"])
def test_figures_say_how_they_were_made(name: str) -> None:
    content = results.load(name)
    assert content["command"] and not content["options"].get("debug")
    assert len(content["commit"]) == 40, "of a clean checkout"
    assert content["environment"]["torch"] and content["rows"]


@pytest.mark.parametrize("name", [*results.PRESETS, *results._others()])
def test_cards_have_the_figures_of_their_models_maps(name: str) -> None:
    content = results.load(name)
    model = content["options"]["model"].removeprefix("se_zoo/")
    kept = json.loads((results.ROOT / "hub_cards" / model / "maps.json").read_text("utf-8"))
    assert kept == card_maps(content, results.TITLES)


FACES = results.load("faces")


def of_model(name: str) -> Dict[str, Any]:
    """The options of a run with another model."""
    return {"options": {**FACES["options"], "model": name}}


def written_by_take(
    content: Dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> List[Path]:
    """Take a run of these figures; return the files that would be written."""
    written: List[Path] = []
    monkeypatch.setattr(results, "TAKEN", {})
    for name in ("write_json", "write_text"):
        monkeypatch.setattr(results, name, lambda file, content: written.append(file))
    for name in ("_draw_parity", "report.draw_quality", "cost_report.draw_cost"):
        monkeypatch.setattr(f"tools.write_results.{name}", lambda *args: None)
    monkeypatch.setattr(results.Image.Image, "save", lambda *args: None)
    (folder / "summary.json").write_text(json.dumps(content), "utf-8")
    try:
        results.main(results.Write(take=(folder,)))
    except SystemExit as stop:
        assert not written
        raise stop
    return written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": None}, "holds no figures that are shown"),  # a training run's folder
        (of_model("local-dir:runs/x/export"), "which the zoo does not have"),
        (of_model("resnet50"), "which the zoo does not have"),
        ({"commit": f"{FACES['commit']}-dirty"}, "uncommitted code"),
        ({"margins": []}, "faces.json lacks what the model's card shows"),
    ],
)
def test_runs_that_cannot_be_shown_are_refused_before_anything_is_written(
    changes: Dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=message) as stop:
        written_by_take({**FACES, **changes}, tmp_path, monkeypatch)
    assert "\n" not in str(stop.value)


def test_figures_of_another_model_get_its_name_and_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**FACES, **of_model("se_zoo/resnet50_celeba")}
    written = written_by_take(content, tmp_path, monkeypatch)
    assert results.RESULTS / "faces_resnet50_celeba.json" in written
    assert results.ROOT / "hub_cards" / "resnet50_celeba" / "maps.json" in written
    assert results.load("faces_resnet50_celeba") == content


def added(changes: Dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Dict[str, Any]:
    """Add a run with one further peer, made of the stored figures; return what would be stored."""
    monkeypatch.setattr(results, "TAKEN", {})
    new = [{**row, "method": "new"} for row in FACES["rows"] if row["method"] == "torch-cam/CAM"]
    over = [{**row, "peer": "new"} for row in FACES["margins"] if row["peer"] == "torch-cam/CAM"]
    own = [row for row in FACES["rows"] if row["method"] == "contribution"]
    run = {**FACES, "rows": own + new, "margins": over, "command": "again", **changes}
    (folder / "summary.json").write_text(json.dumps(run), "utf-8")
    results._add(folder)
    return dict(results.TAKEN["faces"])


def test_further_methods_are_added_to_stored_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = added({}, tmp_path, monkeypatch)
    assert results.methods_of(stored) == [*results.methods_of(FACES), "new"]
    assert stored["options"]["methods"] == results.methods_of(stored)
    assert stored["rows"][: len(FACES["rows"])] == FACES["rows"]
    assert {row["peer"] for row in stored["margins"]} >= {"new", "torch-cam/CAM"}
    assert stored["added"][-1]["methods"] == ["new"]
    assert "Added (new): `again`" in results._origin(stored)


def test_methods_of_another_run_are_not_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = [{**row, "mean": row["mean"] + 0.01} for row in FACES["rows"]]
    for changes, message in (
        ({"weights_sha256": "0"}, "other weights, cases or figures"),
        ({"sets": {}}, "other weights, cases or figures"),
        ({"rows": moved}, "other weights, cases or figures"),
        ({"rows": FACES["rows"]}, "and others, to add"),
    ):  # fmt: skip
        with pytest.raises(SystemExit, match=message):
            added(changes, tmp_path, monkeypatch)


def test_pictures_are_there() -> None:
    for name in ("quality", "cost", "parity", "portrait"):
        assert (results.RESULTS / f"{name}.png").stat().st_size < 400_000


@pytest.mark.parametrize("name", results.PRESETS)
def test_all_methods_were_measured(name: str) -> None:
    asked = results.load(name)["options"]["methods"]
    assert results.methods_of(results.load(name)) == list(asked)
    left_out = SLOW if name == "objects" else ()
    assert set(asked) <= {m for m in METHODS if m not in left_out}


@pytest.mark.parametrize("name", OBJECTS)
def test_with_several_classes_the_control_is_worse(name: str) -> None:
    marks = {
        row["measure"]: report.verdict(row).strip()
        for row in results.rows_of(results.load("objects"), name)
        if row["method"] == "activation" and row["measure"] in report.QUALITY
    }
    for measure in ("pixel_ap", "pointing", "mask_iou", "energy"):
        assert marks[measure] == "-", measure
    # Measured on few of the cases.
    assert all(marks[measure] in ("-", "") for measure in ("insertion", "deletion", "road"))


@pytest.mark.parametrize("name", results.PRESETS)
def test_a_random_classifier_leaves_nothing_of_our_map_and_all_of_the_gate_map(name: str) -> None:
    for row in results.load(name)["rows"]:
        if row["measure"] == "random_classifier" and row["method"] == "gate":
            assert row["mean"] == pytest.approx(1)
        # Smooth maps of a few cases correlate by chance.
        few = row["cases"] < 20
        if row["measure"] == "random_classifier" and row["method"] == "contribution":
            assert abs(row["mean"]) < (0.6 if few else 0.25)


def test_our_map_is_gradcam_behind_the_gate() -> None:
    """Before its ReLU, of a head of pooling and a linear layer: rank correlation 0.99 or more."""
    for preset in results.PRESETS:
        rows = results.load(preset)["rows"]
        found = [
            row["mean"]
            for row in rows
            if row["measure"] == "likeness"
            and row["method"] in ("grad-cam/GradCAM", "captum/LayerGradCam")
        ]
        assert len(found) >= len(results.load(preset)["sets"]) and min(found) >= 0.99


def test_maps_of_mirrored_photos_are_mirrored_maps() -> None:
    """Within 2 px, on photos that did not choose the offset."""
    found = results.displacements()
    assert found["tf_efficientnet_lite0_in1k"].keys() == {"horizontal", "vertical"}
    assert len(found) == 6
    for name, axes in found.items():
        for axis, (_, after) in axes.items():
            assert abs(after) < 2, (name, axis)


def test_the_promised_cost() -> None:
    """Of images at batch 8, where a turn is long enough to be timed, and of memory."""
    for row in results.load("cost")["rows"]:
        sides, batch = row["sides"], row["batch"]
        plain, ours = (sides[side] for side in ("plain", "contribution"))
        if results.ROLLOUT in sides:  # the tokens of all blocks are kept
            assert batch < 8 or ours["ratio"] <= 1.1
            continue
        large = not row["model"].startswith("se_zoo/")  # the zoo's predict an image in milliseconds
        if batch == 8:
            assert ours["ratio"] <= (1.05 if large else 1.15) and ours["mb"] <= 1.1 * plain["mb"]
            assert sides["grad-cam/GradCAM"]["ratio"] >= 2 * ours["ratio"]
        elif "grad-cam/ScoreCAM" in sides:
            assert sides["grad-cam/ScoreCAM"]["ratio"] >= 50 * ours["ratio"]
        for peer in ("captum/LayerGradCam", "torch-cam/GradCAM"):
            assert sides[peer]["ratio"] >= ours["ratio"]
            if batch == 8 and large:
                assert sides[peer]["mb"] >= 5 * ours["mb"]
