"""Boxes and masks, saved explanations read again, and what a notebook shows."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from se_zoo import Explanation, InvalidInputError
from se_zoo.explanations import METHODS
from se_zoo.explanations.methods import COMPETING_METHODS

from .brightness import brightness_model, red_centre, spotted
from .explain_models import (
    celeba,  # noqa: F401  (a fixture)
    images,
)

# Boxes and masks


def two_spots() -> Image.Image:
    pixels = np.asarray(spotted(400, 200, 0.35, 0.3)).copy()
    pixels[130:154, 240:264] = 240
    return Image.fromarray(pixels)


def test_boxes_lie_on_the_spots_in_pixels_of_the_photo() -> None:
    explanation = brightness_model((64, 64)).explain(two_spots(), [0, 1])
    found = explanation.boxes()
    assert found.xyxy.dtype == np.float32 and found.xyxy.shape == (2, 4)
    assert found.row.tolist() == found.class_id.tolist() == [0, 0]
    assert np.all(found.confidence >= 0.5) and np.all(found.confidence <= 1)
    centres = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
    assert np.abs(centres - [(140, 60), (252, 142)]).max() < 15
    sides = found.xyxy[:, 2:] - found.xyxy[:, :2]
    assert np.all((sides > 12) & (sides < 60))
    assert len(explanation.boxes(1.0).xyxy) <= 2


def test_boxes_stay_inside_the_photo_where_padding_is_seen() -> None:
    explanation = brightness_model((64, 64), 1.0, "border").explain(
        spotted(400, 200, 0.5, 0.08, share=0.15), 0
    )
    (box,) = explanation.boxes(0.2).xyxy
    assert box[1] == 0 and box[3] > 20 and 0 <= box[0] < 200 < box[2] <= 400


def test_masks_have_the_size_of_the_photos() -> None:
    model = brightness_model()
    mask: Any = model.explain(two_spots(), [0, 1]).to_masks()
    assert mask.shape == (2, 200, 400) and mask.dtype == bool
    assert mask[0, 60, 140] and mask[0, 142, 252] and not mask[0, 20, 20]
    assert 0.005 < mask[0].mean() < 0.1 and not mask[1].any()
    several = model.explain([two_spots(), spotted(90, 700, 0.5, 0.5)], 0).to_masks()
    assert [one.shape for one in several] == [(200, 400), (700, 90)]


def test_boxes_and_masks_of_a_tensor_are_in_pixels_of_the_input(celeba: Any) -> None:
    explanation = celeba.explain(images(2), ["Smiling", "Male"])
    masks: Any = explanation.to_masks(0.4)
    assert masks.shape == tuple(explanation.heatmap.shape)
    found = explanation.boxes(0.4)
    assert set(found.row) <= set(range(4)) and np.all(np.diff(found.row) >= 0)
    for n in range(4):
        covered = np.zeros(masks.shape[1:], bool)
        for x0, y0, x1, y1 in found.xyxy[found.row == n].astype(int):
            covered[y0:y1, x0:x1] = True
        assert np.all(covered[explanation.heatmap[n].numpy() >= 0.4])


@pytest.mark.parametrize("threshold", [0, 1.5, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold: float, celeba: Any) -> None:
    explanation = celeba.explain(images(1), 0)
    for call in (explanation.boxes, explanation.to_masks):
        with pytest.raises(InvalidInputError, match="threshold"):
            call(threshold)


# Saved and read again


@pytest.mark.parametrize("method", [m for m in METHODS if m not in COMPETING_METHODS])
def test_a_saved_explanation_is_read_again(method: str, celeba: Any, tmp_path: Path) -> None:
    versus = {"versus": "Male"} if method == "difference" else {}
    explanation = celeba.explain(images(2), ["Smiling", "Young"], method, **versus)
    explanation.save(tmp_path / "why.png", facts={"model": "mine"})
    for name in ("why.png", "why.json"):
        loaded = Explanation.load(tmp_path / name)
        assert loaded.to_dict() == explanation.to_dict()
        assert (loaded.heatmap - explanation.heatmap).abs().max() < 1e-3
        assert (loaded.evidence - explanation.evidence).abs().max() < 1e-3
        assert loaded.titles() == explanation.titles() and len(loaded[1]) == 1
        assert torch.equal(loaded.predicted, explanation.predicted)
        assert torch.equal(loaded.selected, explanation.selected)


def test_a_saved_explanation_is_drawn_on_the_photo(tmp_path: Path) -> None:
    photo = spotted(300, 200, 0.6, 0.3)
    photo.save(tmp_path / "spot.jpg")
    explanation = brightness_model().explain(tmp_path / "spot.jpg", 0)
    explanation.save(tmp_path / "why.png")
    loaded = Explanation.load(tmp_path / "why.json")
    assert loaded.photos is not None and loaded.photos[0].name == "spot.jpg"
    assert loaded.photos[0].region == pytest.approx(explanation.photos[0].region, abs=1e-3)
    for call in (loaded.overlay, loaded.grid, loaded.show):
        with pytest.raises(InvalidInputError, match=r"no pixels.*spot\.jpg.*images="):
            call()
    drawn = loaded.overlay([Image.open(tmp_path / "spot.jpg")])
    assert red_centre(drawn[0]) == pytest.approx((0.6, 0.3), abs=0.05)
    assert np.array_equal(loaded.boxes().row, explanation.boxes().row)


def test_a_saved_explanation_of_a_tensor_asks_for_pictures(celeba: Any, tmp_path: Path) -> None:
    explanation = celeba.explain(images(1), 0)
    explanation.save(tmp_path / "why.png")
    loaded = Explanation.load(tmp_path / "why.png")
    with pytest.raises(InvalidInputError, match="images="):
        loaded.grid()
    assert loaded._repr_png_() is None
    assert loaded.overlay(images(1)).shape == explanation.overlay().shape


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"parts": [1, 2]}', '{"rows": 7}'])
def test_files_without_an_explanation_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(InvalidInputError, match=r"other\.json"):
        Explanation.load(tmp_path / "other.json")
    with pytest.raises(InvalidInputError, match="no such file"):
        Explanation.load(tmp_path / "missing.png")


# Shown


def test_a_notebook_shows_the_picture_of_an_explanation() -> None:
    explanation = brightness_model().explain(spotted(2000, 1000, 0.6, 0.4), [0, 1])
    png = explanation._repr_png_()
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG" and picture.width < 1300
        assert red_centre(np.asarray(picture.convert("RGB"))[:230, 406:806]) == pytest.approx(
            (0.6, 0.47), abs=0.06
        )
    assert len(png) < 1_000_000


def test_show_displays_in_a_notebook_and_opens_a_viewer_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self.size))
    explanation = brightness_model().explain(spotted(200, 100, 0.6, 0.4), 0)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    explanation.show()
    assert shown == [explanation.grid().size]

    class Shell:
        kernel = object()

    class Notebook:
        get_ipython = staticmethod(Shell)

    class Display:
        display = staticmethod(shown.append)

    monkeypatch.setitem(sys.modules, "IPython", Notebook)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", Display)  # type: ignore[arg-type]
    explanation.show()
    assert shown[1] is explanation


def test_names_stand_beside_their_photos(tmp_path: Path) -> None:
    explanation = brightness_model().explain([spotted(200, 100, 0.6, 0.4)] * 2, 0)
    plain, named = explanation.grid(), explanation.grid(names=["left", "right"])
    assert plain.size == named.size and plain.tobytes() != named.tobytes()
    with pytest.raises(InvalidInputError, match="1 names for 2 images"):
        explanation.save(tmp_path / "a.png", names=["left"])
    explanation.save(tmp_path / "a.png")
    entries = json.loads((tmp_path / "a.json").read_text())["images"]
    assert [entry["photo"]["name"] for entry in entries] == ["image 0", "image 1"]
    assert entries[0]["photo"]["size"] == [200, 100]
