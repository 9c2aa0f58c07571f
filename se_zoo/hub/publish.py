"""Publishing: everything goes up or nothing does, and what is up is what was trained.

The folder is committed to a branch of its own first and pulled from there into an empty cache; only
when that model answers and explains to the bit as the local one does, the same files are committed
to ``main``, in one commit on top of the one that was looked at. The branch goes away again. The
tag comes last, so that it only ever marks what was checked.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import timm
import torch
from huggingface_hub import HfApi

from .publish_errors import PublishError, naming_the_step
from .remote import Changes, Remote, foreign_files
from .stage import Staged, as_list, load_name

#: Where the files wait until they were pulled back and compared.
BRANCH = "se-zoo-publish"
#: Of the pulled config, what decides how an image is preprocessed and what an answer is called.
_CONFIG = ("input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation", "num_classes")


@dataclass(frozen=True)
class Publication:
    """What is on the Hub now.

    Attributes:
        repo: Repository.
        commit: 40 hexadecimal digits.
        tag: Its tag; None for a pull request.
        pull_request: Address of the pull request, if that was asked for.
        changed: Whether anything had to be uploaded.
        load_name: What ``timm.create_model`` takes.
    """

    repo: str
    commit: str
    tag: Optional[str]
    pull_request: Optional[str]
    changed: bool
    load_name: str

    def text(self) -> str:
        """For the command line."""
        state = "" if self.changed else " (nothing had changed)"
        tagged = f", tag {self.tag}" if self.tag else ""
        lines = [
            f"{self.repo}: published, pulled back and compared to the bit{state}",
            f"commit {self.commit}{tagged}",
            f"pinned: hf_hub_id={self.repo}@{self.commit}",
        ]
        if self.pull_request:
            return "\n".join([*lines, f"waits to be merged: {self.pull_request}"])
        return "\n".join([*lines, f'timm.create_model("{self.load_name}", pretrained=True)'])


def publish(
    staged: Staged,
    *,
    pr: bool = False,
    private: bool = False,
    tag: Optional[str] = None,
    overwrite: bool = False,
) -> Publication:
    """Upload a staged folder, check what came of it, and tag it.

    Args:
        staged: The folder, see :func:`se_zoo.hub.stage.stage`; its repository is made if there is
            none.
        pr: Open a pull request instead.
        private: Make a new repository private.
        tag: By default the next of v1, v2, ...
        overwrite: Replace files that this package did not put there.

    Raises:
        PublishError: Naming the step that failed and what to do; the Hub is then as it was, or the
            message says what of it is not.
    """
    with naming_the_step("before anything was changed", staged.run.repo):
        remote = _prepare(staged, pr, private, tag, overwrite)
    try:
        return _upload(remote, staged, pr, tag)
    except BaseException as error:  # an interrupted publication is cleaned up as well
        left = remote.undo()
        if left and isinstance(error, Exception):
            raise PublishError(f"{error}{left}") from error
        raise


def _prepare(
    staged: Staged, pr: bool, private: bool, tag: Optional[str], overwrite: bool
) -> Remote:
    """Everything that can be refused is, before the Hub is changed."""
    api, repo = HfApi(), staged.run.repo
    api.whoami()
    remote = Remote.look(api, repo)
    if remote.head is None and pr:
        raise PublishError(f"{repo} does not exist; a pull request needs a repository.")
    if remote.head is None:
        remote.private = private
        return remote
    if private and not remote.private:
        raise PublishError(
            f"{repo} exists and is public; make it private in its settings, or leave out --private."
        )
    strange = [] if overwrite else foreign_files(remote, staged)
    if strange:
        raise PublishError(
            f"{repo} holds {', '.join(strange)}, not as se-zoo wrote them; what they say would be "
            "lost. Take it over into the card's facts, then publish with --overwrite."
        )
    if tag is not None and tag in remote.tags() and Changes.between(remote, staged):
        raise PublishError(f"{repo} has a tag {tag} already; name another --tag.")
    return remote


def _upload(remote: Remote, staged: Staged, pr: bool, tag: Optional[str]) -> Publication:
    """The part that changes the Hub."""
    repo, step = remote.repo, naming_the_step
    if remote.head is None:
        with step("making the repository", repo):
            remote.create()
    changes, name = Changes.between(remote, staged), load_name(staged.run)
    if pr and changes:
        with step("opening the pull request", repo):
            commit = remote.commit_pull_request(changes)
        with step("comparing what came back", repo):
            compare(staged, commit)
        return Publication(repo, commit, None, remote.pull_request, True, name)
    commit = str(remote.head)
    if changes:
        with step("uploading", repo):
            commit = remote.commit_branch(BRANCH, changes)
    with step("comparing what came back", repo):
        compare(staged, commit)
    if changes:
        with step("committing to main", repo):
            commit = remote.commit_main(changes, staged)
    with step(f"tagging (everything is published as {commit}, only the tag is missing)", repo):
        remote.drop_branch(BRANCH)
        tag = remote.tag(commit, tag)
    return Publication(repo, commit, tag, None, bool(changes), name)


def compare(staged: Staged, commit: str) -> None:
    """Pull a commit into an empty cache and compare its answers with the local model's.

    Raises:
        PublishError: If logits, explanation, labels or preprocessing differ in any bit.
    """
    local, repo = staged.run.model, staged.run.repo
    with tempfile.TemporaryDirectory(prefix="se-zoo-") as cache:
        pulled: Any = timm.create_model(
            f"hf-hub:{repo}@{commit}", pretrained=True, cache_dir=Path(cache)
        ).eval()
    size = tuple(local.pretrained_cfg["input_size"])
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    ours, theirs = local.explain(images, target=0), pulled.explain(images, target=0)
    different = [
        name
        for name, same in (
            ("logits", torch.equal(ours.logits, theirs.logits)),
            ("heatmap", torch.equal(ours.heatmap, theirs.heatmap)),
            ("gate", torch.equal(ours.gate, theirs.gate)),
            ("labels", list(local.class_labels()) == list(pulled.class_labels() or ())),
            *((k, as_list(local.pretrained_cfg.get(k)) == as_list(pulled.pretrained_cfg.get(k)))
              for k in _CONFIG),
        )
        if not same
    ]  # fmt: skip
    if different:
        raise PublishError(
            f"What {repo}@{commit} gives differs from the local model: {', '.join(different)}."
        )
