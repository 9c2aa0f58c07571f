"""Writes what is generated in hub_cards/ and README.md; the tests compare.

python -m tests.write_cards                 # the zoo's own cards, and the README's table
python -m tests.write_cards --sizes         # count every registered model's size again, too
python -m tests.write_cards --galleries     # explain the cards' photos again, too
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict

import timm
import tyro

import se_zoo  # registers the models
from se_zoo.hub.card import render
from se_zoo.hub.facts import read_facts
from se_zoo.hub.gallery import draw_gallery
from se_zoo.hub.size import size_facts
from se_zoo.hub.zoo import FACTS, card_folder, card_names, models_table, zoo_subject
from se_zoo.models.load import load_any
from se_zoo.models.manifest import cards_folder
from se_zoo.models.names import ALIASES, PREFIX
from se_zoo.provenance import provenance

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- models: python -m tests.write_cards -->\n", "<!-- end of models -->"


@dataclass(frozen=True)
class Write:
    """What to write beside the cards."""

    sizes: bool = False
    galleries: bool = False


def sizes() -> Dict[str, Any]:
    """The size of every tag of every registered architecture."""
    return {name: size_facts(timm.create_model(name)) for name in card_names()}


def card_text(own: str) -> str:
    """The card of one of the zoo's own models."""
    return str(render(zoo_subject(PREFIX + own)))


def readme_text() -> str:
    """The README with the table of models as it has to be."""
    before, rest = README.read_text("utf-8").split(START)
    return f"{before}{START}{models_table()}\n{END}{rest.split(END)[1]}"


def main(options: Write) -> None:
    if options.sizes:
        content = {**provenance(), "models": sizes()}
        text = json.dumps(content, indent=1) + "\n"
        (cards_folder() / "sizes.json").write_text(text, encoding="utf-8")
    for own in ALIASES:
        gallery = read_facts(card_folder(own) / FACTS).gallery
        if options.galleries and gallery and PREFIX + own in se_zoo.list_models(pretrained=True):
            draw_gallery(load_any(PREFIX + own), gallery, card_folder(own))
        (card_folder(own) / "README.md").write_text(card_text(own), encoding="utf-8")
    README.write_text(readme_text(), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Write, description=__doc__))
