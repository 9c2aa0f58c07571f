"""Read a repository on the Hub, change it, and undo the changes of a failed publication."""

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
from huggingface_hub.utils.sha import git_hash

from ..files import read_json
from ..models.pretrained.hub_errors import CONNECTION_ERROR
from ..models.pretrained.manifest import sha256_of
from .stage import MANIFEST, Staged

#: Name of the branch that holds the files until they are compared.
_BRANCH = re.compile(r"se-zoo-publish-[0-9a-f]{8}")
_TITLE = "Publish with se-zoo"
_VERSION = re.compile(r"v(\d+)")
#: Files of an earlier model that would change what transformers loads: its preprocessing, or an
#: adapter over the weights. Weights in other formats, and indices of shards, do not: it looks for
#: ``model.safetensors`` first.
_OF_ANOTHER_MODEL = frozenset(
    (
        "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
        "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin",
    )
)  # fmt: skip


class Remote:
    """A repository: its state when it was read, and the changes made since.

    Args:
        api: Client of the Hub.
        repo: Repository.

    Attributes:
        head: Commit of ``main``; None where there is no repository.
        private: Whether only members see it. For a repository to be made: whether it must be
            private, where None takes the owner's default.
        files: Files of ``main``: SHA-256 of large files (in LFS), git's blob id of all others.
        pull_request: Address of the pull request that was opened.
    """

    api: HfApi
    repo: str

    def __init__(self, api: HfApi, repo: str):
        self.api, self.repo = api, repo
        self.head: Optional[str] = None
        self.private: Optional[bool] = None
        self.files: Dict[str, str] = {}
        self.pull_request: Optional[str] = None
        self._created = False
        self._branch: Optional[str] = None
        self._begun_before: Set[Optional[str]] = set()  # branches that were there before main moved
        self._open_before: Optional[Set[int]] = None

    @classmethod
    def look(cls, api: HfApi, repo: str) -> "Remote":
        """Read a repository as it is now; one that does not exist has no ``head``."""
        remote = cls(api, repo)
        try:
            info = api.model_info(repo)
        except RepositoryNotFoundError:
            return remote
        remote.head, remote.private = str(info.sha), bool(info.private)
        remote.files = remote.listing(remote.head)
        return remote

    def listing(self, revision: str) -> Dict[str, str]:
        """Return the files of a revision, as in :attr:`files`."""
        entries = self.api.list_repo_tree(self.repo, recursive=True, revision=revision)
        return {
            e.path: e.lfs.sha256 if e.lfs is not None else e.blob_id
            for e in entries
            if isinstance(e, RepoFile)
        }

    def download(self, name: str, folder: str) -> Path:
        """Download a file of ``head`` into a folder that serves as cache."""
        return Path(hf_hub_download(self.repo, name, revision=self.head, cache_dir=folder))

    @cached_property
    def published(self) -> Dict[str, str]:
        """SHA-256 of the files of the last publication, from the repository's own manifest."""
        if MANIFEST not in self.files:
            return {}
        with tempfile.TemporaryDirectory(prefix="se-zoo-") as folder:
            try:
                content = read_json(self.download(MANIFEST, folder))
                return {str(k): str(v) for k, v in content["files"].items()}
            except (ValueError, KeyError, AttributeError, TypeError):
                return {}  # no manifest of se-zoo: then no file counts as published by it

    def is_published(self, name: str) -> bool:
        """Return whether a file of ``main`` is as the last publication wrote it."""
        known = self.published.get(name)
        if known is None or _is_sha256(self.files[name]):
            return self.files[name] == known
        with tempfile.TemporaryDirectory(prefix="se-zoo-") as folder:
            return sha256_of(self.download(name, folder)) == known

    def create(self) -> None:
        """Make the repository."""
        try:
            # None takes the owner's default: an organisation may make new ones private.
            self.api.create_repo(self.repo, private=self.private or None)
        except HfHubHTTPError as error:
            # After an error of the server, or a lost answer, it may exist nevertheless.
            self._created = error.response.status_code >= 500
            raise
        except BaseException:
            self._created = True
            raise
        self._created = True
        found = Remote.look(self.api, self.repo)
        self.head, self.private, self.files = found.head, found.private, found.files

    def commit_branch(self, changes: "Changes") -> str:
        """Commit to a new branch on top of ``head``, and return the commit."""
        self._branch = f"se-zoo-publish-{secrets.token_hex(4)}"
        self.api.create_branch(self.repo, branch=self._branch, revision=self.head)
        return self._commit(changes, self._branch)

    def commit_main(self, changes: "Changes", staged: Staged) -> str:
        """Commit to ``main`` and return the commit; the Hub refuses if ``main`` has moved."""
        self._begun_before = set(self._publications())
        try:
            commit = self._commit(changes, "main")
        except (OSError, CONNECTION_ERROR):
            # The commit may exist, and only the answer was lost.
            found = Remote.look(self.api, self.repo)
            if found.head in (None, self.head) or Changes.between(found, staged):
                raise
            commit = str(found.head)
            # Or somebody else made it, perhaps before the branches were listed.
            self._begun_before = {self._branch}
        self._created, self._branch = False, None  # from here on nothing is undone
        return commit

    def _commit(self, changes: "Changes", revision: str) -> str:
        info = self.api.create_commit(
            self.repo, changes.operations(), commit_message=_TITLE, revision=revision,
            parent_commit=self.head,
        )  # fmt: skip
        return str(info.oid)

    def commit_pull_request(self, changes: "Changes") -> str:
        """Open a pull request on top of ``head``, and return its commit."""
        self._open_before = self._open_requests()
        info = self.api.create_commit(
            self.repo, changes.operations(), commit_message=_TITLE, create_pr=True,
            parent_commit=self.head,
        )  # fmt: skip
        self.pull_request = info.pr_url
        return str(info.oid)

    def drop_leftovers(self, commit: str) -> List[str]:
        """Remove the branches of this publication and of killed ones.

        Once ``main`` has moved, those go that were there before: no publication that began before
        can succeed, because the Hub refuses a commit whose parent is not ``main``. One that came
        later stays: it may begin at the new ``main``. While ``main`` is as it was read, a branch
        with other files stays: it may be another publication in progress.

        Args:
            commit: The commit of ``main``.

        Returns:
            Names of the branches that stay.
        """
        left, moved = [], commit != self.head
        for name, target in self._publications().items():
            gone = name in self._begun_before if moved else self.listing(target) == self.files
            if gone:
                self.api.delete_branch(self.repo, branch=name)
            else:
                left.append(name)
        return left

    def _publications(self) -> Dict[str, str]:
        """Return the branches of publications, and their commits."""
        branches = self.api.list_repo_refs(self.repo).branches
        return {b.name: b.target_commit for b in branches if _BRANCH.fullmatch(b.name)}

    def tags(self) -> Dict[str, str]:
        """Return the tags and their commits."""
        return {t.name: t.target_commit for t in self.api.list_repo_refs(self.repo).tags}

    def version_of(self, commit: str) -> Optional[str]:
        """Return the commit's tag of the kind v1, v2, ..., or None."""
        ours = (t for t, c in self.tags().items() if c == commit and _VERSION.fullmatch(t))
        return next(ours, None)

    def tag(self, commit: str, name: Optional[str]) -> str:
        """Tag a commit and return the tag.

        Args:
            commit: The commit.
            name: The tag; by default the commit's own version tag, or else the next version.
        """
        present = self.tags()
        if name is None:
            kept = self.version_of(commit)
            if kept is not None:
                return kept
            versions = [int(m[1]) for t in present if (m := _VERSION.fullmatch(t))]
            name = f"v{max(versions, default=0) + 1}"
        if present.get(name) != commit:
            # No message: a tag with one is an object whose id is not that of the commit.
            self.api.create_tag(self.repo, tag=name, revision=commit)
        return name

    def undo(self) -> str:
        """Remove what this publication made, as far as the Hub answers.

        Returns:
            A sentence on what may be left; empty if nothing is.
        """
        left = []
        for what, action in (
            (f"the pull request {self.pull_request or 'that may be open'}", self._close),
            (f"the branch {self._branch}", self._drop_branch),
            ("the repository, if it was made and is empty", self._delete_repo),
        ):
            try:
                action()
            except Exception as error:  # try the other steps, whatever the error
                left.append(f"{what} ({type(error).__name__})")
        if not left:
            return ""
        return (
            f" Not removed, because the Hub failed: {', '.join(left)}. Publishing again removes or "
            "uses it."
        )

    def _close(self) -> None:
        """Close the pull request, whose number is unknown if the Hub's answer was lost."""
        if self._open_before is not None:
            for number in self._open_requests() - self._open_before:
                self.api.change_discussion_status(self.repo, number, "closed")

    def _open_requests(self) -> Set[int]:
        """Return the numbers of the user's open pull requests by se-zoo."""
        me = self.api.whoami()["name"]
        found = self.api.get_repo_discussions(
            self.repo, author=me, discussion_type="pull_request", discussion_status="open"
        )
        return {d.num for d in found if d.title == _TITLE}

    def _drop_branch(self) -> None:
        """Remove the branch; that of a new repository goes with the repository."""
        if self._branch is None or self._created:
            return
        if self._branch in [b.name for b in self.api.list_repo_refs(self.repo).branches]:
            self.api.delete_branch(self.repo, branch=self._branch)

    def _delete_repo(self) -> None:
        """Remove the repository if this publication made it and ``main`` is still empty."""
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
    """The changes that a commit makes.

    Attributes:
        folder: The staged folder.
        added: Files that are new or differ.
        gone: Files of an earlier publication that are no longer in the folder, and files of
            another model that would change how this one is loaded.
    """

    folder: Path
    added: List[str]
    gone: List[str]

    @classmethod
    def between(cls, remote: Remote, staged: Staged) -> "Changes":
        """Return the changes from ``main``, as it was read, to the staged folder."""
        added = [name for name in staged.sha256 if not _same(remote, staged, name)]
        unwanted = _OF_ANOTHER_MODEL.union(remote.published)
        gone = unwanted & set(remote.files) - set(staged.sha256)
        return cls(staged.folder, added, sorted(gone))

    def __bool__(self) -> bool:
        return bool(self.added or self.gone)

    def operations(self) -> List[Union[CommitOperationAdd, CommitOperationDelete]]:
        """Return the operations of a commit; new objects, as the client uses each only once."""
        adds = [CommitOperationAdd(name, self.folder / name) for name in self.added]
        return [*adds, *(CommitOperationDelete(name) for name in self.gone)]


def _is_sha256(digest: str) -> bool:
    """Return whether a digest is a SHA-256 (64 digits) and not a blob id (40 digits)."""
    return len(digest) == 64


def _same(remote: Remote, staged: Staged, name: str) -> bool:
    """Return whether a staged file is on ``main`` already."""
    published = remote.files.get(name)
    if published is None or _is_sha256(published):
        return published == staged.sha256[name]
    return published == git_hash((staged.folder / name).read_bytes())


def foreign_files(remote: Remote, changes: Changes) -> List[str]:
    """Return the files that would be replaced or removed and that se-zoo did not write.

    Args:
        remote: The repository.
        changes: The changes to its ``main``.
    """
    touched = [n for n in (*changes.added, *changes.gone) if n in remote.files]
    # The manifest does not name itself.
    return sorted(
        n for n in touched
        if not remote.is_published(n) and not (n == MANIFEST and remote.published)
    )  # fmt: skip
