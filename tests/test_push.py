"""``se_zoo.push_to_hub``: a model of a session on the Hub, and the same one back."""

from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from .hub_server import Fault, HubServer, User
from .hub_worker import HubWorker


class Bench(NamedTuple):
    """A Hub and a client of it."""

    hub: HubServer
    client: HubWorker


CARD = {
    "summary": "A test.", "license": {"id": "mit"}, "data": {"name": "none", "text": "None."},
    "intended_use": "To be pushed.", "limits": ["It knows nothing."], "bias": "Not measured.",
}  # fmt: skip

#: In the client: the model is pushed, loaded again by its name, and compared.
PUSH = """
from se_zoo.hub.compare import differences
torch.manual_seed(0)
model = {make}
done = se_zoo.push_to_hub(model, "me/model", card={card!r}, **{options!r})
back = timm.create_model(done.load_name, pretrained=True).eval()
found = set(differences(model.eval(), back)) - {{"labels"}}  # which the repository alone has
answer = [done.text(), sorted(found), list(back.class_labels())]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = tmp_path_factory.mktemp("home")
    with HubServer({"mine": User("me", ["se-zoo"])}) as hub, HubWorker(hub.url, home, "mine") as c:
        yield Bench(hub, c)
        assert not hub.unknown, "the client asks what the server does not know"


@pytest.fixture
def bench(running: Bench) -> Bench:
    """An empty Hub without faults."""
    running.hub.clear_faults()
    running.hub.state.repos.clear()
    return running


IMAGE = 'timm.create_model("timm_sehead", backbone="test_resnet", num_classes=2)'
MULTI = (
    'timm.create_model("resnet10t_sehead", num_classes=2, gate="sigmoid", multi_label=True, '
    'thresholds=(0.3, 0.6), map_offset=(1, -2), map_method="gate")'
)
SQUEEZED = 'se_zoo.squeeze("test_byobnet", num_classes=2)'
CLIP = 'timm.create_model("framewise_sehead", backbone="test_resnet", num_classes=2, num_frames=2)'
SPEAKER = 'timm.create_model("asd_tiny_sehead")'


@pytest.mark.parametrize(
    "make", [IMAGE, MULTI, SQUEEZED, CLIP, SPEAKER],
    ids=["image", "several labels", "squeezed", "clip", "speaker"],
)  # fmt: skip
def test_pushed_model_comes_back_to_the_bit(bench: Bench, make: str) -> None:
    labels = ["speaking"] if make is SPEAKER else ["cat", "dog"]
    text, different, named = bench.client.python(
        PUSH.format(make=make, card=CARD, options={"labels": labels})
    )
    assert not different and named == labels
    assert "me/model: published" in text and "tag v1" in text
    files = bench.hub.files("me/model")
    assert set(files) == {
        ".gitattributes", "README.md", "config.json", "manifest.json", "model.safetensors",
        "size.json",
    }  # fmt: skip
    assert b"Not measured." in files["README.md"]
    assert (b"- transformers" in files["README.md"]) == (make in (IMAGE, MULTI, SQUEEZED))


@pytest.mark.slow  # test_save has the same of a folder
def test_transformers_loads_what_was_pushed(bench: Bench) -> None:
    pytest.importorskip("transformers", reason="needs transformers (extra: dev)")
    code = PUSH.format(make=MULTI, card=CARD, options={"labels": ["cat", "dog"]})
    code += """
from transformers import AutoModelForImageClassification
theirs = AutoModelForImageClassification.from_pretrained("me/model").eval()
images = torch.randn(2, *back.input_shape())
with torch.no_grad():
    answer = [torch.equal(theirs(images).logits, back(images)), theirs.config.id2label[1]]
"""
    assert bench.client.python(code) == [True, "dog"]


def test_card_can_be_a_folder_with_a_photo(bench: Bench, tmp_path: Path) -> None:
    import yaml

    gallery = {"photo": "grace_hopper.jpg", "targets": ["dog"], "caption": "It looks."}
    (tmp_path / "facts.yaml").write_text(yaml.safe_dump({**CARD, "gallery": gallery}))
    options = {"labels": ["cat", "dog"], "private": True, "tag": "first"}
    text, different, _ = bench.client.python(
        PUSH.format(make=IMAGE, card=str(tmp_path), options=options)
    )
    assert not different and "me/model (private)" in text and "tag first" in text
    assert "gallery.png" in bench.hub.files("me/model")
    assert {p.name for p in tmp_path.iterdir()} == {"facts.yaml"}


@pytest.mark.parametrize(
    "make, repo, card, says",
    [
        (IMAGE, "me/model", CARD, "names of the 2 classes: give labels"),
        ('timm.create_model("test_resnet")', "me/model", CARD, "no SE head"),
        (SPEAKER, "me/model", {"summary": "x"}, "missing: bias, data, intended_use"),
        (SPEAKER, "me/model", {**CARD, "summary": "TODO"}, "not filled in yet: summary"),
        (SPEAKER, "me/model", {**CARD, "biass": "x"}, "unknown: biass"),
        (SPEAKER, "me/model", "/no/such/folder", "has no facts.yaml"),
        (SPEAKER, "model", CARD, "no repository"),
        (SPEAKER, "se-zoo/asd_tiny_grid", CARD, "zoo's own repository"),
    ],
)
def test_what_is_refused_before_the_hub_is_asked(
    bench: Bench, make: str, repo: str, card: Any, says: str
) -> None:
    asked = len(bench.hub.requests)
    with pytest.raises(RuntimeError, match=f"InvalidInputError.*{says}"):
        bench.client.python(f"se_zoo.push_to_hub({make}, {repo!r}, card={card!r})")
    assert len(bench.hub.requests) == asked and not bench.hub.snapshot()


def test_failed_push_leaves_the_hub_as_it_was(bench: Bench) -> None:
    bench.hub.fail(Fault("corrupt", "/resolve/.*safetensors", "GET"))
    code = PUSH.format(make=IMAGE, card=CARD, options={"labels": ["cat", "dog"]})
    with pytest.raises(RuntimeError, match=r"PublishError.*damaged"):
        bench.client.python(code)
    assert not bench.hub.snapshot()
    assert not bench.client.python(code)[1]
