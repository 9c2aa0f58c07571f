"""What ``se-zoo publish``, ``card`` and ``verify`` take, refuse, and say."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import ModelCard

import se_zoo

pytest.importorskip("datasets", reason="trains a model: needs se_zoo[train]")
pytest.importorskip("accelerate", reason="trains a model: needs se_zoo[train]")

from .hub_server import Fault
from .hub_worker import Done, HubWorker
from .publishing import COMPARE, FACTS, Bench, bench, fresh  # noqa: F401  (fixtures)


def refused(done: Done, *parts: str) -> str:
    """The one line of a failed command."""
    message = str(done.code)
    assert message.startswith("se-zoo: ") and "\n" not in message, done
    for part in parts:
        assert part in message, message
    return message


@pytest.fixture
def copy(fresh: Bench, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return Path(shutil.copytree(fresh.run, tmp_path / "copy"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_dry_run_writes_what_would_go_up(fresh: Bench, copy: Path) -> None:
    asked = len(fresh.hub.requests)
    for _ in range(2):  # the second replaces the first
        done = fresh.client.se_zoo("publish", copy, "--repo", "me/faces", "--dry-run")
        assert done.code == 0 and "README.md" in done.printed
    assert len(fresh.hub.requests) == asked, "a dry run asked the Hub"
    assert fresh.client.se_zoo("publish", copy, "--repo", "me/faces").code == 0
    online = {k: v for k, v in fresh.hub.files("me/faces").items() if k != ".gitattributes"}
    assert online == {p.name: p.read_bytes() for p in (copy / "upload").iterdir()}
    assert not list(copy.glob("*.tmp"))


def test_card_says_what_was_measured(fresh: Bench) -> None:
    assert fresh.publish().code == 0
    card = ModelCard(fresh.hub.files("me/faces")["README.md"].decode())
    summary = json.loads((fresh.run / "summary.json").read_text())
    results = {r.metric_type: r for r in card.data.eval_results or []}
    for name in ("accuracy", "balanced_accuracy", "average_precision"):
        assert results[name].metric_value == summary["test"][name]
        assert results[name].dataset_split == "test"
        assert f"{100 * summary['test'][name]:.1f} %" in card.text
    assert "64 grey pictures." in card.text  # a figure that the facts quote
    assert card.data.library_name == "timm" and "se_zoo" in (card.data.tags or [])
    assert 'timm.create_model("hf-hub:me/faces", pretrained=True)' in card.text
    assert summary["commit"] in card.text


def test_repository_tells_nothing_of_the_machine(fresh: Bench, copy: Path) -> None:
    """No absolute path goes up: they name users, projects and disks."""
    done = fresh.client.se_zoo("publish", copy, "--repo", "me/faces", "--dry-run")
    assert done.code == 0
    for file in (copy / "upload").glob("*.*"):
        if file.suffix in (".json", ".md"):
            text = file.read_text()
            assert str(copy.parent) not in text and "/tmp/" not in text, file
    training = json.loads((copy / "upload" / "training.json").read_text())
    assert training["config"]["data"]["path"].startswith(".../")


def test_second_publication_is_one_commit_and_drops_what_is_gone(fresh: Bench, copy: Path) -> None:
    assert fresh.client.se_zoo("publish", copy, "--repo", "me/faces").code == 0
    first = fresh.hub.snapshot()["me/faces"]
    (copy / "curves.png").unlink()
    edit(copy / "card" / "facts.yaml", "A test.", "Another test.")
    done = fresh.client.se_zoo("publish", copy, "--repo", "me/faces", "--tag", "better")
    assert done.code == 0 and "tag better" in done.printed
    repo = fresh.hub.state.repos["me/faces"]
    second = fresh.hub.snapshot()["me/faces"]
    assert "curves.png" not in second["branches"]["main"] and "curves.png" in first["tags"]["v1"]
    assert second["tags"]["v1"] == first["tags"]["v1"] != second["tags"]["better"]
    # The initial commit, and for each publication one on the branch and one on main.
    assert len(repo.commits) == 5
    again = fresh.client.se_zoo("publish", copy, "--repo", "me/faces", "--tag", "better")
    assert again.code == 0 and "nothing had changed" in again.printed
    edit(copy / "card" / "facts.yaml", "Another test.", "A third one.")
    taken = fresh.client.se_zoo("publish", copy, "--repo", "me/faces", "--tag", "better")
    refused(taken, "has a tag better already")


def test_another_machine_is_no_change(fresh: Bench) -> None:
    """Sizes are counted at each publication, and name the machine; that alone is no change."""
    assert fresh.publish().code == 0
    before = fresh.hub.snapshot()
    fresh.client.python("torch.set_num_threads(2)")
    try:
        again = fresh.publish()
    finally:
        fresh.client.python("torch.set_num_threads(1)")
    assert again.code == 0 and "nothing had changed" in again.printed
    assert fresh.hub.snapshot() == before


def test_edited_card_is_not_overwritten(fresh: Bench, copy: Path) -> None:
    assert fresh.publish().code == 0
    files = fresh.hub.files("me/faces")
    fresh.hub.add("me/faces", {**files, "README.md": files["README.md"] + b"\nMy own words.\n"})
    edit(copy / "card" / "facts.yaml", "A test.", "Another test.")
    before = fresh.hub.snapshot()
    again = fresh.client.se_zoo("publish", copy, "--repo", "me/faces")
    refused(again, "README.md", "--overwrite")
    assert fresh.hub.snapshot() == before
    assert fresh.client.se_zoo("publish", copy, "--repo", "me/faces", "--overwrite").code == 0
    assert b"My own words" not in fresh.hub.files("me/faces")["README.md"]


def test_edited_file_that_is_gone_is_not_deleted(fresh: Bench, copy: Path) -> None:
    assert fresh.client.se_zoo("publish", copy, "--repo", "me/faces").code == 0
    files = fresh.hub.files("me/faces")
    fresh.hub.add("me/faces", {**files, "curves.png": b"drawn by hand"})
    (copy / "curves.png").unlink()
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "curves.png")
    assert fresh.hub.files("me/faces")["curves.png"] == b"drawn by hand"


def test_branches_of_others_stay(fresh: Bench) -> None:
    """Only branches that are called as a publication calls its own are cleared up."""
    fresh.hub.add("me/faces", {"notes.md": b"notes"})
    repo = fresh.hub.state.repos["me/faces"]
    repo.point("refs/heads/se-zoo-publish-0123abcd", repo.refs["refs/heads/main"])
    from .hub_state import Blob

    repo.record("refs/heads/se-zoo-publish-theirs", {"other.md": Blob(b"work", lfs=False)})
    assert fresh.publish().code == 0
    branches = fresh.hub.snapshot()["me/faces"]["branches"]
    assert sorted(branches) == ["main", "se-zoo-publish-theirs"]


def test_branch_of_a_killed_publication_is_removed_or_named(fresh: Bench, copy: Path) -> None:
    """Although its files were withdrawn. While main does not move, it may be in progress."""
    from .hub_state import Blob

    publish, branch = ("publish", copy, "--repo", "me/faces"), "se-zoo-publish-0123abcd"
    assert fresh.client.se_zoo(*publish).code == 0
    repo = fresh.hub.state.repos["me/faces"]
    main = repo.commits[repo.refs["refs/heads/main"]]
    repo.record(f"refs/heads/{branch}", {**main, "withdrawn.json": Blob(b"{}", lfs=False)})
    again = fresh.client.se_zoo(*publish)
    assert again.code == 0 and "nothing had changed" in again.printed
    assert f"delete_branch('me/faces', branch='{branch}')" in again.printed
    assert branch in fresh.hub.snapshot()["me/faces"]["branches"]
    edit(copy / "card" / "facts.yaml", "A test.", "Another test.")
    moved = fresh.client.se_zoo(*publish)
    assert moved.code == 0 and branch not in moved.printed
    assert list(fresh.hub.snapshot()["me/faces"]["branches"]) == ["main"]


def test_branch_of_a_publication_that_began_later_stays(fresh: Bench) -> None:
    """It is on top of the new commit, so it can succeed."""
    branch = "se-zoo-publish-0123abcd"
    code = f"""
import sys, se_zoo.hub
remote = sys.modules["se_zoo.hub.remote"].Remote
commit_main = remote.commit_main
def then_another_begins(self, *args):
    commit = commit_main(self, *args)
    self.api.create_branch(self.repo, branch={branch!r}, revision=commit)
    return commit
remote.commit_main = then_another_begins
try:
    answer = run("publish", {str(fresh.run)!r}, "--repo", "me/faces")
finally:
    remote.commit_main = commit_main
"""
    done = Done(*fresh.client.python(code))
    assert done.code == 0 and branch in done.printed
    assert sorted(fresh.hub.snapshot()["me/faces"]["branches"]) == ["main", branch]


def test_organisation_that_keeps_new_repositories_private(fresh: Bench) -> None:
    """Without --private the choice is the owner's, and the command says which it was."""
    fresh.hub.state.private_by_default = True
    try:
        done = fresh.publish()
    finally:
        fresh.hub.state.private_by_default = False
    assert done.code == 0 and "me/faces (private): published" in done.printed
    assert fresh.hub.snapshot()["me/faces"]["private"]


def test_somebody_elses_weights_are_not_overwritten(fresh: Bench) -> None:
    fresh.hub.add("me/faces", {"model.safetensors": b"others", "notes.md": b"notes"})
    refused(fresh.publish(), "model.safetensors", "--overwrite")
    assert fresh.publish("--overwrite").code == 0
    assert fresh.hub.files("me/faces")["notes.md"] == b"notes"


def test_files_of_an_earlier_model_are_removed(fresh: Bench) -> None:
    """transformers would preprocess with the one, and load the other over the weights.

    It loads none of the others beside ``model.safetensors``.
    """
    earlier = {"preprocessor_config.json": b"{}", "adapter_config.json": b"{}"}
    others = {
        "notes.md": b"notes", "pytorch_model.bin": b"old", "model.safetensors.index.json": b"{}",
    }  # fmt: skip
    fresh.hub.add("me/faces", {**earlier, **others})
    refused(
        fresh.publish(), "changed adapter_config.json, preprocessor_config.json in me/faces",
        "--overwrite",
    )  # fmt: skip
    assert set(earlier) <= set(fresh.hub.files("me/faces"))
    assert fresh.publish("--overwrite").code == 0
    files = fresh.hub.files("me/faces")
    assert set(others) <= set(files) and not set(earlier) & set(files)


def test_private_repository(fresh: Bench, tmp_path: Path) -> None:
    """Made private, pulled back by its owner, and an error that says so for everyone else."""
    assert fresh.publish("--private").code == 0
    assert fresh.hub.snapshot()["me/faces"]["private"]
    code = "answer = timm.create_model('hf-hub:me/faces', pretrained=True).num_classes"
    assert fresh.client.python(code) == 40
    with HubWorker(fresh.hub.url, tmp_path) as stranger:
        refused(stranger.se_zoo("explain", "--model", "hf-hub:me/faces"), "401")
        refused(stranger.se_zoo("verify", "hf-hub:me/faces"), "private", "hf auth login")


def test_public_repository_does_not_become_private_quietly(fresh: Bench) -> None:
    fresh.hub.add("me/faces", {})
    refused(fresh.publish("--private"), "is public")


def test_pull_request(fresh: Bench, tmp_path: Path) -> None:
    """By someone who may not write: checked, left open, and main as it was."""
    fresh.hub.add("me/faces", {"notes.md": b"notes"})
    before = fresh.hub.snapshot()["me/faces"]["branches"]
    with HubWorker(fresh.hub.url, tmp_path, "theirs") as guest:
        refused(guest.se_zoo("publish", fresh.run, "--repo", "me/faces"), "--pr")
        done = guest.se_zoo("publish", fresh.run, "--repo", "me/faces", "--pr")
        assert done.code == 0 and "waits to be merged" in done.printed, done
        refused(guest.se_zoo("publish", fresh.run, "--repo", "me/other", "--pr"), "does not exist")
    after = fresh.hub.snapshot()["me/faces"]
    assert after["branches"] == before and not after["tags"]
    assert [set(p) >= {"model.safetensors", "README.md"} for p in after["pulls"].values()] == [True]


def test_earlier_pull_request_stays_open(fresh: Bench, copy: Path, tmp_path: Path) -> None:
    fresh.hub.add("me/faces", {"notes.md": b"notes"})
    with HubWorker(fresh.hub.url, tmp_path / "hf", "theirs") as guest:
        publish = ("publish", copy, "--repo", "me/faces", "--pr")
        assert guest.se_zoo(*publish).code == 0
        edit(copy / "card" / "facts.yaml", "A test.", "Another test.")
        before = fresh.hub.snapshot()
        fresh.hub.fail(Fault(500, "/preupload/", times=None))
        refused(guest.se_zoo(*publish))
        assert fresh.hub.snapshot() == before


def test_pull_request_without_changes(fresh: Bench, tmp_path: Path) -> None:
    assert fresh.publish().code == 0
    before = fresh.hub.snapshot()
    with HubWorker(fresh.hub.url, tmp_path, "theirs") as guest:
        done = guest.se_zoo("publish", fresh.run, "--repo", "me/faces", "--pr")
        assert done.code == 0 and "nothing had changed" in done.printed
        for option in (["--tag", "v9"], ["--private"]):
            refused(guest.se_zoo("publish", fresh.run, "--repo", "me/faces", "--pr", *option))
    assert fresh.hub.snapshot() == before


@pytest.mark.parametrize("pattern", ["/commit/main", "/resolve/.*config.json"])
def test_failed_pull_request_is_closed(fresh: Bench, tmp_path: Path, pattern: str) -> None:
    """Also where the Hub opened it and its answer was lost."""
    fresh.hub.add("me/faces", {"notes.md": b"notes"})
    before = fresh.hub.snapshot()
    fresh.hub.fail(Fault("lost", pattern))
    with HubWorker(fresh.hub.url, tmp_path, "theirs") as guest:
        refused(guest.se_zoo("publish", fresh.run, "--repo", "me/faces", "--pr"))
        assert fresh.hub.snapshot() == before
        assert guest.se_zoo("publish", fresh.run, "--repo", "me/faces", "--pr").code == 0


def test_without_a_token(fresh: Bench, tmp_path: Path) -> None:
    with HubWorker(fresh.hub.url, tmp_path) as nobody:
        refused(nobody.se_zoo("publish", fresh.run, "--repo", "me/faces"), "hf auth login")


def test_offline(fresh: Bench) -> None:
    code = """
from huggingface_hub import constants
constants.HF_HUB_OFFLINE = True
try:
    answer = run("publish", {!r}, "--repo", "me/faces")
finally:
    constants.HF_HUB_OFFLINE = False
"""
    refused(Done(*fresh.client.python(code.format(str(fresh.run)))), "HF_HUB_OFFLINE")


@pytest.mark.parametrize("name", ["v 1", "-v", "a..lock", "v1.lock", "é"])
def test_tag_that_is_no_name(fresh: Bench, name: str) -> None:
    refused(fresh.publish(f"--tag={name}"), "no name for a tag")
    assert not fresh.hub.state.repos


def test_tag_of_another_commit(fresh: Bench, copy: Path) -> None:
    """Found before anything is changed, and also where nothing has to be."""
    assert fresh.client.se_zoo("publish", copy, "--repo", "me/faces").code == 0
    edit(copy / "card" / "facts.yaml", "A test.", "Another test.")
    assert fresh.client.se_zoo("publish", copy, "--repo", "me/faces").code == 0
    refused(
        fresh.client.se_zoo("publish", copy, "--repo", "me/faces", "--tag", "v1"),
        "before anything was changed", "has a tag v1 already",
    )  # fmt: skip


# What is refused before the Hub is asked


def spoil_weights(run: Path, tensor: Any) -> None:
    from safetensors.torch import load_file, save_file

    file = run / "export" / "model.safetensors"
    state = load_file(file)
    state["fc.weight"] = tensor(state["fc.weight"])
    save_file(state, file)


def test_nan_weights_are_not_published(fresh: Bench, copy: Path) -> None:
    spoil_weights(copy, lambda w: w * float("nan"))
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "fc.weight", "NaN")


def test_weights_of_another_shape_are_not_published(fresh: Bench, copy: Path) -> None:
    spoil_weights(copy, lambda w: w[:7].clone())
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "fc.weight", "do not fit")


@pytest.mark.parametrize(
    "lacking, says",
    [
        ("export/config.json", "explains nothing"),
        ("export/model.safetensors", "has no model.safetensors"),
        ("card/facts.yaml", "card COPY --new"),
        ("summary.json", "is not finished"),
    ],
)
def test_incomplete_run(fresh: Bench, copy: Path, lacking: str, says: str) -> None:
    (copy / lacking).unlink()
    done = fresh.client.se_zoo("publish", copy, "--repo", "me/faces")
    refused(done, says.replace("COPY", str(copy)))


def test_figures_are_there_or_their_absence_is_declared(fresh: Bench, copy: Path) -> None:
    (copy / "summary.json").unlink()
    shutil.rmtree(copy / "state")
    edit(copy / "card" / "facts.yaml", '"{{ training.samples.train | count }} grey pictures."', "x")
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "--no-metrics")
    done = fresh.client.se_zoo("publish", copy, "--repo", "me/faces", "--no-metrics")
    assert done.code == 0
    card = fresh.hub.files("me/faces")["README.md"].decode()
    assert "Not measured." in card and "model-index" not in card


def test_summary_of_another_model(fresh: Bench, copy: Path) -> None:
    summary = json.loads((copy / "summary.json").read_text())
    summary["labels"] = summary["labels"][::-1]
    (copy / "summary.json").write_text(json.dumps(summary))
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "other labels")


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("bias: None was measured.", "", "missing: bias"),
        ("bias:", "biass:", "unknown: biass"),
        ("A test.", "TODO write", "not filled in yet: summary"),
        ("A test.", "Scores {{ training.test.acuracy }}.", "has no attribute 'acuracy'"),
        ("A test.", "Scores {{ control.test.accuracy }}.", "'control' is undefined"),
        ("bias: None was measured.", "bias: no", "expected str"),
        ("limits: [It knows nothing.]", "limits: text", "expected a tuple"),
        ("summary:", "summary: [", "cannot be read"),
        ("A test.", "A {{ size | percent }}", "TypeError"),
        ("A test.", "A {{ 1 / 0 }}", "ZeroDivisionError"),
        ("A test.", "A {{ ''.__class__ }}", "unsafe"),
        ("A test.", "A {{ cycler.__init__.__globals__ }}", "unsafe"),
        ("summary: A test.", "like: facts.yaml", "holds no facts"),
        ("id: mit", "id: my-own", '"license" must be one of'),
        ("name: made up", "name: made up, hub_id: 'not an id'", "no id on the Hub"),
    ],
)
def test_facts_that_are_not_in_order(
    fresh: Bench, copy: Path, old: str, new: str, says: str
) -> None:
    edit(copy / "card" / "facts.yaml", old, new)
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), says)


def test_figures_without_their_origin_are_refused(fresh: Bench, copy: Path) -> None:
    (copy / "card" / "speed.json").write_text('{"plain_ms": 1}')
    refused(
        fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "does not say how", "command"
    )


@pytest.mark.parametrize("name", ["config", "manifest", "facts", "status", "picture"])
def test_names_that_figures_cannot_have(fresh: Bench, copy: Path, name: str) -> None:
    origin = {"command": "c", "commit": "1", "environment": {}}
    (copy / "card" / f"{name}.json").write_text(json.dumps(origin))
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), f"{name}.json")


def test_figures_of_other_weights(fresh: Bench, copy: Path) -> None:
    origin = {"command": "c", "commit": "1", "environment": {}, "weights_sha256": "0" * 64}
    (copy / "card" / "maps.json").write_text(json.dumps(origin))
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "on other weights")


def test_summary_of_other_weights(fresh: Bench, copy: Path) -> None:
    summary = json.loads((copy / "summary.json").read_text())
    summary["weights_sha256"] = "0" * 64
    (copy / "summary.json").write_text(json.dumps(summary))
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "figures of other weights")
    del summary["weights_sha256"]
    (copy / "summary.json").write_text(json.dumps(summary))
    refused(
        fresh.client.se_zoo("publish", copy, "--repo", "me/faces"),
        "does not name the weights", "give its recipe's command again",
    )  # fmt: skip


def test_test_figures_name_their_weights(fresh: Bench, copy: Path) -> None:
    origin = {"command": "c", "commit": "1", "environment": {}}
    (copy / "card" / "test.json").write_text(json.dumps(origin))
    done = fresh.client.se_zoo("publish", copy, "--repo", "me/faces")
    refused(done, "test.json does not name the weights", "state weights_sha256 in test.json")


def test_the_zoos_test_figures_are_written_anew_by_a_command(fresh: Bench) -> None:
    from se_zoo.hub.stage import _check_sources

    export = fresh.run / "export"
    zoo: Any = SimpleNamespace(card=Path("card"), export=export, own="tiny_celeba", summary=None)
    with pytest.raises(se_zoo.InvalidInputError, match=r"tools\.score_celeba tiny_celeba --folder"):
        _check_sources(zoo, {"test": {}})


def test_control_differs_in_the_block_alone(fresh: Bench, copy: Path) -> None:
    summary = json.loads((copy / "summary.json").read_text())
    control = copy / "card" / "control.json"
    summary["config"]["model"]["se"] = False
    summary["config"]["run"]["output"] = "elsewhere"
    control.write_text(json.dumps(summary))
    shown = fresh.client.se_zoo("card", copy)
    assert shown.code == 0 and "without it, same recipe and seed" in shown.printed
    summary["config"]["run"]["seed"] = 7
    control.write_text(json.dumps(summary))
    refused(fresh.client.se_zoo("card", copy), "no control of this run", "run.seed")


def test_control_is_another_run_of_the_same_data(fresh: Bench, copy: Path) -> None:
    summary, control = copy / "summary.json", copy / "card" / "control.json"
    shutil.copyfile(summary, control)
    refused(fresh.client.se_zoo("card", copy), "no control of this run: it was trained with the")
    content = json.loads(summary.read_text())
    content["config"]["model"]["se"] = False
    content["data"]["train"]["files"] = "0" * 32
    control.write_text(json.dumps(content))
    refused(fresh.client.se_zoo("card", copy), "besides the block, data differ")


@pytest.mark.parametrize("value", [float("nan"), None, "high", 71.2])
def test_figures_that_are_none(fresh: Bench, copy: Path, value: Any) -> None:
    summary = json.loads((copy / "summary.json").read_text())
    summary["test"]["accuracy"] = value
    (copy / "summary.json").write_text(json.dumps(summary))
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "accuracy")


def test_photo_lies_beside_the_facts(fresh: Bench, copy: Path) -> None:
    gallery = "gallery: {photo: /etc/hostname, targets: [Smiling], caption: x}\n"
    edit(copy / "card" / "facts.yaml", "bias: None", f"{gallery}bias: None")
    refused(fresh.client.se_zoo("publish", copy, "--repo", "me/faces"), "beside the facts")


def test_repository_of_one_of_the_zoos_models(fresh: Bench) -> None:
    """It is for the packaged weights; the name is said, not guessed."""
    refused(fresh.publish(repo="se-zoo/resnet18_slim_celeba"), "zoo's own repository", "--repo")
    refused(fresh.client.se_zoo("publish", fresh.run), "--repo")
    refused(fresh.client.se_zoo("publish", fresh.run, "--repo", "faces"), "no repository")
    assert not fresh.hub.state.repos


def test_draft_of_the_facts(fresh: Bench, copy: Path) -> None:
    refused(fresh.client.se_zoo("card", copy, "--new"), "is there already")
    shutil.rmtree(copy / "card")
    assert fresh.client.se_zoo("card", copy, "--new").code == 0
    # Of the data set that the recipe knows by its tag most is known.
    refused(fresh.client.se_zoo("card", copy), "not filled in yet: summary, data.text.")
    shutil.rmtree(copy / "card")
    edit(copy / "export" / "config.json", '"tag": "celeba"', '"tag": "../celeba"')
    assert fresh.client.se_zoo("card", copy, "--new").code == 0
    refused(fresh.client.se_zoo("card", copy), "not filled in yet: summary, license.id, data.name")
    draft = copy / "card" / "facts.yaml"
    text = draft.read_text().replace("TODO", "done")
    draft.write_text(text.replace("'done: mit, apache-2.0", "'mit # "))
    shown = fresh.client.se_zoo("card", copy, "--repo", "me/faces")
    assert shown.code == 0 and "# me/faces" in shown.printed


def test_draft_of_a_fine_tuned_model_does_not_name_the_old_data(tmp_path: Path) -> None:
    from se_zoo.hub.read_run import write_draft

    model: Any = timm.create_model("resnet10t_sehead", num_classes=2)
    model.pretrained_cfg.update(tag="celeba")
    folder = se_zoo.save(model, tmp_path / "pets", labels=["cat", "dog"])
    draft = write_draft(folder).read_text("utf-8")
    assert "celeba" not in draft.lower() and "TODO: mit" in draft


def test_own_model_without_a_recipe(fresh: Bench, tmp_path: Path) -> None:
    """A ``timm_sehead`` that a user trained and saved, with labels, photo and all."""
    torch.manual_seed(0)
    model = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3)
    folder = tmp_path / "pets"
    se_zoo.save(model, folder)
    (folder / "card").mkdir()
    (folder / "card" / "facts.yaml").write_text(FACTS)
    nameless = fresh.client.se_zoo("publish", folder, "--repo", "me/pets", "--no-metrics")
    refused(nameless, "names no labels for the 3 classes", "se_zoo.save(model, folder, labels=")
    se_zoo.save(model, folder, labels=["cat", "dog", "horse"], overwrite=True)
    facts = FACTS.replace('"{{ training.samples.train | count }} grey pictures."', "Pets.")
    gallery = "gallery: {photo: grace_hopper.jpg, targets: [dog], caption: '{{ gallery.photo }}'}\n"
    (folder / "card" / "facts.yaml").write_text(facts + gallery)
    done = fresh.client.se_zoo("publish", folder, "--repo", "me/pets", "--no-metrics")
    assert done.code == 0, done
    files = fresh.hub.files("me/pets")
    assert {"gallery.png", "gallery.json"} <= set(files)
    assert b"![A photo explained](gallery.png)" in files["README.md"]
    code = COMPARE.format(export=folder, name="hf-hub:me/pets")
    assert fresh.client.python(code) == [True] * 4
    name = "hf-hub:me/pets"
    out = tmp_path / "why.png"
    done = fresh.client.se_zoo("explain", "--model", name, "--target", "horse", "--out", out)
    assert done.code == 0 and "horse" in done.printed


@pytest.mark.slow  # test_save has the same of a folder
def test_transformers_answers_as_timm_does(fresh: Bench, tmp_path: Path) -> None:
    """Logits to the bit in fp32, label names, and sigmoids for independent labels."""
    pytest.importorskip("transformers", reason="needs transformers (extra: dev)")
    assert fresh.publish().code == 0
    code = """
import numpy, transformers
from PIL import Image
image = Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (60, 50, 3), "uint8"))
model = transformers.AutoModelForImageClassification.from_pretrained("me/faces").eval()
processor = transformers.AutoImageProcessor.from_pretrained("me/faces")
ours = timm.create_model("hf-hub:me/faces", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=ours))
with torch.no_grad():
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    mine = ours(transform(image)[None])
    answer = {"pixels": torch.equal(pixels, transform(image)[None]),
              "logits": torch.equal(model(pixels).logits, ours(pixels))}
found = transformers.pipeline("image-classification", model="me/faces", top_k=40)(image)
chances = dict(zip(ours.class_labels(), mine.sigmoid()[0].tolist()))
answer["pipeline"] = max(abs(f["score"] - chances[f["label"]]) for f in found)
"""
    answer = fresh.client.python(code)
    assert answer["pixels"] and answer["logits"]
    assert answer["pipeline"] < 1e-6


def test_verify_finds_damage(fresh: Bench) -> None:
    assert fresh.publish().code == 0
    files = fresh.hub.files("me/faces")
    config = files["config.json"].replace(b'"crop_pct": ', b'"crop_pct":  ')
    fresh.hub.add("me/faces", {**files, "config.json": config})
    refused(fresh.client.se_zoo("verify", "hf-hub:me/faces"), "config.json", "not what was")
    fresh.hub.add("me/plain", {"config.json": b"{}"})
    refused(fresh.client.se_zoo("verify", "hf-hub:me/plain"), "no manifest.json")
    refused(fresh.client.se_zoo("verify", "resnet50_sehead.a1_in1k"), "knows no hashes")
    done = fresh.client.se_zoo("verify", "se_zoo/resnet18_slim_celeba")
    assert done.code == 0 and "all finite" in done.printed
