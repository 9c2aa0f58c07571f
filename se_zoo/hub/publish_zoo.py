"""Publish all models of the zoo, each exactly as its packaged folder is."""

from dataclasses import dataclass
from typing import Iterator, Optional

from huggingface_hub import HfApi

from ..errors import SEZooError
from ..models.pretrained.fetch import declared_repo
from ..models.pretrained.manifest import manifest
from .packaged import packaged
from .publish import Publication, publish
from .publish_errors import naming_the_step
from .read_run import check_repo
from .record import check_record, record
from .remote import Changes, Remote
from .stage import Staged, load_name


@dataclass(frozen=True)
class Outcome:
    """The result of publishing one model.

    Attributes:
        repo: Repository.
        publication: The publication; None after an error.
        error: The error on one line; None after a success.
    """

    repo: str
    publication: Optional[Publication] = None
    error: Optional[str] = None

    def text(self) -> str:
        """Return one line for the command line."""
        done = self.publication
        if done is None:
            return f"{self.repo}: FAILED: {self.error}"
        state = "published" if done.changed else "up already"
        private = " (private)" if done.private else ""
        line = f"{self.repo}{private}: {state}, tag {done.tag}, commit {done.commit}"
        return "; ".join([line, *done.warnings()])


def publish_zoo(
    org: Optional[str] = None,
    *,
    private: bool = False,
    overwrite: bool = False,
    to_record: bool = False,
) -> Iterator[Outcome]:
    """Publish every packaged model; the errors of one do not stop the others.

    A model that is published already, equal and tagged, is skipped. So the same call continues
    where an interrupted one ended.

    Args:
        org: Organisation on the Hub; the zoo's by default.
        private: Make new repositories private.
        overwrite: Replace files that se-zoo did not write.
        to_record: Write commits and tags to ``hub_cards/manifest.json``.

    Yields:
        The outcome of each model.

    Raises:
        InvalidInputError: If the organisation's name is not valid, or the manifest cannot be
            written.
        PublishError: If the Hub does not accept the token.
    """
    repos = {name: f"{org}/{name}" if org else declared_repo(name) for name in manifest()}
    for repo in repos.values():
        check_repo(repo)
    if to_record:
        check_record()
    with naming_the_step("before anything was changed", next(iter(repos.values()))):
        HfApi().whoami()
    for name, repo in repos.items():
        try:
            done = _publish(name, repo, private, overwrite)
            if to_record:
                record(name, done)
            yield Outcome(repo, done)
        except (SEZooError, OSError) as error:
            yield Outcome(repo, error=" ".join(str(error).split()))


def _publish(name: str, repo: str, private: bool, overwrite: bool) -> Publication:
    """Publish one packaged model, unless it is on the Hub already."""
    staged = packaged(name, repo)
    with naming_the_step("before anything was changed", repo):
        published = _published(staged)
    if published is not None and (published.private or not private):
        return published
    return publish(staged, private=private, overwrite=overwrite)


def _published(staged: Staged) -> Optional[Publication]:
    """Return the earlier publication of this folder, if it is complete: its tag comes last.

    Branches that killed publications left are removed, or named in it.
    """
    remote = Remote.look(HfApi(), staged.run.repo)
    if remote.head is None or Changes.between(remote, staged):
        return None
    tag = remote.version_of(remote.head)
    if tag is None:
        return None
    name, private = load_name(staged.run), bool(remote.private)
    left = tuple(remote.drop_leftovers(remote.head))
    return Publication(staged.run.repo, remote.head, tag, None, False, name, private, left)
