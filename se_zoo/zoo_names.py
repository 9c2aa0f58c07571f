"""Know the names of the zoo's models without torch, so that a misspelt one is refused at once."""

import difflib
import json
from pathlib import Path
from typing import Any, Dict, Iterable

from .errors import SEZooError, UnknownModelError

#: What the names of the zoo begin with.
PREFIX = "se_zoo/"
_LOCAL = "local-dir:"
_PACKAGE = Path(__file__).parent


def cards_folder() -> Path:
    """Return the folder ``hub_cards``: in the installed package, or beside it in a checkout.

    Raises:
        SEZooError: If the installation has no such folder.
    """
    for folder in (_PACKAGE / "hub_cards", _PACKAGE.parent / "hub_cards"):
        if (folder / "manifest.json").is_file():
            return folder
    raise SEZooError(
        f"{_PACKAGE} was installed without its hub_cards; install se_zoo again with pip."
    )


def read_entries(manifest: Path) -> Dict[str, Dict[str, Any]]:
    """Return the entries of a manifest by model name, as they are written.

    Args:
        manifest: The file; the package's is ``hub_cards/manifest.json``.

    Raises:
        SEZooError: If it cannot be read, or is no object of objects.
    """
    try:
        entries = json.loads(manifest.read_text("utf-8"))
        return {name: dict(entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SEZooError(f"{manifest} cannot be read: {error}") from error


def short_name(name: str) -> str:
    """Return the last part of a model's name; of a folder its name, without the path to it.

    Args:
        name: Any name of a model.
    """
    if name.startswith(_LOCAL):
        return Path(name[len(_LOCAL) :]).resolve().name
    return name.rstrip("/").replace(":", "/").split("/")[-1]


def check_name(name: str) -> None:
    """Refuse the name of a model that cannot exist, as far as that is known without timm.

    Args:
        name: Any name of a model. Architectures, names of timm and of the Hub are not looked at.

    Raises:
        UnknownModelError: If it begins with ``se_zoo/`` and the zoo has no such model, or it is
            ``local-dir:`` and a folder that does not exist.
    """
    if name.startswith(PREFIX) and "_sehead" not in name:
        own = read_entries(cards_folder() / "manifest.json")
        if (bare := name[len(PREFIX) :]) not in own:
            raise unknown_model(bare, own)
    elif name.startswith(_LOCAL) and not Path(name[len(_LOCAL) :]).is_dir():
        raise UnknownModelError(f"{name}: no such folder.")


def unknown_model(bare: str, known: Iterable[str]) -> UnknownModelError:
    """Return the error of a name that does not exist; it names the closest that do.

    Args:
        bare: The name, without ``se_zoo/``.
        known: Names that exist, without it too.
    """
    close = difflib.get_close_matches(bare, list(known), n=3, cutoff=0.4)
    hint = f" Closest: {', '.join(PREFIX + c for c in close)}." if close else ""
    return UnknownModelError(
        f"se_zoo has no model {bare!r}.{hint} All: `se-zoo list [--architectures]`, or "
        "se_zoo.list_models()."
    )
