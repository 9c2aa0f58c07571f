"""Recording a publication of the zoo's own models in a checkout, for the next version to pin."""

import os
import shutil
from pathlib import Path

from ..errors import InvalidInputError
from ..models.manifest import Published, entry_text, read_manifest
from .publish import Publication
from .stage import MANIFEST, Staged

#: What a repository holds and the checkout does not: the weights, and what is made from the rest.
_NOT_KEPT = (MANIFEST, "config.json")


def record(staged: Staged, done: Publication, cards: Path) -> str:
    """Write the commit and the hashes to ``manifest.json``, and the files of figures, the pictures
    and the card to the model's folder.

    Args:
        staged: What was published.
        done: Where it is.
        cards: ``hub_cards`` of a checkout.

    Returns:
        A line that says what was written.

    Raises:
        InvalidInputError: If the model is none of the zoo's own, or only a pull request.
    """
    own = staged.run.own
    if own is None or done.load_name != f"se_zoo/{own}" or done.pull_request:
        raise InvalidInputError(
            f"--record is for the zoo's own repositories; {done.repo} was published, not recorded."
        )
    folder, file = cards / own, cards / MANIFEST
    for name in staged.sha256:
        if name not in _NOT_KEPT and Path(name).suffix in (".json", ".png", ".md"):
            shutil.copyfile(staged.folder / name, folder / name)
    entries = read_manifest(file)
    entries[own] = Published(dict(staged.sha256), done.repo, done.commit, done.tag)
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.write_text(entry_text(entries), encoding="utf-8")
    os.replace(temporary, file)
    return f"recorded in {file} and {folder}; commit them"
