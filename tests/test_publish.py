"""From a trained run to the Hub and back: everything is published or nothing is."""

from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional

import pytest

from .hub_server import Fault

pytest.importorskip("datasets", reason="trains a model: needs se_zoo[train]")
pytest.importorskip("accelerate", reason="trains a model: needs se_zoo[train]")

from .publishing import COMPARE, FACTS, Bench, bench, fresh, kill_client  # noqa: F401  (fixtures)


def test_train_publish_pull(fresh: Bench) -> None:
    """Logits, heatmap and label names from an empty cache are those of what was trained."""
    done = fresh.publish()
    assert done.code == 0 and "tag v1" in done.printed, done
    assert set(fresh.hub.files("me/faces")) == {
        ".gitattributes", "README.md", "config.json", "curves.png", "manifest.json",
        "model.safetensors", "size.json", "training.json",
    }  # fmt: skip
    code = COMPARE.format(export=fresh.run / "export", name="hf-hub:me/faces")
    assert fresh.client.python(code) == [True] * 4
    verified = fresh.client.se_zoo("verify", "hf-hub:me/faces")
    assert verified.code == 0 and "all finite" in verified.printed


@pytest.mark.usefixtures("fresh_accelerator")
def test_speaker_model(fresh: Bench, tmp_path: Path) -> None:
    """A model of sound and faces: its card, and the same answers from an empty cache."""
    pytest.importorskip("av", reason="needs PyAV (extra: video)")
    from se_zoo.train import train

    from .test_speaker_train import config_of
    from .test_tracks import write_splits

    output = train(config_of(write_splits(tmp_path / "data"), tmp_path / "run"))
    (output / "card").mkdir()
    facts = FACTS.replace("grey pictures", "grey faces")
    picture = "gallery: {photo: a.png, targets: [speaking], caption: x}\n"
    (output / "card" / "facts.yaml").write_text(facts + picture)
    refused = fresh.client.se_zoo("publish", output, "--repo", "me/talkers")
    assert "speakers are people" in str(refused.code), refused
    (output / "card" / "facts.yaml").write_text(facts)
    done = fresh.client.se_zoo("publish", output, "--repo", "me/talkers")
    assert done.code == 0 and "tag v1" in done.printed, done
    card = fresh.hub.files("me/talkers")["README.md"].decode()
    assert "active speaker detection" in card and "6 grey faces" in card
    assert "video-classification" in card and "| average precision |" in card
    code = """
import tempfile, pathlib, se_zoo
from se_zoo.hub.compare import differences
with tempfile.TemporaryDirectory() as cache:
    pulled = timm.create_model("hf-hub:me/talkers", pretrained=True, cache_dir=pathlib.Path(cache))
local = se_zoo.create_speaker_model("local-dir:{export}")
answer = differences(local, pulled.eval())
"""
    assert fresh.client.python(code.format(export=output / "export")) == []
    verified = fresh.client.se_zoo("verify", "hf-hub:me/talkers")
    assert verified.code == 0 and "all finite" in verified.printed


class Case(NamedTuple):
    """A fault point: what fails, whether the files are up nevertheless, and what the error says."""

    name: str
    fault: Fault
    says: str
    published: bool = False


ALWAYS: Optional[int] = None
CASES = [
    Case("invalid token", Fault(401, "/whoami"), "hf auth login"),
    Case("looking", Fault(500, r"/api/models/me/faces$"), "trouble"),
    Case("creating forbidden", Fault(403, "/repos/create"), "--pr"),
    Case("creating", Fault(500, "/repos/create"), "trouble"),
    Case("creating, cut", Fault("drop", "/repos/create"), "network"),
    Case("creating, answer lost", Fault("lost", "/repos/create"), "network"),
    Case("too many requests", Fault(429, "/repos/create", times=ALWAYS), "later"),
    Case("listing", Fault(500, "/tree/", times=ALWAYS), "trouble"),
    Case("refs", Fault(500, "/refs"), "trouble"),
    Case("refs at the end", Fault(500, "/refs", skip=1), "only the tag", published=True),
    Case("branch", Fault(500, "/branch/"), "trouble"),
    Case("branch, answer lost", Fault("lost", "/branch/", method="POST"), "network"),
    Case("preupload", Fault(500, "/preupload/", times=ALWAYS), "trouble"),
    Case("LFS batch", Fault(503, "/objects/batch", times=ALWAYS), "trouble"),
    Case("upload cut", Fault("drop", "^/upload/", times=ALWAYS), "network"),
    Case("upload forbidden", Fault(403, "^/upload/", times=ALWAYS), "may not write"),
    Case("upload expired", Fault(404, "^/upload/", times=ALWAYS), "publish again"),
    Case("first commit", Fault(500, "/commit/se-zoo-publish"), "trouble"),
    Case("first commit, cut", Fault("drop", "/commit/se-zoo-publish"), "network"),
    Case("first commit, answer lost", Fault("lost", "/commit/se-zoo-publish"), "network"),
    Case("card refused", Fault(400, "/validate-yaml"), "Correct the facts"),
    Case("pulled config missing", Fault(404, "/resolve/.*config.json", code="EntryNotFound"),
         "again"),
    Case("pulled config", Fault(500, "/resolve/.*config.json", times=ALWAYS), "again"),
    Case("pulled weights cut", Fault("cut", "/resolve/.*safetensors", "GET", times=ALWAYS),
         "again"),
    Case("pulled weights damaged", Fault("corrupt", "/resolve/.*safetensors", "GET"), "damaged"),
    Case("gone meanwhile", Fault(404, "/resolve/", code="RepoNotFound", times=ALWAYS), "again"),
    Case("stale parent", Fault(412, "/commit/main"), "someone else"),
    Case("main", Fault(500, "/commit/main"), "trouble"),
    Case("main, cut", Fault("drop", "/commit/main"), "network"),
    Case("removing the branch", Fault(500, "/branch/", "DELETE"), "only the tag", published=True),
    Case("tag", Fault(500, "/tag/"), "only the tag", published=True),
    Case("tag, answer lost", Fault("lost", "/tag/"), "only the tag", published=True),
]  # fmt: skip
#: Those that strike while the content of a repository that was there before can change.
CHANGING = {
    "looking", "branch", "branch, answer lost", "upload cut", "first commit, answer lost",
    "pulled weights damaged", "stale parent", "main", "main, cut", "removing the branch",
    "tag, answer lost",
}  # fmt: skip


def main_of(snapshot: Any) -> Any:
    return snapshot["me/faces"]["branches"]["main"]


#: In the client: the run is read, and its folder made, once for all publications.
STAGE_ONCE = """
import contextlib, functools, sys
import se_zoo.hub
of_run, of_stage = sys.modules["se_zoo.hub.read_run"], sys.modules["se_zoo.hub.stage"]
before, made = (of_run.read_run, of_stage.stage), []
folders = contextlib.ExitStack()

@contextlib.contextmanager
def stage_once(found):
    if not made:
        made.append(folders.enter_context(before[1](found)))
    yield made[0]

once = functools.cache(of_run.read_run), stage_once
"""


@pytest.fixture(scope="module")
def kept(bench: Bench) -> Iterator[None]:
    bench.client.python(STAGE_ONCE, keep=True)
    yield
    bench.client.python("folders.close()")


@pytest.fixture
def staged_once(kept: None, bench: Bench) -> Iterator[None]:
    """Half of a publication is spent before the Hub is asked, where no fault of the Hub can be."""
    bench.client.python("of_run.read_run, of_stage.stage = once")
    yield
    bench.client.python("of_run.read_run, of_stage.stage = before")


def faults() -> List[Any]:
    """Every fault on a new repository and on an existing one, which is not created; those that
    cannot change its content are slow."""
    assert CHANGING <= {case.name for case in CASES}
    found = [pytest.param(case, True, id=f"{case.name}-new") for case in CASES]
    for case in CASES:
        if "create" not in case.fault.pattern:
            marks = () if case.name in CHANGING else pytest.mark.slow
            found.append(pytest.param(case, False, id=f"{case.name}-existing", marks=marks))
    return found


@pytest.mark.usefixtures("staged_once")
@pytest.mark.parametrize("case, new", faults())
def test_fault(fresh: Bench, case: Case, new: bool) -> None:
    """Whatever fails, all of it is up or the Hub is as it was; the second attempt succeeds."""
    if not new:
        fresh.hub.add("me/faces", {"notes.md": b"somebody's"})
    before, hits = fresh.hub.snapshot(), fresh.hub.hits
    fresh.hub.fail(case.fault)
    failed = fresh.publish()
    assert fresh.hub.hits > hits, "the fault was never met"
    assert str(failed.code).startswith("se-zoo: me/faces, "), failed
    assert case.says in str(failed.code), failed.code
    after = fresh.hub.snapshot()
    fresh.hub.clear_faults()
    second = fresh.publish()
    assert second.code == 0 and "tag v1" in second.printed, second
    final = fresh.hub.snapshot()
    assert list(final["me/faces"]["branches"]) == ["main"]
    assert "model.safetensors" in main_of(final)
    if case.published:
        assert main_of(after) == main_of(final)
    else:
        assert after == before


def test_lost_answer_of_the_last_commit_is_looked_up(fresh: Bench) -> None:
    hits = fresh.hub.hits
    fresh.hub.fail(Fault("lost", "/commit/main"))
    done = fresh.publish()
    assert fresh.hub.hits > hits and done.code == 0 and "tag v1" in done.printed, done


@pytest.mark.parametrize("place", ["TMPDIR", "the pulled copy"])
def test_full_disk(fresh: Bench, place: str) -> None:
    """Files that cannot be written, while the folder is made or the model is pulled back."""
    size = (fresh.run / "export" / "model.safetensors").stat().st_size
    # Writing beyond the limit fails as on a full disk; staging writes the weights first.
    limit = size // 2 if place == "TMPDIR" else size * 2
    code = f"""
import resource
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, hard))
import sys, se_zoo.hub
publish = sys.modules["se_zoo.hub.publish"]
compare = publish.compare
def on_full_disk(*args):
    resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, hard))
    return compare(*args)
publish.compare = on_full_disk
try:
    answer = run("publish", {str(fresh.run)!r}, "--repo", "me/faces")
finally:
    publish.compare = compare
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
"""
    before = fresh.hub.snapshot()
    message, _ = fresh.client.python(code)
    assert "se-zoo: " in str(message) and "Free some space" in message
    assert fresh.hub.snapshot() == before
    assert fresh.publish().code == 0


@pytest.mark.parametrize(
    "at, published",
    [("^/upload/", False), ("/commit/main", False), ("/tag/", True)],
    ids=["uploading", "before main", "before the tag"],
)
def test_killed_client(fresh: Bench, tmp_path: Path, at: str, published: bool) -> None:
    """SIGKILL leaves main as it was, or complete; the next publication clears up and succeeds."""
    fresh.hub.add("me/faces", {"notes.md": b"somebody's"})
    before = main_of(fresh.hub.snapshot())
    kill_client(fresh.hub, at, tmp_path, fresh.run, "--repo", "me/faces")
    left = main_of(fresh.hub.snapshot())
    second = fresh.publish()
    assert second.code == 0 and "tag v1" in second.printed, second
    final = fresh.hub.snapshot()
    assert left == (main_of(final) if published else before)
    assert list(final["me/faces"]["branches"]) == ["main"]
