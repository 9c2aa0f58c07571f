"""BatchExplainer: columns in, columns out, and no photo that fails its batch."""

import hashlib
import pickle
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import timm
import torch
from PIL import Image

pa = pytest.importorskip("pyarrow", reason="needs pyarrow (extra: predict)")

import se_zoo  # noqa: E402
from se_zoo import InvalidInputError, UnknownLabelError  # noqa: E402
from se_zoo.inference.batch import weights_sha256  # noqa: E402
from se_zoo.inference.rows import schema  # noqa: E402
from se_zoo.models.load_model import load_model  # noqa: E402

from .predicting import encoded, tiny_model  # noqa: E402


@pytest.fixture(scope="module")
def name(tmp_path_factory: Any) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


def test_every_kind_of_image_gives_the_same_row(name: str, tmp_path: Path) -> None:
    explain = se_zoo.BatchExplainer(name, target=["cat", 0])
    png = encoded(1)[0]
    file = tmp_path / "a.png"
    file.write_bytes(png)
    with Image.open(file) as photo:
        array = np.asarray(photo)
        images = [png, file, str(file), photo, array, {"bytes": png, "path": None},
                  {"bytes": None, "path": str(file)}]  # fmt: skip
        found = explain({"id": range(7), "image": images})
    assert found["id"] == list("0123456") and found["error"] == [None] * 7
    assert found["label"] == [["cat", "ant"]] * 7
    assert all(row == found["map"][0] for row in found["map"]) and len(found["map"][0]) == 2


def test_transparent_image_gives_the_row_of_its_file(name: str, tmp_path: Path) -> None:
    """On white, as everywhere, not on the colour that its hidden pixels have."""
    hidden = np.zeros((48, 48, 4), np.uint8)
    hidden[:24] = 200, 30, 30, 255
    file = tmp_path / "a.png"
    Image.fromarray(hidden).save(file)
    with Image.open(file) as photo:
        found = se_zoo.BatchExplainer(name)({"id": ["a", "b"], "image": [file, photo]})
    assert found["error"] == [None, None] and found["probability"][0] == found["probability"][1]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "not an image"),
        ("/nowhere/a.png", "No such file"),
        (None, "not NoneType"),
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        ({"bytes": None, "path": None}, "neither"),
        (np.zeros((1, 65_535, 3), np.uint8), r"too thin \(65,535 x 1 pixels\)"),
    ],
)
def test_bad_image_is_a_row_with_an_error(name: str, image: Any, message: str) -> None:
    import re

    explain = se_zoo.BatchExplainer(name)
    good = encoded(2)
    found = explain({"path": ["a", "b", "c"], "image": [good[0], image, good[1]]})
    alone = explain({"id": ["a", "c"], "image": good})
    assert [e is None for e in found["error"]] == [True, False, True]
    assert re.search(message, found["error"][1])
    assert [found["map"][0], found["map"][2]] == alone["map"] and found["map"][1] is None
    only = explain({"id": ["b"], "image": [image]})
    assert only["error"] == [found["error"][1]] and only["target"] == [None]


def test_picture_that_breaks_while_it_is_decoded_is_a_row_with_an_error(
    name: str, breaking_picture: Image.Image
) -> None:
    found = se_zoo.BatchExplainer(name)({"id": "ab", "image": [encoded(1)[0], breaking_picture]})
    assert found["error"] == [None, "cannot read the image: broken PNG file"]


def test_ids_that_are_no_utf_8_are_escaped(name: str) -> None:
    """As os.listdir gives the names of files that another system wrote."""
    explain = se_zoo.BatchExplainer(name)
    found = explain({"path": ["gr\udcfc\u00df.jpg", 7], "image": encoded(2)})
    assert found["id"] == ["gr\\udcfc\u00df.jpg", "7"] and found["error"] == [None, None]


def test_photo_that_the_model_fails_on_is_a_row_with_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model gives NaN for one photo of the batch."""
    model = load_model(name)
    forward = model.forward_features

    def sometimes(x: Any) -> Any:
        features = forward(x)
        features[x.amin((1, 2, 3)) == 1] = float("nan")  # a white photo
        return features

    monkeypatch.setattr(model, "forward_features", sometimes)
    good, white = encoded(2), np.full((9, 9, 3), 255, np.uint8)
    found = se_zoo.BatchExplainer(model)({"id": "abc", "image": [good[0], white, good[1]]})
    assert [e is None for e in found["error"]] == [True, False, True]
    assert "NaN" in found["error"][1]
    assert found["map"][0] and found["map"][2] and found["map"][1] is None


def test_arrow_table_in_gives_an_arrow_table_of_the_schema(name: str) -> None:
    explain = se_zoo.BatchExplainer(name, gate=True, top=2)
    found = explain(pa.table({"id": ["a", "b"], "image": [encoded(1)[0], b""]}))
    assert found.schema == schema() and found.num_rows == 2
    gate, top = found["gate"].to_pylist(), found["top"].to_pylist()
    expected = load_model(name).explain(torch.zeros(1, 3, 64, 64)).gate.shape[1]
    assert len(gate[0]) == expected and gate[1] is None and len(top[0]) == 2


def test_pickle_holds_the_name_and_not_the_loaded_model(name: str) -> None:
    explain = se_zoo.BatchExplainer(name, target="cat")
    batch = {"id": ["a"], "image": encoded(1)}
    before = explain(batch)
    sent = pickle.dumps(explain)
    assert len(sent) < 1000 and pickle.loads(sent)(batch) == before


def test_threads_that_begin_together_load_the_model_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: List[str] = []

    def slow(given: str) -> Any:
        loaded.append(given)
        time.sleep(0.2)
        return load_model(given)

    monkeypatch.setattr("se_zoo.inference.batch.load_model", slow)
    explain = pickle.loads(pickle.dumps(se_zoo.BatchExplainer(name)))
    with ThreadPoolExecutor(4) as pool:
        batch = {"id": ["a"], "image": encoded(1)}
        found = list(pool.map(lambda _: explain(batch)["target"], range(4)))
    assert loaded == [name] and found == [found[0]] * 4


def test_quantised_model_has_a_hash_of_its_weights(name: str) -> None:
    """The state of torch's quantised layers holds types, and tuples of tensors."""
    quantization: Any = pytest.importorskip("torch.ao.quantization")
    model = load_model(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its own end
        other = quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    found = se_zoo.BatchExplainer(other, device="cpu", name="small").facts()["weights_sha256"]
    assert found == weights_sha256(other) != weights_sha256(model)
    plain = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):  # as folders of earlier versions have it
        plain.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    assert weights_sha256(model) == plain.hexdigest()


def test_difference_keeps_the_other_class(name: str) -> None:
    batch = {"id": ["a"], "image": encoded(1)}
    found = se_zoo.BatchExplainer(name, "cat", "difference", versus="dog")(batch)
    assert found["target"] == [[2]] and found["versus"] == [[3]]
    assert se_zoo.BatchExplainer(name, "cat")(batch)["versus"] == [None]


def test_unknown_class_columns_and_options_are_refused(name: str) -> None:
    batch = {"id": ["a"], "image": encoded(1)}
    with pytest.raises(UnknownLabelError, match="cow"):
        se_zoo.BatchExplainer(name, target="cow")(batch)
    with pytest.raises(InvalidInputError, match="columns image, and id or path; it has image"):
        se_zoo.BatchExplainer(name)({"image": encoded(1)})
    with pytest.raises(InvalidInputError, match="versus is for"):
        se_zoo.BatchExplainer(name, versus="cat")(batch)  # not a row with an error
    with pytest.raises(InvalidInputError, match="top must be at least 1, not 0"):
        se_zoo.BatchExplainer(name, top=0)
    clip: Any = timm.create_model("framewise_sehead", backbone="test_resnet", num_classes=2)
    with pytest.raises(InvalidInputError, match="takes clips"):
        se_zoo.BatchExplainer(clip)(batch)


@pytest.mark.parametrize("pool, method, traced", [
    ("avg", "affinity", True), ("avg", "contribution", False), ("token", "contribution", True),
])  # fmt: skip
def test_facts_tell_maps_that_earlier_versions_drew_otherwise(
    pool: str, method: str, traced: bool
) -> None:
    model: Any = timm.create_model("timm_sehead", backbone="test_vit", global_pool=pool).eval()
    assert ("tokens" in se_zoo.BatchExplainer(model, 3, method=method).facts()) == traced
