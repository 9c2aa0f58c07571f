"""The demo on a server: right answers, limits, and nothing taken that was not uploaded."""

import json
import urllib.request
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple

import pytest
import yaml
from PIL import Image

from se_zoo.cli import main
from se_zoo.demo import explainers, server
from se_zoo.errors import InvalidInputError, UnknownModelError
from se_zoo.explanations.methods import COMPETING_METHODS, METHODS
from se_zoo.inference.images import demo_photo
from se_zoo.models.load_model import load_model

from .page_server import (
    MODEL,
    browser,  # noqa: F401
    served_demo,
)

# Gradio's parts warn about each other. Importing it takes seconds, so it is left to the server.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(not find_spec("gradio"), reason="gradio is not installed: extra demo"),
]


class Served(NamedTuple):
    """A running server: its address, and a client."""

    address: str
    client: Any


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    import gradio_client

    with served_demo(tmp_path_factory.mktemp("server"), MODEL) as address:
        client = gradio_client.Client(address, verbose=False)
        yield Served(address, client)
        client.close()


def ask(served: Served, photo: Path, model: str = MODEL, label: Any = None) -> Any:
    import gradio_client

    file = gradio_client.handle_file(str(photo))
    return served.client.predict(file, model, label, None, api_name="/explain")


def ask_raw(address: str, photo: Any) -> str:
    """Ask as an attacker would, without Gradio's client; return the stream of events."""
    content = json.dumps({"data": [photo, MODEL, None, None]}).encode()
    request = urllib.request.Request(
        f"{address}gradio_api/call/explain", content, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/explain/{event}", timeout=60) as answer:
        return answer.read().decode()


def test_probabilities_are_torchs_and_every_method_is_drawn(served: Served) -> None:
    shares, gallery, notes = ask(served, demo_photo(), label="Eyeglasses")
    wanted = load_model(MODEL).explain(demo_photo(), ["Eyeglasses"])
    labels = list(wanted.label_names or ())
    assert len(shares["confidences"]) == explainers.SHOWN_LABELS
    for entry in shares["confidences"]:
        share = float(wanted.probabilities[0, labels.index(entry["label"])])
        assert entry["confidence"] == pytest.approx(share, abs=1e-4)
    captions = [picture["caption"].split(":")[0] for picture in gallery]
    assert captions == ["the photo", *(m for m in METHODS if m not in COMPETING_METHODS)]
    assert notes.startswith("**Eyeglasses ") and "contribution and affinity maps add up" in notes
    order = [labels[i] for i in wanted.probabilities[0].argsort(descending=True).tolist()]
    likeliest = next(label for label in order if label != "Eyeglasses")
    assert f"compares it with {likeliest}" in notes


@pytest.mark.parametrize("own", [{"path": "/etc/hostname"}, {"path": "{upload}/../../secret.png"}])
def test_paths_of_the_server_are_refused(own: Any, served: Served, tmp_path: Path) -> None:
    Image.open(demo_photo()).save(tmp_path / "secret.png")
    path = own["path"].replace("{upload}/../..", str(tmp_path))
    events = ask_raw(served.address, {"path": path, "meta": {"_type": "gradio.FileData"}})
    assert "event: error" in events and "event: complete" not in events


def test_addresses_inside_the_servers_network_are_refused(served: Served) -> None:
    url = f"{served.address}theme.css"
    events = ask_raw(served.address, {"path": url, "meta": {"_type": "gradio.FileData"}})
    assert "event: error" in events and "event: complete" not in events


def test_wrong_files_give_a_sentence(served: Served, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_bytes(b"not a photo")
    with pytest.raises(Exception, match="This file is not a photo that can be read"):
        ask(served, tmp_path / "text.png")
    Image.new("1", (8000, 7000)).save(tmp_path / "large.png")  # a few kilobytes
    with pytest.raises(Exception, match="8000 x 7000 pixels, more than 50 million"):
        ask(served, tmp_path / "large.png")
    with pytest.raises(Exception, match="Choose a photo first"):
        served.client.predict(None, MODEL, None, None, api_name="/explain")


def test_heic_photos_are_taken(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif (extra: heif)")
    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(tmp_path / "a.heic")
    explainers._check_size(tmp_path / "a.heic")


def test_a_file_above_the_limit_is_not_taken(served: Served, tmp_path: Path) -> None:
    (tmp_path / "large.bmp").write_bytes(bytes(68_000_000))
    with pytest.raises(Exception, match=r"413|[Tt]oo [Ll]arge|exceed"):
        ask(served, tmp_path / "large.bmp")


@pytest.mark.parametrize("name", ["local-dir:/etc", "hf-hub:someone/model", "../x", "<b>x</b>"])
def test_users_can_name_no_folder_and_no_repository(name: str, served: Served) -> None:
    with pytest.raises(Exception, match="Unknown model") as refused:
        ask(served, demo_photo(), name)
    assert "<b>" not in str(refused.value)


def test_it_listens_on_loopback_and_is_not_shared(served: Served) -> None:
    assert served.address.startswith("http://127.0.0.1:")


def test_no_file_stays_for_more_than_a_day() -> None:
    every, age = server.DELETE
    assert every + age == 24 * 60 * 60  # as the page promises


def test_any_timm_model_by_name_where_the_server_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: List[str] = []
    real = explainers.squeeze

    def untrained(name: str, pretrained: bool) -> Any:
        assert pretrained
        loaded.append(name)
        return real(name, num_classes=9)

    monkeypatch.setattr(explainers, "squeeze", untrained)
    local = explainers.Explainers(["test_resnet"], any_model=True)
    assert local.labels("test_resnet")[7] == "7"  # the model has no names
    first = local.answer(demo_photo(), "test_resnet", None, None)
    assert [caption.split(":")[0] for _, caption in first.pictures][1:] == list(METHODS)
    for name in ("test_vit", "test_convnext", "test_vit", "test_efficientnet", "test_convnext"):
        local.model(name)
    # test_convnext was the one that was not used for longest when the third came.
    assert loaded[1:] == ["test_vit", "test_convnext", "test_efficientnet", "test_convnext"]
    public = explainers.Explainers(["test_resnet"], any_model=False)
    with pytest.raises(UnknownModelError, match="offers test_resnet"):
        public.model("test_vit")


def test_a_label_is_not_compared_with_itself() -> None:
    demo = explainers.Explainers([MODEL], any_model=False)
    with pytest.raises(InvalidInputError, match="another one than itself"):
        demo.answer(demo_photo(), MODEL, "Smiling", "Smiling")


def test_the_folder_is_a_ready_gradio_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import se_zoo

    mine = tmp_path / "pets"
    mine.mkdir()
    (mine / "config.json").write_text("{}")
    (mine / "notes.txt").write_text("private")
    out = tmp_path / "space"
    with pytest.raises(SystemExit, match=r"has no model\.safetensors; se_zoo\.save writes"):
        main(["demo", MODEL, f"local-dir:{mine}", "--out", str(out)])
    assert not out.exists()
    (mine / "model.safetensors").write_bytes(b"weights")
    main(["demo", MODEL, f"local-dir:{mine}", "--out", str(out)])
    assert "Gradio Space" in capsys.readouterr().out
    header = yaml.safe_load((out / "README.md").read_text("utf-8").split("---")[1])
    assert header["sdk"] == "gradio" and header["sdk_version"] == version("gradio")
    assert len(header["short_description"]) <= 60
    script = (out / header["app_file"]).read_text("utf-8")
    compile(script, "app.py", "exec")
    assert MODEL in script and "local-dir:pets" in script and (out / "pets/config.json").is_file()
    copied = sorted(file.name for file in (out / "pets").iterdir())
    assert copied == ["config.json", "model.safetensors"]
    wanted = f"se_zoo[demo]=={se_zoo.__version__}\n"
    assert (out / "requirements.txt").read_text("utf-8") == wanted
    with pytest.raises(SystemExit, match="exists already"):
        main(["demo", MODEL, "--out", str(out)])


@pytest.mark.slow
def test_nothing_is_lost_when_many_ask_at_once() -> None:
    from benchmarks.demo_load import Load, measure

    found = measure(Load(users=4, photos=2))
    assert found.lost == [] and found.wrong == 0 and len(found.seconds) == 8


@pytest.mark.slow
def test_the_page_works_in_a_browser_and_asks_no_other_host(
    served: Served,
    browser: Any,
    tmp_path: Path,
) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    asked: List[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.address)
    page.set_input_files("input[type=file]", str(demo_photo()), timeout=120_000)
    page.wait_for_selector("text=/^activation: /", timeout=120_000)  # the last picture's caption
    page.screenshot(path=tmp_path / "gradio.png", full_page=True)
    other = [u for u in asked if not u.startswith((served.address, "data:", "blob:"))]
    page.close()
    assert other == []
