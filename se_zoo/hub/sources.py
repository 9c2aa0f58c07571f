"""Read files of figures, which are the only source of a card's figures.

Each file says how it was made.
"""

from pathlib import Path
from typing import Any, Dict

from ..errors import InvalidInputError
from ..files import read_json

#: Keys that every such file must have.
PROVENANCE = ("command", "commit", "environment")


def read_source(file: Path) -> Dict[str, Any]:
    """Read the figures in a JSON file.

    Args:
        file: The file.

    Raises:
        InvalidInputError: If it is missing or broken, or does not say how it was made.
    """
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{file} cannot be read: {error}") from error
    lacking = [k for k in PROVENANCE if not isinstance(content, dict) or k not in content]
    if lacking:
        raise InvalidInputError(
            f"{file} does not say how its figures were made; add: {', '.join(lacking)}."
        )
    return content


def read_sources(folder: Path) -> Dict[str, Dict[str, Any]]:
    """Read all files of figures in a card's folder.

    Args:
        folder: The folder.

    Returns:
        Their contents, by file name without ``.json``.

    Raises:
        InvalidInputError: If one is broken, or does not say how it was made.
    """
    return {file.stem: read_source(file) for file in sorted(folder.glob("*.json"))}
