"""The cards of the zoo's own models, and of timm's weights under an SE head."""

from pathlib import Path
from typing import Any, Dict, List, Optional

import timm
import torch

from ..errors import UnknownModelError
from ..models.manifest import cards_folder, manifest
from ..models.names import ALIASES, PREFIX, registry_name
from ..models.pull import BUNDLED, bundled_file, hub_repo
from ..models.zoo_video import TORCHVISION
from .card import CURVES, GALLERY, Subject, base_model, test_split
from .facts import read_facts
from .sources import read_source, read_sources
from .words import percent

FACTS = "facts.yaml"
#: Folder of the facts of all tags that stand for timm's own weights.
_TIMMS = "timm_weights"
#: The same of torchvision's.
_TORCHVISIONS = "torchvision_weights"


def own_name(name: str) -> Optional[str]:
    """``resnet50_celeba`` for any name of one of the zoo's own models; None for all others."""
    registry = registry_name(name)
    return next((alias for alias, known in ALIASES.items() if known == registry), None)


def card_names() -> List[str]:
    """Registry names of everything that has a card: every tag of every registered architecture."""
    return timm.list_pretrained("*_sehead")


def zoo_subject(name: str) -> Subject:
    """What the card of a zoo's model is made from.

    Args:
        name: ``se_zoo/<name>`` or a registry name with a tag; without one, the default tag.

    Raises:
        UnknownModelError: With the closest names.
        InvalidInputError: If its facts or figures are not in order.
    """
    registry = registry_name(name)
    with torch.device("meta"):
        model: Any = timm.create_model(registry)
    architecture, tag = model.pretrained_cfg["architecture"], model.pretrained_cfg.get("tag")
    if not tag:
        raise UnknownModelError(f"{name} has no weights of any tag, so there is no card.")
    registry = f"{architecture}.{tag}"
    own = own_name(registry)
    others = _TORCHVISIONS if tag == TORCHVISION else _TIMMS
    folder = cards_folder() / (own or others)
    status, load_name = others.partition("_")[0], registry
    if own is not None:
        status, load_name = _status(own), PREFIX + own
    facts, sources = read_facts(folder / FACTS), read_sources(folder)
    return Subject(
        name=registry,
        model=model,
        facts=facts,
        sources=sources,
        size=read_source(cards_folder() / "sizes.json")["models"].get(registry),
        status=status,
        base_model=facts.base_model or base_model(sources.get("training")),
        load_name=load_name,
        repo=hub_repo(model.pretrained_cfg).partition("@")[0],
        pictures=[name for name in (GALLERY, CURVES) if (folder / name).is_file()],
        weights_size=_weights_size(architecture, tag, status),
    )


def _status(own: str) -> str:
    if PREFIX + own in BUNDLED:
        return "bundled"
    return "published" if own in manifest() else "untrained"


def _weights_size(architecture: str, tag: str, status: str) -> Optional[int]:
    if status != "bundled":
        return None
    return bundled_file(architecture.removesuffix("_sehead"), tag).stat().st_size


def card_folder(own: str) -> Path:
    """The folder of one of the zoo's own models."""
    return cards_folder() / own


def _scores(training: Optional[Dict[str, Any]]) -> List[str]:
    """Accuracy and balanced accuracy of the test split, in words."""
    if training is None:
        return ["not measured", "not measured"]
    found = training[test_split(training)]
    return [percent(found[name]) for name in ("accuracy", "balanced_accuracy")]


def models_table() -> str:
    """The zoo's own models as a Markdown table, with the figures of their cards."""
    rows = [
        "| model | weights | accuracy | balanced | the same without the SE block |",
        "|---|---|---|---|---|",
    ]
    waiting: Dict[str, List[str]] = {}
    for own in ALIASES:
        status, sources = _status(own), read_sources(card_folder(own))
        if status == "untrained":
            waiting.setdefault(ALIASES[own].partition(".")[2], []).append(f"`{PREFIX}{own}`")
            continue
        ours, control = (_scores(sources.get(name)) for name in ("training", "control"))
        where = "in this package" if status == "bundled" else "on the Hub"
        rows.append(
            f"| `{PREFIX}{own}` | {where} ([card](hub_cards/{own}/README.md)) | "
            f"{' | '.join(ours)} | {' / '.join(dict.fromkeys(control))} |"
        )
    for tag, names in waiting.items():
        state = "**not trained yet**"
        if tag == "ava":
            state = "**not published yet**; `se-zoo convert lr-asd` makes it"
        rows.append(f"| {', '.join(names)} | {state} | | | |")
    return "\n".join(rows)
