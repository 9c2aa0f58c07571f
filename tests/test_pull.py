"""Weights that come from a Hub: the real client talks to one on loopback, in a process of its own,
because it reads its endpoint when it is imported."""

import json
import socket
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

import se_zoo
from se_zoo import WeightsNotFoundError

from .hub_server import HubServer, client_environment
from .package_copy import CELEBA, copy_package
from .preloaded import ROOT, run_python
from .tester import randomise


class Exploit:
    """What a hostile pickle would run."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('a pickle was loaded')",)


SCRIPT = """
import json, sys, time
time.sleep = lambda seconds: None  # the client waits half a minute before it gives an endpoint up
import timm, torch
import se_zoo

answers = {}
for key, name, kwargs in json.loads(sys.argv[1]):
    try:
        create = se_zoo.squeeze if key.startswith("squeezed") else timm.create_model
        model = create(name, pretrained=True, **kwargs).eval()
        images = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
        answer = {"logits": model(images)[0, :8].tolist(), "labels": model.num_classes}
        answer["config"] = [model.pretrained_cfg.get(k) for k in ("file", "source", "hf_hub_id")]
        if hasattr(model, "explain"):
            answer["gate"] = model.explain(images).gate[0, :8].tolist()
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    answers[key] = answer
print(json.dumps(answers))
"""

CASES = (
    ("timm", "resnet10t", {}),
    ("registered", "resnet10t_sehead", {}),
    ("described", "timm_sehead", {"backbone": "resnet10t"}),
    ("squeezed", "resnet10t", {}),
    ("squeezed pickle", "resnet18", {}),
    ("disguised", "hf-hub:user/disguised", {}),
    ("elsewhere", f"se_zoo/{CELEBA}", {"pretrained_cfg_overlay": {"hf_hub_id": "user/faces"}}),
    ("speaker elsewhere", "se_zoo/asd_tiny_grid",
     {"pretrained_cfg_overlay": {"hf_hub_id": "user/voices"}}),
    ("by name", "hf-hub:user/mine", {}),
    ("pickle by name", "hf-hub:user/pickled", {}),
)  # fmt: skip
#: In a package without their weights: models of the zoo by what their repositories hold.
STRIPPED = (
    ("ours", f"se_zoo/{CELEBA}", {}),
    ("fewer classes", f"se_zoo/{CELEBA}", {"num_classes": 3}),
    ("missing", "se_zoo/asd_tiny_grid", {}),
)


def ask(
    cases: Any, endpoint: str, cache: Path, package: Optional[Path] = None, **environment: str
) -> Dict[str, Any]:
    """What each (key, model name, arguments) gives in a fresh process.

    Args:
        cases: Keys, names and arguments.
        endpoint: Address of the Hub.
        cache: Home of the client.
        package: Folder to import se_zoo from.
        **environment: Variables.
    """
    env = {**client_environment(endpoint, cache, package=package), **environment}
    done = run_python("-c", SCRIPT, json.dumps(cases), cwd=package or ROOT, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def publish(root: Path, repo: str, model: Any, weights: str = "model.safetensors") -> None:
    """Lay a model down to be served, a pickle that must not be loaded beside it."""
    folder = root / repo
    save_for_hf(model, str(folder), model_args=getattr(model, "_model_args", {}))
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "pytorch_model.bin").write_bytes(b"not to be asked for")
    if weights:
        save_file(model.state_dict(), folder / weights)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: Any) -> Iterator[Dict[str, Any]]:
    """All cases, asked of one server in one process; ``server`` is the server."""
    torch.manual_seed(0)
    root, cache = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("cache")
    plain: Any = randomise(timm.create_model("resnet10t"))
    publish(root, "timm/resnet10t.c3_in1k", plain)
    mine = se_zoo.squeeze("resnet10t", num_classes=5, gate="sigmoid")
    publish(root, "user/mine", randomise(mine))
    publish(root, "timm/resnet18.a1_in1k", plain, weights="")
    publish(root, "user/disguised", mine, weights="")
    torch.save({"fc.weight": Exploit()}, root / "user/disguised/model.safetensors")
    publish(root, "user/pickled", mine, weights="")
    ours, others = (randomise(timm.create_model(f"se_zoo/{CELEBA}")) for _ in range(2))
    publish(root, f"se-zoo/{CELEBA}", ours)
    publish(root, f"my-team/{CELEBA}", others)
    package = copy_package(tmp_path_factory.mktemp("package"), [CELEBA, "asd_tiny_grid"])
    with HubServer() as server:
        for folder in root.glob("*/*"):
            server.add_folder(folder.relative_to(root).as_posix(), folder)
        found = ask(CASES, server.url, cache)
        found.update(ask(STRIPPED, server.url, cache, package))
        found["team"] = ask(STRIPPED, server.url, cache, package, SE_ZOO_HUB_ORG="my-team")
        images = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
        with torch.no_grad():
            found["expected"] = {
                "timm": plain.eval()(images)[0, :8].tolist(),
                "mine": mine.eval()(images)[0, :8].tolist(),
                "ours": ours.eval()(images)[0, :8].tolist(),  # type: ignore[operator]
                "team": others.eval()(images)[0, :8].tolist(),  # type: ignore[operator]
            }
        yield {**found, "server": server}


@pytest.mark.parametrize("key", ["timm", "registered", "described", "squeezed"])
def test_untagged_pretrained_is_timms_own_model_to_the_bit(answers: Any, key: str) -> None:
    assert answers[key]["logits"] == answers["expected"]["timm"], answers[key]
    if key != "timm":
        assert answers[key]["gate"] == [1.0] * 8
    # Where the weights came from, not this machine's copy of them.
    assert answers[key]["config"] == [None, answers["timm"]["config"][1], "timm/resnet10t.c3_in1k"]


def test_users_repository_comes_back_to_the_bit(answers: Any) -> None:
    assert answers["by name"]["logits"] == answers["expected"]["mine"]


def test_zoo_model_that_is_not_packaged_comes_from_its_repository(answers: Any) -> None:
    assert answers["ours"]["logits"] == answers["expected"]["ours"]
    assert answers["ours"]["labels"] == 40 and answers["fewer classes"]["labels"] == 3
    assert answers["server"].asked(f"se-zoo/{CELEBA}") == ["model.safetensors"]


@pytest.mark.parametrize("key", ["pickle by name", "squeezed pickle"])
def test_repository_with_only_a_pickle_is_refused(answers: Any, key: str) -> None:
    error = answers[key]["error"]
    assert error.startswith("WeightsNotFoundError") and "model.safetensors" in error


def test_pickle_that_is_called_safetensors_is_not_loaded(answers: Any) -> None:
    error = answers["disguised"]["error"]
    assert error.startswith("WeightsNotFoundError") and "SafetensorError" in error


def test_no_pickle_was_ever_asked_for(answers: Any) -> None:
    files = {r.file for r in answers["server"].requests}
    assert files == {"model.safetensors", "config.json"}


def test_missing_repository_is_one_error_that_says_it_all(answers: Any) -> None:
    error = answers["missing"]["error"]
    assert error.startswith("WeightsNotFoundError")
    for part in ("asd_tiny_sehead.grid", "se-zoo/asd_tiny_grid", "hf auth login",
                 "pretrained=False"):  # fmt: skip
        assert part in error, part


def test_organisation_comes_from_the_environment(answers: Any) -> None:
    assert answers["team"]["ours"]["logits"] == answers["expected"]["team"]
    assert answers["team"]["ours"]["config"][2] == f"my-team/{CELEBA}"
    assert "my-team/asd_tiny_grid" in answers["team"]["missing"]["error"]


def test_other_repository_is_not_answered_with_the_packaged_weights(answers: Any) -> None:
    assert "user/faces" in answers["elsewhere"]["error"]
    assert "user/voices" in answers["speaker elsewhere"]["error"]


@pytest.mark.parametrize("org, asked", [("bad org!", "bad org!"), ("", "se-zoo")])
def test_organisation_that_is_no_name(
    monkeypatch: pytest.MonkeyPatch, org: str, asked: str
) -> None:
    monkeypatch.setenv("SE_ZOO_HUB_ORG", org)
    overlay = {"hf_hub_id": f"se-zoo/{CELEBA}"}  # not the packaged file
    with pytest.raises(WeightsNotFoundError, match=f"{asked}/{CELEBA}"):
        timm.create_model(f"se_zoo/{CELEBA}", pretrained=True, pretrained_cfg_overlay=overlay)


def test_closed_endpoint(tmp_path: Path) -> None:
    with socket.socket() as held:  # bound, not listening: nobody else gets the port
        held.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{held.getsockname()[1]}"
        found = ask(
            [("packaged", f"se_zoo/{CELEBA}", {}), ("timm", "resnet10t_sehead", {})],
            endpoint, tmp_path,
        )  # fmt: skip
    assert "logits" in found["packaged"], "the packaged model asked the network"
    error = found["timm"]["error"]
    assert error.startswith("WeightsNotFoundError") and "timm/resnet10t.c3_in1k" in error
    assert "HF_ENDPOINT" in error


def test_weights_that_exist_as_a_pickle_only_are_refused() -> None:
    name = next(
        n for n in timm.list_pretrained()
        if (cfg := timm.get_pretrained_cfg(n)) is not None and cfg.url and not cfg.hf_hub_id
    )  # fmt: skip
    with pytest.raises(WeightsNotFoundError, match=r"https?://.*does not load"):
        timm.create_model("timm_sehead", backbone=name, pretrained=True)
    with pytest.raises(WeightsNotFoundError, match=r"https?://.*does not load"):
        se_zoo.squeeze(name, pretrained=True)


def test_offline_mode_is_the_same_error() -> None:
    with pytest.raises(WeightsNotFoundError, match=r"timm/resnet10t\.c3_in1k.*HF_HUB_OFFLINE"):
        timm.create_model("resnet10t_sehead", pretrained=True)
