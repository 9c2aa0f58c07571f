"""``se-zoo verify``: are these the files that were published?"""

import json
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional, Set

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from ..errors import SEZooError
from ..models.names import PREFIX
from ..models.pretrained.errors import CONNECTION_ERROR, as_sentence, next_step
from ..models.pretrained.fetch import WEIGHTS_NAME
from ..models.pretrained.load import load_any
from ..models.pretrained.manifest import hub_folder, manifest, sha256_of
from .stage import MANIFEST
from .zoo import own_name


class VerifyError(SEZooError, RuntimeError):
    """Files that are not those that were published, or of which that cannot be told."""


class _Expected(NamedTuple):
    """Files, their hashes, who vouches for them, and the name that loads exactly them."""

    files: Dict[str, Path]
    sha256: Mapping[str, str]
    voucher: str
    place: str


def verify(name: str) -> str:
    """Compare a model's files with the hashes that were published, and load it.

    Args:
        name: ``se_zoo/<name>``, whose hashes travel with this package; or ``hf-hub:<repository>``,
            which brings its own, so that damage is found but not a dishonest owner.

    Returns:
        A line a file, and one on the model.

    Raises:
        VerifyError: If a file differs, or there is nothing to compare with.
        UnknownModelError, WeightsNotFoundError: If the model does not load.
    """
    expected = _of_hub(name) if name.startswith("hf-hub:") else _of_zoo(name)
    lines, wrong = [], []
    damaged: Set[str] = set()
    for file, path in expected.files.items():
        found = sha256_of(path)
        same = found == expected.sha256[file]
        lines.append(f"{'ok ' if same else 'BAD'} {found}  {file}")
        if not same:
            wrong.append(f"{path} has SHA-256 {found}, published was {expected.sha256[file]}")
            damaged |= {str(path), str(path.resolve())}  # a link, and what it leads to
    if wrong:
        raise VerifyError(
            f"{name} is not what was published: {'; '.join(wrong)}. Delete "
            f"{' and '.join(sorted(damaged))}, and pull again; if that does not help, "
            "do not use it."
        )
    model = load_any(expected.place)
    parameters = sum(p.numel() for p in model.parameters())
    return "\n".join(
        [
            *lines,
            f"{name}: as published ({expected.voucher}); {parameters:,} parameters, all finite",
        ]
    )


def _of_zoo(name: str) -> _Expected:
    own = own_name(name)
    entry = manifest().get(own or "")
    if own is None or entry is None:
        known = ", ".join(PREFIX + k for k in manifest())
        raise VerifyError(f"This version of se_zoo knows no hashes of {name}, only of: {known}.")
    folder = hub_folder(own)
    if (folder / WEIGHTS_NAME).is_file():
        packaged = {file: folder / file for file in entry.sha256}
        return _Expected(packaged, entry.sha256, "hub_cards/manifest.json", name)
    if entry.repo is None:
        raise VerifyError(
            f"{folder} has no {WEIGHTS_NAME}, and the manifest names no commit on the Hub to fetch "
            "it from; install se_zoo again with pip."
        )
    files = {f: _fetch(entry.repo, f, entry.commit) for f in entry.sha256}
    voucher = f"hub_cards/manifest.json, {entry.repo}@{entry.commit}{_whether_asked(entry.repo)}"
    return _Expected(files, entry.sha256, voucher, name)


def _of_hub(name: str) -> _Expected:
    repo, _, revision = name.removeprefix("hf-hub:").partition("@")
    try:
        file = _fetch(repo, MANIFEST, revision or None)
        hashes = {str(k): str(v) for k, v in json.loads(file.read_text("utf-8"))["files"].items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise VerifyError(f"{repo} has a {MANIFEST}, but not one of se-zoo's: {error}") from error
    if WEIGHTS_NAME not in hashes:
        raise VerifyError(f"{repo}: its {MANIFEST} does not name {WEIGHTS_NAME}.")
    commit = file.parent.name  # of all files alike, though main may move
    files = {f: _fetch(repo, f, commit) for f in hashes}
    voucher = f"by the repository's own {MANIFEST}, commit {commit}{_whether_asked(repo)}"
    return _Expected(files, hashes, voucher, f"hf-hub:{repo}@{commit}")


def _whether_asked(repo: str) -> str:
    """The client falls back on its cache without a word; then it has to be said here."""
    try:
        HfApi().model_info(repo, timeout=10)
    except (OSError, CONNECTION_ERROR) as error:
        return f"; files of the cache, because the Hub did not answer: {type(error).__name__}"
    return ""


def _fetch(repo: str, file: str, revision: Optional[str]) -> Path:
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except EntryNotFoundError as error:
        if isinstance(error, OSError) and file == MANIFEST and not hasattr(error, "response"):
            raise _failed(repo, file, error) from error  # not in the cache, and no network
        raise VerifyError(f"{repo} has no {file}: there is nothing to compare with.") from error
    except (OSError, ValueError, CONNECTION_ERROR) as error:
        raise _failed(repo, file, error) from error


def _failed(repo: str, file: str, error: BaseException) -> VerifyError:
    cause = f"{type(error).__name__}: {as_sentence(error)} {next_step(error, repo)}"
    return VerifyError(f"{file} of {repo}: {cause}")
