"""What is to be published: a finished run, or a model saved with timm, read and checked."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..errors import InvalidInputError
from ..models.load import load_any
from ..models.manifest import cards_folder
from ..models.own_models import own_models
from ..models.pull import HUB_ORG, WEIGHTS_NAME
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
        own: ``resnet50_celeba``, if it is of an architecture and data set that the zoo declares.
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


def read_run(folder: Path, repo: Optional[str] = None, metrics: bool = True) -> Run:
    """Read a run and check that it can be published: the weights load strictly and are finite, the
    labels are named, the figures are there, the card's facts are filled in.

    Args:
        folder: A recipe's ``--run.output``, or what timm's ``save_for_hf`` wrote.
        repo: Repository that it goes to; by default the one that the zoo declares for the model.
        metrics: Whether figures of a recipe have to be there.

    Raises:
        InvalidInputError: Naming what is not in order.
        WeightsNotFoundError: If the weights do not load, do not fit, or are not finite.
    """
    export, config = _read_export(folder)
    own = own_of(config)
    if repo is None:
        if own is None:
            raise InvalidInputError("Name the repository: --repo <user or organisation>/<name>.")
        repo = declared_repo(own)
    _check_repo(repo)
    model = load_any(f"local-dir:{export}")
    labels = model.class_labels()
    if not labels:
        raise InvalidInputError(
            f"{export / 'config.json'} names no labels for the {model.num_classes} classes; set "
            "model.pretrained_cfg.update(num_classes=..., label_names=[...]) and save again."
        )
    card = _card_folder(folder, repo, own)
    summary = _read_summary(folder, card, metrics)
    if summary is not None and list(summary.get("labels", labels)) != list(labels):
        raise InvalidInputError(
            f"{folder / 'summary.json'} is of other labels than {export / 'config.json'}."
        )
    facts = read_facts(card / FACTS)
    return Run(folder, repo, export, config, model, summary, facts, card, own)


def _card_folder(folder: Path, repo: str, own: Optional[str]) -> Path:
    """Where the facts are: in the run, or in the zoo's cards for the zoo's own repositories."""
    card = folder / CARD
    if not (card / FACTS).is_file() and own is not None and repo == declared_repo(own):
        card = cards_folder() / own
    if not (card / FACTS).is_file():
        raise InvalidInputError(
            f"{card / FACTS} is missing: licence, data, limits and bias, which only you can state. "
            f"`se-zoo card {folder} --new` writes a draft."
        )
    return card


def _check_repo(repo: str) -> None:
    """Refuse what is no name of a repository, before anything is done for it."""
    try:
        validate_repo_id(repo)
        if repo.count("/") != 1:
            raise HFValidationError("the owner is missing")
    except HFValidationError as error:
        raise InvalidInputError(
            f"--repo {repo!r} is no repository, <user or organisation>/<name>: {error}"
        ) from None


def declared_repo(own: str) -> str:
    """The repository of one of the zoo's own models."""
    return f"{os.environ.get('SE_ZOO_HUB_ORG') or HUB_ORG}/{own}"


def _read_export(folder: Path) -> Any:
    """The folder that timm loads, and its config."""
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
            "with timm.models.save_for_hf(model, folder, model_args=model._model_args, "
            "safe_serialization=True)."
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


def own_of(config: Dict[str, Any]) -> Optional[str]:
    """Return ``resnet50_celeba`` for a config of a model that the zoo keeps a card for.

    Args:
        config: What config.json holds.

    Returns:
        None for any other model, also for one of the same architecture and tag with other labels.
    """
    cfg = config.get("pretrained_cfg", {})
    name = f"{str(config.get('architecture', '')).removesuffix('_sehead')}_{cfg.get('tag')}"
    if "/" in name or not (cards_folder() / name / FACTS).is_file():
        return None
    labels = config.get("label_names") or cfg.get("label_names") or ()
    known = own_models().get(name)
    same = known is None or list(labels) == list(known.cfg.get("label_names") or ())
    return name if same else None


def write_draft(folder: Path) -> Path:
    """Write ``card/facts.yaml`` into a run's folder, to be filled in.

    Returns:
        The file.

    Raises:
        InvalidInputError: If there is one already, or the folder is none of a model.
    """
    _, config = _read_export(folder)
    file = folder / CARD / FACTS
    if file.exists():
        raise InvalidInputError(f"{file} is there already; edit it.")
    content, own = dict(_DRAFT), own_of(config)
    shared = None if own is None else cards_folder() / f"{own.rpartition('_')[2]}.yaml"
    if shared is not None and shared.is_file():  # of the data set most is known
        known = read_raw(shared)
        content.update({k: v for k, v in known.items() if k != "to_train"})
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
