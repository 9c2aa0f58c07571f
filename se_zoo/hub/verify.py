"""Check that a model's files are those that were published: ``se-zoo verify``."""

from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional, Set

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError

from ..errors import SEZooError
from ..files import read_json
from ..models.load_model import load_any
from ..models.names import PREFIX
from ..models.pretrained.fetch import WEIGHTS_NAME
from ..models.pretrained.hub_errors import CONNECTION_ERROR, as_sentence, next_step
from ..models.pretrained.manifest import hub_folder, manifest, sha256_of
from .stage import MANIFEST
from .zoo_cards import own_name


class VerifyError(SEZooError, RuntimeError):
    """A file is not as it was published, or nothing says how it was published."""


class _Published(NamedTuple):
    """A model's files and the hashes that were published."""

    files: Dict[str, Path]
    sha256: Mapping[str, str]
    recorded_in: str  # where the hashes come from, for the user
    load_name: str  # name that loads exactly these files


def verify(name: str) -> str:
    """Compare a model's files with the hashes that were published, and load the model.

    Args:
        name: ``se_zoo/<name>``, whose hashes come with this package; or ``hf-hub:<repository>``,
            which has its own. Those reveal damage, but not a dishonest owner.

    Returns:
        A line for each file, and one for the model.

    Raises:
        VerifyError: If a file differs, or there is nothing to compare with.
        UnknownModelError: If there is no such model.
        WeightsNotFoundError: If the model does not load.
    """
    published = _of_hub(name) if name.startswith("hf-hub:") else _of_zoo(name)
    lines, wrong = [], []
    damaged: Set[str] = set()
    for file, path in published.files.items():
        found = sha256_of(path)
        same = found == published.sha256[file]
        lines.append(f"{'ok ' if same else 'BAD'} {found}  {file}")
        if not same:
            wrong.append(f"{path} has SHA-256 {found}, published was {published.sha256[file]}")
            damaged |= {str(path), str(path.resolve())}  # in the cache, a link and its target
    if wrong:
        raise VerifyError(
            f"{name} is not what was published: {'; '.join(wrong)}. Delete "
            f"{' and '.join(sorted(damaged))}, and pull again; if that does not help, "
            "do not use the model."
        )
    model = load_any(published.load_name)
    parameters = sum(p.numel() for p in model.parameters())
    found = f"as published ({published.recorded_in}); {parameters:,} parameters, all finite"
    return "\n".join([*lines, f"{name}: {found}"])


def _of_zoo(name: str) -> _Published:
    """Return the files of one of the zoo's own models: the package's, or else the Hub's."""
    own = own_name(name)
    entry = manifest().get(own or "")
    if own is None or entry is None:
        known = ", ".join(PREFIX + k for k in manifest())
        raise VerifyError(
            f"This version of se_zoo knows no hashes of {name}; it knows those of: {known}."
        )
    folder = hub_folder(own)
    if (folder / WEIGHTS_NAME).is_file():
        packaged = {file: folder / file for file in entry.sha256}
        return _Published(packaged, entry.sha256, "hub_cards/manifest.json", name)
    if entry.repo is None:
        raise VerifyError(
            f"{folder} has no {WEIGHTS_NAME}, and the manifest names no commit on the Hub to fetch "
            "it from; install se_zoo again with pip."
        )
    files = {f: _fetch(entry.repo, f, entry.commit) for f in entry.sha256}
    source = f"hub_cards/manifest.json, {entry.repo}@{entry.commit}{_offline_note(entry.repo)}"
    return _Published(files, entry.sha256, source, name)


def _of_hub(name: str) -> _Published:
    """Return the files of a repository, by its own manifest."""
    repo, _, revision = name.removeprefix("hf-hub:").partition("@")
    try:
        file = _fetch(repo, MANIFEST, revision or None)
        hashes = {str(k): str(v) for k, v in read_json(file)["files"].items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise VerifyError(
            f"The {MANIFEST} of {repo} was not written by se-zoo, so there is nothing to compare "
            f"with: {error}"
        ) from error
    if WEIGHTS_NAME not in hashes:
        raise VerifyError(
            f"The {MANIFEST} of {repo} does not name {WEIGHTS_NAME}; do not use the model."
        )
    commit = file.parent.name  # the same for all files, even if main moves meanwhile
    files = {f: _fetch(repo, f, commit) for f in hashes}
    source = f"by the repository's own {MANIFEST}, commit {commit}{_offline_note(repo)}"
    return _Published(files, hashes, source, f"hf-hub:{repo}@{commit}")


def _offline_note(repo: str) -> str:
    """Return a note where the Hub does not answer: the client then silently uses its cache."""
    try:
        HfApi().model_info(repo, timeout=10)
    except (OSError, CONNECTION_ERROR) as error:
        return f"; files of the cache, because the Hub did not answer: {type(error).__name__}"
    return ""


def _fetch(repo: str, file: str, revision: Optional[str]) -> Path:
    """Download a file, or find it in the cache."""
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except RemoteEntryNotFoundError as error:
        raise VerifyError(f"{repo} has no {file}: there is nothing to compare with.") from error
    except (OSError, ValueError, CONNECTION_ERROR) as error:
        cause = f"{type(error).__name__}: {as_sentence(error)} {next_step(error, repo)}"
        raise VerifyError(f"{file} of {repo}: {cause}") from error
