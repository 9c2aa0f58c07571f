"""What of the zoo is published: repository, commit and the hash of every file of each model.

``hub_cards/manifest.json`` holds one entry a model, which ``se-zoo publish`` writes; it travels
with the package. A model that has an entry is pulled from exactly that commit: tags and branches
move.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from ...errors import SEZooError

_PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Published:
    """One entry of the manifest.

    Attributes:
        sha256: SHA-256 of each file, by its name.
        repo: Repository on the Hub; None for a model whose weights lie in the package.
        commit: The commit that is pulled, 40 hexadecimal digits.
        tag: Its tag on the Hub.
    """

    sha256: Mapping[str, str]
    repo: Optional[str] = None
    commit: Optional[str] = None
    tag: Optional[str] = None


def cards_folder() -> Path:
    """The folder ``hub_cards``: inside the installed package, or beside it in a checkout.

    Raises:
        SEZooError: If the installation lacks it.
    """
    for folder in (_PACKAGE / "hub_cards", _PACKAGE.parent / "hub_cards"):
        if (folder / "manifest.json").is_file():
            return folder
    raise SEZooError(
        f"{_PACKAGE} was installed without its hub_cards; install se_zoo again with pip."
    )


def hub_folder(name: str) -> Path:
    """Return the folder that holds a zoo model's Hub repository, byte for byte.

    Args:
        name: Such as ``resnet50_celeba``.
    """
    return cards_folder() / name / "hub"


def packaged_sha256(file: Path) -> Optional[str]:
    """Return the SHA-256 that the manifest records of a packaged file; None for any other file."""
    entry = manifest().get(file.parent.parent.name)
    if entry is None or file.parent != hub_folder(file.parent.parent.name):
        return None
    return entry.sha256.get(file.name)


def read_manifest(file: Path) -> Dict[str, Published]:
    """The entries of a manifest by model name (``resnet50_celeba``).

    Raises:
        SEZooError: If it is not as ``se-zoo publish`` writes it.
    """
    try:
        return {k: Published(**v) for k, v in json.loads(file.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SEZooError(f"{file} cannot be read: {error}") from error


@lru_cache(maxsize=1)
def manifest() -> Dict[str, Published]:
    """The entries of the installed package."""
    return read_manifest(cards_folder() / "manifest.json")


def published(repo: str) -> Optional[Published]:
    """The entry of a repository on the Hub, named without a revision."""
    return next((entry for entry in manifest().values() if entry.repo == repo), None)


def entry_text(entries: Mapping[str, Published]) -> str:
    """A manifest as the file holds it."""
    plain: Dict[str, Any] = {
        name: {k: v for k, v in vars(entry).items() if v is not None}
        for name, entry in sorted(entries.items())
    }
    return json.dumps(plain, indent=1) + "\n"


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
