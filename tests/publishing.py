"""Share between the tests of publishing: a trained run, a Hub on loopback, and clients of it."""

from pathlib import Path
from typing import Any, Iterator, NamedTuple, Optional

import datasets
import numpy as np
import pytest

from .hub_server import Fault, HubServer, User, client_environment
from .hub_worker import Done, HubWorker
from .preloaded import PATIENCE, ROOT, start_python
from .test_recipe import make_faces, run

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
        """Publish the run."""
        return self.client.se_zoo("publish", self.run, "--repo", repo, *options)


def train_faces(folder: Path) -> None:
    """Train with the CelebA recipe's --debug to ``folder/run``, and write the facts of the card."""
    rng, faces = np.random.default_rng(0), folder / "faces"
    faces.mkdir(parents=True)
    for split, count in (("train", 64), ("valid", 19), ("test", 21)):
        table = datasets.Dataset.from_dict(make_faces(count, rng))
        table.to_parquet(faces / f"{split}.parquet")
    output = folder / "run"
    done = run("celeba", faces, output)
    assert done.returncode == 0, done.stderr
    (output / "card").mkdir()
    (output / "card" / "facts.yaml").write_text(FACTS)


@pytest.fixture(scope="module")
def bench(published_run: Path, tmp_path_factory: Any) -> Iterator[Bench]:
    """Start a Hub and a client."""
    cache = tmp_path_factory.mktemp("cache")
    with HubServer(TOKENS) as hub, HubWorker(hub.url, cache, "mine") as client:
        yield Bench(hub, client, published_run)
        assert not hub.unknown, "the client asks what the server does not know"


@pytest.fixture
def fresh(bench: Bench) -> Iterator[Bench]:
    """Empty the Hub and clear its faults."""
    bench.hub.clear_faults()
    bench.hub.state.repos.clear()
    yield bench
    bench.hub.clear_faults()


def kill_client(
    hub: HubServer, at: str, home: Path, *arguments: object, package: Optional[Path] = None
) -> None:
    """Start ``se-zoo publish``, and kill it while a request waits for its answer.

    Args:
        hub: The Hub; its faults are cleared afterwards.
        at: Pattern of the request's path.
        home: Home of the client.
        *arguments: Arguments of the command.
        package: Folder to import se_zoo from; by default this checkout.
    """
    hub.hanging.clear()
    hub.fail(Fault("hang", at))
    client = start_python(
        "-m", "se_zoo.cli", "publish", *arguments, cwd=package or ROOT,
        env=client_environment(hub.url, home, "mine", package), log=home / "log",
    )  # fmt: skip
    try:
        assert hub.hanging.wait(PATIENCE), "the client never sent the request"
    finally:
        client.kill()
        client.join()
    hub.clear_faults()
    hub.release()


#: Code for the client: compare a model of the Hub with the local one, bit by bit and name by name.
COMPARE = """
import tempfile, pathlib
local = timm.create_model("local-dir:{export}", pretrained=True).eval()
with tempfile.TemporaryDirectory() as cache:
    pulled = timm.create_model("{name}", pretrained=True, cache_dir=pathlib.Path(cache)).eval()
images = torch.randn(2, *local.pretrained_cfg["input_size"])
target = list(local.class_labels())[0]
ours, theirs = local.explain(images, target), pulled.explain(images, target)
answer = [torch.equal(ours.logits, theirs.logits), torch.equal(ours.heatmap, theirs.heatmap),
          list(pulled.class_labels()) == list(local.class_labels()), theirs.labels[0] == target]
"""
