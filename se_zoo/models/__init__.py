"""Models: the SE head, ``squeeze``, and the architectures registered with timm."""

from . import zoo_image
from .names import install_alias, list_models
from .sehead import SEHeadMixin, squeeze, unsqueeze

install_alias()

__all__ = ["SEHeadMixin", "list_models", "squeeze", "unsqueeze", "zoo_image"]
