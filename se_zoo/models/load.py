"""A trained model by any of its names."""

from typing import Any

import timm

from ..errors import SEZooError, UnknownModelError, WeightsNotFoundError
from .names import registry_name
from .pull import described_model


def load_model(name: str) -> Any:
    """The model in eval mode, with weights.

    Args:
        name: ``se_zoo/<name>``, an architecture ``*_sehead``, ``hf-hub:<repository>`` or
            ``local-dir:<folder>``.

    Raises:
        UnknownModelError: With the closest names.
        WeightsNotFoundError: If the weights cannot be had or do not fit.
    """
    # Whatever has no SE head never reaches timm's own loader, which may unpickle.
    architecture = described_model(name)[0] if ":" in name else registry_name(name)
    if "_sehead" not in architecture:
        raise UnknownModelError(
            f"{name} is a {architecture} without an SE head; in Python, se_zoo.squeeze gives it one"
        )
    try:
        model = timm.create_model(name if ":" in name else architecture, pretrained=True)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, SEZooError):
            raise
        raise WeightsNotFoundError(f"{name}: {type(error).__name__}: {error}") from error
    return model.eval()
