"""Publish a folder: all of it or nothing, and only after it was pulled back and compared.

The folder is first committed to a branch of its own and pulled from there into an empty cache. If
that model answers and explains as the local one does, to the bit, the same files are committed to
``main``, in one commit on top of the one that was read. Then the branch is removed. The tag comes
last, so it only marks what was checked.

A pull request that is compared and then merged cannot replace the branch. ``merge_pull_request``
takes no parent commit and returns nothing, so ``main`` may move after the comparison and the merged
commit is not known to be the compared one. A failed publication would also leave a closed pull
request, which nobody can delete.
"""

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import timm
from huggingface_hub import HfApi, constants, get_session
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from ..models.names import PREFIX
from .compare import differences
from .publish_errors import PublishError, naming_the_step
from .remote import Changes, Remote, foreign_files
from .secrets import refuse_secrets
from .stage import Staged, load_name

#: Files of figures that every publication makes again.
GENERATED = ("size.json", "gallery.json")
#: Names of tags: fewer than git takes, so that each reads as a name.
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Publication:
    """A publication that succeeded.

    Attributes:
        repo: Repository.
        commit: Its commit, 40 hexadecimal digits.
        tag: Tag of the commit; None for a pull request.
        pull_request: Address of the pull request, if one was asked for.
        changed: Whether anything had to be uploaded.
        load_name: Name of the model for ``timm.create_model``.
        private: Whether only members see the repository.
        left: Branches with other files, of publications that were killed or are in progress.
    """

    repo: str
    commit: str
    tag: Optional[str]
    pull_request: Optional[str]
    changed: bool
    load_name: str
    private: bool = False
    left: Tuple[str, ...] = ()

    def text(self) -> str:
        """Return the lines that the command line prints."""
        state = "" if self.changed else " (nothing had changed)"
        tagged = f", tag {self.tag}" if self.tag else ""
        lines = [
            f"{self.repo}{' (private)' if self.private else ''}: published, pulled back and "
            f"compared to the bit{state}",
            f"commit {self.commit}{tagged}",
            f"pinned: hf_hub_id={self.repo}@{self.commit}",
        ]
        if self.pull_request:
            return "\n".join([*lines, f"waits to be merged: {self.pull_request}"])
        lines.append(f'timm.create_model("{self.load_name}", pretrained=True)')
        return "\n".join([*lines, *self.warnings()])

    def warnings(self) -> List[str]:
        """Return a line for each branch that stays on the Hub, which says what to do."""
        return [
            f"the branch {name} holds other files, of a publication that was killed or is still in "
            "progress; if nobody is publishing, delete it: "
            f"huggingface_hub.delete_branch({self.repo!r}, branch={name!r})"
            for name in self.left
        ]


def publish(
    staged: Staged,
    *,
    pr: bool = False,
    private: bool = False,
    tag: Optional[str] = None,
    overwrite: bool = False,
) -> Publication:
    """Upload a staged folder, pull it back and compare, then commit it to ``main`` and tag it.

    Args:
        staged: The folder, see :func:`se_zoo.hub.stage.stage` and
            :func:`se_zoo.hub.packaged.packaged`; its repository is made if there is none.
        pr: Open a pull request instead.
        private: Make a new repository private.
        tag: Tag of the commit; by default the next of v1, v2, ...
        overwrite: Replace files that se-zoo did not write, and remove those of another model.

    Returns:
        The publication: repository, commit and tag or pull request.

    Raises:
        PublishError: Naming the step that failed and what to do. The Hub is then as it was, or the
            message says what is left.
    """
    with naming_the_step("before anything was changed", staged.run.repo):
        remote = _prepare(staged, pr, private, tag, overwrite)
    try:
        return _upload(remote, staged, pr, tag)
    except BaseException as error:  # clean up after an interruption as well
        left = remote.undo()
        if left and isinstance(error, Exception):
            raise PublishError(f"{error}{left}") from error
        if left:
            print(f"se-zoo: {staged.run.repo}:{left}", file=sys.stderr)
        raise


def _prepare(
    staged: Staged, pr: bool, private: bool, tag: Optional[str], overwrite: bool
) -> Remote:
    """Look at the repository, and refuse what can be refused before the Hub is changed."""
    if pr and (private or tag):
        raise PublishError("--pr cannot be combined with --private or --tag; leave them out.")
    if tag is not None and (_TAG.fullmatch(tag) is None or tag.endswith((".", ".lock"))):
        raise PublishError(f"--tag {tag!r} is no name for a tag; use letters, digits, . _ -")
    api, repo = HfApi(), staged.run.repo
    refuse_secrets(staged.folder)
    api.whoami()
    _validate_card((staged.folder / "README.md").read_text("utf-8"))
    remote = Remote.look(api, repo)
    if remote.head is None:
        if pr:
            raise PublishError(f"{repo} does not exist; --pr needs a repository. Leave it out.")
        remote.private = private
        return remote
    if private and not remote.private:
        raise PublishError(
            f"{repo} exists and is public; make it private in its settings, or leave out --private."
        )
    if not staged.packaged:
        _reuse_figures(remote, staged)
    changes = Changes.between(remote, staged)
    foreign = [] if overwrite else foreign_files(remote, changes)
    if foreign:
        raise PublishError(
            f"Someone else wrote or changed {', '.join(foreign)} in {repo}, and publishing would "
            "replace or remove them. Copy what you want to keep into the card's facts, then "
            "publish with --overwrite."
        )
    tagged = None if tag is None else remote.tags().get(tag)
    if tagged is not None and (changes or tagged != remote.head):
        raise PublishError(f"{repo} has a tag {tag} already, of {tagged}; name another --tag.")
    return remote


def _reuse_figures(remote: Remote, staged: Staged) -> None:
    """Keep the published figures where the new ones differ in machine or commit only."""
    reused = []
    with tempfile.TemporaryDirectory(prefix="se-zoo-") as folder:
        for name in GENERATED:
            if name in staged.sha256 and name in remote.files and remote.is_published(name):
                reused.append(staged.reuse(remote.download(name, folder)))
    if any(reused):
        staged.write_manifest()


def _validate_card(text: str) -> None:
    """Ask the Hub whether it takes a card's header; it knows all licences and ids."""
    # Not ModelCard.validate, which asks huggingface.co itself in huggingface_hub 1.0.
    answer = get_session().post(
        f"{constants.ENDPOINT}/api/validate-yaml",
        json={"repoType": "model", "content": text},
        headers=build_hf_headers(),
    )
    if answer.status_code == 400:
        found = "; ".join(error["message"] for error in answer.json().get("errors", []))
        raise PublishError(f"The Hub refuses the card's header: {found}. Correct the facts.")
    hf_raise_for_status(answer)


def _upload(remote: Remote, staged: Staged, pr: bool, tag: Optional[str]) -> Publication:
    """Commit, pull back, compare, commit to ``main`` and tag."""
    repo, step = remote.repo, naming_the_step
    if remote.head is None:
        with step("making the repository", repo):
            remote.create()
    changes, name = Changes.between(remote, staged), load_name(staged.run)
    commit = str(remote.head)
    if pr and changes:
        with step("opening the pull request", repo):
            commit = remote.commit_pull_request(changes)
    elif changes:
        with step("uploading", repo):
            commit = remote.commit_branch(changes)
    with step("comparing what came back", repo):
        compare(staged, commit)
    if pr:
        return Publication(repo, commit, None, remote.pull_request, bool(changes), name)
    if changes:
        with step("committing to main", repo):
            commit = remote.commit_main(changes, staged)
    with step(f"tagging (everything is published as {commit}, only the tag is missing)", repo):
        left = tuple(remote.drop_leftovers(commit))
        tag = remote.tag(commit, tag)
    return Publication(repo, commit, tag, None, bool(changes), name, bool(remote.private), left)


def compare(staged: Staged, commit: str) -> None:
    """Pull a commit into an empty cache, by every name that it will have, and compare the models.

    Args:
        staged: The folder that was uploaded, with the local model.
        commit: The commit, 40 hexadecimal digits.

    Raises:
        PublishError: If outputs, labels, arguments of the head or preprocessing differ.
    """
    run = staged.run
    place = f"{run.repo}@{commit}"
    names: Dict[str, Dict[str, Any]] = {f"hf-hub:{place}": {}}
    if load_name(run).startswith(PREFIX):  # here the registry decides the architecture
        names[load_name(run)] = {"pretrained_cfg_overlay": {"hf_hub_id": place}}
    for name, arguments in names.items():
        with tempfile.TemporaryDirectory(prefix="se-zoo-") as cache:
            arguments["cache_dir"] = Path(cache)
            pulled: Any = timm.create_model(name, pretrained=True, **arguments).eval()
        different = differences(run.model, pulled)
        if different:
            raise PublishError(
                f"What {name} gives at {commit} differs from the local model: "
                f"{', '.join(different)}. Save the model again, then publish."
            )
