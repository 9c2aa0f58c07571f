"""Create models by the user's names, and teach timm these names.

``se_zoo/resnet50_celeba`` is timm's ``resnet50_sehead.celeba``.
"""

import difflib
import functools
from typing import Any, Callable, List

import timm.models
from timm.models import is_model

from ..errors import UnknownModelError
from ..zoo_names import PREFIX, unknown_model
from ._timm import get_arch_pretrained_cfgs, wrap_config_readers, wrap_parse_model_name
from .pretrained.own_models import own_models, without_label_args
from .sehead import SEHeadMixin


def registry_name(name: str) -> str:
    """Return timm's registry name of an se_zoo name.

    Args:
        name: An alias (``resnet50_celeba``) or a registry name (``resnet50_sehead.celeba``,
            ``resnet50_sehead``), with or without the prefix ``se_zoo/``.

    Returns:
        Such as ``resnet50_sehead.celeba``.

    Raises:
        UnknownModelError: If there is no such model; the message names the closest.
    """
    bare = name[len(PREFIX) :] if name.startswith(PREFIX) else name
    own = own_models()
    if bare in own:
        return own[bare].registry_name
    architecture, _, tag = bare.partition(".")
    if "_sehead" in architecture and is_model(architecture):
        if not tag or bare in get_arch_pretrained_cfgs(architecture):
            return bare
    if "_sehead" not in architecture and is_model(architecture):
        variant = f"{architecture}_sehead"
        use = f"{PREFIX}{variant}" if is_model(variant) else f"timm_sehead with backbone={bare!r}"
        raise UnknownModelError(f"{bare!r} is timm's model, without an SE head; use {use}.")
    known = [*own, *timm.list_models("*_sehead*", include_tags=True)]
    raise unknown_model(bare, known)


def closest_names(name: str) -> str:
    """Return a sentence with timm's closest names; empty if there are none."""
    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    return f" Closest: {', '.join(close)}." if close else ""


def create_model(name: str, pretrained: bool = True, **kwargs: Any) -> SEHeadMixin:
    """Create an SE model by name, as ``timm.create_model`` does.

    The model is the same as timm's. Two things differ: weights are loaded by default, and editors
    and type checkers know ``explain`` by the return type.

    Args:
        name: ``se_zoo/<name>`` (with or without the prefix), an architecture ``*_sehead`` with or
            without a tag, ``hf-hub:<repository>`` or ``local-dir:<folder>``.
        pretrained: Load weights.
        **kwargs: Further arguments of ``timm.create_model``.

    Returns:
        The model, in training mode as timm leaves it; call ``eval()`` to predict.

    Raises:
        UnknownModelError: If there is no such model (the message names the closest), or it is not
            an image or clip model with an SE head.
        WeightsNotFoundError: If the weights cannot be fetched or do not fit.
    """
    full = name if ":" in name or name.startswith(PREFIX) else registry_name(name)
    model = timm.create_model(full, pretrained=pretrained, **kwargs)
    if not isinstance(model, SEHeadMixin):
        raise UnknownModelError(
            f"{name} is a {type(model).__name__}, not an image or clip model with an SE head; use "
            "se_zoo.squeeze for other timm models and se_zoo.create_speaker_model for speakers."
        )
    return model


def list_models(pretrained: bool = False) -> List[str]:
    """List the names that ``timm.create_model`` takes after ``import se_zoo``.

    Args:
        pretrained: List the zoo's own trained models (``se_zoo/<name>``) instead of all
            architectures (``*_sehead``).

    Returns:
        Names in alphabetical order.
    """
    if pretrained:
        return sorted(PREFIX + name for name in own_models())
    return sorted(timm.list_models("*_sehead"))


def install_alias() -> None:
    """Make ``timm.create_model`` take names that start with ``se_zoo/``, and check configs.

    By itself timm drops such a prefix (up to 1.0.28) or refuses the slash (from 1.0.29 on).
    Calling this again changes nothing.
    """
    wrap_parse_model_name(_knowing_the_prefix)
    wrap_config_readers(without_label_args)


def _knowing_the_prefix(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return timm's ``parse_model_name`` with the names of the zoo added."""

    @functools.wraps(parse)
    def parse_model_name(model_name: str) -> Any:
        if isinstance(model_name, str) and model_name.startswith(PREFIX):
            model_name = registry_name(model_name)
        return parse(model_name)

    return parse_model_name
