"""What is published beside the models: the endpoint's handler, cards, results, the collection."""

import base64
import copy
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from se_zoo import InvalidInputError, UnknownLabelError
from se_zoo.inference.images import demo_photo
from se_zoo.models.pretrained.manifest import hub_folder, manifest
from tools import release_hub

from .hub_server import HubServer, User
from .hub_worker import HubWorker

ROOT = Path(__file__).parents[1]
MODEL = "resnet18_slim_celeba"
needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="a release is made from a git checkout",
)


@pytest.fixture(scope="module")
def handler_class() -> Any:
    spec = importlib.util.spec_from_file_location("h", ROOT / "release" / "endpoint" / "handler.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler


@pytest.fixture(scope="module")
def handler(handler_class: Any) -> Any:
    """A handler beside the model's weights, as in a model's repository."""
    return handler_class(str(hub_folder(MODEL)))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(demo_photo()).convert("RGB").crop((100, 0, 429, 403))


def test_handler_answers_as_the_model_does(handler: Any, photo: Image.Image) -> None:
    file = io.BytesIO()
    photo.save(file, "PNG")
    encoded = base64.b64encode(file.getvalue()).decode()
    asked = {"target": ["Eyeglasses", "Smiling"], "top": 3}
    answer = handler({"inputs": encoded, "parameters": asked})
    explanation = handler.model.explain(photo, ["Eyeglasses", "Smiling"])
    assert len(answer["labels"]) == 3
    assert all(set(found) == {"label", "score", "predicted"} for found in answer["labels"])
    assert [found["label"] for found in answer["maps"]] == ["Eyeglasses", "Smiling"]
    for row, found in enumerate(answer["maps"]):
        assert found["score"] == pytest.approx(float(explanation.row_probability[row]), abs=1e-5)
        torch.testing.assert_close(torch.tensor(found["map"]), explanation.raw[row])
        assert Image.open(io.BytesIO(base64.b64decode(found["png"]))).size == (104, 128)


def test_handler_says_which_labels_the_model_predicts(handler: Any, photo: Image.Image) -> None:
    found = handler({"inputs": photo, "parameters": {"top": 40}})["labels"]
    expected = handler.model.explain(photo).predicted[0].tolist()
    names = handler.model.class_labels()
    assert {row["label"]: row["predicted"] for row in found} == dict(
        zip(names, expected, strict=True)
    )


def test_handler_refuses_a_photo_that_is_too_thin(handler: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot be used: it is too thin \(65,535 x 1"):
        handler({"inputs": Image.new("RGB", (65_535, 1))})


def test_handler_takes_bytes_pictures_and_data_urls_alike(handler: Any, photo: Image.Image) -> None:
    file = io.BytesIO()
    photo.save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    answers = [handler({"inputs": given}) for given in (photo, file.getvalue(), url)]
    assert answers[0] == answers[1] == answers[2]


def test_handler_reads_photos_as_the_library_does(handler: Any, photo: Image.Image) -> None:
    upright = handler({"inputs": photo})
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned
    turned = io.BytesIO()
    photo.transpose(Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
    assert handler({"inputs": turned.getvalue()}) == upright
    clear = photo.copy()
    clear.putalpha(0)
    white = handler({"inputs": Image.new("RGB", photo.size, "white")})
    assert handler({"inputs": clear}) == white != upright


@pytest.mark.parametrize("given", ["no image", b"neither", None, 7])
def test_handler_refuses_what_is_no_image(handler: Any, given: Any) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read as an image"):
        handler({"inputs": given})


def test_handler_refuses_wrong_parameters(handler: Any, photo: Image.Image) -> None:
    with pytest.raises(InvalidInputError, match="Unknown parameters: tagret"):
        handler({"inputs": photo, "parameters": {"tagret": "Smiling"}})
    with pytest.raises(InvalidInputError, match="top is 0"):
        handler({"inputs": photo, "parameters": {"top": 0}})
    with pytest.raises(UnknownLabelError, match="Did you mean Smiling"):
        handler({"inputs": photo, "parameters": {"target": "smilling"}})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("top", "parameters is str; it must be an object"),
        ([1], "parameters is list"),
        ({"a" * 10**6: 1}, "Unknown parameters: aaa"),
        ({"target": ["Smiling"] * 101}, "target has 101 entries; give at most 100"),
        ({"target": "x" * 1001}, "at most 1,000 characters; got 'xxx"),
        ({"target": {"Smiling": 1}}, "a list of them"),
        ({"target": [["Smiling"] * 1000]}, "a list of them"),
        ({"target": 1.5}, r"got 1\.5"),
        ({"method": ["gate"]}, "a list of them"),
        ({"top": True}, "top is True"),
        ({"top": float("nan")}, "top is nan"),
        ({"top": "x" * 10**6}, "top is 'xxx"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_handler_refuses_parameters_of_other_types_and_sizes(
    handler: Any, photo: Image.Image, parameters: Any, message: str
) -> None:
    """A picture is made of each target, and the endpoint logs what errors say."""
    with pytest.raises(InvalidInputError, match=message) as caught:
        handler({"inputs": photo, "parameters": parameters})
    assert len(str(caught.value)) < 300


def test_handler_takes_null_for_parameters_and_base64_in_lines(
    handler: Any, photo: Image.Image
) -> None:
    file = io.BytesIO()
    photo.save(file, "PNG")
    lines = base64.encodebytes(file.getvalue()).decode()
    nothing = {"target": None, "method": None, "top": None}
    assert "\n" in lines
    assert handler({"inputs": lines, "parameters": nothing}) == handler({"inputs": photo})


def test_handler_refuses_pictures_that_are_damaged_or_too_large(
    handler: Any, breaking_picture: Image.Image
) -> None:
    with pytest.raises(InvalidInputError, match=r"as an image .*broken PNG file"):
        handler({"inputs": breaking_picture})
    with pytest.raises(InvalidInputError, match=r"65,536 x 1 pixels; at most"):
        handler({"inputs": Image.new("L", (65_536, 1))})


def test_handler_without_a_model_beside_it_serves_the_named_one(
    handler_class: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SE_ZOO_MODEL", f"se_zoo/{MODEL}")
    assert handler_class(str(tmp_path)).model.num_classes == 40


def test_collection_has_every_model_and_fits_the_hub() -> None:
    wanted = release_hub.collection()
    ids = [item["id"] for item in wanted["items"]]
    assert ids[: len(manifest())] == [f"se-zoo/{name}" for name in manifest()]
    assert {folder.repo for folder in release_hub.folders()} - {"se-zoo/README"} <= set(ids)
    assert len(wanted["description"]) <= release_hub.DESCRIPTION
    for item in wanted["items"]:
        assert 0 < len(item["note"]) <= release_hub.NOTE and "{{" not in item["note"]


def test_cards_have_headers_that_the_hub_reads() -> None:
    for folder in release_hub.folders():
        header = folder.files["README.md"].read_text("utf-8").split("---\n")[1]
        assert yaml.safe_load(header)["license"] == "apache-2.0"
        assert all(file.is_file() for file in folder.files.values())


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with little in the folders that are published."""
    results = tmp_path / "benchmarks" / "results"
    places = [tmp_path / "release" / name for name in ("organisation", "endpoint", "results")]
    for folder in (*places, results):
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("# A\n")
    (results / "cost.json").write_text(json.dumps({"out": "/srv/me/cost.json"}))
    for command in (["init"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr(release_hub, "ROOT", tmp_path)
    monkeypatch.setattr(release_hub, "RELEASE", tmp_path / "release")
    return tmp_path


@needs_git
def test_file_that_git_does_not_track_is_refused(checkout: Path) -> None:
    (checkout / "release" / "endpoint" / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match=r"does not track release/endpoint/notes\.txt"):
        next(release_hub.release())


@needs_git
def test_secret_is_refused_before_anything_is_published(checkout: Path) -> None:
    (checkout / "release" / "endpoint" / "README.md").write_text("# A\nHF_TOKEN=abcdefghijk\n")
    with pytest.raises(InvalidInputError, match=r"se-zoo/endpoint/README\.md, line 2: a password"):
        next(release_hub.release())


@needs_git
def test_paths_of_the_machine_are_cut_in_figures(checkout: Path) -> None:
    contents = release_hub.folders()[2].contents()
    assert json.loads(contents["cost.json"]) == {"out": ".../cost.json"}
    assert contents["tables.md"] == b"# A\n"


@needs_git
def test_a_second_release_replaces_old_texts_and_deletes_files_that_are_gone(
    tmp_path: Path,
) -> None:
    release = "from tools import release_hub\nanswer = list(release_hub.release())"
    with HubServer({"token": User("you", ["se-zoo"])}) as hub:
        for name in manifest():  # a collection takes existing repositories only
            hub.add(f"se-zoo/{name}", {})
        with HubWorker(hub.url, tmp_path, "token") as client:
            client.python(release)
            (made,) = hub.state.collections.values()
            first = hub.snapshot(), copy.deepcopy(made)
            assert ".gitattributes" in hub.files("datasets/se-zoo/results")
            made["description"] = made["items"][0]["note"]["text"] = "old"
            hub.add("datasets/se-zoo/results", {"gone.json": b"{}"})
            assert hub.snapshot() != first[0]
            client.python(release)
        assert (hub.snapshot(), made) == first
        assert not hub.unknown


def test_another_organisation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models would go there, and the cards and the collection would name the zoo's own."""
    monkeypatch.setenv("SE_ZOO_HUB_ORG", "my-team")
    with pytest.raises(InvalidInputError, match="SE_ZOO_HUB_ORG is my-team"):
        next(release_hub.release())


@needs_git
@pytest.mark.slow
def test_release_is_rehearsed_on_loopback() -> None:
    for module in ("hatchling", "twine"):
        pytest.importorskip(module, reason="needs the extra dev")
    done = subprocess.run(
        [sys.executable, "-m", "tools.rehearse_release", "--no-dependencies"],
        cwd=ROOT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("twine finds no fault") == 2
    assert "up already" in done.stdout and "are on the loopback Hub as here" in done.stdout
