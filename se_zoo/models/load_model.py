"""Load a trained model by any of its names."""

from typing import Any

import timm

from ..errors import SEZooError, UnknownModelError, WeightsNotFoundError
from .names import registry_name
from .pretrained.fetch import UNREADABLE, described_model
from .sehead import SEHeadMixin


def load_model(name: str, cache_dir: Any = None) -> Any:
    """Load an image or clip model with its weights.

    Args:
        name: ``se_zoo/<name>``, an architecture ``*_sehead``, ``hf-hub:<repository>`` or
            ``local-dir:<folder>``.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.

    Returns:
        The model in eval mode.

    Raises:
        UnknownModelError: If there is no such model (the message names the closest), or it is a
            speaker model.
        WeightsNotFoundError: If the weights cannot be fetched or do not fit.
    """
    model = load_any(name, cache_dir)
    if not isinstance(model, SEHeadMixin):
        raise UnknownModelError(
            f"{name} takes sound and faces, not images; use se-zoo speaker, or "
            "se_zoo.create_speaker_model."
        )
    return model


def load_any(name: str, cache_dir: Any = None) -> Any:
    """Load an image, clip or speaker model with its weights.

    A repository's config.json is read once, and the model is made from that reading. A model
    without an SE head never reaches timm's own loader, which may unpickle.

    Args:
        name: ``se_zoo/<name>``, an architecture ``*_sehead``, ``hf-hub:<repository>`` or
            ``local-dir:<folder>``.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.

    Returns:
        The model in eval mode.

    Raises:
        UnknownModelError: If there is no such model; the message names the closest.
        WeightsNotFoundError: If the weights cannot be fetched or do not fit.
    """
    described: Any = {}
    if ":" in name:
        architecture, cfg, args = described_model(name, cache_dir)
        described = {**args, "pretrained_cfg": cfg}
    else:
        architecture = registry_name(name)
    if "_sehead" not in architecture:
        raise UnknownModelError(
            f"{name} is a {architecture} without an SE head; in Python, se_zoo.squeeze adds one."
        )
    try:
        model = timm.create_model(architecture, pretrained=True, cache_dir=cache_dir, **described)
    except (*UNREADABLE, RuntimeError) as error:
        if isinstance(error, SEZooError):
            raise
        raise WeightsNotFoundError(f"{name}: {type(error).__name__}: {error}") from error
    return model.eval()
