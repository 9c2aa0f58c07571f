"""The Hub's HTTP calls: what each of them answers, given what the Hub keeps."""

import hashlib
import json
import re
from email.message import Message
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Pattern, Tuple
from urllib.parse import parse_qs, unquote

import yaml

from .hub_state import Blob, HubState, Pull, Refusal, Repo, User, is_large

DATE = "2026-01-01T00:00:00.000Z"
#: Any other name: one segment. Data sets and spaces have their kind in front of their name.
SEGMENTS = {"repo": "(?:(?:datasets|spaces)/)?[^/]+/[^/]+", "file": ".+", "folder": ".+"}


class Call(NamedTuple):
    """A request."""

    state: HubState
    url: str
    user: Optional[User]
    query: Mapping[str, List[str]]
    range: str
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Route = Callable[..., Any]
ROUTES: List[Tuple[str, Pattern[str], Route]] = []


def route(method: str, path: str) -> Callable[[Route], Route]:
    """Register what answers a path; its ``{name}`` parts become arguments."""
    pattern = re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{SEGMENTS.get(m[1], '[^/]+')})", path)

    def register(answer: Route) -> Route:
        ROUTES.append((method, re.compile(pattern), answer))
        return answer

    return register


def find(method: str, path: str) -> Optional[Tuple[Route, Dict[str, str]]]:
    """What answers a request and the parts of its path; a HEAD is a GET without the body."""
    path = re.sub("^/api/(datasets|spaces)/", r"/api/models/\1/", path)
    for verb, pattern, answer in ROUTES:
        match = pattern.fullmatch(path.split("?")[0])
        if match and verb == {"HEAD": "GET"}.get(method, method):
            return answer, {k: unquote(v) for k, v in match.groupdict().items()}
    return None


def refuse(refusal: Refusal) -> Reply:
    """A refusal as an answer."""
    return Reply(refusal.status, refusal.headers, json.dumps(refusal.body).encode())


def reply(
    state: HubState, url: str, method: str, path: str, headers: Message, body: bytes
) -> Optional[Reply]:
    """The answer to a request; None where the Hub does not know the path."""
    found = find(method, path)
    if found is None:
        return None
    answer, parts = found
    query = parse_qs(path.partition("?")[2])
    try:
        user = state.user(headers.get("Authorization"))
        value = answer(Call(state, url, user, query, headers.get("Range", ""), body), **parts)
    except Refusal as refusal:
        return refuse(refusal)
    return value if isinstance(value, Reply) else Reply(200, {}, json.dumps(value).encode())


@route("GET", "/api/whoami-v2")
def whoami(call: Call) -> Any:
    user = call.state.known(call.user)
    orgs = [{"type": "org", "name": name, "roleInOrg": "write"} for name in user.orgs]
    token = {"displayName": "test", "role": "write", "createdAt": DATE}
    auth = {"type": "access_token", "accessToken": token}
    return {"type": "user", "name": user.name, "fullname": user.name, "orgs": orgs, "auth": auth}


@route("GET", "/api/agent-harnesses")
def agent_harnesses(call: Call) -> Any:
    """What huggingface_hub 2 asks for once a day, to name in its user agent what drives it."""
    return {"standardEnvVars": [], "harnesses": {}}


#: Some of the licences that the Hub knows.
LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "other", "unknown")
ID = re.compile(r"^(?:[\w-]+\/)?[\w\-.]+$")


@route("POST", "/api/validate-yaml")
def validate_yaml(call: Call) -> Any:
    """What the Hub refuses in a card: licences that it does not know, ids that are none."""
    front = re.match(r"---\n(.*?)\n---", call.json()["content"], re.DOTALL)
    card = yaml.safe_load(front[1]) if front else {}
    found = []
    if call.json().get("repoType") != "space" and card.get("license") not in LICENSES:
        found.append(f'"license" must be one of [{", ".join(LICENSES)}]')
    ids = [(f"datasets[{i}]", name) for i, name in enumerate(card.get("datasets") or ())]
    ids += [("base_model", card["base_model"])] if "base_model" in card else []
    for model in card.get("model-index") or ():
        ids += [("model-index.dataset.type", r["dataset"]["type"]) for r in model["results"]]
    found += [
        f'"{key}" with value "{name}" is not valid' for key, name in ids if not ID.match(name)
    ]
    if found:
        errors = [{"message": error} for error in found]
        raise Refusal(400, found[0], errors=errors, warnings=[])
    return {"errors": [], "warnings": []}


def full_name(call: Call) -> str:
    """The repository that a body names, by default in the user's own name."""
    body = call.json()
    kind = body.get("type") or "model"
    owner = body.get("organization") or call.state.known(call.user).name
    return f"{'' if kind == 'model' else kind + 's/'}{owner}/{body['name']}"


def is_private(settings: Mapping[str, Any], default: bool = False) -> bool:
    """huggingface_hub 1 sends ``private``, 2 sends ``visibility``."""
    visibility = settings.get("visibility", "private" if default else "public")
    return bool(settings.get("private", visibility == "private"))


@route("POST", "/api/repos/create")
def create_repo(call: Call) -> Any:
    user, repo = call.state.known(call.user), full_name(call)
    namespace, url = repo.split("/")[-2], f"{call.url}/{repo}"
    if not user.owns(repo):
        error = f'You don\'t have the rights to create a model under the namespace "{namespace}"'
        raise Refusal(403, error)
    if repo in call.state.repos:
        raise Refusal(409, "You already created this model repo", url=url)
    private = is_private(call.json(), call.state.private_by_default)
    call.state.repos[repo] = Repo(repo, private)
    return {"url": url, "name": repo, "id": repo}


@route("DELETE", "/api/repos/delete")
def delete_repo(call: Call) -> Any:
    repo = full_name(call)
    call.state.writable(repo, call.user)
    del call.state.repos[repo]
    return {}


@route("PUT", "/api/models/{repo}/settings")
def change_settings(call: Call, repo: str) -> Any:
    found, settings = call.state.writable(repo, call.user), call.json()
    found.private = is_private(settings, found.private)
    found.gated = bool(settings.get("gated", found.gated))
    return {}


@route("GET", "/api/models/{repo}/auth-check")
def check_reading(call: Call, repo: str) -> Any:
    call.state.downloadable(repo, call.user)
    return {}


@route("GET", "/api/models/{repo}/auth-check/write")
def check_writing(call: Call, repo: str) -> Any:
    call.state.writable(repo, call.user)
    return {}


@route("GET", "/api/models/{repo}")
@route("GET", "/api/models/{repo}/revision/{revision}")
def model_info(call: Call, repo: str, revision: str = "main") -> Any:
    found = call.state.readable(repo, call.user)
    sha = found.resolve(revision)
    siblings: List[Dict[str, Any]] = []
    for path, blob in sorted(found.commits[sha].items()):
        siblings.append({"rfilename": path})
        if "blobs" in call.query:
            siblings[-1].update(size=len(blob.data), blobId=blob.oid)
            if blob.lfs:
                lfs = {"sha256": blob.sha256, "size": len(blob.data)}
                siblings[-1]["lfs"] = {**lfs, "pointerSize": len(blob.pointer)}
    return {
        "id": repo,
        "modelId": repo,
        "author": repo.split("/")[0],
        "sha": sha,
        "private": found.private,
        "gated": "auto" if found.gated else False,
        "disabled": False,
        "createdAt": DATE,
        "lastModified": DATE,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": siblings,
    }


def describe(path: str, blob: Optional[Blob]) -> Dict[str, Any]:
    """A line of a listing; a folder has no blob."""
    if blob is None:
        oid = hashlib.sha1(path.encode()).hexdigest()
        return {"type": "directory", "path": path, "oid": oid, "size": 0}
    entry = {"type": "file", "path": path, "oid": blob.oid, "size": len(blob.data)}
    if blob.lfs:
        lfs = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
        entry["lfs"] = lfs
    return entry


def entries(found: Repo, revision: str) -> Dict[str, Optional[Blob]]:
    """Files and folders of a revision by path."""
    files = found.commits[found.resolve(revision)]
    parts = [path.split("/") for path in files]
    folders = {"/".join(p[:n]) for p in parts for n in range(1, len(p))}
    return {**dict.fromkeys(folders), **files}


@route("GET", "/api/models/{repo}/tree/{revision}")
@route("GET", "/api/models/{repo}/tree/{revision}/{folder}")
def list_tree(call: Call, repo: str, revision: str, folder: str = "") -> Any:
    known = entries(call.state.readable(repo, call.user), revision)
    if folder and known.get(folder, True) is not None:
        raise Refusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    prefix = folder and folder + "/"
    listed = [p for p in sorted(known) if p.startswith(prefix)]
    if call.query.get("recursive") != ["true"]:
        listed = [p for p in listed if "/" not in p[len(prefix) :]]
    return [describe(path, known[path]) for path in listed]


@route("POST", "/api/models/{repo}/paths-info/{revision}")
def paths_info(call: Call, repo: str, revision: str) -> Any:
    known = entries(call.state.readable(repo, call.user), revision)
    asked = parse_qs(call.body.decode()).get("paths", [])
    return [describe(path, known[path]) for path in asked if path in known]


@route("POST", "/api/models/{repo}/preupload/{revision}")
def preupload(call: Call, repo: str, revision: str) -> Any:
    """How each file is to be uploaded, and what is there already under its name."""
    found = call.state.writable(repo, call.user, "create_pr" in call.query)
    present = found.commits[found.resolve(revision)]
    files = []
    for file in call.json()["files"]:
        path = file["path"]
        mode = "lfs" if is_large(path, file["size"]) else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False})
        if path in present:
            files[-1]["oid"] = present[path].etag
    return {"files": files}


@route("POST", "/{repo}.git/info/lfs/objects/batch")
def lfs_batch(call: Call, repo: str) -> Any:
    """Where to upload each object; without actions for those that are there already."""
    asked = call.json()
    # The client names no ref for a pull request, which needs no right to write to any.
    found = call.state.writable(repo, call.user, pull="ref" not in asked)
    objects = [{"oid": o["oid"], "size": o["size"]} for o in asked["objects"]]
    for item in objects:
        if item["oid"] not in found.objects:
            upload = f"{call.url}/upload/{repo}/{item['oid']}"
            verify = f"{call.url}/{repo}.git/info/lfs/objects/verify"
            item["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
    return {"transfer": "basic", "objects": objects}


@route("PUT", "/upload/{repo}/{oid}")
def lfs_upload(call: Call, repo: str, oid: str) -> Any:
    """No token is asked for: the client sends none, as the real store is not the Hub's own."""
    found = call.state.repos.get(repo)
    blob = Blob(call.body, lfs=True)
    if found is None or blob.sha256 != oid:
        raise Refusal(400, "The content does not match its sha256")
    found.objects[oid] = blob
    return {}


@route("POST", "/{repo}.git/info/lfs/objects/verify")
def lfs_verify(call: Call, repo: str) -> Any:
    found, asked = call.state.readable(repo, call.state.known(call.user)), call.json()
    blob = found.objects.get(asked["oid"])
    if blob is None or len(blob.data) != asked["size"]:
        raise Refusal(404, "No such LFS object")
    return {}


@route("POST", "/api/models/{repo}/commit/{revision}")
def commit(call: Call, repo: str, revision: str) -> Any:
    is_pull = "create_pr" in call.query
    found = call.state.writable(repo, call.user, is_pull)
    header, *lines = [json.loads(line) for line in call.body.splitlines()]
    operations = [(line["key"], line["value"]) for line in lines]
    parent = header["value"].get("parentCommit")
    pull_url = None
    if is_pull:
        pull = Pull(header["value"]["summary"], call.state.known(call.user).name)
        oid, number = found.propose(pull, parent or revision, operations)
        pull_url = f"{call.url}/{repo}/discussions/{number}"
    else:
        oid = found.commit(revision, parent, operations)
    url = f"{call.url}/{repo}/commit/{oid}"
    return {"success": True, "commitOid": oid, "commitUrl": url, "pullRequestUrl": pull_url}


@route("POST", "/api/models/{repo}/branch/{branch}")
def create_branch(call: Call, repo: str, branch: str) -> Any:
    found = call.state.writable(repo, call.user)
    if branch.startswith("refs/"):
        raise Refusal(400, "Invalid reference for a branch")
    found.point(f"refs/heads/{branch}", found.resolve(call.json().get("startingPoint", "main")))
    return {}


@route("DELETE", "/api/models/{repo}/branch/{branch}")
def delete_branch(call: Call, repo: str, branch: str) -> Any:
    call.state.writable(repo, call.user).remove(f"refs/heads/{branch}")
    return {}


@route("POST", "/api/models/{repo}/tag/{revision}")
def create_tag(call: Call, repo: str, revision: str) -> Any:
    found = call.state.writable(repo, call.user)
    found.point(f"refs/tags/{call.json()['tag']}", found.resolve(revision))
    return {}


@route("DELETE", "/api/models/{repo}/tag/{tag}")
def delete_tag(call: Call, repo: str, tag: str) -> Any:
    call.state.writable(repo, call.user).remove(f"refs/tags/{tag}")
    return {}


@route("GET", "/api/models/{repo}/refs")
def list_refs(call: Call, repo: str) -> Any:
    found = call.state.readable(repo, call.user)

    def listing(prefix: str) -> List[Dict[str, str]]:
        named = found.named(prefix).items()
        return [{"name": n, "ref": prefix + n, "targetCommit": c} for n, c in named]

    refs = {"branches": listing("refs/heads/"), "tags": listing("refs/tags/"), "converts": []}
    return {**refs, "pullRequests": listing("refs/pr/")} if "include_prs" in call.query else refs


def pull_request(found: Repo, number: str) -> Pull:
    """A pull request by the number in a path."""
    if not number.isdigit() or int(number) not in found.pulls:
        raise Refusal(404, "Discussion not found")
    return found.pulls[int(number)]


def described(pull: Pull, repo: str, number: int) -> Dict[str, Any]:
    """A pull request as listings show it."""
    return {
        "num": number,
        "title": pull.title,
        "author": {"name": pull.author},
        "status": pull.status,
        "createdAt": DATE,
        "repo": {"name": repo, "type": "model"},
        "isPullRequest": True,
    }


@route("GET", "/api/models/{repo}/discussions")
def list_discussions(call: Call, repo: str) -> Any:
    pulls = call.state.readable(repo, call.user).pulls
    author, status = (call.query.get(k, [None])[0] for k in ("author", "status"))
    shown = [
        described(pull, repo, number)
        for number, pull in pulls.items()
        if author in (None, pull.author) and status in (None, pull.status)
    ]
    return {"discussions": shown, "count": len(shown), "start": 0}


@route("GET", "/api/models/{repo}/discussions/{number}")
def discussion(call: Call, repo: str, number: str) -> Any:
    pull = pull_request(call.state.readable(repo, call.user), number)
    changes = {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "diff": ""}
    return {**described(pull, repo, int(number)), **changes, "events": []}


@route("POST", "/api/models/{repo}/discussions/{number}/status")
def change_status(call: Call, repo: str, number: str) -> Any:
    user = call.state.known(call.user)
    pull = pull_request(call.state.readable(repo, user), number)
    call.state.writable(repo, user, pull=pull.author == user.name)
    pull.status = call.json()["status"]
    event = {"id": "0", "type": "status-change", "createdAt": DATE, "author": {"name": user.name}}
    return {"newStatus": {**event, "data": {"status": pull.status}}}


@route("GET", "/{repo}/resolve/{revision}/{file}")
def download(call: Call, repo: str, revision: str, file: str) -> Reply:
    """A file, from the Hub itself: large ones are not somewhere else here."""
    found = call.state.downloadable(repo, call.user)
    sha = found.resolve(revision)
    headers = {"X-Repo-Commit": sha}
    blob = found.commits[sha].get(file)
    if blob is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", headers)
    size = len(blob.data)
    headers.update({"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"})
    if blob.lfs:
        headers.update({"X-Linked-Size": str(size), "X-Linked-Etag": f'"{blob.sha256}"'})
    part = re.fullmatch(r"bytes=(\d+)-(\d*)", call.range)
    if part is None:
        return Reply(200, headers, blob.data)
    start, stop = int(part[1]), min(int(part[2] or size) + 1, size)
    if start >= stop:
        raise Refusal(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Reply(206, headers, blob.data[start:stop])
