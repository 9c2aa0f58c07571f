"""What a Hugging Face Hub keeps: model repositories, their commits, who may read and write them."""

import hashlib
from base64 import b64decode
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, Iterable, Mapping, NamedTuple, Optional, Sequence, Tuple

LFS_SUFFIXES = (".safetensors", ".png", ".bin")
LFS_SIZE = 10 * 2**20
GITATTRIBUTES = "".join(f"*{s} filter=lfs diff=lfs merge=lfs -text\n" for s in LFS_SUFFIXES)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


class Refusal(Exception):
    """What the Hub answers instead: a status, an ``X-Error-Code``, headers and a JSON body."""

    def __init__(
        self,
        status: int,
        error: str,
        code: str = "",
        headers: Optional[Mapping[str, str]] = None,
        **body: Any,
    ):
        super().__init__(error)
        self.status, self.body = status, {"error": error, **body}
        self.headers = {"X-Error-Message": error.encode("ascii", "replace").decode()}
        self.headers.update({"X-Error-Code": code} if code else {}, **(headers or {}))


class User(NamedTuple):
    """Whom a token belongs to, and the organisations it may write to."""

    name: str
    orgs: Sequence[str] = ()

    def owns(self, repo: str) -> bool:
        """Whether a repository is the user's own or one of its organisations'."""
        return repo.split("/")[-2] in (self.name, *self.orgs)


@dataclass(frozen=True)
class Blob:
    """A file's content, and whether git keeps it or a pointer to it."""

    data: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What git keeps of a large file."""
        return POINTER.format(self.sha256, len(self.data)).encode()

    @cached_property
    def oid(self) -> str:
        """git's name of what it keeps."""
        kept = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()

    @property
    def etag(self) -> str:
        """By what a client knows the content."""
        return self.sha256 if self.lfs else self.oid


Files = Mapping[str, Blob]


def is_large(path: str, size: int) -> bool:
    """Whether the Hub wants a file through LFS."""
    return path.endswith(LFS_SUFFIXES) or size > LFS_SIZE


@dataclass
class Pull:
    """A pull request; its commits are at ``refs/pr/<number>``."""

    title: str
    author: str
    status: str = "open"


@dataclass
class Repo:
    """A repository: commits by id, refs by full name, LFS objects by sha256."""

    id: str
    private: bool = False
    gated: bool = False
    commits: Dict[str, Files] = field(default_factory=dict)
    refs: Dict[str, str] = field(default_factory=dict)
    pulls: Dict[int, Pull] = field(default_factory=dict)
    objects: Dict[str, Blob] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.record("refs/heads/main", {".gitattributes": Blob(GITATTRIBUTES.encode(), lfs=False)})

    def record(self, ref: str, files: Files) -> str:
        """Move a ref to a new commit of these files; its id depends on them, as git's does."""
        listing = sorted((path, blob.oid) for path, blob in files.items())
        name = repr((self.id, len(self.commits), listing))
        commit = hashlib.sha1(name.encode()).hexdigest()
        self.commits[commit] = files
        self.refs[ref] = commit
        self.objects.update({blob.sha256: blob for blob in files.values() if blob.lfs})
        return commit

    def named(self, prefix: str) -> Dict[str, str]:
        """Refs under a prefix by their short name: branches, tags or pull requests."""
        return {r[len(prefix) :]: c for r, c in sorted(self.refs.items()) if r.startswith(prefix)}

    def resolve(self, revision: str) -> str:
        """The commit of a branch, a tag, a full ref or a commit id."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.refs[ref]
        if revision not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return revision

    def point(self, ref: str, commit: str) -> None:
        """Make a branch or a tag."""
        if ref in self.refs:
            raise Refusal(409, "Reference already exists")
        self.refs[ref] = commit

    def remove(self, ref: str) -> None:
        """Delete a branch or a tag; the commits stay."""
        if ref == "refs/heads/main":
            raise Refusal(403, "Cannot delete the main branch")
        if ref not in self.refs:
            raise Refusal(404, "Reference does not exist", "RevisionNotFound")
        del self.refs[ref]

    def changed(self, commit: str, operations: Iterable[Tuple[str, Dict[str, Any]]]) -> Files:
        """The files of a commit after the operations of the next one."""
        files = dict(self.commits[commit])
        for key, value in operations:
            path = value["path"]
            if key == "file":
                files[path] = Blob(b64decode(value["content"]), lfs=False)
            elif key == "lfsFile":
                if value["oid"] not in self.objects:
                    raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {path}")
                files[path] = self.objects[value["oid"]]
            else:
                folder = path.rstrip("/") + "/"
                gone = [p for p in files if p == path or p.startswith(folder)]
                if key == "deletedFile":
                    gone = [p for p in gone if p == path]
                if not gone:
                    raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
                for name in gone:
                    del files[name]
        return files

    def commit(
        self, revision: str, parent: Optional[str], operations: Iterable[Tuple[str, Dict[str, Any]]]
    ) -> str:
        """A commit onto a branch or a pull request, refused where another came in between."""
        ref = revision if revision.startswith("refs/pr/") else f"refs/heads/{revision}"
        if ref not in self.refs:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if parent not in (None, self.refs[ref]):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        return self.record(ref, self.changed(self.refs[ref], operations))

    def propose(
        self, pull: Pull, base: str, operations: Iterable[Tuple[str, Dict[str, Any]]]
    ) -> Tuple[str, int]:
        """A new pull request of one commit onto a base."""
        files = self.changed(self.resolve(base), operations)
        number = len(self.pulls) + 1
        self.pulls[number] = pull
        return self.record(f"refs/pr/{number}", files), number

    def snapshot(self) -> Dict[str, Any]:
        """All that a visitor can see, as plain values; closed pull requests are nobody's business.

        Commit ids are left out: what counts is what a name leads to.
        """

        def listing(commit: str) -> Dict[str, str]:
            return {path: blob.sha256 for path, blob in sorted(self.commits[commit].items())}

        pulls = self.named("refs/pr/").items()
        return {
            "private": self.private,
            "gated": self.gated,
            "branches": {n: listing(c) for n, c in self.named("refs/heads/").items()},
            "tags": {n: listing(c) for n, c in self.named("refs/tags/").items()},
            "pulls": {n: listing(c) for n, c in pulls if self.pulls[int(n)].status == "open"},
        }


class HubState:
    """All repositories, and the users by their tokens."""

    def __init__(self, tokens: Mapping[str, User]):
        self.tokens = tokens
        self.repos: Dict[str, Repo] = {}  # of data sets by "datasets/<name>", likewise spaces
        self.collections: Dict[str, Dict[str, Any]] = {}
        self.private_by_default = False  # as organisations can choose

    def user(self, authorization: Optional[str]) -> Optional[User]:
        """Who asks; nobody where no token was sent."""
        if authorization is None:
            return None
        user = self.tokens.get(authorization.removeprefix("Bearer "))
        if user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return user

    def known(self, user: Optional[User]) -> User:
        """The user, for calls that nobody may make without a token."""
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        return user

    def readable(self, repo: str, user: Optional[User]) -> Repo:
        """A repository for somebody who may see it; one who may not learns nothing of it."""
        found = self.repos.get(repo)
        if found is None or (found.private and not (user and user.owns(repo))):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        return found

    def downloadable(self, repo: str, user: Optional[User]) -> Repo:
        """A repository for somebody who may have its files."""
        found = self.readable(repo, user)
        if found.gated and not (user and user.owns(repo)):
            error = f"Access to model {repo} is restricted"
            raise Refusal(403 if user else 401, error, "GatedRepo")
        return found

    def writable(self, repo: str, user: Optional[User], pull: bool = False) -> Repo:
        """A repository for somebody who may write to it; anybody with a token may propose."""
        found = self.readable(repo, user)
        if user is None:
            # The code is what makes the client say over http what it says over https.
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        if not (pull or user.owns(repo)):
            raise Refusal(403, f"You don't have the rights to write to {repo}")
        return found

    def snapshot(self) -> Dict[str, Any]:
        """Every repository's snapshot by its name."""
        return {repo: found.snapshot() for repo, found in sorted(self.repos.items())}
