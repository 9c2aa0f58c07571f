"""Publish a model in memory on the Hub: ``se_zoo.push_to_hub``."""

import tempfile
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

import torch
import yaml
from torch import nn

from ..errors import InvalidInputError
from ..models.save_model import check_labels, model_args_of, save
from .publish import Publication, publish
from .read_run import CARD, check_repo, read_run
from .stage import stage
from .zoo_cards import FACTS


def push_to_hub(
    model: nn.Module,
    repo: str,
    *,
    card: Union[str, Path, Mapping[str, Any]],
    labels: Optional[Sequence[str]] = None,
    dtype: Optional[torch.dtype] = None,
    private: bool = False,
    pr: bool = False,
    tag: Optional[str] = None,
    overwrite: bool = False,
) -> Publication:
    """Publish a model with an SE head on the Hugging Face Hub, with a model card.

    The same as :func:`se_zoo.save` and ``se-zoo publish --no-metrics``: all files go up in one
    commit, after they were pulled back and compared, or none do. The card says that nothing was
    measured.

    Args:
        model: Image, clip or speaker model; it is not changed.
        repo: Repository, ``<user or organisation>/<name>``; it is made if there is none.
        card: What only you can state: a mapping with ``summary``, ``license``, ``data``,
            ``intended_use``, ``limits`` and ``bias``; or a folder with ``facts.yaml``, which may
            also hold a photo and files of figures. See :class:`se_zoo.hub.facts.Facts`.
        labels: Names of the classes, in order; by default the model's own.
        dtype: Type of the stored weights; by default the model's own.
        private: Make a new repository private.
        pr: Open a pull request instead.
        tag: Tag of the commit; by default the next of v1, v2, ...
        overwrite: Replace files of the repository that se-zoo did not write, and remove those of
            another model that transformers would read.

    Returns:
        The publication; ``print(publication.text())`` shows it.

    Raises:
        InvalidInputError: If the model cannot be saved, its classes have no names, or a fact of
            the card is missing.
        PublishError: If publishing fails; the Hub is then as it was.
    """
    check_repo(repo)
    model_args_of(model)  # raises for a model without an SE head, which may lack labels too
    names = check_labels(model, labels)
    if not names:
        raise InvalidInputError(
            f"The card needs the names of the {model.num_classes} classes: give labels=[...]."
        )
    with tempfile.TemporaryDirectory(prefix="se-zoo-") as temporary:
        folder = save(model, Path(temporary) / "model", labels=names, dtype=dtype)
        facts = _card_folder(card, Path(temporary))
        with stage(read_run(folder, repo, metrics=False, card=facts)) as staged:
            return publish(staged, pr=pr, private=private, tag=tag, overwrite=overwrite)


def _card_folder(card: Union[str, Path, Mapping[str, Any]], temporary: Path) -> Path:
    """Return the folder of the facts; a mapping is written into a new one."""
    if not isinstance(card, Mapping):
        if not (Path(card) / FACTS).is_file():
            raise InvalidInputError(
                f"card={str(card)!r} has no {FACTS}; give such a folder, or the facts as a mapping."
            )
        return Path(card)
    folder = temporary / CARD
    folder.mkdir()
    try:
        text = yaml.safe_dump(dict(card), sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as error:
        raise InvalidInputError(
            f"card holds values that YAML cannot write; give texts and lists of texts: {error}"
        ) from error
    (folder / FACTS).write_text(text, encoding="utf-8")
    return folder
