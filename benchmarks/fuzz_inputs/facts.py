"""Broken facts of model cards."""

import random
from pathlib import Path
from typing import Dict, Optional

from .case import SPECIAL, Case, break_bytes, make_special

FACTS = """\
summary: What it does.
license: {id: mit}
data: {name: Pets, text: Which images.}
intended_use: For tests.
limits: [It knows nothing.]
bias: None is known.
"""


def make_facts(rng: random.Random, folder: Path) -> Case:
    """Write changed facts of a card."""
    file = folder / "facts.yaml"
    valid: Optional[bool] = False
    changes: Dict[str, str] = {
        "unknown key": FACTS + "mystery: 3\n",
        "missing key": FACTS.replace("bias: None is known.\n", ""),
        "TODO": FACTS.replace("For tests.", "TODO: write"),
        "list for text": FACTS.replace("What it does.", "[a, b]"),
        "number for text": FACTS.replace("What it does.", "3.5"),
        "impossible date": FACTS.replace("What it does.", "2024-99-99"),
        "impossible number": FACTS.replace("What it does.", "1" * 5000),
        "python object": FACTS.replace("What it does.", "!!python/object/apply:os.getcwd []"),
        "like itself by turns": "like: other.yaml\n" + FACTS,
        "like nothing": "like: none.yaml\n" + FACTS,
        "like a list": "like: [1, 2]\n" + FACTS,
        "nested": "summary: " + "[" * 5000,
        "no mapping": "- a\n- b\n",
        "empty": "",
        "tab": "summary:\t- x\n\t y",
        "no licence": FACTS.replace("{id: mit}", "{id: other}"),
        "no limits": FACTS.replace("[It knows nothing.]", "[]"),
        "bad base": FACTS + "base_model: a b c\n",
    }
    change = rng.choice([*sorted(changes), "bytes", "special", "nothing"])
    if change == "bytes":
        broken, change = break_bytes(rng, FACTS.encode())
        file.write_bytes(broken)
        return Case(file, None, change)
    if change == "special":
        change = rng.choice(SPECIAL)
        make_special(change, file)
        return Case(file, False, change)
    if change == "nothing":
        valid = True
    file.write_text(changes.get(change, FACTS))
    (folder / "other.yaml").write_text(f"like: {file.name}\n" + FACTS)
    return Case(file, valid, change)
