"""Write the cards of the zoo's own models, and of timm's weights with an SE head."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import timm
import torch

from ..errors import UnknownModelError
from ..models.names import PREFIX, registry_name
from ..models.pretrained.fetch import hub_repo
from ..models.pretrained.manifest import cards_folder, hub_folder, manifest
from ..models.pretrained.own_models import own_models
from ..models.zoo_video import TORCHVISION
from .card import Subject, base_model, render, test_split
from .facts import read_facts
from .figures import estimate
from .sources import read_source, read_sources

FACTS = "facts.yaml"
#: File with copyright and licence of weights that others made.
NOTICE = "NOTICE"
#: Folders of the facts that hold for all of timm's weights, and for all of torchvision's.
_TIMM_CARDS, _TORCHVISION_CARDS = "timm_weights", "torchvision_weights"


def own_name(name: str) -> Optional[str]:
    """Return the short name of one of the zoo's own models; None for other models.

    Args:
        name: Any name of the model: ``se_zoo/resnet50_celeba``, ``resnet50_sehead.celeba``, ...

    Returns:
        The short name, such as ``resnet50_celeba``.

    Raises:
        UnknownModelError: If there is no such model.
    """
    registry = registry_name(name)
    cfg = timm.get_pretrained_cfg(registry)
    if cfg is not None and cfg.tag:  # an architecture without a tag means its first tag
        registry = f"{cfg.architecture}.{cfg.tag}"
    return next((own.name for own in own_models().values() if own.registry_name == registry), None)


def card_names() -> List[str]:
    """Return the registry names that have a card: every tag of every registered architecture."""
    return timm.list_pretrained("*_sehead")


def card_text(name: str) -> str:
    """Return the card of a model by any of its names.

    Args:
        name: ``se_zoo/<name>``, or a registry name with or without a tag.

    Raises:
        UnknownModelError: With the closest names, or if the architecture has no weights.
        InvalidInputError: If facts or figures of the card are missing or wrong.
    """
    own = own_name(name)
    if own is not None:
        return (hub_folder(own) / "README.md").read_text("utf-8")
    return str(render(backbone_subject(name)))


def backbone_subject(name: str) -> Subject:
    """Return what the card of timm's or torchvision's weights with an SE head is rendered from.

    Args:
        name: A registry name with or without a tag.

    Raises:
        UnknownModelError: With the closest names, or if the architecture has no weights.
        InvalidInputError: If its facts are missing or wrong.
    """
    with torch.device("meta"):
        model: Any = timm.create_model(registry_name(name))
    architecture, tag = model.pretrained_cfg["architecture"], model.pretrained_cfg.get("tag")
    if not tag:
        raise UnknownModelError(
            f"{name} has no weights of any tag, so it has no card; "
            'timm.list_pretrained("*_sehead") lists the names that have one.'
        )
    registry = f"{architecture}.{tag}"
    folder = cards_folder() / (_TORCHVISION_CARDS if tag == TORCHVISION else _TIMM_CARDS)
    facts = read_facts(folder / FACTS)
    return Subject(
        name=registry,
        model=model,
        facts=facts,
        sources=read_sources(folder),
        size=read_source(cards_folder() / "sizes.json")["models"].get(registry),
        status=folder.name.partition("_")[0],
        base_model=facts.base_model,
        load_name=registry,
        repo=hub_repo(model.pretrained_cfg).partition("@")[0],
    )


def card_folder(own: str) -> Path:
    """Return the folder of one of the zoo's own models in ``hub_cards``."""
    return cards_folder() / own


def models_table() -> str:
    """Return the zoo's own models as a Markdown table, with the figures of their cards."""
    rows = [
        "| model | parameters, M | map | accuracy, % | guess, % | balanced, % |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(manifest()):
        size = read_source(hub_folder(name) / "size.json")
        rows.append(
            f"| [`{PREFIX}{name}`](hub_cards/{name}/hub/README.md) "
            f"| {size['parameters'] / 1e6:.1f} | {'x'.join(map(str, size['map']))} "
            f"| {' | '.join(_scores(name))} |"
        )
    return "\n".join(rows)


def _scores(name: str) -> Tuple[str, str, str]:
    """Return accuracy, that of always the most frequent answer, and balanced accuracy, in %.

    They are of ``test.json``, of the recipe's summary, or, for converted weights, ``source.json``.
    """
    folder, training = card_folder(name), _training(name)
    if (folder / "test.json").is_file():
        test = read_source(folder / "test.json")
        figures, guess = test["figures"], test["majority"]["accuracy"]
        balanced = figures["balanced_accuracy"]["value"]
        return estimate(figures["accuracy"]), _percent(guess), _percent(balanced)
    if training is not None:
        found = training[test_split(training)]
        keys = ("accuracy", "majority_accuracy", "balanced_accuracy")
        accuracy, guess, balanced = (found[key] for key in keys)
        return _percent(accuracy), _percent(guess), _percent(balanced)
    if not (folder / "source.json").is_file():
        return "not measured", "", ""
    source = read_source(folder / "source.json")
    low, high = source["interval"]["stored"]
    return estimate({"value": source["top1"]["stored"], "low": low, "high": high}), "", ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _training(name: str) -> Optional[Dict[str, Any]]:
    """Return the recipe's summary of one of the zoo's own models; None without a recipe."""
    file = card_folder(name) / "training.json"
    return read_source(file) if file.is_file() else None


def notice_text(names: Optional[Sequence[str]] = None) -> str:
    """Return the text of ``hub_cards/NOTICE``: licence and origin of the weights, by model.

    Args:
        names: Models; by default all models of the package.
    """
    parts = ["The Apache License of the code does not extend to the weights in this package.\n"]
    for name in sorted(manifest() if names is None else names):
        facts = read_facts(card_folder(name) / FACTS)
        base, file = facts.base_model or base_model(_training(name)), hub_folder(name) / NOTICE
        terms = facts.license.name or facts.license.id
        lines = [
            f"hub_cards/{name}/hub/model.safetensors",
            f"Licence: {terms}{f', {facts.license.link}' if facts.license.link else ''}",
            f"Trained on: {facts.data.name}",
            *([f"Fine-tuned from: https://huggingface.co/{base}"] if base else []),
            *facts.citation,
            *(file.read_text("utf-8").splitlines() if file.is_file() else []),
        ]
        parts.append("\n    ".join(lines) + "\n")
    return "\n".join(parts)
