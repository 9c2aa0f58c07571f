"""The user's names: ``se_zoo/resnet50_celeba`` for timm's ``resnet50_sehead.celeba``."""

import difflib
from typing import List

import timm.models
from timm.models import is_model

from ..errors import UnknownModelError
from ._timm import get_arch_pretrained_cfgs, wrap_parse_model_name
from .pretrained.own_models import own_models

PREFIX = "se_zoo/"


def registry_name(name: str) -> str:
    """timm's registry name of an se_zoo name, given with or without the ``se_zoo/`` prefix.

    Args:
        name: An alias (``resnet50_celeba``) or a registry name (``resnet50_sehead.celeba``,
            ``resnet50_sehead``).

    Raises:
        UnknownModelError: With the closest names.
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
    known = list(own) + [m for m in timm.list_models("*_sehead*", include_tags=True)]
    close = difflib.get_close_matches(bare, known, n=3, cutoff=0.4)
    hint = f" Closest: {', '.join(PREFIX + c for c in close)}." if close else ""
    raise UnknownModelError(
        f"se_zoo has no model {bare!r}.{hint} All: se_zoo.list_models(), or `se-zoo list`."
    )


def closest_names(name: str) -> str:
    """A sentence with timm's closest names, empty if there are none."""
    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    return f" Closest: {', '.join(close)}." if close else ""


def list_models(pretrained: bool = False) -> List[str]:
    """List the names that ``timm.create_model`` takes after ``import se_zoo``.

    Args:
        pretrained: List the zoo's own trained models, ``se_zoo/<name>``, in the place of all
            architectures, ``*_sehead``.

    Returns:
        Names in alphabetical order.
    """
    if pretrained:
        return sorted(PREFIX + name for name in own_models())
    return sorted(m for m in timm.list_models("*_sehead"))


def install_alias() -> None:
    """Teach ``timm.create_model`` the ``se_zoo/`` prefix; harmless when called again."""
    wrap_parse_model_name(PREFIX, registry_name)
