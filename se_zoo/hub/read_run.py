"""Read and check what is to be published: a finished run, or a saved model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..errors import InvalidInputError, UnknownModelError
from ..models.label_lists import labels_of
from ..models.load_model import load_any
from ..models.pretrained.config_check import read_config
from ..models.pretrained.fetch import WEIGHTS_NAME, declared_repo
from ..models.pretrained.manifest import cards_folder, manifest, sha256_of
from .card import test_split
from .facts import TODO, Facts, read_facts, read_raw
from .sources import read_source
from .zoo_cards import FACTS

CARD = "card"


@dataclass(frozen=True)
class Run:
    """A model with everything that its card needs.

    Attributes:
        folder: Folder of the run, or of a saved model.
        repo: Repository on the Hub that it is published to.
        export: Folder with ``config.json`` and ``model.safetensors``.
        config: Content of config.json.
        model: The model with these weights, in eval mode.
        summary: The recipe's summary; None for a model that no recipe trained.
        facts: What people state.
        card: Folder of the facts, of further figures and of the photo.
        own: Name in the zoo, such as ``resnet50_celeba``, for a model that is published to the
            zoo's own repository; None for all others.
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
    """Read a run and check that it can be published.

    The weights must load strictly and be finite, the labels must have names, and figures and facts
    must be complete.

    Args:
        folder: A recipe's ``--run.output``, or a folder that :func:`se_zoo.save` wrote.
        repo: Repository that it is published to.
        metrics: Whether the figures of a recipe must be there; if not, they must be absent.
        card: Folder of the facts; by default ``card`` in the folder.

    Returns:
        The run.

    Raises:
        InvalidInputError: Naming what is missing or wrong; or if the repository is the zoo's own
            and the weights are not those of the package.
        WeightsNotFoundError: If the weights do not load, do not fit, or are not finite.
    """
    check_repo(repo)
    own = own_of_repo(repo)
    export, _ = read_export(folder)
    if own is not None and sha256_of(export / WEIGHTS_NAME) != manifest()[own].sha256[WEIGHTS_NAME]:
        raise InvalidInputError(
            f"{repo} is the zoo's own repository, which takes the weights of the package only; "
            f"{folder} holds others. Name another --repo."
        )
    card = card or folder / CARD
    if not (card / FACTS).is_file() and own is not None:
        card = cards_folder() / own
    if not (card / FACTS).is_file():
        raise InvalidInputError(
            f"{card / FACTS} is missing: licence, data, limits and bias, which only you can state. "
            f"`se-zoo card {folder} --new` writes a draft to fill in."
        )
    return make_run(folder, repo, card, own, metrics)


def make_run(folder: Path, repo: str, card: Path, own: Optional[str], metrics: bool = True) -> Run:
    """Read a run as :func:`read_run` does, for a repository and a card that are known.

    Args:
        folder: Folder of the run, or of a saved model.
        repo: Repository that it is published to.
        card: Folder of the facts.
        own: Name in the zoo, if the repository is the zoo's own.
        metrics: Whether the figures of a recipe must be there.
    """
    export, config = read_export(folder)
    model = load_any(f"local-dir:{export}")
    labels = model.class_labels()
    if not labels:
        raise InvalidInputError(
            f"{export / 'config.json'} names no labels for the {model.num_classes} classes, which "
            "a card needs; save the model with se_zoo.save(model, folder, labels=[...])."
        )
    file, summary = _summary_file(folder, card, metrics), None
    if file is not None:
        # The zoo's own models may come from runs that did not record the hash yet.
        may_lack = own is not None or file.parent != folder
        summary = _read_summary(file, export, labels, may_lack)
    facts = read_facts(card / FACTS)
    return Run(folder, repo, export, config, model, summary, facts, card, own)


def check_repo(repo: str) -> None:
    """Check that a repository's name is valid.

    Args:
        repo: The name, ``<user or organisation>/<name>``.

    Raises:
        InvalidInputError: If it is not.
    """
    try:
        validate_repo_id(repo)
        if repo.count("/") != 1:
            raise HFValidationError("the owner is missing")
    except HFValidationError as error:
        raise InvalidInputError(
            f"{repo!r} is no repository; write <user or organisation>/<name>: {error}"
        ) from None


def own_of_repo(repo: str) -> Optional[str]:
    """Return the name of the zoo's model whose repository it is, or None."""
    return next((own for own in manifest() if declared_repo(own) == repo), None)


def read_export(folder: Path) -> Tuple[Path, Dict[str, Any]]:
    """Return the folder of a run that timm loads, and the content of its config.json.

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
            f"{folder} is a run that is not finished; give its recipe's command again to resume it."
        )
    if not (export / WEIGHTS_NAME).is_file():
        raise InvalidInputError(
            f"{export} has no {WEIGHTS_NAME}: name the folder of a finished run, or save a model "
            "with se_zoo.save(model, folder)."
        )
    try:
        config = read_config(export / "config.json")
    except FileNotFoundError:
        raise InvalidInputError(
            f"{export} has no config.json: a run without the SE block (--model.no-se) is a control "
            "and explains nothing. Publish the run with the block."
        ) from None
    except (OSError, UnknownModelError) as error:
        raise InvalidInputError(f"{export / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config.get("pretrained_cfg", {}), dict):
        raise InvalidInputError(
            f"{export / 'config.json'} is not a config of timm; save the model again."
        )
    return export, config


def _summary_file(folder: Path, card: Path, metrics: bool) -> Optional[Path]:
    """Return the recipe's summary: that of the run, or else training.json beside the facts."""
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
    return file


def _read_summary(
    file: Path, export: Path, labels: Sequence[str], may_lack: bool
) -> Dict[str, Any]:
    """Read the recipe's summary; refuse that of another model.

    Args:
        file: The summary.
        export: Folder of the weights and their config.json.
        labels: The model's labels.
        may_lack: Whether the summary need not name its weights.
    """
    summary, weights = read_source(file), export / WEIGHTS_NAME
    test_split(summary)
    if list(summary.get("labels", labels)) != list(labels):
        raise InvalidInputError(
            f"{file} is of other labels than {export / 'config.json'}; put the summary of the run "
            "that made the weights there."
        )
    recorded = summary.get("weights_sha256")
    if recorded is None and not may_lack:
        raise InvalidInputError(
            f"{file} does not name the weights of its figures (weights_sha256), because an earlier "
            "version of se_zoo wrote it. Remove it and give its recipe's command again: it writes "
            "weights and summary anew, from the last checkpoint in state/ if that is still there."
        )
    if recorded is not None and recorded != sha256_of(weights):
        raise InvalidInputError(
            f"{file} has figures of other weights than {weights}; put the summary of the run that "
            "made the weights there."
        )
    return summary


def write_draft(folder: Path) -> Path:
    """Write a draft of ``card/facts.yaml`` into a run's folder.

    Args:
        folder: Folder of the run, or of a saved model.

    Returns:
        The file.

    Raises:
        InvalidInputError: If the file exists, cannot be written, or the folder has no model.
    """
    _, config = read_export(folder)
    file = folder / CARD / FACTS
    if file.exists():
        raise InvalidInputError(f"{file} is there already; edit it.")
    cfg = config.get("pretrained_cfg", {})
    content, tag = dict(_DRAFT), str(cfg.get("tag"))
    shared, labels = cards_folder() / f"{tag}.yaml", cfg.get("label_names")
    # A model that was fine-tuned keeps the tag, but has the labels of other data.
    if tag.isidentifier() and shared.is_file() and labels == list(labels_of(tag) or ()):
        known = read_raw(shared)  # facts that hold for the data set
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
    """Write texts of several lines as blocks, line by line."""


_Blocks.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)

_DRAFT_HEAD = f"""\
# What only you can state about the model. Replace every {TODO}; the texts are Markdown.
# Quote figures from files instead of typing them: {{{{ training.test.accuracy | percent }}}} is
# from the run's summary, {{{{ control.test.accuracy | percent }}}} from a control.json that you put
# beside this file.
# More keys: training, results, explanations (texts), base_model (Hub id), citation (list),
# gallery: {{photo: file.jpg, targets: [label], caption: text}}; data takes hub_id, license takes
# name and link.
"""
_DRAFT: Dict[str, Any] = {
    "summary": f"{TODO}: what the model does, in one paragraph.",
    "license": {"id": f"{TODO}: mit, apache-2.0, cc-by-4.0, other (then with name and link), ..."},
    "data": {
        "name": f"{TODO}: the usual name of the data set",
        "text": f"{TODO}: which images, how they were split, under which terms.",
    },
    "intended_use": f"{TODO}: what the model is for, and what it is not for.",
    "limits": [f"{TODO}: what the model cannot do."],
    "bias": f"{TODO}: who or what is shown too often or too rarely in the data.",
}
