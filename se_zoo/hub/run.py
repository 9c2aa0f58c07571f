"""What is to be published: a finished run, or a saved model, read and checked."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..errors import InvalidInputError
from ..models.pretrained.fetch import HUB_ORG, WEIGHTS_NAME
from ..models.pretrained.load import load_any
from ..models.pretrained.manifest import cards_folder, manifest, sha256_of
from .card import test_split
from .facts import TODO, Facts, read_facts, read_raw
from .sources import read_source
from .zoo import FACTS

CARD = "card"


@dataclass(frozen=True)
class Run:
    """A model with everything that its repository will say of it.

    Attributes:
        folder: The run's folder, or that of a saved model.
        repo: Repository on the Hub that it goes to.
        export: Folder with ``config.json`` and ``model.safetensors``.
        config: What config.json holds.
        model: The model with these weights, in eval mode.
        summary: The recipe's summary; None for a model that no recipe trained.
        facts: What people state.
        card: Folder of the facts, of further figures and of the photo.
        own: ``resnet50_celeba``, if it is the zoo's model and goes to the zoo's repository.
    """

    folder: Path
    repo: str
    export: Path
    config: Dict[str, Any]
    model: Any
    summary: Optional[Dict[str, Any]]
    facts: Facts
    card: Path
    own: Optional[str]


def read_run(folder: Path, repo: str, metrics: bool = True, card: Optional[Path] = None) -> Run:
    """Read a run and check that it can be published: the weights load strictly and are finite, the
    labels are named, the figures are there, the card's facts are filled in.

    Args:
        folder: A recipe's ``--run.output``, or what :func:`se_zoo.save` wrote.
        repo: Repository that it goes to.
        metrics: Whether figures of a recipe have to be there.
        card: Folder of the facts; by default ``card`` in the folder.

    Raises:
        InvalidInputError: Naming what is not in order; or if the repository is the zoo's own and
            the weights are not those that lie in the package.
        WeightsNotFoundError: If the weights do not load, do not fit, or are not finite.
    """
    check_repo(repo)
    own = own_of_repo(repo)
    export, _ = read_export(folder)
    if own is not None and sha256_of(export / WEIGHTS_NAME) != manifest()[own].sha256[WEIGHTS_NAME]:
        raise InvalidInputError(
            f"{repo} is the zoo's own repository, for the weights that lie in the package; those "
            f"of {folder} are others. Name another --repo."
        )
    card = card or folder / CARD
    if not (card / FACTS).is_file() and own is not None:
        card = cards_folder() / own
    if not (card / FACTS).is_file():
        raise InvalidInputError(
            f"{card / FACTS} is missing: licence, data, limits and bias, which only you can state. "
            f"`se-zoo card {folder} --new` writes a draft."
        )
    return make_run(folder, repo, card, own, metrics)


def make_run(folder: Path, repo: str, card: Path, own: Optional[str], metrics: bool = True) -> Run:
    """Read a run whose card's folder is known; see :func:`read_run`."""
    export, config = read_export(folder)
    model = load_any(f"local-dir:{export}")
    labels = model.class_labels()
    if not labels:
        raise InvalidInputError(
            f"{export / 'config.json'} names no labels for the {model.num_classes} classes, which "
            "a card needs; save the model with se_zoo.save(model, folder, labels=[...])."
        )
    summary = _read_summary(folder, card, metrics)
    if summary is not None and list(summary.get("labels", labels)) != list(labels):
        raise InvalidInputError(
            f"{folder / 'summary.json'} is of other labels than {export / 'config.json'}."
        )
    facts = read_facts(card / FACTS)
    return Run(folder, repo, export, config, model, summary, facts, card, own)


def check_repo(repo: str) -> None:
    """Refuse what is no name of a repository, before anything is done for it.

    Raises:
        InvalidInputError: If it is none.
    """
    try:
        validate_repo_id(repo)
        if repo.count("/") != 1:
            raise HFValidationError("the owner is missing")
    except HFValidationError as error:
        raise InvalidInputError(
            f"{repo!r} is no repository, <user or organisation>/<name>: {error}"
        ) from None


def declared_repo(own: str) -> str:
    """Return the repository of one of the zoo's own models."""
    return f"{os.environ.get('SE_ZOO_HUB_ORG') or HUB_ORG}/{own}"


def own_of_repo(repo: str) -> Optional[str]:
    """Return the name of the zoo's model whose repository it is, or None."""
    return next((own for own in manifest() if declared_repo(own) == repo), None)


def read_export(folder: Path) -> Tuple[Path, Dict[str, Any]]:
    """Return the folder that timm loads, and what its config.json holds.

    Args:
        folder: A recipe's ``--run.output``, or a folder with ``config.json``.

    Raises:
        InvalidInputError: If the run is not finished, or there is no model.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"no such folder: {folder}")
    export = folder / "export" if (folder / "export").is_dir() else folder
    if (folder / "state").is_dir() and not (folder / "summary.json").is_file():
        raise InvalidInputError(
            f"{folder} is a run that is not finished; give its recipe's command again."
        )
    if not (export / WEIGHTS_NAME).is_file():
        raise InvalidInputError(
            f"{export} has no {WEIGHTS_NAME}: name the folder of a finished run, or save a model "
            "with se_zoo.save(model, folder)."
        )
    try:
        config = json.loads((export / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        raise InvalidInputError(
            f"{export} has no config.json: a run without the SE block (--model.no-se) is a control "
            "and explains nothing."
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{export / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("pretrained_cfg", {}), dict):
        raise InvalidInputError(f"{export / 'config.json'} is none of timm's; save it again.")
    return export, config


def _read_summary(folder: Path, card: Path, metrics: bool) -> Optional[Dict[str, Any]]:
    """The recipe's summary with the figures of the test split: the run's, or the card's."""
    file = folder / "summary.json"
    if file.is_file() and not metrics:
        raise InvalidInputError(f"{file} has figures; leave out --no-metrics.")
    if not file.is_file():
        file = card / "training.json"
    if not file.is_file():
        if metrics:
            raise InvalidInputError(
                f"{folder} has no summary.json with the figures of a recipe. A model that no "
                "recipe trained is published with --no-metrics; its card then says that nothing "
                "was measured."
            )
        return None
    summary = read_source(file)
    test_split(summary)
    return summary


def write_draft(folder: Path) -> Path:
    """Write ``card/facts.yaml`` into a run's folder, to be filled in.

    Returns:
        The file.

    Raises:
        InvalidInputError: If there is one already, or the folder is none of a model.
    """
    _, config = read_export(folder)
    file = folder / CARD / FACTS
    if file.exists():
        raise InvalidInputError(f"{file} is there already; edit it.")
    content, tag = dict(_DRAFT), str(config.get("pretrained_cfg", {}).get("tag"))
    shared = cards_folder() / f"{tag}.yaml"
    if tag.isidentifier() and shared.is_file():  # of the data set most is known
        known = read_raw(shared)
        content.update(known)
        content["data"] = {**known["data"], "text": f"{TODO}: check.\n{known['data']['text']}"}
    text = yaml.dump(content, Dumper=_Blocks, sort_keys=False, allow_unicode=True, width=96)
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(_DRAFT_HEAD + text, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be written: {error}") from error
    return file


class _Blocks(yaml.SafeDumper):
    """Writes texts of several lines as they read."""


_Blocks.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)

_DRAFT_HEAD = f"""\
# What only you can state of the model. Replace every {TODO}; the texts are Markdown. Figures are
# quoted from files, not typed: {{{{ training.test.accuracy | percent }}}} is of the run's summary,
# {{{{ control.test.accuracy | percent }}}} of a control.json that you put beside this file.
# More keys: training, results, explanations (texts), base_model (Hub id), citation (list),
# gallery: {{photo: file.jpg, targets: [label], caption: text}}; data takes hub_id, license takes
# name and link.
"""
_DRAFT: Dict[str, Any] = {
    "summary": f"{TODO}: one paragraph: what the model does.",
    "license": {"id": f"{TODO}: mit, apache-2.0, cc-by-4.0, other (then with name and link), ..."},
    "data": {
        "name": f"{TODO}: as people call it",
        "text": f"{TODO}: which images, how they were split, under which terms.",
    },
    "intended_use": f"{TODO}: what for, and what not for.",
    "limits": [f"{TODO}: what it cannot do."],
    "bias": f"{TODO}: whom or what the data shows too much or too little.",
}
