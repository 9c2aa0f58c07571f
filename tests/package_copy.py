"""A copy of the package with a small zoo: models can be taken out, or come with other weights."""

import json
import shutil
from pathlib import Path
from typing import Any, Dict, Sequence

import se_zoo
from se_zoo.hub.zoo_cards import NOTICE, notice_text
from se_zoo.models.pretrained.manifest import cards_folder

#: Models of the copy; small ones.
MODELS = ("asd_tiny_grid", "resnet18_slim_celeba")
CELEBA = "resnet18_slim_celeba"


def copy_package(folder: Path, without_weights: Sequence[str] = ()) -> Path:
    """Lay down ``se_zoo`` and ``hub_cards`` in a folder, from which a process imports them.

    Args:
        folder: Where to.
        without_weights: Models whose ``model.safetensors`` does not lie in the copy.

    Returns:
        The folder.
    """
    package = Path(se_zoo.__file__).parent
    cards = cards_folder()
    # With its bytecode, or every copy is compiled anew; without what is being written of it.
    strange = shutil.ignore_patterns("*.pyc.*", "hub_cards")
    shutil.copytree(package, folder / "se_zoo", ignore=strange)
    others = {name for name in read_manifest(cards) if name not in MODELS}
    shutil.copytree(cards, folder / "hub_cards", ignore=shutil.ignore_patterns(*others))
    # Without the commits that this checkout may have recorded of the real Hub.
    entries = {name: {"sha256": read_manifest(cards)[name]["sha256"]} for name in MODELS}
    write_manifest(folder / "hub_cards", entries)
    (folder / "hub_cards" / NOTICE).write_text(notice_text(MODELS), encoding="utf-8")
    for name in without_weights:
        (hub_of(folder, name) / "model.safetensors").unlink()
    return folder


def hub_of(package: Path, name: str) -> Path:
    """Return the folder of a model's repository in a copy."""
    return package / "hub_cards" / name / "hub"


def files_of(folder: Path) -> Dict[str, bytes]:
    """Return a folder's files by their names."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def read_manifest(cards: Path) -> Dict[str, Any]:
    """Return the entries of a manifest."""
    return json.loads((cards / "manifest.json").read_text("utf-8"))


def write_manifest(cards: Path, entries: Dict[str, Any]) -> None:
    """Write a manifest."""
    (cards / "manifest.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
