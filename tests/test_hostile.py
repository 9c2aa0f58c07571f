"""Repositories that mean harm, and downloads that go wrong: nothing is executed, nothing is written
outside the cache, nothing broken is trusted later, and the error names the cause and what to do."""

import json
import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional

import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save

import se_zoo
from se_zoo.models.load_model import load_any

from .hub_server import Fault, HubServer, User
from .hub_worker import Done, HubWorker
from .tester import randomise


class Exploit:
    """What a hostile pickle would run."""

    def __reduce__(self) -> Any:
        return exec, ("open('executed', 'w').close()",)


class Bench(NamedTuple):
    hub: HubServer
    client: HubWorker
    good: Dict[str, bytes]
    home: Path

    def pull(self, name: str = "hf-hub:evil/model", cache: Optional[Path] = None) -> Any:
        """Predict with a repository's model; the error's text where it cannot be had."""
        kept = f", cache_dir=pathlib.Path({str(cache)!r})" if cache else ""
        code = f"""
import os, pathlib, tempfile
os.chdir({str(self.home)!r})
if {cache is None}:
    place = tempfile.mkdtemp(dir={str(self.home / "caches")!r})
    model = timm.create_model({name!r}, pretrained=True, cache_dir=pathlib.Path(place))
else:
    model = timm.create_model({name!r}, pretrained=True{kept})
answer = model.eval().explain(torch.zeros(1, 3, 64, 64)).logits[0].tolist()
"""
        try:
            return self.client.python(code)
        except RuntimeError as error:
            return str(error)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: Any) -> Iterator[Bench]:
    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("home")
    (home / "caches").mkdir()
    model: Any = randomise(timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3))
    se_zoo.save(model, home / "good")
    good = {
        "config.json": (home / "good" / "config.json").read_bytes(),
        "model.safetensors": save(model.state_dict()),
    }
    tokens = {"owner": User("evil"), "other": User("other")}
    with HubServer(tokens) as hub, HubWorker(hub.url, home / "hf") as client:
        yield Bench(hub, client, good, home)


@pytest.fixture(autouse=True)
def clean(bench: Bench) -> Iterator[None]:
    """Every test ends with nothing executed, and nothing written beside the caches."""
    bench.hub.state.repos.clear()
    bench.hub.clear_faults()
    yield
    assert {p.name for p in bench.home.iterdir()} <= {"good", "caches", "hf"}


def config_of(bench: Bench, **changes: Any) -> bytes:
    return json.dumps({**json.loads(bench.good["config.json"]), **changes}).encode()


def weights(bench: Bench, change: Any) -> Dict[str, bytes]:
    from safetensors.torch import load

    state = load(bench.good["model.safetensors"])
    return {**bench.good, "model.safetensors": save(change(state))}


def test_good_repository(bench: Bench) -> None:
    bench.hub.add("evil/model", bench.good)
    assert len(bench.pull()) == 3


TINY = {"backbone": "test_resnet"}
PICKLE = pickle.dumps({"fc.weight": Exploit()})


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "open_clip_pytorch_model.bin"])
def test_only_a_pickle(bench: Bench, name: str) -> None:
    bench.hub.add("evil/model", {"config.json": bench.good["config.json"], name: PICKLE})
    message = bench.pull()
    assert message.startswith("WeightsNotFoundError") and "model.safetensors" in message
    assert name not in bench.hub.asked("evil/model"), "the pickle was fetched"


def test_pickle_under_the_name_of_safetensors(bench: Bench) -> None:
    bench.hub.add("evil/model", {**bench.good, "model.safetensors": PICKLE})
    assert "SafetensorError" in bench.pull()


@pytest.mark.parametrize(
    "cfg",
    [
        {"hf_hub_filename": "../../../harm.bin"},
        {"hf_hub_filename": "pytorch_model.bin"},
        {"file": "/etc/passwd"},
        {"url": "http://127.0.0.1:9/harm.pth"},
        {"custom_load": True},
        {"custom_load": "hf"},
        {"hf_hub_id": "evil/other", "source": "file"},
    ],
    ids=str,
)
def test_config_that_points_elsewhere(bench: Bench, cfg: Mapping[str, Any]) -> None:
    """What is loaded is the repository's own safetensors file, whatever its config says."""
    base = json.loads(bench.good["config.json"])["pretrained_cfg"]
    files = {**bench.good, "config.json": config_of(bench, pretrained_cfg={**base, **cfg})}
    files["pytorch_model.bin"] = PICKLE
    bench.hub.add("evil/model", files)
    answer = bench.pull()
    bench.hub.add("evil/good", bench.good)
    assert answer == bench.pull("hf-hub:evil/good"), answer
    assert bench.hub.asked("evil/model") == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"architecture": "resnet_of_evil"}, "Unknown model"),
        ({"architecture": "../../harm"}, "Unknown model"),
        ({"architecture": "resnet50_sehead", "model_args": {}}, "do not fit"),
        (
            {"num_classes": 7, "pretrained_cfg": {"num_classes": 7}, "model_args": TINY},
            "do not fit",
        ),
        ({"model_args": {"backbone": "../../harm"}}, "no backbone"),
        ({"model_args": {}}, "names no backbone"),
        (
            {"model_args": {"backbone": "test_resnet", "checkpoint_path": "harm.bin"}},
            "'checkpoint_path'",
        ),
        ({"model_args": {"backbone": "test_resnet", "cache_dir": "harm"}}, "'cache_dir'"),
        ({"model_args": {"backbone": "test_resnet", "no_such": 1}}, "no_such"),
        ({"model_args": {"backbone": "test_resnet", "gate": "open"}}, "gate"),
        ({"pretrained_cfg": {"no_such": 1}}, "no_such"),
    ],
    ids=str,
)
def test_config_that_describes_something_else(
    bench: Bench, changes: Dict[str, Any], says: str
) -> None:
    bench.hub.add("evil/model", {**bench.good, "config.json": config_of(bench, **changes)})
    message = bench.pull()
    assert isinstance(message, str) and says in message, message


@pytest.mark.parametrize("way", ["timm.create_model", "se_zoo.squeeze"])
@pytest.mark.parametrize(
    "args",
    [
        {"checkpoint_path": "HARM"},
        {"pretrained_cfg_overlay": {"file": "HARM"}},
        {"pretrained_cfg_overlay": {"source": "hf-hub", "hf_hub_id": "evil/model",
                                    "hf_hub_filename": "harm.bin"}},
        {"pretrained_cfg": {"file": "HARM"}},
        {"cache_dir": "elsewhere"},
        {"pretrained_strict": False},
        {"pretrained_custom_load": True},
    ],
    ids=lambda args: str(args)[:40],
)  # fmt: skip
def test_config_that_says_how_to_load(bench: Bench, way: str, args: Dict[str, Any]) -> None:
    """Neither a plain architecture through squeeze nor ours lets a config.json choose the file."""
    local = bench.home / "caches" / "harm.bin"
    local.write_bytes(PICKLE)
    text = json.dumps(args).replace("HARM", str(local))
    plain = way.endswith("squeeze")
    described = {"architecture": "test_resnet"} if plain else {}
    own = {} if plain else TINY
    config = config_of(bench, **described, model_args={**own, **json.loads(text)})
    bench.hub.add("evil/model", {**bench.good, "config.json": config, "harm.bin": PICKLE})
    with pytest.raises(RuntimeError, match=r"Unknown(Model|Argument)Error|TypeError"):
        bench.client.python(f"""
import os
os.chdir({str(bench.home)!r})
{way}("hf-hub:evil/model", pretrained=True)
""")
    assert "harm.bin" not in bench.hub.asked("evil/model")


def test_plain_architecture_of_endless_size(bench: Bench) -> None:
    """squeeze takes architectures without an SE head, whose arguments timm does not check."""
    args = {"layers": [10**9, 1, 1, 1]}
    config = config_of(bench, architecture="resnet18", model_args=args)
    bench.hub.add("evil/model", {**bench.good, "config.json": config})
    with pytest.raises(RuntimeError, match=r"UnknownModelError.*more than 1,000,000"):
        bench.client.python("se_zoo.squeeze('hf-hub:evil/model')")


def test_config_of_too_many_bytes(bench: Bench) -> None:
    config = bench.good["config.json"] + b" " * 16_000_000
    bench.hub.add("evil/model", {**bench.good, "config.json": config})
    message, _ = bench.client.python("answer = run('explain', '--model', 'hf-hub:evil/model')")
    assert message.startswith("se-zoo: ") and "at most 16,000,000" in message


def test_config_is_read_once(bench: Bench, tmp_path: Path) -> None:
    """The command line makes the model from what it has looked at, and the weights are of the same
    commit: between two readings a repository could change."""

    def readings() -> int:
        """Every reading asks the Hub by a HEAD, of a file in the cache too."""
        wanted = ("HEAD", "evil/model", "config.json")
        return sum((r.method, r.repo, r.file) == wanted for r in bench.hub.requests)

    first = bench.hub.add("evil/model", bench.good)
    code = """
from se_zoo.models.pretrained.fetch import described_model
answer = described_model("hf-hub:evil/model")[1]["hf_hub_id"]
"""
    assert bench.client.python(code) == f"evil/model@{first}"
    before = readings()
    out = tmp_path / "why.png"
    done = bench.client.se_zoo("explain", "--model", "hf-hub:evil/model", "--out", out)
    assert done.code == 0 and out.is_file(), done
    assert readings() - before == 1
    bench.client.python(
        "from se_zoo.models.load_model import load_model; load_model('hf-hub:evil/model')"
    )
    assert readings() - before == 2


@pytest.mark.parametrize("wrong", [{"pretrained_cfg": [1]}, {"model_args": [1]},
                                   {"architecture": 7}], ids=str)  # fmt: skip
def test_config_of_other_types(bench: Bench, wrong: Dict[str, Any]) -> None:
    bench.hub.add("evil/model", {**bench.good, "config.json": config_of(bench, **wrong)})
    message, _ = bench.client.python("answer = run('explain', '--model', 'hf-hub:evil/model')")
    assert str(message).startswith("se-zoo: ") and "\n" not in message, message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": 1}'])
def test_config_that_is_none(bench: Bench, content: bytes) -> None:
    bench.hub.add("evil/model", {**bench.good, "config.json": content})
    assert isinstance(bench.pull(), str)
    message, _ = bench.client.python("answer = run('explain', '--model', 'hf-hub:evil/model')")
    assert message.startswith("se-zoo: ") and "describes no model" in message


def nan(state: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    return {**state, "se.fc1.weight": state["se.fc1.weight"] * float("nan")}


def wider(state: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    return {**state, "fc.weight": torch.zeros(3, 7)}


def fewer(state: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    return {k: v for k, v in state.items() if k != "conv1.0.weight" and "bn1" not in k}


def more(state: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    return {**state, "harm": torch.zeros(1)}


@pytest.mark.parametrize(
    "change, says",
    [(nan, "NaN"), (wider, "do not fit"), (fewer, "do not fit"), (more, "do not fit")],
)
def test_weights_that_are_wrong(bench: Bench, change: Any, says: str) -> None:
    bench.hub.add("evil/model", weights(bench, change))
    message = bench.pull()
    assert isinstance(message, str) and message.startswith("WeightsNotFoundError"), message
    assert says in message and "evil/model" in message


@pytest.mark.parametrize("length", [0, 4, 100, -1000])
def test_weights_that_are_cut(bench: Bench, length: int) -> None:
    files = {**bench.good, "model.safetensors": bench.good["model.safetensors"][:length]}
    bench.hub.add("evil/model", files)
    assert "SafetensorError" in bench.pull()


def test_huge_header(bench: Bench) -> None:
    """A header that claims to be larger than the file, as a reader of lengths would believe."""
    claimed = (2**60).to_bytes(8, "little") + b"{}"
    bench.hub.add("evil/model", {**bench.good, "model.safetensors": claimed})
    assert "SafetensorError" in bench.pull()


def test_ten_megabytes_of_readme(bench: Bench) -> None:
    bench.hub.add("evil/model", {**bench.good, "README.md": b"# harm\n" * 1_500_000})
    assert len(bench.pull()) == 3
    assert "README.md" not in bench.hub.asked("evil/model")


def test_manifest_that_leads_elsewhere(bench: Bench) -> None:
    """`se-zoo verify` reads file names from the repository's own manifest."""
    true = {"model.safetensors": sha256(bench.good["model.safetensors"]).hexdigest()}

    def verified(others: Mapping[str, str]) -> Done:
        content = json.dumps({"files": {**true, **others}})
        bench.hub.add("evil/model", {**bench.good, "manifest.json": content.encode()})
        return bench.client.se_zoo("verify", "hf-hub:evil/model")

    done = verified({})
    assert done.code == 0 and "as published" in done.printed, done
    for name in ("../../harm", "/etc/passwd", "..\\harm"):
        message = str(verified({name: "0" * 64}).code)
        # Newer clients refuse the name; older ones ask the Hub, which has no such file.
        refused = f"{name} of evil/model: ValueError: Invalid "
        starts = f"se-zoo: {refused}", f"se-zoo: evil/model has no {name}: "
        assert message.startswith(starts), message


# Downloads that go wrong


def test_half_a_download_is_not_trusted_later(bench: Bench, tmp_path: Path) -> None:
    bench.hub.add("evil/model", bench.good)
    bench.hub.fail(Fault("cut", "/resolve/.*safetensors", "GET", times=None))
    message = bench.pull(cache=tmp_path)
    assert "run again" in message, message
    bench.hub.clear_faults()
    assert len(bench.pull(cache=tmp_path)) == 3


def test_damaged_download_is_not_trusted_later(bench: Bench, tmp_path: Path) -> None:
    """The client compares sizes alone; one wrong byte in the weights is found by its hash."""
    bench.hub.add("evil/model", bench.good)
    bench.hub.fail(Fault("corrupt", "/resolve/.*safetensors", "GET"))
    message = bench.pull(cache=tmp_path)
    assert "is damaged" in message and "removed from the cache" in message
    assert len(bench.pull(cache=tmp_path)) == 3


def test_file_that_was_damaged_in_the_cache(bench: Bench, tmp_path: Path) -> None:
    """By whatever: another program, a broken disk, a process that was killed in between."""
    bench.hub.add("evil/model", bench.good)
    assert len(bench.pull(cache=tmp_path)) == 3
    (file,) = tmp_path.glob("models--evil--model/snapshots/*/model.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.resolve().write_bytes(data)
    assert "is damaged" in bench.pull(cache=tmp_path)
    assert len(bench.pull(cache=tmp_path)) == 3


@pytest.mark.parametrize("text, says", [
    ("Data processing error: CAS service error : ReqwestMiddleware Error", "run again"),
    ("I/O error: No space left on device (os error 28)", "Free some space"),
])  # fmt: skip
def test_errors_of_the_other_transport(
    monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    """hf_xet, which the client uses where it is installed, raises RuntimeError for everything."""

    def download(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(text)

    monkeypatch.setattr("se_zoo.models.pretrained.fetch.hf_hub_download", download)
    with pytest.raises(se_zoo.WeightsNotFoundError, match=says):
        timm.create_model("resnet10t_sehead", pretrained=True)


@pytest.mark.parametrize("offline", [False, True], ids=["no network", "offline"])
def test_hub_that_cannot_be_reached_is_not_an_error_of_the_repository(
    monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    """Whoever reads the config.json: the command line, ``squeeze`` or timm."""

    def download(*args: Any, **kwargs: Any) -> Any:
        raise LocalEntryNotFoundError("nothing") from ConnectionRefusedError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("se_zoo.models.pretrained.fetch.hf_hub_download", download)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    says = "HF_HUB_OFFLINE" if offline else r"ConnectionRefusedError: no route.*HF_ENDPOINT"
    for call in (load_any, se_zoo.squeeze, se_zoo.create_model):
        with pytest.raises(se_zoo.WeightsNotFoundError, match=says) as caught:
            call("hf-hub:evil/model")
        assert "evil/model could not be fetched" in str(caught.value)


@pytest.mark.parametrize(
    "fault, says",
    [
        (Fault(500, "/resolve/.*safetensors", times=None), "HF_ENDPOINT"),
        (Fault("drop", "/resolve/.*safetensors", times=None), "run again"),
        (Fault(403, "/resolve/.*safetensors", code="GatedRepo", times=None), "accept its terms at"),
        (Fault(404, "/resolve/.*safetensors", code="EntryNotFound", times=None), "no such file"),
        (Fault(404, "/resolve/.*safetensors", code="RevisionNotFound", times=None), "revision"),
        (Fault(401, "/resolve/.*safetensors", code="RepoNotFound", times=None), "hf auth login"),
    ],
    ids=["500", "drop", "gated", "missing", "revision", "private"],
)
def test_error_names_the_next_step(bench: Bench, fault: Fault, says: str) -> None:
    bench.hub.add("evil/model", bench.good)
    bench.hub.fail(fault)
    message = bench.pull()
    assert message.startswith("WeightsNotFoundError") and says in message, message


def test_offline_needs_the_cache(bench: Bench, tmp_path: Path) -> None:
    bench.hub.add("timm/resnet10t.c3_in1k", bench.good)
    offline = """
from huggingface_hub import constants
constants.HF_HUB_OFFLINE = {}
"""
    bench.client.python(offline.format(True))
    try:
        message = bench.pull("resnet10t_sehead")
    finally:
        bench.client.python(offline.format(False))
    assert "unset HF_HUB_OFFLINE" in message, message


def test_pinned_commit_moves_with_nothing(bench: Bench) -> None:
    """A pinned repository is read at its commit, whatever main, or a tag, says now."""
    commit = bench.hub.add("evil/model", bench.good)
    bench.hub.add("evil/model", weights(bench, nan))
    assert "NaN" in bench.pull()
    assert len(bench.pull(f"hf-hub:evil/model@{commit}")) == 3
    assert isinstance(bench.pull("hf-hub:evil/model@" + "0" * 40), str)
