"""What the project uses of timm beyond its public names, in one place.

timm keeps these in modules with an underscore; they were checked on timm 1.0.21 and 1.0.31. A
version that moves one breaks here and nowhere else.
"""

import functools
from typing import TYPE_CHECKING, Any, Callable, Dict

import timm.models
from timm.models import _factory
from timm.models._builder import resolve_pretrained_cfg
from timm.models._hub import load_model_config_from_hf, load_model_config_from_path
from timm.models._pretrained import PretrainedCfg
from timm.models._registry import get_arch_pretrained_cfgs, split_model_name_tag

if TYPE_CHECKING:
    import torch
    from torch import nn

    class TimmModel(nn.Module):
        """What every timm classifier offers, for type checkers."""

        num_classes: int
        num_features: int
        pretrained_cfg: Dict[str, Any]
        default_cfg: Dict[str, Any]
        _model_args: Dict[str, Any]

        def forward_features(self, x: torch.Tensor) -> Any: ...
        def forward_head(self, x: Any, pre_logits: bool = False) -> torch.Tensor: ...
        def forward_intermediates(self, *args: Any, **kwargs: Any) -> Any: ...
        def get_classifier(self) -> nn.Module: ...
        def reset_classifier(self, num_classes: int, *args: Any, **kwargs: Any) -> None: ...
        def prune_intermediate_layers(self, *args: Any, **kwargs: Any) -> Any: ...

else:
    TimmModel = object

__all__ = [
    "PretrainedCfg",
    "TimmModel",
    "get_arch_pretrained_cfgs",
    "load_model_config_from_hf",
    "load_model_config_from_path",
    "resolve_pretrained_cfg",
    "split_model_name_tag",
    "wrap_parse_model_name",
]


def wrap_parse_model_name(prefix: str, registry_name: Callable[[str], str]) -> None:
    """Make ``timm.create_model`` take names that start with a prefix.

    timm drops a prefix (up to 1.0.28) or refuses a slash (from 1.0.29 on). Everything in it that
    creates models looks its ``parse_model_name`` up at call time, so wrapping that one function
    covers ``timm.create_model`` even where it was imported earlier. Calling this again changes
    nothing.

    Args:
        prefix: Such as ``se_zoo/``.
        registry_name: Maps a name with the prefix to timm's registry name, or raises.
    """
    original = _factory.parse_model_name
    if getattr(original, "_se_zoo", False):
        return

    @functools.wraps(original)
    def parse_model_name(model_name: str) -> Any:
        if isinstance(model_name, str) and model_name.startswith(prefix):
            model_name = registry_name(model_name)
        return original(model_name)

    parse_model_name._se_zoo = True  # type: ignore[attr-defined]
    _factory.parse_model_name = parse_model_name
    timm.models.parse_model_name = parse_model_name  # type: ignore[attr-defined]
