"""Read the facts that a person states for a model card: ``facts.yaml``.

The zoo's own models keep theirs in ``hub_cards/<model>/``, a run in its folder ``card/``. Unknown
and missing keys are errors. Texts are Markdown and may quote figures from files beside the facts:
``{{ training.test.accuracy | percent }}`` is a figure of ``training.json``.
"""

import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from yaml.composer import ComposerError

from ..errors import InvalidInputError
from ..files import read_regular

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
#: Largest file of facts, in bytes.
_MAX_BYTES = 2**20
#: Deepest nesting of facts; they need three levels.
_DEPTH = 20
#: Marks what a person still has to write in a draft.
TODO = "TODO"


@strict
@dataclass
class License:
    """Terms of the weights.

    Attributes:
        id: The licence as the Hub spells it; ``other`` needs ``name`` and ``link``.
        name: Its name.
        link: Address of its text.
    """

    id: str
    name: Optional[str] = None
    link: Optional[str] = None


@strict
@dataclass
class Data:
    """The data that the model was trained on.

    Attributes:
        name: Its usual name.
        text: Which images, how they were split, and under which terms they are used.
        hub_id: Its id on the Hub, if it has one; the card's header lists it under ``datasets``.
    """

    name: str
    text: str
    hub_id: Optional[str] = None


@strict
@dataclass
class Gallery:
    """The picture of the card, ``gallery.png``: an explained photo, or video for a clip model.

    Attributes:
        photo: Name of a file beside the facts; ``grace_hopper.jpg`` is the portrait that comes with
            matplotlib.
        targets: Labels to explain.
        caption: Text below the picture.
        crop: x0, y0, x1, y1 in pixels, cut out before the model's own preprocessing.
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
        summary: One paragraph that says what the model does.
        license: Terms of the weights.
        data: The training data.
        intended_use: What the model is for, and what it is not for.
        limits: What the model cannot do, one entry for each limit.
        bias: Known biases of data and model.
        training: How it was trained; the card adds command and settings from the run's files.
        results: What the figures mean.
        explanations: What is known about the heatmaps.
        gallery: The picture.
        base_model: Hub id of the model that it was fine-tuned from.
        citation: Further works to cite; the template cites those on the method.
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
    """Read and check the facts in a YAML file.

    Args:
        file: The file. Its key ``like`` may name another file, whose facts are the defaults.

    Raises:
        InvalidInputError: If it cannot be read, or a key is unknown, missing, or not filled in.
    """
    content = read_raw(file)
    facts = _build(Facts, content, str(file))
    if unfilled := _unfilled(content):
        raise InvalidInputError(f"{file} is not filled in yet: {', '.join(unfilled)}.")
    _check(facts, file)
    return facts


def _check(facts: Facts, file: Path) -> None:
    """Refuse what the Hub would refuse, and a card without limits."""
    wrong = []
    if facts.license.id == "other" and not (facts.license.name and facts.license.link):
        wrong.append("license: the id other needs a name and a link")
    for key, name in (("data.hub_id", facts.data.hub_id), ("base_model", facts.base_model)):
        if name is not None and _HUB_ID.fullmatch(name) is None:
            wrong.append(f"{key}: {name!r} is no id on the Hub; write <owner>/<name>")
    if not facts.limits:
        wrong.append("limits: name at least one")
    if wrong:
        raise InvalidInputError(f"{file}: {'; '.join(wrong)}.")


def read_raw(file: Path, seen: Tuple[Path, ...] = ()) -> Any:
    """Read a YAML file of facts, and the file that its key ``like`` names, without checks.

    Args:
        file: The file.
        seen: Files that name this one, the first one first.

    Returns:
        What the YAML holds; for facts a mapping.

    Raises:
        InvalidInputError: If it cannot be read.
    """
    try:
        content = yaml.load(read_regular(file, _MAX_BYTES).decode("utf-8"), _Loader)
    # yaml raises ValueError for dates such as 2001-99-99.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InvalidInputError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if isinstance(content, dict) and "like" in content:
        other = file.parent / str(content.pop("like"))
        above = file.resolve().parent.parent
        if not other.resolve().is_relative_to(above) or other.suffix not in (".yaml", ".yml"):
            raise InvalidInputError(
                f"{file}: like: {other.name} must be a .yaml file in this folder or beside it."
            )
        again = other.resolve() in (*seen, file.resolve())
        base = {} if again else read_raw(other, (*seen, file.resolve()))
        if not isinstance(base, dict) or not base:
            raise InvalidInputError(
                f"{file}: like: {other.name} holds no facts; name another file of facts."
            )
        content = {**base, **content}
    return content


class _Loader(yaml.SafeLoader):
    """Reads YAML of little depth without aliases, which can make a few lines fill the memory."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node; refuse an alias, and one that lies too deep."""
        if self.depth > _DEPTH:
            raise ComposerError(None, None, "it is nested too deeply", self.peek_event().start_mark)
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ComposerError(
                None, None, "aliases (*name) are not read; write the text out", event.start_mark
            )
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _build(cls: Any, content: Any, place: str) -> Any:
    """Build a dataclass from a mapping; unknown keys, missing keys and other types are errors."""
    if not isinstance(content, dict):
        raise InvalidInputError(
            f"{place} must be a mapping with keys of: {', '.join(f.name for f in fields(cls))}."
        )
    known = {f.name: f for f in fields(cls)}
    required = {n for n, f in known.items() if f.default is f.default_factory is MISSING}
    unknown, missing = sorted(set(content) - set(known)), sorted(required - set(content))
    if unknown or missing:
        raise InvalidInputError(
            f"{place}: " + "; ".join(
                [f"unknown: {', '.join(map(str, unknown))}"] * bool(unknown)
                + [f"missing: {', '.join(missing)}"] * bool(missing)
            ) + f". The keys are: {', '.join(known)}."
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


def _unfilled(content: Any, name: str = "") -> List[str]:
    """Return the names of the keys whose text is empty or still says TODO."""
    if isinstance(content, dict):
        return [n for k, v in content.items() for n in _unfilled(v, f"{name}.{k}".strip("."))]
    if isinstance(content, list):
        return sorted({n for v in content for n in _unfilled(v, name)})
    return [name] if isinstance(content, str) and (TODO in content or not content.strip()) else []
