"""The packaged models: their size, their figures on real data, and what their cards say."""

import functools
import io
import json
import os
from pathlib import Path
from typing import Any, Dict, List

import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

import se_zoo
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES

from .package_copy import CELEBA, copy_package, hub_of
from .preloaded import ROOT, run_python

NAME = "se_zoo/resnet18_slim_celeba"
CARD = ROOT / "hub_cards" / "resnet18_slim_celeba"

needs_data = pytest.mark.skipif(
    "SE_ZOO_DATA" not in os.environ, reason="needs the sample data: set SE_ZOO_DATA"
)


@pytest.fixture(scope="module")
def model() -> Any:
    return timm.create_model(NAME, pretrained=True).eval()


def test_damaged_file_in_the_package_is_refused(tmp_path: Path) -> None:
    """By its hash, which the manifest records; nobody is asked for another one."""
    package = copy_package(tmp_path / "package")
    file = hub_of(package, CELEBA) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    code = f"import timm, se_zoo\ntimm.create_model('se_zoo/{CELEBA}', pretrained=True)"
    done = run_python("-c", code, cwd=package)
    assert "WeightsNotFoundError" in done.stderr and "is damaged" in done.stderr
    assert "Install se_zoo again with pip" in done.stderr


def test_bundled_model_is_what_was_promised(model: Any) -> None:
    assert list(model.class_labels()) == list(CELEBA_ATTRIBUTES)
    assert model.is_multi_label() and model.se_args["gate"] == "sigmoid"
    explanation = model.explain(torch.zeros(1, 3, 128, 104), target="Smiling")
    assert min(explanation.native_grid) >= 7
    assert explanation.exact


def test_number_of_classes_can_change(model: Any) -> None:
    other = timm.create_model(NAME, pretrained=True, num_classes=2)
    assert other.get_classifier().out_features == 2
    assert torch.equal(other.se.fc1.weight, model.se.fc1.weight)
    assert torch.equal(other.conv1.weight, model.conv1.weight)


@functools.cache
def _split() -> Dict[str, List[Any]]:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow (extra: train)")
    path = Path(os.environ["SE_ZOO_DATA"]) / "celeba46k" / "test.parquet"
    return parquet.read_table(path).slice(0, 400).to_pydict()


def _batch(model: Any, table: Dict[str, List[Any]]) -> torch.Tensor:
    transform: Any = create_transform(**resolve_data_config(model=model))
    opened = [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in table["image"]]
    return torch.stack([transform(image) for image in opened])


@pytest.mark.data
@needs_data
def test_accuracy_on_test_images_is_that_of_the_card(model: Any) -> None:
    """From the file in the package, through timm's own preprocessing."""
    table = _split()
    images = _batch(model, table)
    with torch.inference_mode():
        answers = torch.cat([model(part) for part in images.split(100)]) > 0
    truth = torch.tensor([table[name] for name in CELEBA_ATTRIBUTES]).T
    accuracy = (answers == truth).double().mean().item()
    present = (answers & truth).sum(0) / truth.sum(0)
    absent = (~answers & ~truth).sum(0) / (~truth).sum(0)
    balanced = torch.stack([present, absent]).nanmean(0).mean().item()
    facts = json.loads((CARD / "training.json").read_text())["test"]
    assert accuracy >= 0.87 and balanced >= 0.68
    # The card's are of the whole split: quarters of it differ from it by up to 0.003 and 0.005, so
    # few images by three times as much.
    assert accuracy == pytest.approx(facts["accuracy"], abs=0.01)
    assert balanced == pytest.approx(facts["balanced_accuracy"], abs=0.02)


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("attribute", ["Smiling", "Eyeglasses", "Wearing_Hat"])
def test_maps_look_where_the_attribute_is(model: Any, attribute: str) -> None:
    """More energy in the attribute's face region than chance, and than the gate map has there."""
    from benchmarks.face_regions import FACE_BOXES, pointing_and_energy

    table = _split()
    present = [i for i, has in enumerate(table[attribute]) if has][:60]
    images = _batch(model, {"image": [table["image"][i] for i in present]})
    energy = {}
    for method in ("contribution", "gate"):
        explanation = se_zoo.explain(model, images, attribute, method)
        found = [pointing_and_energy(h, FACE_BOXES[attribute])[1] for h in explanation.heatmap]
        energy[method] = sum(found) / len(found)
    assert energy["contribution"] > 1.5
    assert energy["contribution"] > energy["gate"]


@pytest.mark.data
@needs_data
def test_bundled_speaker_model_on_a_face_that_it_never_saw() -> None:
    """A clip of another speaker: much of it is speech, nothing of it without the sound, and nothing
    while the face stands still; the gate was trained."""
    pytest.importorskip("cv2", reason="finds faces: needs se_zoo[speaker]")
    from benchmarks.speech import answers
    from se_zoo.speaker import load_speakers

    model = se_zoo.create_speaker_model("se_zoo/asd_tiny_grid", pretrained=True)
    clip = Path(os.environ["SE_ZOO_DATA"]) / "grid" / "video" / "multi_lwbsza.mpg"
    (found,) = load_speakers(clip)
    said, frozen, quiet = answers(model, found)
    explanation = model.explain(found.audio, found.face)
    assert 0.3 < said.mean() < 0.8 and frozen.mean() < 0.1 and quiet.mean() < 0.1
    assert explanation.gate_trained and explanation.modalities == ("audio", "face")


def test_card_states_the_measured_figures() -> None:
    """No figure without a file: what the documents say is what the recipe wrote."""
    card = (CARD / "hub" / "README.md").read_text()
    regions = json.loads((CARD / "regions.json").read_text())
    for method in ("contribution", "gate", "activation"):
        figures = f"{regions[method]['pointing']:.2f} | {regions[method]['energy']:.2f}"
        assert figures in card


def test_the_two_runs_of_the_card_differ_in_the_block_only() -> None:
    runs = [json.loads((CARD / n).read_text()) for n in ("training.json", "control.json")]
    configs = [run["config"] for run in runs]
    different = {k for k in configs[0] if configs[0][k] != configs[1][k]}
    assert different == {"se", "output"}
    assert runs[0]["samples"] == runs[1]["samples"]
