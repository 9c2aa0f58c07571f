"""Pictures and files: sizes, colours, no wrap-around, both files or neither."""

import copy
import dataclasses
import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from se_zoo import Explanation, InvalidInputError
from se_zoo.explanations import METHODS
from se_zoo.explanations.draw import tiles
from se_zoo.explanations.draw.colours import paint
from se_zoo.explanations.draw.save import _lines, save_together
from se_zoo.explanations.methods import SIGNED_METHODS
from se_zoo.text import printable

from .tester import randomise, spread_gate, varied_images

SIZE = (48, 64)


@functools.cache
def made_model() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = timm.create_model("resnet18_slim_sehead.celeba")
        return spread_gate(randomise(model).eval(), varied_images(8, SIZE))


@pytest.fixture
def explanation() -> Explanation:
    """Two images with three targets each."""
    return made_model().explain(varied_images(2, SIZE), ["Smiling", "Male", "Young"])


def normalised(pixels: torch.Tensor, explanation: Explanation) -> torch.Tensor:
    mean = torch.tensor(explanation.mean).view(1, 3, 1, 1)
    return (pixels - mean) / torch.tensor(explanation.std).view(1, 3, 1, 1)


def test_overlay_is_uint8_pixels_one_per_row(explanation: Explanation) -> None:
    drawn = explanation.overlay()
    assert drawn.shape == (6, *SIZE, 3) and drawn.dtype == np.uint8
    assert len({d.tobytes() for d in drawn}) == 6


def test_overlay_without_opacity_is_the_photograph(explanation: Explanation) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    drawn = explanation.overlay(pixels, alpha=0)
    assert np.array_equal(drawn, pixels[[0, 0, 0, 1, 1, 1]])
    as_tensor = normalised(torch.from_numpy(pixels).movedim(3, 1) / 255, explanation)
    assert np.array_equal(explanation.overlay(as_tensor, alpha=0), drawn)
    as_pil = [Image.fromarray(p) for p in pixels]
    assert np.array_equal(explanation.overlay(as_pil, alpha=0), drawn)


def test_values_beyond_the_range_do_not_wrap_around(explanation: Explanation) -> None:
    """1.02 times 255 is 260, which as uint8 is 4: published overlays show blue there."""
    bright = normalised(torch.full((2, 3, *SIZE), 1.02), explanation)
    dark = normalised(torch.full((2, 3, *SIZE), -0.02), explanation)
    assert np.all(explanation.overlay(bright, alpha=0) == 255)
    assert np.all(explanation.overlay(dark, alpha=0) == 0)


def test_signed_maps_are_red_for_and_blue_against(explanation: Explanation) -> None:
    grey = np.full((2, *SIZE, 3), 128, dtype=np.uint8)
    drawn = explanation.overlay(grey).astype(int)
    evidence = explanation.evidence.numpy()
    red, blue = drawn[..., 0], drawn[..., 2]
    assert (evidence > 0.5).any() and (evidence < -0.5).any()
    assert np.all(red[evidence > 0.5] > blue[evidence > 0.5])
    assert np.all(blue[evidence < -0.5] > red[evidence < -0.5])
    nothing = drawn[np.abs(evidence) < 0.05]
    assert len(nothing) and np.all(nothing == nothing[0]) and len(set(nothing[0])) == 1  # grey


@pytest.mark.parametrize("method", SIGNED_METHODS)
def test_legend_of_a_signed_map_says_what_either_colour_speaks_for(
    explanation: Explanation, method: str
) -> None:
    legend = tiles.legend_of(dataclasses.replace(explanation, method=method), 0.75, None)
    assert legend.signed and legend.low != "weak" and legend.high == "for the label"


@pytest.mark.parametrize("method", METHODS)
def test_empty_map_shows_the_photograph_in_grey(explanation: Explanation, method: str) -> None:
    nothing = dataclasses.replace(
        explanation,
        method=method,
        raw=torch.zeros_like(explanation.raw),
        heatmap=torch.zeros_like(explanation.heatmap),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    drawn: Any = nothing.overlay(pixels)
    grey = np.stack([paint(picture, np.zeros(SIZE), 1.0) for picture in pixels])
    assert np.array_equal(drawn, grey[[0, 0, 0, 1, 1, 1]])
    assert np.array_equal(drawn[..., 0], drawn[..., 2])
    luma = pixels @ np.array((0.299, 0.587, 0.114))
    assert np.corrcoef(grey[..., 0].ravel(), luma.ravel())[0, 1] > 0.999


def test_empty_map_is_named_in_its_caption(explanation: Explanation) -> None:
    heatmap, raw = explanation.heatmap.clone(), explanation.raw.clone()
    heatmap[1:3], raw[1] = 0, 0
    raw[2] = -raw[2].abs() - 1
    some = dataclasses.replace(explanation, heatmap=heatmap, raw=raw)
    first, values = _lines(some)[0][0], [value for _, value in explanation.captions()]
    assert [tile.caption for tile in first[1:]] == ["Smiling", "Male", "Young"]
    notes = [values[0], f"empty map, {values[1]}", f"nothing for it, {values[2]}"]
    assert [tile.value for tile in first[1:]] == notes
    gate = dataclasses.replace(some, method="gate", selection=None)
    assert [tile.value for tile in _lines(gate)[0][0][1:]] == ["", "empty map", "empty map"]


def test_pictures_larger_than_the_models_input(explanation: Explanation) -> None:
    pictures = [Image.new("L", (256, 192), 90), Image.new("RGBA", (256, 192), "green")]
    drawn = explanation.overlay(pictures)
    assert drawn.shape == (6, 192, 256, 3)
    assert explanation.evidence.shape == (6, *SIZE), "the explanation itself is left as it is"


def test_grid_has_a_line_per_image(explanation: Explanation) -> None:
    picture = explanation.grid()
    assert isinstance(picture, Image.Image) and picture.mode == "RGB"
    zoom = -(-160 // SIZE[1])
    height, width = SIZE[0] * zoom, SIZE[1] * zoom
    line = height + tiles._CAPTION_HEIGHT + tiles._GAP
    legend = tiles._CAPTION_HEIGHT
    assert picture.size == (4 * (width + tiles._GAP) - tiles._GAP, 2 * line + legend)
    assert np.asarray(picture).std() > 10, "an empty picture"


def test_grid_of_images_with_rows_of_different_number() -> None:
    torch.manual_seed(7)  # other numbers of attributes, in other numbers of lines
    model, images = copy.deepcopy(made_model()), varied_images(3, SIZE)
    middle = model.explain(images).probabilities.median(0).values  # above it: some images a label
    model.thresholds = tuple(middle.tolist())
    explanation = model.explain(images)
    counts = [explanation[i].heatmap.shape[0] for i in range(3)]
    assert len(set(counts)) > 1 and max(counts) > 6
    picture = explanation.grid()
    assert picture.width == 7 * (3 * SIZE[1] + tiles._GAP) - tiles._GAP  # the image and six maps
    line = 3 * SIZE[0] + tiles._CAPTION_HEIGHT + tiles._GAP
    lines = sum(-(-count // 6) for count in counts)
    assert picture.height == lines * line + tiles._CAPTION_HEIGHT


def test_long_captions_are_shortened_in_their_middle() -> None:
    title = "IMG_20260704_an_evening_at_the_lake_with_everybody_0017.jpg"
    short = tiles.fit(title, 150)
    assert tiles.font().getlength(short) <= 150
    assert short.startswith("IMG_") and "…" in short and short.endswith("17.jpg")
    assert tiles.fit("Male", 100) == "Male"


@pytest.mark.parametrize("name", ["\udcff\udcfe.jpg", "a\nb.jpg", "\u202egpj.exe", "\0.png"])
def test_names_that_no_font_can_draw_are_escaped(name: str) -> None:
    shown = tiles.fit(name, 500)
    assert shown == printable(name) != name
    picture = tiles.Tile(np.zeros((30, 40, 3), np.uint8), name)
    assert tiles.draw_tiles([[picture]]).width > 40


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, *SIZE, 3)),
        np.zeros((1, *SIZE, 3), dtype=np.uint8),
        np.zeros((*SIZE, 3), dtype=np.uint8),
        np.zeros((2, 3, *SIZE), dtype=np.uint8),
        torch.zeros(2, 5, *SIZE),
        torch.zeros(3, 3, *SIZE),
        torch.zeros(3, *SIZE),
        torch.zeros(2, 3, *SIZE, dtype=torch.uint8),
        [],
        [Image.new("RGB", (8, 8))],
        [Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))],
        [np.zeros((*SIZE, 3))] * 2,
        [np.zeros((*SIZE, 3), dtype=np.uint8), "photo.png"],
        Image.new("RGB", (8, 8)),
        "photo.png",
        7,
    ],
)
def test_images_that_do_not_fit_are_refused(explanation: Explanation, images: Any) -> None:
    with pytest.raises(InvalidInputError, match="mages"):
        explanation.overlay(images)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_opacity_outside_the_unit_interval_is_refused(
    explanation: Explanation, alpha: float
) -> None:
    with pytest.raises(InvalidInputError, match="alpha"):
        explanation.overlay(alpha=alpha)


def test_images_of_a_grey_model_are_grey() -> None:
    model: Any = timm.create_model("resnet10t_sehead", in_chans=1, num_classes=3).eval()
    explanation = model.explain(torch.randn(2, 1, 64, 64), 0)
    drawn = explanation.overlay(alpha=0)
    assert drawn.shape == (2, 64, 64, 3)
    assert np.array_equal(drawn[..., 0], drawn[..., 1])
    assert np.array_equal(drawn[..., 0], drawn[..., 2])


def test_images_of_four_channels_need_pictures_to_draw_on() -> None:
    model: Any = timm.create_model("resnet10t_sehead", in_chans=4, num_classes=3).eval()
    explanation = model.explain(torch.randn(1, 4, 64, 64), 0)
    with pytest.raises(InvalidInputError, match="images="):
        explanation.overlay()
    assert explanation.overlay([Image.new("RGB", (64, 64))]).shape == (1, 64, 64, 3)


# Files


def test_dictionary_is_strict_json_and_says_everything(explanation: Explanation) -> None:
    report = json.loads(json.dumps(explanation.to_dict(), allow_nan=False))
    assert report["method"] == "contribution" and report["exact"] is True
    assert report["native_grid"] == [6, 8] and report["image_size"] == list(SIZE)
    assert len(report["rows"]) == 6 and len(report["images"]) == 2
    for n, row in enumerate(report["rows"]):
        assert (row["image"], row["label"]) == (n // 3, ["Smiling", "Male", "Young"][n % 3])
        logits = report["images"][row["image"]]["logits"]
        assert np.mean(row["map"]) + row["constant"] == pytest.approx(
            logits[row["target"]], abs=1e-4
        )
        assert row["probability"] == pytest.approx(
            report["images"][row["image"]]["probabilities"][row["target"]], abs=1e-6
        )
    for i, image in enumerate(report["images"]):
        assert image["rule"] == explanation.rule[i]
        assert len(image["gate"]) == 256
        assert image["selected_channels"] == torch.where(explanation.selected[i])[0].tolist()
    assert report["label_names"][31] == "Smiling"
    assert [row["empty"] for row in report["rows"]] == list(explanation.empty)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("normalize", ["image", np.float32(2)])
def test_every_method_is_strict_json(method: str, normalize: Any) -> None:
    model: Any = timm.create_model("resnet10t_sehead", num_classes=3).eval().bfloat16()
    explanation = model.explain(torch.randn(2, 3, 64, 64), method=method, normalize=normalize)
    report = json.loads(json.dumps(explanation.to_dict(), allow_nan=False))
    assert report["label_names"] is None
    assert all(("versus" in row) == (method == "difference") for row in report["rows"])


def test_save_writes_both_files(explanation: Explanation, tmp_path: Path) -> None:
    explanation.save(tmp_path / "face.png")
    explanation.save(str(tmp_path / "Face.PNG"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "Face.PNG", "Face.json", "face.json", "face.png",
    ]  # fmt: skip
    with Image.open(tmp_path / "face.png") as picture:
        assert picture.size == explanation.grid().size
    assert json.loads((tmp_path / "face.json").read_text()) == explanation.to_dict()
    assert (tmp_path / "face.png").stat().st_mode & 0o044, "only its owner can read it"


def test_save_overwrites_and_draws_on_given_pictures(
    explanation: Explanation, tmp_path: Path
) -> None:
    explanation.save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    explanation.save(tmp_path / "a.png", [Image.new("RGB", (320, 240), "red")] * 2)
    assert (tmp_path / "a.png").read_bytes() != before
    assert len(list(tmp_path.iterdir())) == 2


def test_several_explanations_share_one_picture(explanation: Explanation, tmp_path: Path) -> None:
    other = explanation[0]
    large = [Image.new("RGB", (320, 240), "red")]
    parts = [(explanation, None, {"model": "a"}), (other, large, {"model": "b"})]
    save_together(tmp_path / "both.png", parts, {"made": "now"})
    with Image.open(tmp_path / "both.png") as picture:
        first, second = explanation.grid(), other.grid(large)
        assert picture.width == max(first.width, second.width)
        legend = tiles._CAPTION_HEIGHT  # one for both, below
        assert picture.height == first.height - legend + second.height
        above = (0, 0, first.width, first.height - legend - tiles._GAP)
        assert picture.crop(above).tobytes() == first.crop(above).tobytes()
        below = (0, first.height - legend, second.width, picture.height)
        assert picture.crop(below).tobytes() == second.tobytes()
    report = json.loads((tmp_path / "both.json").read_text())
    assert report["made"] == "now"
    assert report["parts"][0] == {"model": "a", **explanation.to_dict()}
    assert report["parts"][1] == {"model": "b", **other.to_dict()}


def test_heading_stands_above_each_of_several_explanations(
    explanation: Explanation, tmp_path: Path
) -> None:
    parts: list = [(explanation, None, {}), (explanation[0], None, {})]
    save_together(tmp_path / "plain.png", parts)
    save_together(tmp_path / "headed.png", parts, headings=["objects (ImageNet)", "face (CelebA)"])
    plain, headed = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("plain", "headed"))
    line, width = tiles._CAPTION_HEIGHT, plain.shape[1]
    assert headed.shape == (plain.shape[0] + 2 * line, width, 3)
    second = explanation.grid().height - line  # where the second explanation begins, unheaded
    assert (headed[:line] < 128).any() and (headed[second + line : second + 2 * line] < 128).any()
    assert np.array_equal(headed[line : second + line], plain[:second])
    assert np.array_equal(headed[second + 2 * line :], plain[second:])


ENDING = r"are saved as \.png"


@pytest.mark.parametrize(
    ("name", "says"),
    [("a.jpg", ENDING), ("a.mp4", ENDING), ("missing/a.png", "missing does not exist"),
     ("folder.png", r"folder\.png is a folder")],
)  # fmt: skip
def test_several_explanations_are_refused_as_one_is(
    explanation: Explanation, tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InvalidInputError, match=says):
        save_together(tmp_path / name, [(explanation, None, {})])
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("a.jpg", ENDING), ("a", ENDING), ("a.json", ENDING),
     ("missing/a.png", "missing does not exist"), ("folder.png", r"folder\.png is a folder"),
     ("b.png", r"b\.json is a folder")],
)  # fmt: skip
def test_save_refuses_and_leaves_nothing(
    explanation: Explanation, tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "b.json").mkdir()
    with pytest.raises(InvalidInputError, match=says):
        explanation.save(tmp_path / name)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["b.json", "folder.png"]


@pytest.mark.parametrize("breaks", ["json.dumps", "PIL.Image.Image.save", "os.replace"])
def test_failure_leaves_the_old_files_and_nothing_else(
    explanation: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    (tmp_path / "a.png").write_bytes(b"old picture")
    (tmp_path / "a.json").write_text("old numbers")

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(breaks, broken)
    with pytest.raises(OSError, match="no space"):
        explanation.save(tmp_path / "a.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old picture"
    assert (tmp_path / "a.json").read_text() == "old numbers"


def test_picture_held_by_another_program_leaves_the_numbers_too(
    explanation: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("old numbers")
    replace = os.replace

    def held(source: Path, target: Path) -> None:
        if target.suffix == ".png":
            raise PermissionError("the file is open in a viewer")
        replace(source, target)

    monkeypatch.setattr("os.replace", held)
    with pytest.raises(PermissionError):
        explanation.save(tmp_path / "a.png")
    assert (tmp_path / "a.json").read_text() == "old numbers"


def test_numbers_that_are_no_json_are_never_written(
    explanation: Explanation, tmp_path: Path
) -> None:
    explanation.logits[0, 0] = torch.nan
    with pytest.raises(ValueError, match="JSON"):
        explanation.save(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
