"""``create_model``: timm's, with the type of what it returns."""

from typing import Any

import timm

from ..errors import UnknownModelError
from .names import PREFIX, registry_name
from .sehead import SEHeadMixin


def create_model(name: str, pretrained: bool = True, **kwargs: Any) -> SEHeadMixin:
    """Create an SE model by name, as ``timm.create_model`` does.

    The result is the same as timm's. The difference is the return type, by which editors and type
    checkers know ``explain``, and that weights are loaded by default.

    Args:
        name: ``se_zoo/<name>`` (with or without the prefix), an architecture ``*_sehead`` with or
            without a tag, ``hf-hub:<repository>`` or ``local-dir:<folder>``.
        pretrained: Load weights.
        **kwargs: As for ``timm.create_model``.

    Returns:
        The model, in training mode as timm leaves it; call ``eval()`` to predict.

    Raises:
        UnknownModelError: With the closest names, or if the model has no SE head or takes sound.
        WeightsNotFoundError: If the weights cannot be had or do not fit.
    """
    full = name if ":" in name or name.startswith(PREFIX) else registry_name(name)
    model = timm.create_model(full, pretrained=pretrained, **kwargs)
    if not isinstance(model, SEHeadMixin):
        raise UnknownModelError(
            f"{name} is a {type(model).__name__}, not an image or clip model with an SE head; use "
            "se_zoo.squeeze for other timm models and se_zoo.create_speaker_model for speakers."
        )
    return model
