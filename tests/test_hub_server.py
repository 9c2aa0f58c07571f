"""The Hub on loopback, asked by the real client: what it answers, and its faults."""

import hashlib
import json
import socket
import threading
import time
from contextlib import closing
from email.message import Message
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple

import pytest

from .hub_server import Fault, HubServer, User, client_environment
from .preloaded import start_python

TOKENS = {"zoo": User("keeper", ["zoo"]), "guest": User("guest")}
BIG = bytes(range(256)) * 4096  # larger than what is read from a socket at once
SHA256 = hashlib.sha256(BIG).hexdigest()
CARD = b"---\nlicense: mit\n---\n# A\n"
FAULTS = (
    Fault(503, "/upload/zoo/busy/", times=2),
    Fault(403, "/zoo/denied/commit/", error="not today"),
    Fault("drop", "/upload/zoo/reset/"),
    Fault("drop", "/upload/zoo/dropped/", times=None),
    Fault("drop", "/zoo/unanswered/commit/"),
    Fault("lost", "/zoo/lost/commit/"),
    Fault("slow", "/zoo/slow/commit/", seconds=0.3),
    Fault("cut", "/zoo/cut/resolve/", method="GET"),
    Fault("corrupt", "/zoo/corrupt/resolve/", method="GET"),
    Fault("hang", "/zoo/hanging/commit/"),
)

SCRIPT = """
import hashlib, json, time
time.sleep = lambda seconds: None  # the client waits longer and longer between its attempts
import huggingface_hub
from huggingface_hub import CommitOperationAdd as Add, CommitOperationDelete as Delete
from huggingface_hub import HfApi, ModelCard

big, found = bytes(range(256)) * 4096, {"version": huggingface_hub.__version__}
zoo, guest, nobody = HfApi(token="zoo"), HfApi(token="guest"), HfApi(token=False)

def note(name, call, *args, **kwargs):
    try:
        found[name] = call(*args, **kwargs)
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        found[name] = [type(error).__name__, status]
        found[name + " text"] = str(error)
    return found[name]

def upload(repo, files, api=zoo, delete=(), **kwargs):
    operations = [Add(path, data) for path, data in files.items()] + [Delete(p) for p in delete]
    return api.create_commit(repo, operations, commit_message="files", **kwargs)

def digest(repo, file, api=zoo, **kwargs):
    path = api.hf_hub_download(repo, file, **kwargs)
    return hashlib.sha256(open(path, "rb").read()).hexdigest()

# Who, and repositories.
note("whoami", lambda: zoo.whoami()["name"])
note("orgs", lambda: [org["name"] for org in zoo.whoami()["orgs"]])
note("whoami stranger", HfApi(token="stranger").whoami)
note("create", lambda: zoo.create_repo("zoo/a").repo_id)
note("create again", zoo.create_repo, "zoo/a")
note("create exist_ok", lambda: zoo.create_repo("zoo/a", exist_ok=True).repo_id)
note("create own", lambda: guest.create_repo("mine", private=True).repo_id)
note("create foreign", guest.create_repo, "zoo/b")
note("create nobody", nobody.create_repo, "zoo/b")

# Commits.
card = "---\\nlicense: mit\\n---\\n# A\\n"
files = {"model.safetensors": big, "README.md": card.encode(), "images/a.png": b"png", "x": b""}
first = note("commit", lambda: upload("zoo/a", files).oid)
parent = dict(delete=["images/"], parent_commit=first)
second = note("commit on parent", lambda: upload("zoo/a", {"x": b"1"}, **parent).oid)
note("stale parent", lambda: upload("zoo/a", {"x": b"2"}, parent_commit=first).oid)
same = {"model.safetensors": big, "x": b"1"}
note("unchanged", lambda: upload("zoo/a", same).oid)
note("moved", lambda: upload("zoo/a", {"again.bin": big}, delete=["x"]).oid)
note("delete missing", lambda: upload("zoo/a", {}, delete=["no"]).oid)
note("commit foreign", lambda: upload("zoo/a", {"x": b"3"}, guest).oid)
note("commit nobody", lambda: upload("zoo/a", {"x": b"3"}, nobody).oid)
note("commit no repo", lambda: upload("zoo/none", {"x": b"3"}).oid)
note("commit no branch", lambda: upload("zoo/a", {"x": b"3"}, revision="none").oid)
path = "large.safetensors"
open(path, "wb").write(big[:-1])
note("commit file", lambda: zoo.upload_file(
    path_or_fileobj=path, path_in_repo=path, repo_id="zoo/a").oid)

# Pull requests.
pull = upload("zoo/a", {"p.bin": b"p"}, guest, create_pr=True, parent_commit=first)
found["pull"] = [pull.pr_num, pull.pr_revision]
note("pull file", digest, "zoo/a", "p.bin", revision=pull.pr_revision)
note("pull more", lambda: upload("zoo/a", {"q": b"q"}, revision="refs/pr/1").oid)
note("pull open", lambda: nobody.get_discussion_details("zoo/a", 1).status)
note("close", lambda: guest.change_discussion_status("zoo/a", 1, "closed").new_status)
note("pull closed", lambda: nobody.get_discussion_details("zoo/a", 1).status)
note("no pull", nobody.get_discussion_details, "zoo/a", 9)

# Branches and tags.
note("branch", zoo.create_branch, "zoo/a", branch="try/1", revision=first)
note("branch again", zoo.create_branch, "zoo/a", branch="try/1")
note("branch exist_ok", zoo.create_branch, "zoo/a", branch="try/1", exist_ok=True)
note("branch bad", zoo.create_branch, "zoo/a", branch="refs/pr/7")
note("branch commit", lambda: upload("zoo/a", {"b": b"b"}, revision="try/1").oid)
note("branch file", digest, "zoo/a", "b", revision="try/1")
note("tag", zoo.create_tag, "zoo/a", tag="v1", revision=second)
note("tag again", zoo.create_tag, "zoo/a", tag="v1")
note("tag exist_ok", zoo.create_tag, "zoo/a", tag="v1", exist_ok=True)
zoo.create_tag("zoo/a", tag="v2")
refs = zoo.list_repo_refs("zoo/a", include_pull_requests=True)
found["refs"] = [[r.ref for r in refs.branches], [r.ref for r in refs.tags],
                 [r.ref for r in refs.pull_requests]]
found["tagged"] = {r.name: r.target_commit for r in refs.tags}["v1"]
note("branch delete", zoo.delete_branch, "zoo/a", branch="try/1")
note("branch gone", zoo.delete_branch, "zoo/a", branch="try/1")
note("tag delete", zoo.delete_tag, "zoo/a", tag="v2")
note("tag gone", zoo.delete_tag, "zoo/a", tag="v2")

# Reading.
info = zoo.model_info("zoo/a", revision=first)
found["info"] = [info.id, info.sha, info.private, [s.rfilename for s in info.siblings]]
info = zoo.model_info("zoo/a", revision=first, files_metadata=True)
found["sha256"] = {s.rfilename: s.lfs.sha256 for s in info.siblings if s.lfs}
note("expand", lambda: zoo.model_info("zoo/a", expand=["sha", "gated"]).gated)
tree = list(zoo.list_repo_tree("zoo/a", revision=first, recursive=True))
found["tree"] = {e.path: e.lfs.sha256 if getattr(e, "lfs", None) else None for e in tree}
note("top", lambda: [e.path for e in zoo.list_repo_tree("zoo/a", revision=first)])
note("folder", lambda: [e.path for e in zoo.list_repo_tree("zoo/a", "images", revision=first)])
note("no folder", lambda: list(zoo.list_repo_tree("zoo/a", "none")))
note("paths", lambda: [e.path for e in zoo.get_paths_info("zoo/a", ["again.bin", "none"])])
note("large", digest, "zoo/a", "model.safetensors", revision=first)
note("regular", digest, "zoo/a", "README.md", revision=first)
note("exists", lambda: [zoo.file_exists("zoo/a", f) for f in ("again.bin", "none")])
note("no file", digest, "zoo/a", "none")
note("no revision", digest, "zoo/a", "x", revision="none")
note("no commit", zoo.model_info, "zoo/a", revision="0" * 40)
for name, api in (("zoo", zoo), ("guest", guest), ("nobody", nobody)):
    for repo in ("private", "gated", "none"):
        note(f"{name} info {repo}", lambda: api.model_info(f"zoo/{repo}").id)
        # A cache each: the client takes what it has where the Hub refuses it.
        note(f"{name} file {repo}", digest, f"zoo/{repo}", "f", api, cache_dir=name)
    note(f"{name} auth", api.auth_check, "zoo/gated")
if not found["version"].startswith("1.0"):  # 1.0 asks huggingface.co itself, whatever HF_ENDPOINT
    note("card", ModelCard(card).validate)
    note("card without license", ModelCard("---\\nlibrary_name: timm\\n---\\n# A\\n").validate)
bad = {"README.md": b"---\\ntags: [a]\\n---\\n"}
note("commit bad card", lambda: upload("zoo/a", bad).oid)
note("publish", guest.update_repo_settings, "guest/mine", private=False)
note("published", lambda: nobody.model_info("guest/mine").private)
note("delete foreign", guest.delete_repo, "zoo/gated")
note("delete", zoo.delete_repo, "zoo/deleted")
note("delete again", zoo.delete_repo, "zoo/deleted")
note("delete missing_ok", zoo.delete_repo, "zoo/deleted", missing_ok=True)

# Faults.
for repo in ("busy", "denied", "reset", "dropped", "unanswered", "lost", "slow"):
    zoo.create_repo(f"zoo/{repo}")
    start = time.monotonic()
    # Where an upload is reset the client sees that of a small one, and loses it over a large one.
    data = b"small" if repo == "reset" else big
    note(repo, lambda: bool(upload(f"zoo/{repo}", {"m.bin": data})))
    found[f"{repo} seconds"] = time.monotonic() - start
for attempt in (1, 2):  # huggingface_hub 1.0 resumes in the second, later ones in the first
    note("cut", digest, "zoo/cut", "m.bin")
note("corrupt", digest, "zoo/corrupt", "m.bin")

zoo.create_repo("zoo/hanging")
print(json.dumps(found), flush=True)
upload("zoo/hanging", {"m.bin": big})
"""


def drive(server: HubServer, folder: Path) -> Dict[str, Any]:
    """What the client finds; it is killed in the request that hangs at the end."""
    log = folder / "log"
    environment = client_environment(server.url, folder / "home")
    client = start_python("-c", SCRIPT, cwd=folder, env=environment, log=log)
    end = time.monotonic() + 120
    while not server.hanging.wait(0.05) and client.exitcode is None and time.monotonic() < end:
        pass
    client.kill()
    client.join()
    assert server.hanging.is_set(), log.with_name("log.errors").read_text()
    server.release()
    found: Dict[str, Any] = json.loads(log.read_text())
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dict[str, Any]]:
    """All that one client found on one server; ``server`` is the server."""
    with HubServer(TOKENS) as server:
        server.add("zoo/private", {"f": b"private"}, private=True)
        server.add("zoo/gated", {"f": b"gated"}, gated=True)
        server.add("zoo/deleted", {"f": b"deleted"})
        server.add("zoo/cut", {"m.bin": BIG})
        server.add("zoo/corrupt", {"m.bin": BIG})
        for fault in FAULTS:
            server.fail(fault)
        yield {**drive(server, tmp_path_factory.mktemp("client")), "server": server}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A server of a test's own."""
    with HubServer(TOKENS) as server:
        yield server


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: Message
    data: bytes


def ask(
    hub: HubServer, method: str, path: str, body: Any = None, token: str = "", part: str = ""
) -> Answer:
    """The answer to a request that the client would not make, or not in this way."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers.update({"Range": part} if part else {})
    data = body if isinstance(body, bytes) or body is None else json.dumps(body)
    with closing(HTTPConnection(hub.url.removeprefix("http://"), timeout=30)) as connection:
        connection.request(method, path, data, headers)
        with closing(connection.getresponse()) as answer:
            return Answer(answer.status, answer.headers, answer.read())


def test_server_knows_all_that_the_client_asks(found: Any) -> None:
    assert found["server"].unknown == []


def test_users(found: Any) -> None:
    assert found["whoami"] == "keeper"
    assert found["orgs"] == ["zoo"]
    assert found["whoami stranger"] == ["HfHubHTTPError", 401]


def test_create_and_delete_repository(found: Any) -> None:
    assert found["create"] == found["create exist_ok"] == "zoo/a"
    assert found["create own"] == "guest/mine"
    assert found["create again"] == ["HfHubHTTPError", 409]
    assert found["create foreign"] == ["HfHubHTTPError", 403]
    assert found["create nobody"] == ["HfHubHTTPError", 401]
    assert found["published"] is False
    assert found["delete"] is None and found["delete missing_ok"] is None
    assert found["delete foreign"] == ["HfHubHTTPError", 403]
    assert found["delete again"] == ["RepositoryNotFoundError", 404]
    assert "zoo/deleted" not in found["server"].snapshot()


def test_commits(found: Any) -> None:
    server: HubServer = found["server"]
    first = {".gitattributes", "model.safetensors", "README.md", "images/a.png", "x"}
    assert set(server.files("zoo/a", found["commit"])) == first
    second = server.files("zoo/a", found["commit on parent"])
    assert set(second) == first - {"images/a.png"} and second["x"] == b"1"
    assert set(server.files("zoo/a", found["moved"])) == set(second) - {"x"} | {"again.bin"}
    assert server.files("zoo/a")["large.safetensors"] == BIG[:-1]
    assert found["stale parent"] == ["HfHubHTTPError", 412]
    assert "A commit has happened since" in found["stale parent text"]
    assert found["delete missing"] == ["RemoteEntryNotFoundError", 404]
    assert found["commit foreign"] == ["HfHubHTTPError", 403]
    assert found["commit nobody"] == ["RepositoryNotFoundError", 401]
    assert found["commit no repo"] == ["RepositoryNotFoundError", 404]
    assert found["commit no branch"] == ["RevisionNotFoundError", 404]


def test_what_is_there_is_not_uploaded_again(found: Any) -> None:
    assert found["unchanged"] == found["commit on parent"]
    uploads = [r.path for r in found["server"].requests if (r.method, r.repo) == ("PUT", "zoo/a")]
    assert len(uploads) == len(set(uploads)) == 4  # model, image, large, and the pull request's


def test_pull_requests(found: Any) -> None:
    server: HubServer = found["server"]
    assert found["pull"] == [1, "refs/pr/1"]
    assert found["pull file"] == hashlib.sha256(b"p").hexdigest()
    proposed, base = server.files("zoo/a", "refs/pr/1"), server.files("zoo/a", found["commit"])
    assert set(proposed) - set(base) == {"p.bin", "q"}
    assert [found["pull open"], found["close"], found["pull closed"]] == ["open", *["closed"] * 2]
    assert found["no pull"] == ["HfHubHTTPError", 404]
    assert server.snapshot()["zoo/a"]["pulls"] == {}


def test_branches_and_tags(found: Any) -> None:
    for made in ("branch", "branch exist_ok", "branch delete", "tag", "tag exist_ok", "tag delete"):
        assert found[made] is None
    assert found["branch again"] == found["tag again"] == ["HfHubHTTPError", 409]
    assert found["branch bad"] == ["BadRequestError", 400]
    assert found["branch gone"] == found["tag gone"] == ["RevisionNotFoundError", 404]
    assert found["branch file"] == hashlib.sha256(b"b").hexdigest()
    branches, tags, pulls = found["refs"]
    assert branches == ["refs/heads/main", "refs/heads/try/1"]
    assert tags == ["refs/tags/v1", "refs/tags/v2"] and pulls == ["refs/pr/1"]
    assert found["tagged"] == found["commit on parent"]
    seen = found["server"].snapshot()["zoo/a"]
    assert list(seen["branches"]) == ["main"] and list(seen["tags"]) == ["v1"]


def test_information(found: Any) -> None:
    files = [".gitattributes", "README.md", "images/a.png", "model.safetensors", "x"]
    assert found["info"] == ["zoo/a", found["commit"], False, files]
    png = hashlib.sha256(b"png").hexdigest()
    assert found["sha256"] == {"images/a.png": png, "model.safetensors": SHA256}
    assert found["tree"] == {**dict.fromkeys([*files, "images"]), **found["sha256"]}
    assert found["top"] == [".gitattributes", "README.md", "images", "model.safetensors", "x"]
    assert found["folder"] == ["images/a.png"] and found["paths"] == ["again.bin"]
    assert found["no folder"] == ["RemoteEntryNotFoundError", 404]
    assert found["expand"] is False


def test_downloads(found: Any) -> None:
    assert found["large"] == SHA256
    assert found["regular"] == hashlib.sha256(CARD).hexdigest()
    assert found["exists"] == [True, False]
    assert found["no file"] == ["RemoteEntryNotFoundError", 404]
    assert found["no revision"] == found["no commit"] == ["RevisionNotFoundError", 404]
    assert found["server"].asked("zoo/gated") == ["f"]


def test_access(found: Any) -> None:
    for user, status in (("guest", 404), ("nobody", 401)):
        for repo in ("private", "none"):
            assert found[f"{user} info {repo}"] == ["RepositoryNotFoundError", status]
            assert found[f"{user} file {repo}"] == ["RepositoryNotFoundError", status]
    assert found["zoo info none"] == ["RepositoryNotFoundError", 404]
    for user, status in (("guest", 403), ("nobody", 401)):
        assert found[f"{user} info gated"] == "zoo/gated"
        assert found[f"{user} file gated"] == found[f"{user} auth"] == ["GatedRepoError", status]
    assert found["zoo info private"] == "zoo/private" and found["zoo info gated"] == "zoo/gated"
    assert found["zoo file private"] == hashlib.sha256(b"private").hexdigest()
    assert found["zoo file gated"] == hashlib.sha256(b"gated").hexdigest()
    assert found["zoo auth"] is None


def test_card_without_a_license_is_refused(found: Any) -> None:
    assert found["commit bad card"] == ["ValueError", None]
    if "card" in found:
        assert found["card"] is None
        assert found["card without license"] == ["ValueError", None]
        assert "license" in found["card without license text"]


def test_client_tries_uploads_again(found: Any) -> None:
    server: HubServer = found["server"]
    assert found["busy"] is True and server.files("zoo/busy")["m.bin"] == BIG
    assert found["reset"] is True and server.files("zoo/reset")["m.bin"] == b"small"
    assert len([r for r in server.requests if (r.method, r.repo) == ("PUT", "zoo/busy")]) == 3


@pytest.mark.parametrize("repo", ["denied", "dropped", "unanswered", "hanging"])
def test_fault_that_leaves_nothing_behind(found: Any, repo: str) -> None:
    assert list(found["server"].files(f"zoo/{repo}")) == [".gitattributes"]
    if repo == "denied":
        assert found[repo] == ["HfHubHTTPError", 403] and "not today" in found["denied text"]
    elif repo != "hanging":  # in which the client was killed
        assert found[repo][1] is None


def test_lost_answer_is_a_commit_that_the_client_does_not_know_of(found: Any) -> None:
    assert found["lost"] == ["RemoteProtocolError", None]
    assert found["server"].files("zoo/lost")["m.bin"] == BIG


def test_slow_answer(found: Any) -> None:
    assert found["slow"] is True and found["slow seconds"] >= 0.3


def test_cut_download_is_resumed(found: Any) -> None:
    assert found["cut"] == SHA256


def test_client_believes_a_corrupt_download(found: Any) -> None:
    assert found["corrupt"] not in (SHA256, None) and len(found["corrupt"]) == 64


def test_requests_without_a_token_or_a_known_path(hub: HubServer) -> None:
    assert ask(hub, "GET", "/api/whoami-v2").status == 401
    assert ask(hub, "GET", "/api/agent-harnesses").status == 200
    assert ask(hub, "PATCH", "/api/whoami-v2").status == 404
    assert ask(hub, "GET", "/api/papers?q=1").status == 404
    assert hub.unknown == ["PATCH /api/whoami-v2", "GET /api/papers?q=1"]
    assert hub.requests[-1] == ("GET", "/api/papers?q=1", "", "")


def test_ranges(hub: HubServer) -> None:
    commit = hub.add("zoo/a", {"m.bin": b"0123456789"})
    path = f"/zoo/a/resolve/{commit}/m.bin"
    whole = ask(hub, "GET", path)
    assert (whole.status, whole.data) == (200, b"0123456789")
    assert whole.headers["X-Repo-Commit"] == commit
    for part, expected in (("bytes=4-", b"456789"), ("bytes=0-0", b"0"), ("bytes=8-99", b"89")):
        answer = ask(hub, "GET", path, part=part)
        assert (answer.status, answer.data) == (206, expected)
        assert answer.headers["Content-Range"].endswith("/10")
    assert ask(hub, "GET", path, part="bytes=10-").status == 416
    assert ask(hub, "HEAD", path).headers["Content-Length"] == "10"


def test_object_that_was_never_uploaded_is_not_committed(hub: HubServer) -> None:
    hub.add("zoo/a", {})
    before = hub.snapshot()
    assert ask(hub, "PUT", f"/upload/zoo/a/{SHA256}", BIG[:-1]).status == 400
    lines = [
        {"key": "header", "value": {"summary": "a"}},
        {"key": "lfsFile", "value": {"path": "m.bin", "oid": SHA256}},
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    assert ask(hub, "POST", "/api/models/zoo/a/commit/main", body, "zoo").status == 400
    assert hub.snapshot() == before
    assert ask(hub, "PUT", f"/upload/zoo/a/{SHA256}", BIG).status == 200
    assert hub.snapshot() == before  # nobody sees an object without a name
    assert ask(hub, "POST", "/api/models/zoo/a/commit/main", body, "zoo").status == 200
    assert hub.files("zoo/a")["m.bin"] == BIG


def test_request_that_breaks_off_is_not_done(hub: HubServer) -> None:
    hub.add("zoo/a", {})
    before = hub.snapshot()
    body = b'{"key": "header", "value": {"summary": "a"}}\n'
    body += b'{"key": "file", "value": {"path": "f", "content": "Zg=="}}\n'
    head = "POST /api/models/zoo/a/commit/main HTTP/1.1\r\nAuthorization: Bearer zoo\r\n"
    address = ("127.0.0.1", int(hub.url.rsplit(":")[-1]))
    for missing in (1, 0):
        with socket.create_connection(address, timeout=30) as client:
            length = f"Content-Length: {len(body) + missing}\r\n\r\n"
            client.sendall((head + length).encode() + body)
            client.shutdown(socket.SHUT_WR)
            assert (client.recv(1) == b"") == bool(missing)
        assert (hub.snapshot() == before) == bool(missing)


def test_snapshots_compare_what_is_seen(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"a")
    commit = hub.add_folder("zoo/a", tmp_path)
    assert hub.files("zoo/a", commit)["images/a.png"] == b"a"
    before = hub.snapshot()
    assert hub.add("zoo/a", {"images/a.png": b"a"}) != commit
    assert hub.snapshot() == before
    hub.add("zoo/a", {"images/a.png": b"b"})
    assert hub.snapshot() != before
    hub.add("zoo/a", {"images/a.png": b"a"})
    assert hub.snapshot() == before
    assert ask(hub, "POST", "/api/models/zoo/a/tag/main", {"tag": "v1"}, "zoo").status == 200
    assert hub.snapshot() != before


def test_faults_strike_what_they_are_meant_for(hub: HubServer) -> None:
    hub.add("zoo/a", {"f": b"0123456789"})
    path = "/zoo/a/resolve/main/f"
    hub.fail(Fault(500, "/resolve/main/f$", method="GET", skip=1, times=2, code="GatedRepo"))
    assert [ask(hub, "HEAD", path).status for _ in range(2)] == [200, 200]
    assert [ask(hub, "GET", path).status for _ in range(4)] == [200, 500, 500, 200]
    assert hub.hits == 2
    hub.fail(Fault("drop", times=None))
    for _ in range(3):
        with pytest.raises((HTTPException, OSError)):
            ask(hub, "GET", path)
    hub.clear_faults()
    assert ask(hub, "GET", path).status == 200
    hub.fail(Fault("cut"))
    with pytest.raises(HTTPException):
        ask(hub, "GET", path)
    hub.fail(Fault("corrupt"))
    corrupt = ask(hub, "GET", path).data
    assert sum(a != b for a, b in zip(corrupt, b"0123456789", strict=True)) == 1
    assert hub.hits == 7
    with pytest.raises(ValueError, match="no such action"):
        Fault("dorp")


def test_hanging_request_goes_on_when_it_is_released(hub: HubServer) -> None:
    hub.add("zoo/a", {})
    hub.fail(Fault("hang", "/tag/"))
    path, status = "/api/models/zoo/a/tag/main", []

    def tag(name: str) -> None:
        status.append(ask(hub, "POST", path, {"tag": name}, "zoo").status)

    client = threading.Thread(target=tag, args=("v1",))
    client.start()
    assert hub.hanging.wait(30)
    assert hub.snapshot()["zoo/a"]["tags"] == {} and client.is_alive()
    hub.release()
    client.join(30)
    assert status == [200] and "v1" in hub.snapshot()["zoo/a"]["tags"]
    assert not hub.hanging.is_set()
