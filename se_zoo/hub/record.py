"""Record where the zoo's own models are published, so that the next version pulls these commits."""

import os
from dataclasses import replace
from pathlib import Path

from ..errors import InvalidInputError
from ..files import write_text
from ..models.pretrained.manifest import (
    Published,
    cards_folder,
    entry_text,
    manifest,
    read_manifest,
)
from .publish import Publication
from .stage import MANIFEST


def check_record() -> None:
    """Check, before anything is published, that it can be recorded.

    Raises:
        InvalidInputError: If ``hub_cards/manifest.json`` cannot be written.
    """
    file = cards_folder() / MANIFEST
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        raise InvalidInputError(
            f"--record: {file} cannot be written; run it in a checkout of your own."
        )


def record(name: str, done: Publication) -> None:
    """Write repository, commit and tag of a published model to ``hub_cards/manifest.json``.

    Args:
        name: Name of the model, such as ``resnet50_celeba``.
        done: Its publication.

    Raises:
        InvalidInputError: If it cannot be written.
    """
    entry = read_manifest(cards_folder() / MANIFEST)[name]
    changed = replace(entry, repo=done.repo, commit=done.commit, tag=done.tag)
    try:
        write_entry(cards_folder() / MANIFEST, name, changed)
    except OSError as error:
        raise InvalidInputError(
            f"{done.repo} is published as {done.commit}, but not recorded: {error}. Give the same "
            "command again."
        ) from error


def write_entry(file: Path, name: str, entry: Published) -> None:
    """Replace one entry of a manifest; the file is written whole or not at all.

    Args:
        file: The manifest.
        name: Name of the model, such as ``resnet50_celeba``.
        entry: Its new entry.
    """
    entries = {**read_manifest(file), name: entry}
    write_text(file, entry_text(entries))
    manifest.cache_clear()
