"""Write the generated files of hub_cards/ and the README's table of models; the tests compare.

    python -m tools.write_cards             # packaged models, notice, and the README's table
    python -m tools.write_cards --sizes     # count every registered model's size again, too

Run time: a few minutes; longer with --sizes, which creates every registered model.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict

import timm
import tyro

import se_zoo  # noqa: F401  (registers the models)
from se_zoo.files import write_text
from se_zoo.hub.size import size_facts
from se_zoo.hub.zoo_cards import card_names, models_table, own_name
from se_zoo.models.pretrained.manifest import cards_folder, manifest
from se_zoo.provenance import provenance
from tools.package_zoo import package

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- models: python -m tools.write_cards -->\n", "<!-- end of models -->"


@dataclass(frozen=True)
class Write:
    """Options."""

    sizes: bool = False
    """Count the size of every registered model again, too."""


def _sizes() -> Dict[str, Any]:
    """Return the size of every registered model that is not one of the zoo's own."""
    names = (name for name in card_names() if own_name(name) is None)
    return {name: size_facts(timm.create_model(name)) for name in names}


def readme_text() -> str:
    """Return the README with its table of models up to date."""
    before, rest = README.read_text("utf-8").split(START)
    return f"{before}{START}{models_table()}\n{END}{rest.split(END)[1]}"


def main(options: Write) -> None:
    """Write cards, notice and the README's table."""
    if options.sizes:
        content = {**provenance(), "models": _sizes()}
        text = json.dumps(content, indent=1) + "\n"
        write_text(cards_folder() / "sizes.json", text)
    for own in sorted(manifest()):
        print("\n".join(package(own)), flush=True)
    write_text(README, readme_text())


if __name__ == "__main__":
    main(tyro.cli(Write, description=__doc__))
