"""Add the names ``se_zoo/...`` to timm's registry, so that timm's own lists show them.

``timm.list_models("se_zoo/*")``, ``timm.is_model`` and ``timm.is_model_pretrained`` read the
registry. ``timm.create_model`` does not use these entries: :mod:`.names` maps the name to its
architecture first.
"""

import sys
from functools import partial
from typing import Any

from timm.models import generate_default_cfgs, model_entrypoint, register_model
from torch import nn

from .names import PREFIX
from .pretrained.own_models import OwnModel, own_models

#: Configs by name; timm's registry reads this name.
default_cfgs: Any = generate_default_cfgs(
    {PREFIX + own.name: dict(own.cfg) for own in own_models().values()}
)


def _create(own: OwnModel, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create a model of the zoo by its registry name."""
    return model_entrypoint(own.architecture)(pretrained, **{"pretrained_cfg": own.tag, **kwargs})


def _register(own: OwnModel) -> None:
    """Register a model of the zoo with timm."""
    entry: Any = partial(_create, own)
    # timm takes the name from the function, and lists it in the module's __all__.
    entry.__name__, entry.__module__, entry.__doc__ = PREFIX + own.name, __name__, _create.__doc__
    register_model(entry)
    setattr(sys.modules[__name__], entry.__name__, entry)


for _own in own_models().values():
    _register(_own)
