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
from se_zoo.models.pretrained.manifest import hub_folder
from se_zoo.models.pretrained.own_models import own_models

from .package_copy import CELEBA, copy_package, hub_of
from .preloaded import ROOT, run_python

NAME = "se_zoo/resnet18_slim_celeba"

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
    assert model.map_method == "class_gate"
    explanation = model.explain(torch.zeros(1, 3, 128, 104), "Smiling", "contribution")
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


#: The smallest model's images take seconds, the others' longer.
CELEBA_MODELS = [
    pytest.param(name, marks=() if name == CELEBA else pytest.mark.slow)
    for name in sorted(own_models())
    if name.endswith("_celeba")
]


@pytest.mark.parametrize("name", sorted(own_models()))
def test_every_packaged_model_is_sound(name: str) -> None:
    """A config that says where the weights are, finite weights, the config's labels, an exact map,
    and a gate that is trained or said not to be."""
    model: Any = timm.create_model(f"se_zoo/{name}", pretrained=True).eval()
    assert model.pretrained_cfg["file"] == str(hub_folder(name) / "model.safetensors")
    assert model.pretrained_cfg["hf_hub_id"] == f"se-zoo/{name}"
    assert model.num_classes == own_models()[name].cfg["num_classes"]
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    config = json.loads((ROOT / "hub_cards" / name / "hub" / "config.json").read_text())
    assert list(model.class_labels()) == config["label_names"]
    explanation = model.explain(*model.example_inputs().values())
    assert explanation.method == config["model_args"].get("map_method", "contribution")
    card = (ROOT / "hub_cards" / name / "hub" / "README.md").read_text()
    if isinstance(explanation, se_zoo.SpeakerExplanation):
        assert explanation.gate_trained
    else:
        assert model.has_exact_maps()
        same = bool((explanation.gate == explanation.gate[0, 0]).all())
        assert same == ("The gate was not trained" in card)


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", CELEBA_MODELS)
def test_accuracy_on_test_images_is_as_recorded(name: str) -> None:
    """On the first images of the test part, through timm's own preprocessing."""
    recorded = json.loads((ROOT / "hub_cards" / name / "test.json").read_text())
    model: Any = timm.create_model(f"se_zoo/{name}", pretrained=True).eval()
    table = {key: values[: recorded["first"]["images"]] for key, values in _split().items()}
    with torch.inference_mode():
        answers = torch.cat([model(part) for part in _batch(model, table).split(100)]) > 0
    truth = torch.tensor([table[label] for label in CELEBA_ATTRIBUTES]).T
    accuracy = (answers == truth).double().mean().item()
    # Another machine's rounding may turn single answers of the thousands.
    assert accuracy == pytest.approx(recorded["first"]["accuracy"], abs=5e-4)


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("attribute", ["Smiling", "Eyeglasses", "Wearing_Hat"])
def test_maps_look_where_the_attribute_is(model: Any, attribute: str) -> None:
    """More energy in the attribute's face region than chance, and than the gate map has there."""
    from benchmarks.face_cases import FACE_BOXES
    from benchmarks.map_cases import fraction_region
    from se_zoo.explanations.quality import energy_in_region

    table = _split()
    present = [i for i, has in enumerate(table[attribute]) if has][:60]
    images = _batch(model, {"image": [table["image"][i] for i in present]})
    energy = {}
    for method in ("contribution", "gate"):
        explanation = se_zoo.explain(model, images, attribute, method)
        size = explanation.heatmap.shape[1:]
        region = fraction_region(FACE_BOXES[attribute], *size)[0].expand_as(explanation.heatmap)
        energy[method] = float(energy_in_region(explanation.heatmap, region).nan_to_num().mean())
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
