"""Pictures of objects for the bench of explanations: mosaics, like classes, single photos."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from se_zoo.explanations.quality.cases import Cases, draw

map_cases = pytest.importorskip("benchmarks.map_cases", reason="the recipes need the extra train")
from benchmarks import map_margins, object_cases  # noqa: E402
from benchmarks.map_presets import Objects  # noqa: E402
from se_zoo.errors import DataError  # noqa: E402

from .data_sets import cell  # noqa: E402

CELL = 32


@torch.no_grad()
def knows_each(model: Any, images: torch.Tensor) -> None:
    """Make the classifier say of each image that it is of the class of its row."""
    values = model.forward_head(model.forward_features(images), pre_logits=True)
    apart = values - values.mean(0)
    classifier = model.get_classifier()
    classifier.weight.copy_(100 * torch.nn.functional.normalize(apart, dim=1))
    classifier.bias.copy_(-classifier.weight @ values.mean(0))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Photos of 24 classes that a small model knows; two labels are wrong, one class is twice."""
    import pyarrow
    import pyarrow.parquet as parquet

    torch.manual_seed(0)
    model: Any = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=24).eval()
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (24, 4, 3, 3), dtype=np.uint8)
    pixels = [np.asarray(Image.fromarray(c).resize((44, 40), 0)) for c in (*coarse, coarse[5])]
    transform = object_cases._transform(model, CELL)
    batch = torch.stack([transform(Image.fromarray(p)) for p in pixels])
    knows_each(model, batch[:24])
    labels = [*range(24), 5]
    labels[:2] = [3, 4]  # wrong
    file = tmp_path_factory.mktemp("photos") / "train.parquet"
    columns = {"image": [cell(p) for p in pixels], "label": labels}
    parquet.write_table(pyarrow.table(columns), file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_cases, "load_to_explain", lambda name: model)
        found = object_cases.right_photos("any", file, CELL, 100)
    return found


def test_photos_are_right_confident_and_one_of_each_class(photos: Any) -> None:
    classes = photos.classes.tolist()
    assert sorted(classes) == list(range(2, 24))
    logits = map_cases.logits_of(photos.model, photos.cells)
    assert logits.argmax(1).tolist() == classes
    confidence = logits.softmax(1).amax(1)
    assert torch.equal(confidence, confidence.sort(descending=True).values)
    assert photos.cells.shape[1:] == (3, CELL, CELL) and len(photos.pictures) == len(classes)


def test_mosaics_hold_nine_classes_and_explain_three(photos: Any) -> None:
    made: Any = object_cases.mosaic_cases("mosaics", photos, 2)
    assert made.images == [0, 0, 0, 1, 1, 1] and made.cases.images.shape[2:] == (3 * CELL,) * 2
    cells = [region.nonzero()[0].tolist() for region in made.cases.regions]
    places = [y // CELL * 3 + x // CELL for y, x in cells]
    assert places == [0, 4, 8, 2, 6, 1]
    for n, (place, number) in enumerate(zip(places, made.images, strict=True)):
        row = 9 * number + place
        assert made.cases.targets[n] == photos.classes[row]
        shown = made.cases.images[n][:, made.cases.regions[n]].view(3, CELL, CELL)
        assert torch.equal(shown, photos.cells[row])
    with pytest.raises(DataError, match="fewer than 9 photos"):
        few = photos._replace(cells=photos.cells[:8], classes=photos.classes[:8])
        object_cases.mosaic_cases("mosaics", few, 2)


def test_like_classes_are_near_by_the_classifiers_weights(photos: Any) -> None:
    angles = torch.tensor([0.0, 90, 2, 180, 91, 1, 93, 3, 94]).deg2rad()
    weights = torch.stack([angles.cos(), angles.sin()], 1) * torch.arange(1.0, 10)[:, None]
    groups = object_cases.alike(weights, 4)
    assert [sorted(group) for group in groups] == [[0, 2, 5, 7], [1, 4, 6, 8]]
    assert object_cases.alike(weights[:3], 4) == []
    made: Any = object_cases.like_class_cases("like", photos, 1)
    expected = object_cases.alike(photos.model.get_classifier().weight[photos.classes], 4)[0]
    assert made.cases.targets.tolist() == photos.classes[expected].tolist()
    assert made.images == [0] * 4 and made.cases.regions.sum(0).eq(1).all()


def test_single_photos_lie_sharp_on_a_blurred_other_one(photos: Any) -> None:
    made: Any = object_cases.single_cases("single", photos, 12)
    images, regions = made.cases.images, made.cases.regions
    assert images.shape == (12, 3, 80, 80) and made.images == list(range(12))
    assert made.cases.targets.tolist() == photos.classes[:12].tolist()
    corners = {tuple(region.nonzero()[0].tolist()) for region in regions}
    assert len(corners) > 8 and regions.flatten(1).sum(1).eq(CELL**2).all()
    for n in range(12):
        assert torch.equal(images[n][:, regions[n]].view(3, CELL, CELL), photos.cells[n])
        around = (images[n].diff(dim=2).abs() * ~(regions[n, :, 1:] | regions[n, :, :-1])).amax()
        assert around < 0.2, "the background has no edges"
    again = object_cases.single_cases("single", photos, 12)
    assert torch.equal(again.cases.images, images)


def test_noise_is_of_the_case(photos: Any) -> None:
    cases = Cases(photos.cells[:3], photos.classes[:3], None, None, (7, 8, 9))
    noise = draw(photos.model, cases, "noise").heatmap
    assert noise.shape == (3, CELL, CELL) and 0 <= noise.min() < noise.max() <= 1
    assert torch.equal(draw(photos.model, cases.some([1]), "noise").heatmap[0], noise[1])
    assert not torch.equal(noise[0], noise[1])
    assert noise.diff(dim=1).abs().max() < 0.25, "smooth"


def test_margins_are_paired_differences_to_cam_methods() -> None:
    groups = [""] * 6
    empty = Cases(torch.zeros(6, 3, 4, 4), torch.zeros(6), None, None, range(6))
    made = map_cases.CaseSet("made", torch.nn.Identity(), empty, groups, list(range(6)))
    values = {str(n): n / 10 for n in range(6)}
    worse = {n: value - 0.02 for n, value in values.items()}
    scores = {
        name: {"pixel_ap": table}
        for name, table in (("contribution", values), ("grad-cam/GradCAM", values),
                            ("grad-cam/LayerCAM", worse), ("captum/Occlusion", values))
    }  # fmt: skip
    rows = map_margins.margin_rows(made, scores, 50)
    assert [(row["method"], row["peer"]) for row in rows] == [
        ("contribution", "grad-cam/GradCAM"), ("contribution", "grad-cam/LayerCAM"),
    ]  # fmt: skip
    assert rows[1]["mean"] == pytest.approx(0.02) and rows[1]["low"] == pytest.approx(0.02)
    table = map_margins.margin_table(rows).splitlines()
    assert table[2] == "| grad-cam/GradCAM | +0.000 (+0.000 to +0.000) |"
    assert table[3] == "| grad-cam/LayerCAM | +0.020 (+0.020 to +0.020) |"
    assert map_margins.margin_rows(made, {"contribution": {}}, 50) == []


@pytest.mark.data
@pytest.mark.slow
def test_objects_of_the_sample(data_dir: Path) -> None:
    """The sets of the preset, made of photos of ImageNet; among the most alike are four dogs."""
    sets = {found.name: found for found in Objects(mosaics=2, like_mosaics=3, singles=2).sets()}
    assert [len(found.groups) for found in sets.values()] == [6, 12, 2]
    labels: Any = sets["like_classes"].model.class_labels()  # type: ignore[operator]
    named = [labels[target] for target in sets["like_classes"].cases.targets.tolist()]
    assert sum("schnauzer" in name for name in named) == 3
