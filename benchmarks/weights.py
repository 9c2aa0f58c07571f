"""Name the weights that figures were measured on."""

from pathlib import Path
from typing import Dict

from se_zoo.models.pretrained.fetch import WEIGHTS_NAME
from se_zoo.models.pretrained.manifest import manifest, sha256_of

_LOCAL = "local-dir:"


def weights_of(model: str) -> Dict[str, str]:
    """Return the SHA-256 of a model's weights file, by which its card knows the figures.

    Args:
        model: Name of the model.

    Returns:
        ``weights_sha256``; nothing for models that lie neither in the package nor in a folder.
    """
    if model.startswith(_LOCAL):
        return {"weights_sha256": sha256_of(Path(model[len(_LOCAL) :]) / WEIGHTS_NAME)}
    entry = manifest().get(model.removeprefix("se_zoo/"))
    return {} if entry is None else {"weights_sha256": entry.sha256[WEIGHTS_NAME]}
