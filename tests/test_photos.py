"""Photos in: read, preprocessed as the model's config says, and drawn where the map belongs."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import se_zoo
from se_zoo import InvalidInputError
from se_zoo.models.photos import check_resized, seen_region
from se_zoo.transform import evaluation_transform

from .brightness import brightness_model, red_centre, spotted

#: Width, height and the place of a bright spot that the model sees, as shares of both.
SHAPES = {
    "square": (200, 200, 0.3, 0.7),
    "wide": (400, 200, 0.62, 0.3),
    "tall": (200, 500, 0.3, 0.6),
    "small": (90, 61, 0.5, 0.3),
}
CONFIGS = {
    "center": ((64, 64), 1.0, "center"),
    "cropped": ((64, 64), 0.8, "center"),
    "upright input": ((96, 64), 0.9, "center"),
    "squash": ((64, 64), 1.0, "squash"),
    "squash and crop": ((64, 96), 0.9, "squash"),
    "border": ((64, 64), 1.0, "border"),
    "border and crop": ((64, 96), 0.9, "border"),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_spot_comes_out_where_it_is(shape: str, config: str) -> None:
    width, height, x, y = SHAPES[shape]
    explanation = brightness_model(*CONFIGS[config]).explain(spotted(width, height, x, y), 0)
    drawn: Any = explanation.overlay()
    assert drawn.shape == (1, height, width, 3)
    x0, y0, x1, y1 = explanation.photos[0].region
    rows, columns = explanation.native_grid
    found = red_centre(drawn[0])
    assert abs(found[0] - x) < 0.6 * (x1 - x0) / columns / width  # 0.6 cells of the map
    assert abs(found[1] - y) < 0.6 * (y1 - y0) / rows / height


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_spot_of_a_turned_photo_comes_out_where_it_is(orientation: int, tmp_path: Path) -> None:
    stored, exif = spotted(300, 200, 0.5, 0.3), Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "turned.jpg") as image:
        upright = ImageOps.exif_transpose(image)
    rows, columns = np.nonzero(np.asarray(upright)[..., 0] > 128)
    x, y = columns.mean() / upright.width, rows.mean() / upright.height
    for photo in (tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")):
        explanation = brightness_model().explain(photo, 0)
        drawn: Any = explanation.overlay()
        assert drawn.shape == (1, upright.height, upright.width, 3)
        assert red_centre(drawn[0]) == pytest.approx((x, y), abs=0.06)
        assert explanation.photos[0].name == "turned.jpg"


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(300, 200), (151, 320), (97, 97), (1201, 333)])
def test_the_region_is_the_one_that_timm_shows_the_model(size: Tuple[int, int], mode: str) -> None:
    for target in ((64, 64), (128, 104), (60, 96)):
        for crop_pct in (0.8, 0.875, 1.0):
            assert_region(size, target, crop_pct, mode)


def assert_region(size: Any, target: Any, crop_pct: float, mode: str) -> None:
    """Ramps of brightness show which place of the photo each pixel of the input comes from."""
    config = dict(input_size=(3, *target), crop_pct=crop_pct, crop_mode=mode,
                  interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)  # fmt: skip
    transform = evaluation_transform(config)
    width, height = size
    ramps = np.full((height, width, 3), 255, np.uint8)  # the third channel is the photo itself
    ramps[..., 0] = np.linspace(0, 255, width).round()
    ramps[..., 1] = np.linspace(0, 255, height).round()[:, None]
    shown = transform(Image.fromarray(ramps)).numpy()
    x0, y0, x1, y1 = seen_region(size, config)
    for channel, (low, high, length) in enumerate(((x0, x1, width), (y0, y1, height))):
        cells = target[1 - channel]
        at = low + (np.arange(cells) + 0.5) / cells * (high - low)
        values = shown[channel].max(channel) * (length - 1) + 0.5
        inside = (at > 2) & (at < length - 2)
        assert inside.sum() > 10
        assert np.abs(values - at)[inside].max() < length / 255 + length / cells / 4


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_inputs_that_are_not_square_are_resized_as_the_config_says(interpolation: str) -> None:
    """timm up to 1.0.30 always resizes them bilinearly."""
    config = dict(input_size=(3, 12, 8), crop_pct=1.0, crop_mode="center",
                  interpolation=interpolation, mean=(0.0,) * 3, std=(1.0,) * 3)  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (36, 24, 3), np.uint8)
    photo = Image.fromarray(pixels)
    expected = photo.resize((8, 12), getattr(Image.Resampling, interpolation.upper()))
    found = evaluation_transform(config)(photo)
    assert torch.equal(found, torch.from_numpy(np.array(expected)).permute(2, 0, 1) / 255)


def test_crop_mode_of_a_later_timm_is_refused() -> None:
    model = brightness_model()
    model.pretrained_cfg["crop_mode"] = "circle"
    with pytest.raises(InvalidInputError, match=r"image 0: .*crop_mode='circle'.*give a normal"):
        model.explain(spotted(120, 80, 0.5, 0.4), 0)


@pytest.mark.parametrize(("config", "refused"), [("center", True), ("upright input", True),
                                                 ("border", True), ("squash", False)])  # fmt: skip
def test_photos_that_resizing_makes_huge_or_nothing_are_refused(config: str, refused: bool) -> None:
    target, crop_pct, mode = CONFIGS[config]
    found: Any = {"input_size": (3, *target), "crop_pct": crop_pct, "crop_mode": mode}
    check_resized((1000, 10), found)
    with pytest.raises(ValueError, match="65,535") if refused else nullcontext():
        check_resized((65_535, 1), found)


def test_photos_of_every_form_give_the_same_explanation(tmp_path: Path) -> None:
    image = spotted(120, 80, 0.5, 0.4)
    image.save(tmp_path / "spot.png")
    model = brightness_model()
    forms = [tmp_path / "spot.png", str(tmp_path / "spot.png"), image, np.asarray(image)]
    together = model.explain(forms, 0)
    assert len(together) == 4
    for n, form in enumerate(forms):
        for one in (model.explain(form, 0), se_zoo.explain(model, form, 0), together[n]):
            assert torch.equal(one.raw, together.raw[:1])
            assert one.photos[0].size == (120, 80)
    assert [photo.name for photo in together.photos] == [
        "spot.png", "spot.png", "image 2", "image 3",
    ]  # fmt: skip


def test_a_photo_is_predicted_as_by_timms_own_transform(tmp_path: Path) -> None:
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    model: Any = se_zoo.squeeze("resnet10t", num_classes=3).eval()
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 310, 3), np.uint8))
    transform: Any = create_transform(**resolve_data_config(model=model))
    explanation = model.explain(photo)
    assert torch.equal(explanation.images, transform(photo)[None])
    assert torch.equal(explanation.logits, model.explain(transform(photo)[None]).logits)


def test_grey_and_transparent_photos_are_taken() -> None:
    model = brightness_model()
    clear = Image.new("RGBA", (80, 80), (0, 0, 0, 0))  # on white
    assert float(model.explain(clear, 0).raw.min()) > 0.9
    assert model.explain(Image.new("L", (80, 80), 255), 0).photos[0].picture.mode == "RGB"


def test_photos_of_different_sizes_are_drawn_at_their_own() -> None:
    model = brightness_model()
    photos = [spotted(200, 100, 0.5, 0.3), spotted(90, 150, 0.5, 0.6)]
    explanation = model.explain(photos, [0, 1])
    drawn = explanation.overlay()
    assert [one.shape for one in drawn] == [(100, 200, 3)] * 2 + [(150, 90, 3)] * 2
    assert red_centre(drawn[2]) == pytest.approx((0.5, 0.6), abs=0.06)
    assert explanation.grid().height > 250
    same: Any = model.explain(photos[:1] * 2, 0).overlay()
    assert same.shape == (2, 100, 200, 3)


def test_a_huge_photo_is_drawn_at_a_bounded_size() -> None:
    explanation = brightness_model().explain(spotted(5000, 2500, 0.6, 0.4), 0)
    drawn: Any = explanation.overlay()
    assert drawn.shape == (1, 1024, 2048, 3) and explanation.photos[0].size == (5000, 2500)
    assert red_centre(drawn[0]) == pytest.approx((0.6, 0.4), abs=0.03)
    assert explanation.grid().width <= 2 * 1024 + 6


def test_an_explanation_of_one_photo_of_many_keeps_its_photo() -> None:
    photos = [spotted(200, 100, 0.5, 0.3), spotted(90, 150, 0.5, 0.6)]
    one = brightness_model().explain(photos, 0)[1]
    assert len(one.photos) == 1 and one.photos[0].size == (90, 150)
    assert one.overlay().shape == (1, 150, 90, 3)


# Drawing on other pictures


def test_a_tensor_is_not_stretched_over_a_photo_of_another_aspect() -> None:
    """The model saw the middle of this photo, and nobody told the explanation."""
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    model, photo = brightness_model(), spotted(240, 120, 0.5, 0.4)
    transform: Any = create_transform(**resolve_data_config(model=model))
    explanation = model.explain(transform(photo)[None], 0)
    for call in (explanation.overlay, explanation.grid):
        with pytest.raises(InvalidInputError, match=r"240 x 120.*model\.explain\(photo\)"):
            call([photo])
    middle = photo.crop((60, 0, 180, 120))
    assert red_centre(explanation.overlay([middle])[0]) == pytest.approx((0.5, 0.4), abs=0.06)
    assert explanation.overlay(np.asarray(middle)[None]).shape == (1, 120, 120, 3)


def test_photos_may_be_drawn_on_larger_copies_of_themselves() -> None:
    photo = spotted(200, 100, 0.6, 0.3)
    explanation = brightness_model().explain(photo, 0)
    drawn = explanation.overlay([photo.resize((400, 200))])
    assert drawn.shape == (1, 200, 400, 3)
    assert red_centre(drawn[0]) == pytest.approx((0.6, 0.3), abs=0.06)
    middle = photo.crop((50, 0, 150, 100))  # what the model saw
    assert red_centre(explanation.overlay([middle])[0]) == pytest.approx((0.7, 0.3), abs=0.06)
    with pytest.raises(InvalidInputError, match="aspect"):
        explanation.overlay([photo.resize((300, 100))])


def test_what_the_model_saw_of_a_square_photo_is_not_taken_for_the_photo() -> None:
    explanation = brightness_model(crop_pct=0.7).explain(spotted(160, 160, 0.75, 0.3), 0)
    place = pytest.approx(((0.75 - 0.15) / 0.7, (0.3 - 0.15) / 0.7), abs=0.06)
    drawn = explanation.overlay(explanation.images)
    assert red_centre(drawn[0]) == place
    seen = Image.fromarray(explanation.overlay(explanation.images, alpha=0.0)[0])
    assert red_centre(explanation.overlay([seen])[0]) == place
    assert red_centre(explanation.overlay()[0]) == pytest.approx((0.75, 0.3), abs=0.06)


# Refused


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ("nowhere.jpg", "no such file: nowhere.jpg"),
        (".", "is a folder"),
        ([], "empty"),
        (np.zeros((8, 8), np.uint8), r"uint8 \(H, W, 3\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "as a list"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (Image.new("F", (8, 8)), "range is unknown"),
        ([Image.new("RGB", (8, 8)), 7], "list with int"),
        (b"photo.jpg", "bytes"),
        (Image.new("RGB", (65_535, 1)), r"image 0: it is too thin \(65,535 x 1 pixels\)"),
    ],
)
def test_what_is_no_photo_is_refused(photo: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        brightness_model().explain(photo)


def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(InvalidInputError, match=r"text\.jpg: not an image"):
        brightness_model().explain([spotted(80, 80, 0.5, 0.5), tmp_path / "text.jpg"])


def test_a_damaged_image_that_is_not_decoded_yet_is_refused(breaking_picture: Image.Image) -> None:
    with pytest.raises(InvalidInputError, match="image 0: cannot read the image: broken PNG file"):
        brightness_model().explain(breaking_picture)


def test_pixels_that_are_not_normalised_are_refused_with_the_fix() -> None:
    pixels = torch.from_numpy(np.array(spotted(64, 64, 0.5, 0.5))).movedim(2, 0)[None].float()
    model = brightness_model()
    with pytest.raises(InvalidInputError, match=r"0 to 255.*/ 255 - mean.*model\.explain"):
        model.explain(pixels)
    normalised = (pixels / 255 - 0.5) / 0.5
    assert model.explain(normalised, 0).exact
    # A model may take pixels from 0 to 255.
    model.pretrained_cfg = {**model.pretrained_cfg, "mean": (0.0,) * 3, "std": (1 / 255,) * 3}
    assert model.explain(pixels, 0).exact


def test_faces_are_not_looked_for_in_a_tensor() -> None:
    with pytest.raises(InvalidInputError, match="face="):
        brightness_model().explain(torch.zeros(1, 3, 64, 64), face=True)
