"""What a model card needs beside the figures: facts that a person states, in ``facts.yaml``.

The zoo's own models have theirs in ``hub_cards/<model>/``, a run in its folder ``card/``. Unknown
and missing keys are errors. Texts are Markdown and may quote figures, by the name of the file
beside the facts that holds them: ``{{ training.test.accuracy | percent }}`` is of
``training.json``.
"""

import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError

from ..errors import InvalidInputError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
#: Stands in a draft where a person has to write; such a card is not complete.
TODO = "TODO"


@strict
@dataclass
class License:
    """Terms of the weights: ``id`` as the Hub spells it; ``other`` needs ``name`` and ``link``."""

    id: str
    name: Optional[str] = None
    link: Optional[str] = None


@strict
@dataclass
class Data:
    """What the model was trained on.

    Attributes:
        name: As people call it.
        text: Which images, how they were split, under which terms.
        hub_id: Its id on the Hub, if it is there: only real ids get into the card's ``datasets``.
    """

    name: str
    text: str
    hub_id: Optional[str] = None


@strict
@dataclass
class Gallery:
    """The picture of the card: a photo, or of a clip model a video, explained; ``gallery.png``.

    Attributes:
        photo: File beside the facts; ``grace_hopper.jpg`` is the portrait that matplotlib brings.
        targets: Labels.
        crop: x0, y0, x1, y1 in pixels.
        caption: What is to be seen.
    """

    photo: str
    targets: Tuple[str, ...]
    caption: str
    crop: Optional[Tuple[int, int, int, int]] = None


@strict
@dataclass
class Facts:
    """All facts of a card; the texts are Markdown.

    Attributes:
        summary: One paragraph: what it is.
        license: Terms of the weights.
        data: What it was trained on.
        intended_use: What for.
        limits: What it cannot do, one entry a point.
        bias: Whom it treats how.
        training: How it was trained, beside the command and the settings, which are known.
        results: What the figures mean.
        explanations: What is known about the maps.
        gallery: The picture.
        base_model: Hub id of the model that it was fine-tuned from.
        citation: Further works to cite; the method's are in the template.
    """

    summary: str
    license: License
    data: Data
    intended_use: str
    limits: Tuple[str, ...]
    bias: str
    training: str = ""
    results: str = ""
    explanations: str = ""
    gallery: Optional[Gallery] = None
    base_model: Optional[str] = None
    citation: Tuple[str, ...] = ()


_NESTED = {"license": License, "data": Data, "gallery": Gallery}


def read_facts(file: Path) -> Facts:
    """The facts in a YAML file; the key ``like`` names another whose facts hold where it has none.

    Raises:
        InvalidInputError: If it cannot be read, or a key is unknown, missing, or not filled in.
    """
    content = read_raw(file)
    facts = _build(Facts, content, str(file))
    if open_points := _unwritten(content):
        raise InvalidInputError(f"{file} is not filled in yet: {', '.join(open_points)}.")
    _check(facts, file)
    return facts


def _check(facts: Facts, file: Path) -> None:
    """What the Hub would refuse, and what a card must not lack."""
    wrong = []
    if facts.license.id == "other" and not (facts.license.name and facts.license.link):
        wrong.append("license: other needs a name and a link")
    for key, name in (("data.hub_id", facts.data.hub_id), ("base_model", facts.base_model)):
        if name is not None and _HUB_ID.fullmatch(name) is None:
            wrong.append(f"{key}: {name!r} is no id on the Hub, <owner>/<name>")
    if not facts.limits:
        wrong.append("limits: name at least one")
    if wrong:
        raise InvalidInputError(f"{file}: {'; '.join(wrong)}.")


def read_raw(file: Path) -> Any:
    """What a YAML file of facts holds, not checked; with the facts of the one that ``like`` names.

    Raises:
        InvalidInputError: If it cannot be read.
    """
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInputError(f"{file} cannot be read: {error}") from error
    if isinstance(content, dict) and "like" in content:
        other = file.parent / str(content.pop("like"))
        base = {} if other.resolve() == file.resolve() else read_raw(other)
        if not isinstance(base, dict) or not base:
            raise InvalidInputError(f"{file}: like: {other.name} holds no facts.")
        content = {**base, **content}
    return content


def _build(cls: Any, content: Any, place: str) -> Any:
    """An instance of a dataclass from a mapping, strictly."""
    if not isinstance(content, dict):
        raise InvalidInputError(f"{place} must hold keys with values, as {cls.__name__} has.")
    known = {f.name: f for f in fields(cls)}
    needed = {n for n, f in known.items() if f.default is f.default_factory is MISSING}
    strange, missing = sorted(set(content) - set(known)), sorted(needed - set(content))
    if strange or missing:
        raise InvalidInputError(
            f"{place}: " + "; ".join(
                [f"unknown: {', '.join(map(str, strange))}"] * bool(strange)
                + [f"missing: {', '.join(missing)}"] * bool(missing)
            ) + f". It takes: {', '.join(known)}."
        )  # fmt: skip
    values: Dict[str, Any] = {}
    for name, value in content.items():
        if name in _NESTED and value is not None:
            value = _build(_NESTED[name], value, f"{place}, {name}")
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    try:
        return cls(**values)
    except StrictDataclassError as error:  # YAML reads `no` as False, and 1.0 as a number
        raise InvalidInputError(f"{place}: {' '.join(str(error).split())}") from None


def _unwritten(content: Any, name: str = "") -> List[str]:
    """Names of the keys whose value is still a draft's."""
    if isinstance(content, dict):
        return [n for k, v in content.items() for n in _unwritten(v, f"{name}.{k}".strip("."))]
    if isinstance(content, list):
        return sorted({n for v in content for n in _unwritten(v, name)})
    return [name] if isinstance(content, str) and (TODO in content or not content.strip()) else []
