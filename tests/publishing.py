"""What the tests of publishing share: a trained run, a Hub on loopback, and a client of it."""

from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple

import pytest

from .hub_server import HubServer, User
from .hub_worker import Done, HubWorker
from .test_recipe import data, run  # noqa: F401  (a fixture: pictures made up there)

TOKENS = {"mine": User("me", ["se-zoo"]), "theirs": User("guest")}
FACTS = """\
summary: A test.
license: {id: mit}
data: {name: made up, text: "{{ training.samples.train | count }} grey pictures."}
intended_use: To be published.
limits: [It knows nothing.]
bias: None was measured.
"""


class Bench(NamedTuple):
    """A Hub, a client, and a run to publish."""

    hub: HubServer
    client: HubWorker
    run: Path

    def publish(self, *options: object, repo: str = "me/faces") -> Done:
        return self.client.se_zoo("publish", self.run, "--repo", repo, *options)


@pytest.fixture(scope="module")
def trained(data: Dict[str, Path], tmp_path_factory: Any) -> Path:
    """A finished run of the CelebA recipe's --debug, with the facts of its card."""
    output = tmp_path_factory.mktemp("runs") / "run"
    done = run("celeba", data["faces"], output)
    assert done.returncode == 0, done.stderr
    (output / "card").mkdir()
    (output / "card" / "facts.yaml").write_text(FACTS)
    return output


@pytest.fixture(scope="module")
def bench(trained: Path, tmp_path_factory: Any) -> Iterator[Bench]:
    cache = tmp_path_factory.mktemp("cache")
    with HubServer(TOKENS) as hub, HubWorker(hub.url, cache, "mine") as client:
        yield Bench(hub, client, trained)
        assert not hub.unknown, "the client asks what the server does not know"


@pytest.fixture
def fresh(bench: Bench) -> Iterator[Bench]:
    """An empty Hub without faults."""
    bench.hub.clear_faults()
    bench.hub.state.repos.clear()
    yield bench
    bench.hub.clear_faults()


#: In the client: whether a model of the Hub is the local one, bit by bit and name by name.
COMPARE = """
import tempfile, pathlib
local = timm.create_model("local-dir:{export}", pretrained=True).eval()
with tempfile.TemporaryDirectory() as cache:
    pulled = timm.create_model("{name}", pretrained=True, cache_dir=pathlib.Path(cache)).eval()
images = torch.rand(2, *local.pretrained_cfg["input_size"])
target = list(local.class_labels())[0]
ours, theirs = local.explain(images, target), pulled.explain(images, target)
answer = [torch.equal(ours.logits, theirs.logits), torch.equal(ours.heatmap, theirs.heatmap),
          list(pulled.class_labels()) == list(local.class_labels()), theirs.labels[0] == target]
"""
