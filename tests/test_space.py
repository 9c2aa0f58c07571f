"""The folder of the static page, and how onnxruntime-web gets into it."""

import base64
import http.client
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from se_zoo.cli import main
from se_zoo.demo import runtime, space
from se_zoo.demo.look import STEPS
from se_zoo.errors import InvalidInputError
from se_zoo.files import new_folder
from se_zoo.models.load_model import load_model
from se_zoo.models.pretrained.manifest import sha256_of
from se_zoo.zoo_names import short_name

from .page_server import MODEL, tiny_runtime, written_space


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the slim model; its onnxruntime-web is an empty one."""
    tmp = tmp_path_factory.mktemp("page")
    written_space(tmp, MODEL, tiny_runtime(tmp))
    return tmp / "space"


@pytest.mark.filterwarnings("ignore")  # of torch.onnx and onnxscript, about themselves
def test_the_folder_is_a_complete_static_space(folder: Path) -> None:
    header = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---")[1])
    assert header["sdk"] == "static" and header["app_file"] == "index.html"
    assert header["license"] == "other" and header["models"] == ["se-zoo/resnet18_slim_celeba"]
    assert header["license_name"] == "celeba-non-commercial-research"
    assert len(header["short_description"]) <= 60  # the Hub refuses longer ones
    page = (folder / "index.html").read_text("utf-8")
    named = set(re.findall(r"(?:href|src)=\"([\w.]+)\"", page))
    scripts = [file.read_text("utf-8") for file in folder.glob("*.js")]
    named |= {name for text in scripts for name in re.findall(r"from \"\./([\w.]+)\"", text)}
    assert {"app.js", "draw.js", "labels.js", "resize.js", "save.js", "style.css"} <= named
    assert all((folder / name).is_file() for name in named)
    assert sorted(file.name for file in (folder / "ort").iterdir()) == sorted(runtime.FILES)
    assert Image.open(folder / "example.png").size == (329, 403)  # framed as in the card
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["labels"][31] == "Smiling" and config["multi_label"] is True
    assert config["model_bytes"] == (folder / "model.onnx").stat().st_size
    assert config["model_sha256"] == sha256_of(folder / "model.onnx")
    assert [item.name for item in folder.parent.iterdir() if ".tmp" in item.name] == []


@pytest.mark.filterwarnings("ignore")
def test_the_page_names_no_other_host(folder: Path) -> None:
    names = ["index.html", "style.css", *(file.name for file in folder.glob("*.js"))]
    assert len(names) == 9
    for name in names:
        text = (folder / name).read_text("utf-8")
        assert not re.search(r"https?://", text), name
        assert not re.search(r"\son\w+=|\sstyle=|<script>", text) or name.endswith(".js"), name


@pytest.mark.filterwarnings("ignore")
def test_colours_and_places_are_those_of_the_librarys_pictures(folder: Path) -> None:
    look = json.loads((folder / "config.json").read_text("utf-8"))["look"]
    explanation = load_model(MODEL).explain(torch.randn(1, 3, 128, 104), "Smiling", "contribution")
    raw = explanation.raw[0] / explanation.raw[0].abs().max()
    rows, columns = torch.tensor(look["rows"]), torch.tensor(look["columns"])
    placed = (rows @ raw @ columns.T).clamp(-1, 1)
    torch.testing.assert_close(placed, explanation.evidence[0], rtol=0, atol=1e-4)
    grey = Image.new("RGB", (104, 128), (90, 160, 40))
    wanted = np.asarray(explanation.overlay([grey], alpha=1.0)[0]).astype(float)
    step = ((explanation.evidence[0] + 1) * (STEPS - 1) / 2).round().long().numpy()
    black, white = (np.array(look[name])[step] for name in ("black", "white"))
    found = black + (white - black) * np.dot(look["luma"], (90, 160, 40)) / 255
    assert np.abs(found - wanted).max() < 4 and look["strength"] == 0.75


def test_a_folder_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    model: Any = timm.create_model("resnet10t_sehead")
    with pytest.raises(FileExistsError, match="exists already"):
        space.write_space(model.eval(), "resnet10t_sehead", tmp_path, tmp_path / "ort.tgz")
    with pytest.raises(FileNotFoundError, match="make it first"):
        space.write_space(model, "resnet10t_sehead", tmp_path / "no" / "space", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002])
def test_a_new_folder_has_the_permissions_of_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with new_folder(tmp_path / "space"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "space").stat().st_mode & 0o777 == 0o777 & ~umask


def test_this_folder_is_no_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileExistsError, match="name a new one"):
        space.write_space(timm.create_model("resnet10t_sehead").eval(), "x", Path("."), tmp_path)


def test_folders_of_models_are_shown_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    assert short_name(f"local-dir:{tmp_path / 'pets'}") == "pets"
    assert short_name("hf-hub:some/pets") == short_name("se_zoo/pets") == short_name("pets")


@pytest.mark.parametrize(
    "model, message",
    [
        (dict(model_name="framewise_sehead", backbone="test_resnet", num_frames=2), "takes clips"),
        (dict(model_name="timm_sehead", backbone="test_vit"), "need a gradient"),
    ],
)
def test_models_that_the_page_cannot_show_are_refused(
    model: Any, message: str, tmp_path: Path
) -> None:
    made: Any = timm.create_model(**model).eval()
    with pytest.raises(InvalidInputError, match=message):
        space.write_space(made, "mine", tmp_path / "space", tmp_path / "ort.tgz")
    assert not list(tmp_path.iterdir())


def test_unknown_preprocessing_is_refused(tmp_path: Path) -> None:
    made: Any = timm.create_model("resnet10t_sehead").eval()
    made.pretrained_cfg["crop_mode"] = "border"
    with pytest.raises(InvalidInputError, match="'border'"):
        space.write_space(made, "mine", tmp_path / "space", tmp_path / "ort.tgz")


def test_photos_that_would_be_padded_are_refused(tmp_path: Path) -> None:
    made: Any = timm.create_model("resnet10t_sehead").eval()
    made.pretrained_cfg["crop_pct"] = 1.2
    with pytest.raises(InvalidInputError, match="knows crops only"):
        space.write_space(made, "mine", tmp_path / "space", tmp_path / "ort.tgz")


def test_one_mean_for_all_channels_is_given_for_each() -> None:
    made: Any = timm.create_model("resnet10t_sehead").eval()
    made.pretrained_cfg.update(mean=(0.5,), std=(0.25,))
    found = space._preprocessing(made, "mine")
    assert found["mean"] == [0.5] * 3 and found["std"] == [0.25] * 3


def test_any_name_and_licence_can_stand_in_the_readmes_header() -> None:
    text = space._readme("pets #2", None, "terms: mine")
    header = yaml.safe_load(text.split("---")[1])
    assert header["title"] == "Why? pets #2" and header["license"] == "terms: mine"


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[List[str]]:
    """A registry on loopback that npm's settings name; yields the paths that it was asked for."""
    asked: List[str] = []
    content = tiny_runtime(tmp_path).read_bytes()

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/npm")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(runtime, "INTEGRITY", runtime._integrity(content))
        yield asked
        server.shutdown()


def test_onnxruntime_web_is_downloaded_once(npm: List[str], tmp_path: Path) -> None:
    first = runtime.fetch_runtime()
    assert runtime.fetch_runtime() == first == runtime.cached_runtime()
    assert npm == [f"/npm/onnxruntime-web/-/onnxruntime-web-{runtime.VERSION}.tgz"]
    first.write_bytes(b"damaged")
    assert runtime.cached_runtime() is None
    assert runtime.fetch_runtime().read_bytes() != b"damaged" and len(npm) == 2


def test_password_of_a_registry_is_sent_and_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[Any] = []

    def broken(request: Any, timeout: float) -> Any:
        asked.append(request)
        raise http.client.IncompleteRead(b"")

    monkeypatch.setattr(runtime.urllib.request, "urlopen", broken)
    monkeypatch.setenv("npm_config_registry", "https://me:se%40cret@npm.corp:8443/npm/")
    with pytest.raises(InvalidInputError, match="--ort") as caught:
        runtime._download()
    assert "cret" not in str(caught.value) and "https://npm.corp:8443/npm/onnx" in str(caught.value)
    sent = asked[0].get_header("Authorization").removeprefix("Basic ")
    assert base64.b64decode(sent) == b"me:se@cret"
    assert "Authorization" not in asked[0].headers, "a redirection would take it to another host"


def test_a_download_with_another_hash_is_not_kept(
    npm: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "INTEGRITY", "another")
    with pytest.raises(InvalidInputError, match="SHA-512 differs"):
        runtime.fetch_runtime()
    assert npm and not (tmp_path / "cache").exists()
    with pytest.raises(SystemExit, match="npm pack onnxruntime-web"):
        main(["space", MODEL, "--out", str(tmp_path / "out"), "--ort", str(tmp_path / "ort.tgz")])
    with pytest.raises(InvalidInputError, match="no such file"):
        runtime.fetch_runtime(tmp_path / "none.tgz")


def test_without_a_network_the_message_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")  # nobody listens there
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InvalidInputError, match="Without a network, run `npm pack"):
        runtime.fetch_runtime()


def test_the_registry_comes_from_npms_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(tmp_path / "npmrc"))
    assert runtime.registry() == "https://registry.npmjs.org/"
    (tmp_path / "npmrc").write_text("fund=false\nregistry = https://mirror.example/npm\n")
    assert runtime.registry() == "https://mirror.example/npm/"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://other.example/")
    assert runtime.registry() == "https://other.example/"
