"""``se-zoo publish --zoo``: every packaged folder goes up as it is, and weights come from there."""

import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple

import pytest

from .hub_server import Fault, HubServer, User
from .hub_state import Blob
from .hub_worker import Done, HubWorker
from .package_copy import CELEBA, MODELS, copy_package, files_of, hub_of, read_manifest
from .publishing import kill_client

TOKENS = {"mine": User("me", ["se-zoo", "my-team"]), "theirs": User("guest")}


class Bench(NamedTuple):
    """A Hub, a client in a copy of the package, and the copy."""

    hub: HubServer
    client: HubWorker
    package: Path

    def publish(self, *options: object) -> Done:
        return self.client.se_zoo("publish", "--zoo", *options)

    def manifest(self) -> Dict[str, Any]:
        return read_manifest(self.package / "hub_cards")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    package = copy_package(tmp_path_factory.mktemp("package"))
    home = tmp_path_factory.mktemp("home")
    with HubServer(TOKENS) as hub, HubWorker(hub.url, home, "mine", package) as client:
        yield Bench(hub, client, package)
        assert not hub.unknown, "the client asks what the server does not know"


@pytest.fixture
def bench(running: Bench) -> Iterator[Bench]:
    """An empty Hub without faults, and the package as it was."""
    file = running.package / "hub_cards" / "manifest.json"
    before = file.read_bytes()
    running.hub.clear_faults()
    running.hub.state.repos.clear()
    yield running
    running.hub.clear_faults()
    file.write_bytes(before)
    running.client.python("se_zoo.models.pretrained.manifest.manifest.cache_clear()")


def online(hub: HubServer, name: str, org: str = "se-zoo") -> Dict[str, bytes]:
    """The files of a repository but the one that the Hub itself makes."""
    found = hub.files(f"{org}/{name}")
    return {file: data for file, data in found.items() if file != ".gitattributes"}


def test_every_folder_goes_up_byte_for_byte(bench: Bench) -> None:
    packaged = {name: files_of(hub_of(bench.package, name)) for name in MODELS}
    done = bench.publish()
    assert done.code == 0, done
    lines = done.printed.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"se-zoo/{name}" for name in MODELS]
    assert all("published, tag v1, commit " in line for line in lines)
    for name in MODELS:
        assert online(bench.hub, name) == packaged[name]
        assert files_of(hub_of(bench.package, name)) == packaged[name], "the package was changed"
        assert list(bench.hub.snapshot()[f"se-zoo/{name}"]["branches"]) == ["main"]
    assert "commit" not in str(bench.manifest()), "recorded without being asked to"


def test_what_is_up_already_is_skipped(bench: Bench) -> None:
    assert bench.publish().code == 0
    before, asked = bench.hub.snapshot(), len(bench.hub.requests)
    again = bench.publish()
    assert again.code == 0 and again.printed.count("up already, tag v1") == len(MODELS)
    assert bench.hub.snapshot() == before
    files = {request.file for request in bench.hub.requests[asked:]}
    assert "model.safetensors" not in files, "weights were pulled again"


def test_branch_of_a_killed_publication_is_named_where_nothing_changed(bench: Bench) -> None:
    assert bench.publish().code == 0
    repo = bench.hub.state.repos[f"se-zoo/{CELEBA}"]
    repo.record("refs/heads/se-zoo-publish-0123abcd", {"withdrawn.json": Blob(b"{}", lfs=False)})
    again = bench.publish()
    assert again.code == 0 and again.printed.count("up already") == len(MODELS)
    assert again.printed.count("delete_branch(") == 1
    assert f"'se-zoo/{CELEBA}', branch='se-zoo-publish-0123abcd'" in again.printed


def test_one_that_fails_does_not_stop_the_others(bench: Bench) -> None:
    """The command says which, ends with an error, and goes on from there when it is given again."""
    first, second = MODELS
    bench.hub.fail(Fault(500, f"{first}/preupload/", times=None))
    done = bench.publish("--record")
    assert str(done.code).startswith("se-zoo: 1 of the models failed"), done
    lines = done.printed.splitlines()
    assert lines[0].startswith(f"se-zoo/{first}: FAILED: ") and "trouble" in lines[0]
    assert lines[1].startswith(f"se-zoo/{second}: published, tag v1")
    assert f"se-zoo/{first}" not in bench.hub.snapshot()
    assert "commit" not in bench.manifest()[first] and "commit" in bench.manifest()[second]
    bench.hub.clear_faults()
    again = bench.publish("--record")
    assert again.code == 0 and f"se-zoo/{second}: up already" in again.printed
    assert {"repo", "commit", "tag"} <= set(bench.manifest()[first])


@pytest.mark.parametrize(
    "at, published",
    [("/commit/main", False), ("/tag/", True)], ids=["before main", "before the tag"],
)  # fmt: skip
def test_killed_command_goes_on(bench: Bench, tmp_path: Path, at: str, published: bool) -> None:
    """SIGKILL in the second model: the first stays, the second is then completed."""
    first, second = MODELS
    options = ("--zoo", "--record")
    kill_client(bench.hub, f"{second}{at}", tmp_path, *options, package=bench.package)
    assert "commit" in bench.manifest()[first] and "commit" not in bench.manifest()[second]
    assert bool(online(bench.hub, second)) == published
    again = bench.publish("--record")
    assert again.code == 0 and f"se-zoo/{first}: up already" in again.printed, again
    for name in MODELS:
        repo = bench.hub.snapshot()[f"se-zoo/{name}"]
        assert list(repo["branches"]) == ["main"] and list(repo["tags"]) == ["v1"]
        assert online(bench.hub, name) == files_of(hub_of(bench.package, name))
        assert bench.manifest()[name]["commit"] in again.printed


def test_weights_that_are_not_packaged_come_from_the_recorded_commit(
    bench: Bench, tmp_path: Path
) -> None:
    """Whatever the repository holds later; and every file can be verified."""
    assert bench.publish("--record").code == 0
    stripped = copy_package(tmp_path / "package", without_weights=MODELS)
    shutil.copyfile(
        bench.package / "hub_cards" / "manifest.json", stripped / "hub_cards" / "manifest.json"
    )
    for name in MODELS:
        bench.hub.add(f"se-zoo/{name}", {"model.safetensors": b"somebody broke it"})
    code = """
from se_zoo.hub.compare import differences
pulled = timm.create_model("se_zoo/{name}", pretrained=True).eval()
answer = differences(timm.create_model("local-dir:{hub}", pretrained=True).eval(), pulled)
"""
    with HubWorker(bench.hub.url, tmp_path / "home", "", stripped) as client:
        for name in MODELS:
            assert client.python(code.format(name=name, hub=hub_of(bench.package, name))) == []
        for name in MODELS:
            verified = client.se_zoo("verify", f"se_zoo/{name}")
            assert verified.code == 0 and bench.manifest()[name]["commit"] in verified.printed
        card = client.se_zoo("card", f"se_zoo/{CELEBA}").printed
        assert "training.json" in card and "[`" in card


def test_weights_that_were_never_recorded_come_from_main(bench: Bench, tmp_path: Path) -> None:
    stripped = copy_package(tmp_path / "package", without_weights=[CELEBA])
    with HubWorker(bench.hub.url, tmp_path / "home", "", stripped) as client:
        create = f'answer = timm.create_model("se_zoo/{CELEBA}", pretrained=True).num_classes'
        with pytest.raises(RuntimeError, match=f"WeightsNotFoundError.*se-zoo/{CELEBA}"):
            client.python(create)
        refused = client.se_zoo("verify", f"se_zoo/{CELEBA}")
        assert "names no commit" in str(refused.code)
        assert client.se_zoo("verify", f"se_zoo/{MODELS[0]}").code == 0
        bench.hub.add(f"se-zoo/{CELEBA}", files_of(hub_of(bench.package, CELEBA)))
        assert client.python(create) == 40


def test_organisation_can_be_another(bench: Bench) -> None:
    done = bench.publish("--org", "my-team", "--private", "--record")
    assert done.code == 0 and f"my-team/{CELEBA} (private): published" in done.printed
    assert online(bench.hub, CELEBA, "my-team") == files_of(hub_of(bench.package, CELEBA))
    assert bench.manifest()[CELEBA]["repo"] == f"my-team/{CELEBA}"
    verified = bench.client.se_zoo("verify", f"hf-hub:my-team/{CELEBA}")
    assert verified.code == 0, verified
    assert "no repository" in str(bench.publish("--org", "not a name").code)


def test_folder_that_is_not_the_recorded_one_stays_here(bench: Bench) -> None:
    """A card that was edited in the package, or a file that does not belong there."""
    card = hub_of(bench.package, CELEBA) / "README.md"
    before = card.read_bytes()
    card.write_bytes(before + b"edited")
    try:
        done = bench.publish()
    finally:
        card.write_bytes(before)
    assert f"se-zoo/{CELEBA}: FAILED: " in done.printed and "README.md" in done.printed
    assert list(bench.hub.snapshot()) == [f"se-zoo/{MODELS[0]}"]


def test_what_somebody_edited_on_the_hub_is_not_overwritten(bench: Bench) -> None:
    assert bench.publish().code == 0
    files = bench.hub.files(f"se-zoo/{CELEBA}")
    bench.hub.add(f"se-zoo/{CELEBA}", {**files, "README.md": b"my own words"})
    assert "--overwrite" in bench.publish().printed
    assert bench.hub.files(f"se-zoo/{CELEBA}")["README.md"] == b"my own words"
    assert bench.publish("--overwrite").code == 0
    assert online(bench.hub, CELEBA) == files_of(hub_of(bench.package, CELEBA))


def test_own_repository_takes_the_packaged_weights_alone(bench: Bench, tmp_path: Path) -> None:
    """A run of the same model, trained by somebody else, has to go to another place."""
    run = tmp_path / "run"
    shutil.copytree(hub_of(bench.package, CELEBA), run)
    done = bench.client.se_zoo("publish", run, "--repo", f"se-zoo/{CELEBA}", "--dry-run")
    assert done.code == 0, done
    config = run / "config.json"
    config.write_text(config.read_text().replace('"crop_mode": "center"', '"crop_mode": "squash"'))
    other = bench.client.se_zoo("publish", run, "--repo", f"se-zoo/{CELEBA}")
    assert f"se_zoo/{CELEBA} gives" in str(other.code) and "preprocessing" in str(other.code)
    spoil = f"""
from safetensors.torch import load_file, save_file
weights = load_file({str(run / "model.safetensors")!r})
weights["fc.bias"] += 1
save_file(weights, {str(run / "model.safetensors")!r})
"""
    bench.client.python(spoil)
    refused = bench.client.se_zoo("publish", run, "--repo", f"se-zoo/{CELEBA}")
    assert "zoo's own repository" in str(refused.code) and "another --repo" in str(refused.code)
    assert not bench.hub.snapshot()


@pytest.mark.parametrize(
    "options, says",
    [
        (["--zoo", "run"], "goes without RUN"),
        (["--zoo", "--repo", "me/a", "--tag", "v1", "--pr"], "--repo, --pr, --tag"),
        (["run", "--record"], "are for --zoo"),
        (["run", "--org", "me"], "are for --zoo"),
        (["run"], "--repo <user or organisation>/<name>"),
        ([], "or give --zoo"),
    ],
)
def test_options_that_do_not_go_together(bench: Bench, options: Any, says: str) -> None:
    message = str(bench.client.se_zoo("publish", *options).code)
    assert message.startswith("se-zoo: ") and says in message
    assert not bench.hub.snapshot()


def test_without_a_token_nothing_is_tried(bench: Bench, tmp_path: Path) -> None:
    with HubWorker(bench.hub.url, tmp_path, "", bench.package) as nobody:
        done = nobody.se_zoo("publish", "--zoo")
    assert "hf auth login" in str(done.code) and not done.printed
