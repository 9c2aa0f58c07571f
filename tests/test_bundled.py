"""The packaged models: their size, their figures on real data, and what their cards say."""

import functools
import importlib
import io
import json
import os
import shutil
from dataclasses import replace
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
def _rows(file: str = "celeba46k/test.parquet") -> Dict[str, List[Any]]:
    """The first rows of a file of the sample data, by column."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow (extra: train)")
    return parquet.read_table(Path(os.environ["SE_ZOO_DATA"]) / file).slice(0, 400).to_pydict()


def _recorded(name: str, file: str) -> Any:
    return json.loads((ROOT / "hub_cards" / name / file).read_text())


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
    recorded = _recorded(name, "test.json")
    model: Any = timm.create_model(f"se_zoo/{name}", pretrained=True).eval()
    table = {key: values[: recorded["first"]["images"]] for key, values in _rows().items()}
    with torch.inference_mode():
        answers = torch.cat([model(part) for part in _batch(model, table).split(100)]) > 0
    truth = torch.tensor([table[label] for label in CELEBA_ATTRIBUTES]).T
    accuracy = (answers == truth).double().mean().item()
    # Another machine's rounding may turn single answers of the thousands.
    assert accuracy == pytest.approx(recorded["first"]["accuracy"], abs=5e-4)


@pytest.mark.slow
@pytest.mark.data
@needs_data
def test_right_answers_on_photos_are_as_recorded() -> None:
    """On the first photos of the ImageNet sample; rounding may turn one."""
    name = "tf_efficientnet_lite0_in1k"
    recorded = _recorded(name, "source.json")["first"]
    assert recorded["images"] == 200
    model: Any = timm.create_model(f"se_zoo/{name}", pretrained=True).eval()
    photos = _rows("imagenet_sample/train.parquet")
    table = {key: values[: recorded["images"]] for key, values in photos.items()}
    with torch.inference_mode():
        answers = torch.cat([model(part).argmax(1) for part in _batch(model, table).split(50)])
    right = int((answers == torch.tensor(table["label"])).sum())
    assert abs(right - recorded["right"]) <= 1


@pytest.mark.slow
@pytest.mark.data
@needs_data
def test_accuracy_on_held_out_clips_is_as_recorded(tmp_path: Path) -> None:
    """On all windows of the recipe's test part; rounding may turn one."""
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    pytest.importorskip("av", reason="needs PyAV (extra: video)")
    from recipes.grid_clips import task_options, write_table
    from se_zoo.train.clip_samples import ClipViews

    recorded = _recorded("framewise_grid", "training.json")
    given, file = task_options("speaking"), tmp_path / "speaking.csv"
    write_table(given, file)
    data: Any = replace(given.data, csv=file)
    model: Any = timm.create_model("se_zoo/framewise_grid", pretrained=True).eval()
    views = ClipViews(se_zoo.resolve_clip_config(model), data)
    table = se_zoo.data.open_table(data, "test")
    assert len(table) == recorded["samples"]["test"]
    right = 0
    with torch.inference_mode():
        for footage, target in (table[n] for n in range(len(table))):
            right += model(views(footage)).argmax(1).item() == int(target)
    assert abs(right - recorded["test"]["accuracy"] * len(table)) <= 1


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test tracks of recipes/grid_speaker.py, which needs a few clips for the other parts."""
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    pytest.importorskip("cv2", reason="finds faces: needs se_zoo[speaker]")
    pytest.importorskip("pyarrow", reason="needs pyarrow (extra: train)")
    from benchmarks import speaker_answers  # finds the recipes

    data, videos = Path(os.environ["SE_ZOO_DATA"]), tmp_path_factory.mktemp("grid")
    aligned = sorted((data / "grid" / "align").glob("*.align"))[:6]  # the sixth validates
    trained = importlib.import_module("grid_tracks").TRAINED
    others = sorted((data / "grid" / "video").glob("multi_*.mpg"))
    names = [file.stem for file in (*aligned, *others) if file.stem not in trained]
    (videos / "video").mkdir()
    (videos / "align").mkdir()
    for name in names:
        shutil.copy(data / "grid" / "video" / f"{name}.mpg", videos / "video")
    for file in aligned:
        shutil.copy(file, videos / "align")
    made = videos / "tracks"
    speaker_answers.prepare(videos, made, data / "imagenet_sample" / "train.parquet")
    return made


@pytest.mark.slow
@pytest.mark.data
@needs_data
@pytest.mark.parametrize(
    ("name", "file"), [("asd_small_grid", "seeds.json"), ("asd_tiny_grid", "answers.json")]
)
def test_answers_on_test_tracks_are_as_recorded(name: str, file: str, tracks: Path) -> None:
    """With the own sound, with changed sound, and with faces that do not speak."""
    from benchmarks.speaker_answers import measure

    recorded = _recorded(name, file)
    recorded = recorded.get("kinds", [recorded])[0]  # of three seeds the first is packaged
    found = measure(f"se_zoo/{name}", str(tracks))
    assert found["speaks"] == pytest.approx(recorded["speaks"], abs=0.01)
    for kinds in ("own", "sound", "all"):
        assert found[f"{kinds}_positive"] == recorded[f"{kinds}_positive"]
        assert found[f"{kinds}_ap"] == pytest.approx(recorded[f"{kinds}_ap"], abs=0.005)


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("attribute", ["Smiling", "Eyeglasses", "Wearing_Hat"])
def test_maps_look_where_the_attribute_is(model: Any, attribute: str) -> None:
    """More energy in the attribute's face region than chance, and than the gate map has there."""
    from benchmarks.face_cases import FACE_BOXES
    from benchmarks.map_cases import fraction_region
    from se_zoo.explanations.quality import energy_in_region

    table = _rows()
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
