"""Files of figures, each of which says how it was made; a card has no figure from elsewhere."""

import json
from pathlib import Path
from typing import Any, Dict

from ..errors import InvalidInputError

#: What every such file has to say of itself.
PROVENANCE = ("command", "commit", "environment")


def read_source(file: Path) -> Dict[str, Any]:
    """The figures in a JSON file.

    Raises:
        InvalidInputError: If it is missing or broken, or does not say how it was made.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{file} cannot be read: {error}") from error
    lacking = [k for k in PROVENANCE if k not in content] if isinstance(content, dict) else ["keys"]
    if lacking:
        raise InvalidInputError(
            f"{file} does not say how its figures were made; it lacks: {', '.join(lacking)}."
        )
    return content


def read_sources(folder: Path) -> Dict[str, Dict[str, Any]]:
    """All files of figures in a card's folder, by their names without ``.json``.

    Raises:
        InvalidInputError: If one is broken, or does not say how it was made.
    """
    return {file.stem: read_source(file) for file in sorted(folder.glob("*.json"))}
