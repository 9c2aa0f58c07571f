"""A trained model by any of its names."""

from typing import Any

import timm

from ...errors import SEZooError, UnknownModelError, WeightsNotFoundError
from ..names import registry_name
from ..sehead import SEHeadMixin
from .fetch import UNREADABLE, described_model


def load_model(name: str, cache_dir: Any = None) -> Any:
    """An image or clip model in eval mode, with weights.

    Args:
        name: ``se_zoo/<name>``, an architecture ``*_sehead``, ``hf-hub:<repository>`` or
            ``local-dir:<folder>``.
        cache_dir: Where downloads are kept; huggingface_hub's own place by default.

    Raises:
        UnknownModelError: With the closest names, or if it takes sound and faces.
        WeightsNotFoundError: If the weights cannot be had or do not fit.
    """
    model = load_any(name, cache_dir)
    if not isinstance(model, SEHeadMixin):
        raise UnknownModelError(
            f"{name} takes sound and faces, not images: se-zoo speaker, or "
            "se_zoo.create_speaker_model."
        )
    return model


def load_any(name: str, cache_dir: Any = None) -> Any:
    """A model of any kind in eval mode, with weights.

    Whatever has no SE head never reaches timm's own loader, which may unpickle: a repository's
    config.json is read once, and what it describes is made from that reading.

    Args:
        name: ``se_zoo/<name>``, an architecture ``*_sehead``, ``hf-hub:<repository>`` or
            ``local-dir:<folder>``.
        cache_dir: Where downloads are kept; huggingface_hub's own place by default.

    Raises:
        UnknownModelError: With the closest names.
        WeightsNotFoundError: If the weights cannot be had or do not fit.
    """
    described: Any = {}
    if ":" in name:
        architecture, cfg, args = described_model(name, cache_dir)
        described = {**args, "pretrained_cfg": cfg}
    else:
        architecture = registry_name(name)
    if "_sehead" not in architecture:
        raise UnknownModelError(
            f"{name} is a {architecture} without an SE head; in Python, se_zoo.squeeze gives it one"
        )
    try:
        model = timm.create_model(architecture, pretrained=True, cache_dir=cache_dir, **described)
    except (*UNREADABLE, RuntimeError) as error:
        if isinstance(error, SEZooError):
            raise
        raise WeightsNotFoundError(f"{name}: {type(error).__name__}: {error}") from error
    return model.eval()
