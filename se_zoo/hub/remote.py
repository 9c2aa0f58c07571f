"""A repository on the Hub during a publication: what it holds, what changes, how it is undone."""

import hashlib
import json
import re
import secrets
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Dict, List, Optional, Set, Union

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    hf_hub_download,
)
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from ..models.pretrained.errors import CONNECTION_ERROR
from ..models.pretrained.manifest import sha256_of
from .stage import MANIFEST, Staged

Operation = Union[CommitOperationAdd, CommitOperationDelete]
#: Where the files wait until they were pulled back and compared, and a random end.
BRANCH = "se-zoo-publish"
TITLE = "Publish with se-zoo"
_VERSION = re.compile(r"v(\d+)")


def content_id(file: Path) -> str:
    """What git calls a file's content: the SHA-1 of its blob."""
    digest = hashlib.sha1(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Remote:
    """A repository as it was when it was looked at, and what has been changed since.

    Attributes:
        repo: Repository.
        head: Commit of ``main``; None where there is no repository.
        private: Whether only members see it; of a new one, whether it has to be so (None: as its
            owner's default is).
        files: What ``main`` holds: the SHA-256 of large files, git's blob id of all others.
        pull_request: Address of the pull request that was opened.
    """

    def __init__(self, api: HfApi, repo: str):
        self.api, self.repo = api, repo
        self.head: Optional[str] = None
        self.private: Optional[bool] = None
        self.files: Dict[str, str] = {}
        self.pull_request: Optional[str] = None
        self._created = False
        self._branch: Optional[str] = None
        self._open_before: Optional[Set[int]] = None

    @classmethod
    def look(cls, api: HfApi, repo: str) -> "Remote":
        """The repository as it is."""
        remote = cls(api, repo)
        try:
            info = api.model_info(repo)
        except RepositoryNotFoundError:
            return remote
        remote.head, remote.private = str(info.sha), bool(info.private)
        remote.files = remote.listing(remote.head)
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

    @cached_property
    def published(self) -> Dict[str, str]:
        """SHA-256 of the files of the repository's last publication, by its own manifest."""
        if MANIFEST not in self.files:
            return {}
        with tempfile.TemporaryDirectory(prefix="se-zoo-") as folder:
            try:
                content = json.loads(self.download(MANIFEST, folder).read_text("utf-8"))
                return {str(k): str(v) for k, v in content["files"].items()}
            except (ValueError, KeyError, AttributeError, TypeError):
                return {}  # somebody else's file of that name: nothing is taken for ours

    def is_published(self, name: str) -> bool:
        """Whether a file of ``main`` is as the last publication wrote it."""
        known = self.published.get(name)
        if known is None or self.files[name] == known:
            return known is not None
        if len(self.files[name]) == len(known):  # both SHA-256
            return False
        with tempfile.TemporaryDirectory(prefix="se-zoo-") as folder:
            return sha256_of(self.download(name, folder)) == known

    # Changing it

    def create(self) -> None:
        """Make the repository."""
        try:
            # None leaves the choice to the owner: an organisation may keep new ones private.
            self.api.create_repo(self.repo, private=self.private or None)
        except HfHubHTTPError as error:
            self._created = error.response.status_code >= 500  # a gateway may answer too early
            raise
        except BaseException:
            self._created = True  # it may exist by now: the answer was lost
            raise
        self._created = True
        found = Remote.look(self.api, self.repo)
        self.head, self.private, self.files = found.head, found.private, found.files

    def commit_branch(self, changes: "Changes") -> str:
        """Commit to a branch that nobody else has, on top of ``head``; the commit."""
        self._branch = f"{BRANCH}-{secrets.token_hex(4)}"
        self.api.create_branch(self.repo, branch=self._branch, revision=self.head)
        return self._commit(changes, self._branch)

    def commit_main(self, changes: "Changes", staged: Staged) -> str:
        """The same to ``main``; refused by the Hub if ``main`` has moved since it was looked at."""
        disable_progress_bars()  # nothing is uploaded again
        try:
            commit = self._commit(changes, "main")
        except (OSError, CONNECTION_ERROR):
            found = Remote.look(self.api, self.repo)  # it may have happened: the answer was lost
            if found.head in (None, self.head) or Changes.between(found, staged):
                raise
            commit = str(found.head)
        finally:
            enable_progress_bars()
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
        self._open_before = self._open_requests()
        info = self.api.create_commit(
            self.repo, changes.operations(), commit_message=TITLE, create_pr=True,
            parent_commit=self.head,
        )  # fmt: skip
        self.pull_request = info.pr_url
        return str(info.oid)

    def drop_leftovers(self, commit: str) -> None:
        """Remove branches of publications that hold nothing which ``main`` does not hold, now or
        when it was looked at: this one's, and those of others that were killed."""
        known = (self.files, self.listing(commit))
        for branch in self.api.list_repo_refs(self.repo).branches:
            ours = branch.name.startswith(f"{BRANCH}-")
            if ours and self.listing(branch.target_commit) in known:
                self.api.delete_branch(self.repo, branch=branch.name)

    def tags(self) -> Dict[str, str]:
        """Tags and their commits."""
        return {t.name: t.target_commit for t in self.api.list_repo_refs(self.repo).tags}

    def version_of(self, commit: str) -> Optional[str]:
        """Return the commit's tag of the kind v1, v2, ..., or None."""
        ours = (t for t, c in self.tags().items() if c == commit and _VERSION.fullmatch(t))
        return next(ours, None)

    def tag(self, commit: str, name: Optional[str]) -> str:
        """Tag a commit, by default as the next version; a commit that has such a tag keeps it."""
        present = self.tags()
        if name is None:
            kept = self.version_of(commit)
            if kept is not None:
                return kept
            versions = [int(m[1]) for t in present if (m := _VERSION.fullmatch(t))]
            name = f"v{max(versions, default=0) + 1}"
        if present.get(name) != commit:
            # Without a message: it would be an object of its own, with an id of its own.
            self.api.create_tag(self.repo, tag=name, revision=commit)
        return name

    def undo(self) -> str:
        """Bring the Hub back to what it was, as far as it can be reached.

        Returns:
            A sentence on what may be left; nothing if nothing is.
        """
        left = []
        for what, action in (
            (f"the pull request {self.pull_request or 'that may be open'}", self._close),
            (f"the branch {self._branch}", self._drop_branch),
            ("the repository, if it was made and is empty", self._delete_repo),
        ):
            try:
                action()
            except Exception as error:  # whatever it is, the other steps are still to be tried
                left.append(f"{what} ({type(error).__name__})")
        if not left:
            return ""
        return (
            f" Besides, it was not possible to remove {', '.join(left)}; publishing again clears "
            "up, or goes on from it."
        )

    def _close(self) -> None:
        if self._open_before is not None:
            for number in self._open_requests() - self._open_before:
                self.api.change_discussion_status(self.repo, number, "closed")

    def _open_requests(self) -> Set[int]:
        me = self.api.whoami()["name"]
        found = self.api.get_repo_discussions(
            self.repo, author=me, discussion_type="pull_request", discussion_status="open"
        )
        return {d.num for d in found if d.title == TITLE}

    def _drop_branch(self) -> None:
        if self._branch is None or self._created:  # else it goes with the repository
            return
        if self._branch in [b.name for b in self.api.list_repo_refs(self.repo).branches]:
            self.api.delete_branch(self.repo, branch=self._branch)

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
        added = [name for name in staged.sha256 if not same(remote, staged, name)]
        gone = set(remote.published) & set(remote.files) - set(staged.sha256)
        return cls(staged.folder, added, sorted(gone))

    def __bool__(self) -> bool:
        return bool(self.added or self.gone)

    def operations(self) -> List[Operation]:
        """New ones at each call, because the client uses each once only."""
        adds = [CommitOperationAdd(name, self.folder / name) for name in self.added]
        return [*adds, *(CommitOperationDelete(name) for name in self.gone)]


def same(remote: Remote, staged: Staged, name: str) -> bool:
    """Whether a staged file is on ``main`` already."""
    there = remote.files.get(name)
    if there is None or len(there) == 64:
        return there == staged.sha256[name]
    return there == content_id(staged.folder / name)


def foreign_files(remote: Remote, changes: Changes) -> List[str]:
    """Files that would be replaced or removed and are not as an earlier publication wrote them."""
    touched = [n for n in (*changes.added, *changes.gone) if n in remote.files]
    # The manifest does not name itself.
    return sorted(
        n for n in touched
        if not remote.is_published(n) and not (n == MANIFEST and remote.published)
    )  # fmt: skip
