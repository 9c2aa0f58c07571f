"""Recording a publication of the zoo's own models in a checkout, for the next version to pin."""

import os
import shutil
from pathlib import Path

from ..errors import InvalidInputError
from ..models.manifest import Published, entry_text, read_manifest
from .publish import Publication
from .run import Run
from .stage import MANIFEST, Staged, load_name
from .zoo import FACTS

#: What a repository holds and the checkout does not: the weights, and what is made from the rest.
_NOT_KEPT = (MANIFEST, "config.json")


def check_record(run: Run, cards: Path) -> None:
    """Refuse what could not be recorded, before anything is published.

    Raises:
        InvalidInputError: If the model is none of the zoo's own, its repository another, or the
            folder no ``hub_cards`` of a checkout.
    """
    if run.own is None or load_name(run) != f"se_zoo/{run.own}":
        raise InvalidInputError(f"--record is for the zoo's own repositories, not for {run.repo}.")
    if not (cards / run.own / FACTS).is_file() or not os.access(cards / MANIFEST, os.W_OK):
        raise InvalidInputError(f"--record {cards} is no hub_cards folder of a checkout.")
    read_manifest(cards / MANIFEST)


def record(staged: Staged, done: Publication, cards: Path) -> str:
    """Write the commit and the hashes to ``manifest.json``, and the files of figures, the pictures
    and the card to the model's folder.

    Args:
        staged: What was published; :func:`check_record` has let it pass.
        done: Where it is.
        cards: ``hub_cards`` of a checkout.

    Returns:
        A line that says what was written.

    Raises:
        InvalidInputError: If it cannot be written; the manifest is written last.
    """
    own = str(staged.run.own)
    folder, file = cards / own, cards / MANIFEST
    try:
        for name in staged.sha256:
            if name not in _NOT_KEPT and Path(name).suffix in (".json", ".png", ".md"):
                shutil.copyfile(staged.folder / name, folder / name)
        entries = read_manifest(file)
        entries[own] = Published(dict(staged.sha256), done.repo, done.commit, done.tag)
        temporary = file.with_name(f"{file.name}.tmp")
        temporary.write_text(entry_text(entries), encoding="utf-8")
        os.replace(temporary, file)
    except OSError as error:
        raise InvalidInputError(
            f"{done.repo} is published as {done.commit}, but not recorded: {error}"
        ) from error
    return f"recorded in {file} and {folder}; commit them"
