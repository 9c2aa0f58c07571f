"""Read the zoo's manifest: repository, commit and file hashes of each model.

``hub_cards/manifest.json`` holds one entry for each model. ``se-zoo publish`` writes it, and the
package contains it. A published model is pulled from the commit of its entry, because tags and
branches can move.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from ...errors import SEZooError
from ...zoo_names import cards_folder, read_entries


@dataclass(frozen=True)
class Published:
    """Hold one entry of the manifest.

    Attributes:
        sha256: SHA-256 of each file, by its name.
        repo: Repository on the Hub; None if the model was not published.
        commit: Commit that is pulled, 40 hexadecimal digits.
        tag: Its tag on the Hub.
    """

    sha256: Mapping[str, str]
    repo: Optional[str] = None
    commit: Optional[str] = None
    tag: Optional[str] = None


def hub_folder(name: str) -> Path:
    """Return the folder that holds a zoo model's Hub repository, byte for byte.

    Args:
        name: Name of the model, such as ``resnet50_celeba``.
    """
    return cards_folder() / name / "hub"


def packaged_sha256(file: Path) -> Optional[str]:
    """Return the SHA-256 that the manifest records of a packaged file; None for any other file."""
    entry = manifest().get(file.parent.parent.name)
    if entry is None or file.parent != hub_folder(file.parent.parent.name):
        return None
    return entry.sha256.get(file.name)


def read_manifest(file: Path) -> Dict[str, Published]:
    """Return the entries of a manifest by model name (``resnet50_celeba``).

    Args:
        file: The manifest.

    Raises:
        SEZooError: If the file cannot be read, or is not as ``se-zoo publish`` writes it.
    """
    entries = read_entries(file)
    try:
        return {name: Published(**entry) for name, entry in entries.items()}
    except TypeError as error:
        raise SEZooError(f"{file} cannot be read: {error}") from error


@lru_cache(maxsize=1)
def manifest() -> Dict[str, Published]:
    """Return the entries of the package's manifest."""
    return read_manifest(cards_folder() / "manifest.json")


def published(repo: str) -> Optional[Published]:
    """Return the entry of a repository on the Hub (without a revision), or None."""
    return next((entry for entry in manifest().values() if entry.repo == repo), None)


def entry_text(entries: Mapping[str, Published]) -> str:
    """Return the text of a manifest with these entries."""
    plain: Dict[str, Any] = {
        name: {k: v for k, v in vars(entry).items() if v is not None}
        for name, entry in sorted(entries.items())
    }
    return json.dumps(plain, indent=1) + "\n"


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
