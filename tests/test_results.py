"""What README.md shows of measured explanations is what the files of figures say."""

import pytest

pytest.importorskip("pyarrow", reason="the recipes need the extra train")

from . import write_results as results


def test_readme_and_overview_are_generated() -> None:
    assert results.README.read_text("utf-8") == results.readme_text(), results.__doc__
    assert results.OVERVIEW.read_text("utf-8") == results.overview_text(), results.__doc__


@pytest.mark.parametrize("name", [*results.PRESETS, "cost"])
def test_figures_say_how_they_were_made(name: str) -> None:
    content = results.load(name)
    assert "explain_bench.py" in content["command"] and not content["options"]["debug"]
    assert len(content["commit"]) == 40, "of a clean checkout"
    assert content["environment"]["torch"] and content["rows"]


def test_pictures_are_there() -> None:
    for name in ("quality", "cost", "parity", "portrait"):
        assert (results.RESULTS / f"{name}.png").stat().st_size < 400_000


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
        assert len(found) == 4 and min(found) >= 0.99
