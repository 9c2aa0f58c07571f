"""A repository on the Hub during a publication: what it holds, what changes, how it is undone."""

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Union

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    hf_hub_download,
)
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from ..models.manifest import sha256_of
from ..models.pull_errors import CONNECTION_ERROR
from .stage import MANIFEST, Staged

Operation = Union[CommitOperationAdd, CommitOperationDelete]
TITLE = "Publish with se-zoo"
_VERSION = re.compile(r"v(\d+)")


def content_id(file: Path) -> str:
    """What git calls a file's content: the SHA-1 of its blob."""
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Remote:
    """A repository as it was when it was looked at, and what has been changed since.

    Attributes:
        repo: Repository.
        head: Commit of ``main``; None where there is no repository.
        private: Whether only members see it.
        files: What ``main`` holds: the SHA-256 of large files, git's blob id of all others.
        pull_request: Address of the pull request that was opened.
    """

    def __init__(self, api: HfApi, repo: str):
        self.api, self.repo = api, repo
        self.head: Optional[str] = None
        self.private = False
        self.files: Dict[str, str] = {}
        self.pull_request: Optional[str] = None
        self._created = False
        self._branch: Optional[str] = None
        self._request: Optional[int] = None

    @classmethod
    def look(cls, api: HfApi, repo: str) -> "Remote":
        """The repository as it is."""
        remote = cls(api, repo)
        try:
            info = api.model_info(repo)
        except RepositoryNotFoundError:
            return remote
        remote.head, remote.private = info.sha, bool(info.private)
        remote.files = remote.listing(str(info.sha))
        return remote

    def listing(self, revision: str) -> Dict[str, str]:
        """Files of a revision and the ids of their contents."""
        entries = self.api.list_repo_tree(self.repo, recursive=True, revision=revision)
        return {
            e.path: e.lfs.sha256 if e.lfs is not None else e.blob_id
            for e in entries
            if isinstance(e, RepoFile)
        }

    def download(self, name: str, folder: str) -> Path:
        """A file of ``head``, in a cache of its own."""
        return Path(hf_hub_download(self.repo, name, revision=self.head, cache_dir=folder))

    # Changing it

    def create(self) -> None:
        """Make the repository."""
        try:
            self.api.create_repo(self.repo, private=self.private)
        except HfHubHTTPError:
            raise  # the Hub refused: there is nothing to undo
        except BaseException:
            self._created = True  # it may exist by now: the answer was lost
            raise
        self._created = True
        self.head = str(self.api.model_info(self.repo).sha)
        self.files = self.listing(self.head)

    def commit_branch(self, branch: str, changes: "Changes") -> str:
        """Commit to a branch of its own, on top of ``head``; the commit."""
        self.drop_branch(branch)  # of a publication that was killed
        self._branch = branch
        self.api.create_branch(self.repo, branch=branch, revision=self.head)
        return self._commit(changes, branch)

    def commit_main(self, changes: "Changes", staged: Staged) -> str:
        """The same to ``main``; refused by the Hub if ``main`` has moved since it was looked at."""
        try:
            commit = self._commit(changes, "main")
        except (OSError, CONNECTION_ERROR):
            found = Remote.look(self.api, self.repo)  # it may have happened: the answer was lost
            if found.head in (None, self.head) or Changes.between(found, staged):
                raise
            commit = str(found.head)
        self._created, self._branch = False, None  # from here on nothing is undone
        return commit

    def _commit(self, changes: "Changes", revision: str) -> str:
        info = self.api.create_commit(
            self.repo, changes.operations(), commit_message=TITLE, revision=revision,
            parent_commit=self.head,
        )  # fmt: skip
        return str(info.oid)

    def commit_pull_request(self, changes: "Changes") -> str:
        """Open a pull request on top of ``head``; its commit."""
        self._request = 0  # unknown, until the Hub has answered
        info = self.api.create_commit(
            self.repo, changes.operations(), commit_message=TITLE, create_pr=True,
            parent_commit=self.head,
        )  # fmt: skip
        self.pull_request, self._request = info.pr_url, info.pr_num
        return str(info.oid)

    def drop_branch(self, branch: str) -> None:
        """Remove a branch, if there is one of that name."""
        if branch in [b.name for b in self.api.list_repo_refs(self.repo).branches]:
            self.api.delete_branch(self.repo, branch=branch)

    def tags(self) -> Dict[str, str]:
        """Tags and their commits."""
        return {t.name: t.target_commit for t in self.api.list_repo_refs(self.repo).tags}

    def tag(self, commit: str, name: Optional[str]) -> str:
        """Tag a commit, by default as the next version; a commit that has such a tag keeps it."""
        present = self.tags()
        versions = {t: int(m[1]) for t in present if (m := _VERSION.fullmatch(t))}
        if name is None:
            ours = [t for t in versions if present[t] == commit]
            if ours:
                return ours[0]
            name = f"v{max(versions.values(), default=0) + 1}"
        if present.get(name) != commit:
            self.api.create_tag(self.repo, tag=name, revision=commit, tag_message=TITLE)
        return name

    def undo(self) -> str:
        """Bring the Hub back to what it was, as far as it can be reached.

        Returns:
            A sentence on what is left; nothing if nothing is.
        """
        left = []
        for what, action in (
            (f"the pull request {self.pull_request or 'that may be open'}", self._close),
            (f"the branch {self._branch}", self._drop_leftover),
            ("the empty repository", self._delete_repo),
        ):
            try:
                action()
            except (OSError, CONNECTION_ERROR) as error:
                left.append(f"{what} ({type(error).__name__})")
        if not left:
            return ""
        return (
            f" Besides, the Hub could not be reached to remove {', '.join(left)}; publishing again "
            "removes it or goes on from it."
        )

    def _close(self) -> None:
        if self._request is None:
            return
        numbers = [self._request] if self._request else self._open_requests()
        for number in numbers:
            self.api.change_discussion_status(self.repo, number, "closed")

    def _open_requests(self) -> List[int]:
        me = self.api.whoami()["name"]
        found = self.api.get_repo_discussions(
            self.repo, author=me, discussion_type="pull_request", discussion_status="open"
        )
        return [d.num for d in found if d.title == TITLE]

    def _drop_leftover(self) -> None:
        if self._branch is not None and not self._created:  # else it goes with the repository
            self.drop_branch(self._branch)

    def _delete_repo(self) -> None:
        """Only a repository that this publication made, and that nobody has committed to since."""
        if not self._created:
            return
        try:
            found = self.api.model_info(self.repo)
        except RepositoryNotFoundError:
            return
        if {file.rfilename for file in found.siblings or []} <= {".gitattributes"}:
            self.api.delete_repo(self.repo)


@dataclass(frozen=True)
class Changes:
    """What a commit has to do.

    Attributes:
        folder: The staged folder.
        added: Files that are new or differ.
        gone: Files of an earlier publication that are no more.
    """

    folder: Path
    added: List[str]
    gone: List[str]

    @classmethod
    def between(cls, remote: Remote, staged: Staged) -> "Changes":
        """From what ``main`` held when it was looked at, to the staged folder."""
        ids = {
            name: (digest, content_id(staged.folder / name))
            for name, digest in staged.sha256.items()
        }
        added = [name for name, known in ids.items() if remote.files.get(name) not in known]
        gone = set(published_files(remote)) & set(remote.files) - set(staged.sha256)
        return cls(staged.folder, added, sorted(gone))

    def __bool__(self) -> bool:
        return bool(self.added or self.gone)

    def operations(self) -> List[Operation]:
        """New ones at each call, because the client uses each once only."""
        adds = [CommitOperationAdd(name, self.folder / name) for name in self.added]
        return [*adds, *(CommitOperationDelete(name) for name in self.gone)]


def foreign_files(remote: Remote, staged: Staged) -> List[str]:
    """Files that would be replaced and are not as an earlier publication wrote them."""
    published = published_files(remote)
    found = []
    with tempfile.TemporaryDirectory(prefix="se-zoo-") as folder:
        for name, digest in staged.sha256.items():
            there = remote.files.get(name)
            if name == MANIFEST and published:
                continue
            if there in (None, digest, published.get(name), content_id(staged.folder / name)):
                continue
            if name not in published or sha256_of(remote.download(name, folder)) != published[name]:
                found.append(name)
    return sorted(found)


def published_files(remote: Remote) -> Dict[str, str]:
    """SHA-256 of the files of the repository's last publication, by its own manifest."""
    if MANIFEST not in remote.files:
        return {}
    with tempfile.TemporaryDirectory(prefix="se-zoo-") as folder:
        try:
            content = json.loads(remote.download(MANIFEST, folder).read_text("utf-8"))
            return {str(k): str(v) for k, v in content["files"].items()}
        except (ValueError, KeyError, AttributeError, TypeError):
            return {}  # somebody else's file of that name: nothing is taken for ours
