"""Maps lie where the evidence is: cells that do not tile the image, and the measured offset."""

import sys
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image

import se_zoo
from se_zoo import InvalidInputError, measure_offset
from se_zoo.explanations import maps
from se_zoo.explanations.explained_model import ExplainedModel
from se_zoo.explanations.maps import Placement, at_input_size
from se_zoo.layers.grid import cell_sizes
from se_zoo.train.classify import ClassifierTrainer

from .explain_models import images, plain  # noqa: F401  plain is a fixture


@pytest.mark.parametrize(
    ("grid", "size", "stride", "cells"),
    [
        ((7, 7), (224, 224), 32, (32, 32)),
        ((14, 14), (224, 224), None, (16, 16)),
        ((16, 16), (224, 224), 14, (14, 14)),
        ((15, 15), (225, 225), 16, (16, 16)),  # a ViT that pads to whole patches
        ((17, 17), (225, 225), 14, (14, 14)),
        ((4, 4), (159, 159), 32, (32, 32)),  # a ConvNeXt that leaves out a rest
        ((8, 7), (225, 224), 32, (32, 32)),
        ((8, 7, 7), (15, 112, 112), None, (2, 16, 16)),  # 15 frames at a stride of 2
        ((2, 4, 4), (16, 64, 64), 16, (8, 16, 16)),
        ((2, 4, 4), (10, 64, 64), None, (8, 16, 16)),  # 10, 5, 3, 2 frames: the last are padded
        ((2, 2), (80, 80), 32, (32, 32)),  # a known stride comes first
        ((1, 4, 4), (10, 64, 64), None, (8, 16, 16)),
        ((5, 5), (224, 224), 32, (44.8, 44.8)),  # no whole stride: even cells
    ],
)
def test_cell_sizes(
    grid: Tuple[int, ...], size: Tuple[int, ...], stride: Any, cells: Tuple[float, ...]
) -> None:
    assert cell_sizes(grid, size, stride) == pytest.approx(cells)


def peak(heatmap: torch.Tensor) -> Tuple[int, int]:
    place = int(heatmap.flatten().argmax())
    return place // heatmap.shape[1], place % heatmap.shape[1]


def test_cells_of_a_grid_that_does_not_tile_the_image_lie_in_their_middle() -> None:
    raw = torch.zeros(1, 4, 4)
    raw[0, 2, 1] = 1
    drawn = at_input_size(raw, (159, 159), Placement((32.0, 32.0)))[0]  # rows 64 to 95
    assert drawn.shape == (159, 159)
    assert max(abs(a - b) for a, b in zip(peak(drawn), (79.5, 47.5), strict=True)) <= 1
    drawn = at_input_size(raw, (125, 125), Placement((32.0, 32.0)))[0]  # 128 pixels, 3 are padding
    assert drawn.shape == (125, 125) and abs(peak(drawn)[0] - 79.5) <= 1


def test_maps_are_moved_by_whole_pixels_against_the_offset() -> None:
    raw = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    even = maps.upsample(raw, (64, 64))
    assert torch.equal(at_input_size(raw, (64, 64), Placement((16.0, 16.0))), even)
    moved = at_input_size(raw, (64, 64), Placement((16.0, 16.0), (3.2, -4.9)))
    assert torch.equal(moved[:, 5:, :-3], even[:, :-5, 3:])  # 3 to the left, 5 down
    assert torch.equal(moved[:, 0], moved[:, 4])  # the edge is repeated
    clip = torch.randn(1, 2, 4, 4)
    moved = at_input_size(clip, (4, 64, 64), Placement((2.0, 16.0, 16.0), (2.0, 0.0)))
    assert torch.equal(moved[..., :-2], maps.upsample(clip, (4, 64, 64))[..., 2:])


def test_a_vit_that_pads_draws_its_patches_where_they_are() -> None:
    model: Any = timm.create_model(
        "timm_sehead", backbone="test_vit", global_pool="avg", dynamic_img_size=True,
        dynamic_img_pad=True,
    )  # fmt: skip
    found = model.eval().explain(torch.randn(1, 3, 65, 65))
    assert found.native_grid == (5, 5) and found.placement.cells == (16, 16)


def test_offset_moves_what_is_drawn_and_nothing_else(plain: Any) -> None:
    batch = images()
    before = plain.explain(batch, 1)
    assert before.placement.offset == (0, 0)  # nobody measured it
    plain.map_offset = (5.0, -3.0)
    after = plain.explain(batch, 1)
    assert torch.equal(after.raw, before.raw) and torch.equal(after.constant, before.constant)
    assert after.exact and after.placement.offset == (5, -3)
    for name in ("heatmap", "evidence"):
        old, new = getattr(before, name), getattr(after, name)
        assert torch.equal(new[:, 3:, :-5], old[:, :-3, 5:]), name
    with torch.no_grad():
        drawn = ExplainedModel(plain, targets=[1])(batch)[1]
    torch.testing.assert_close(drawn[:, 0], after.heatmap, rtol=0, atol=1e-5)
    assert after.to_dict()["map_offset"] == [5.0, -3.0]


def displaced(model: Any, x: int, y: int) -> Any:
    """Let a model's features be brightness and colour, right of and below the image's by pixels."""
    mix = torch.randn(model.num_features, 3, generator=torch.Generator().manual_seed(3))

    def features(batch: torch.Tensor) -> torch.Tensor:
        small = F.avg_pool2d(batch.roll((y, x), (2, 3)), 8)
        return torch.einsum("cd,bdhw->bchw", mix, small).relu()

    model.forward_features = features
    return model


def smooth_images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    small = torch.randn(count, 3, 9, 9, generator=generator)
    return F.interpolate(small, (128, 128), mode="bicubic")


@pytest.mark.parametrize(("x", "y"), [(5, -3), (0, 0)])
def test_mirrored_images_tell_the_offset(plain: Any, x: int, y: int) -> None:
    model = displaced(plain, x, y)
    found = measure_offset(model, [smooth_images(24)])
    assert found.offset == pytest.approx((x, y), abs=0.5) and found.images == 24
    assert found.vertical is not None
    for axis, pixels in ((found.horizontal, x), (found.vertical, y)):
        assert axis.after >= axis.before and axis.after > 0.9
        assert axis.before < 0.9 or not pixels
    assert model.map_offset == (0, 0)  # it is the caller who sets it
    model.map_offset = found.offset
    again = measure_offset(model, [smooth_images(24)])  # of the maps as the model has them
    assert again.offset == found.offset
    batch = smooth_images(4)
    drawn = model.explain(batch, 1).heatmap
    mirrored = model.explain(batch.flip(-1), 1).heatmap.flip(-1)
    inner = slice(24, -24)
    assert (drawn - mirrored)[:, inner, inner].abs().mean() < 0.05


def test_offsets_beyond_a_cell_are_found_and_beyond_two_are_refused(plain: Any) -> None:
    """Cells of 8 pixels, and pictures so smooth that the correlation rises from afar."""
    small = torch.randn(24, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    pictures = F.interpolate(small, (128, 128), mode="bicubic")
    found = measure_offset(displaced(plain, 12, 0), [pictures], vertical=False)
    assert found.horizontal.pixels == pytest.approx(12, abs=0.5)
    with pytest.raises(InvalidInputError, match="two cells beside the evidence"):
        measure_offset(displaced(plain, 18, 0), [pictures], vertical=False)


def test_without_vertical_it_is_taken_to_be_the_horizontal_offset(plain: Any) -> None:
    found = measure_offset(displaced(plain, 4, 0), smooth_images(8).split(4), vertical=False)
    assert found.vertical is None and found.offset[1] == found.offset[0]
    assert found.horizontal.pixels == pytest.approx(4, abs=0.5)


def test_photos_are_preprocessed_as_the_config_says(plain: Any, tmp_path: Any) -> None:
    plain.pretrained_cfg.update(input_size=(3, 128, 128), crop_pct=1.0)
    photos = []
    for image in smooth_images(8):
        pixels = (image * 50 + 128).clamp(0, 255).byte().permute(1, 2, 0).numpy()
        photos.append(Image.fromarray(pixels))
    file = tmp_path / "0.png"
    photos[0].save(file)
    found = measure_offset(displaced(plain, 5, 0), [file, *photos[1:]])
    assert found.horizontal.pixels == pytest.approx(5, abs=0.7)


def test_too_few_images_and_constant_maps_are_refused(plain: Any) -> None:
    with pytest.raises(InvalidInputError, match="7 images are too few"):
        measure_offset(plain, [smooth_images(7)])
    torch.nn.init.zeros_(plain.fc.weight)
    with pytest.raises(InvalidInputError, match="constant"):
        measure_offset(plain, [smooth_images(8)])


class Table(list):
    def spread(self, count: int) -> Any:
        return [(image, 0) for image in self[:count]]


@pytest.mark.parametrize(("hflip", "samples"), [(0.5, 8), (0.0, 8), (0.5, 3)])
def test_a_run_writes_the_offset_that_it_measures(
    plain: Any,
    hflip: float,
    samples: int,
) -> None:
    trainer = object.__new__(ClassifierTrainer)
    trainer.config = SimpleNamespace(  # type: ignore[assignment]
        model=SimpleNamespace(se=True), augment=SimpleNamespace(hflip=hflip),
        data=SimpleNamespace(noun="image", splits=("train", "valid", "test")),
    )  # fmt: skip
    trainer.tables = {"valid": Table(smooth_images(samples))}  # type: ignore[dict-item]
    trainer.transforms = (None, lambda image: image)
    model = displaced(plain, 5, 0)
    model.map_offset = (9.0, 9.0)  # of other weights
    summary = trainer.measure_maps(model)
    if hflip and samples == 8:
        assert model.map_offset == pytest.approx((5, 5), abs=0.7)
        assert summary["map_offset"] == list(model.map_offset)
        assert "8" in summary["map_offset_from"]
    else:
        assert model.map_offset == (0, 0) and summary["map_offset"] is None
        assert "none" in summary["map_offset_from"]


def test_the_tool_records_one_commit_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storing the first model's offset makes the checkout dirty."""
    pytest.importorskip("pyarrow", reason="the benchmarks need the extra train")
    from tools import measure_offset as tool

    commits, stored = iter(("clean", "dirty")), {}

    def measure(name: str, data: object, made: Dict[str, Any]) -> Dict[str, Any]:
        none = {"offset": [0, 0]}
        return {**made, **none, "other_images": none, "default_map": {"method": "rivals"}}

    monkeypatch.setattr(sys, "argv", ["measure_offset", "a", "b"])
    monkeypatch.setenv("SE_ZOO_DATA", "data")
    monkeypatch.setattr(tool, "provenance", lambda: {"commit": next(commits)})
    monkeypatch.setattr(tool, "measure", measure)
    monkeypatch.setattr(tool, "store", stored.__setitem__)
    tool.main()
    assert {name: found["commit"] for name, found in stored.items()} == {"a": "clean", "b": "clean"}


@pytest.mark.parametrize("gain", [0.05, -0.05, 0.0])
def test_another_default_map_must_be_better_beyond_the_interval(
    monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    pytest.importorskip("pyarrow", reason="the benchmarks need the extra train")
    from benchmarks.map_cases import Case, case_set
    from tools import measure_offset as tool

    torch.manual_seed(0)
    given = [Case(torch.zeros(3, 4, 4), 0, torch.ones(4, 4), None, "hat", n) for n in range(40)]
    found, noise = case_set("celeba", torch.nn.Identity(), given), torch.randn(40) / 100

    def scored(cases: object, method: str, offsets: List[Any]) -> List[Dict[str, float]]:
        more = {"class_gate": 0 * noise, "affinity": gain + noise, "support": -noise.abs()}[method]
        return [{str(n): 0.5 + float(v) for n, v in enumerate(more)} for _ in offsets]

    monkeypatch.setattr(tool, "scored", scored)
    place = (0.0, 0.0)
    tried = {method: (method, place) for method in ("class_gate", "affinity", "support")}
    chosen = tool.choose(found, tried)
    assert chosen["chosen"] == ("affinity" if gain > 0 else "class_gate")
    assert chosen["pixel_ap"]["affinity"] == pytest.approx(0.5 + gain, abs=0.01)
    assert chosen["less_class_gate"]["support"][2] < 0
    twice = tool.choose(found, {"1": ("affinity", place), "0": ("affinity", place)})
    assert twice["chosen"] == "1"


def test_measure_offset_is_public() -> None:
    assert se_zoo.measure_offset is measure_offset
