"""Import timm's private names; no other module does.

They were checked on timm 1.0.21 and 1.0.31. A timm version that moves one of them breaks this
module and no other, with an ImportError that ``import se_zoo`` explains. Names of its modules for
single architectures and layers (``timm.models.eva``, ``timm.layers.attention``) are imported where
they are used.
"""

import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, Callable, Dict

import timm.models
from timm.models import _factory
from timm.models._builder import resolve_pretrained_cfg
from timm.models._hub import (
    load_model_config_from_hf,
    load_model_config_from_path,
    save_config_for_hf,
)
from timm.models._pretrained import PretrainedCfg
from timm.models._registry import get_arch_pretrained_cfgs, split_model_name_tag

if TYPE_CHECKING:
    import torch
    from torch import nn

    class TimmModel(nn.Module):
        """Declare for type checkers what every timm classifier offers."""

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
    "save_config_for_hf",
    "split_model_name_tag",
    "wrap_config_readers",
    "wrap_parse_model_name",
]


_Parse = Callable[[str], Any]
_Read = Callable[..., Any]


def _used_by_the_factory(name: str) -> Any:
    """Return a function that ``timm.create_model`` looks up in its module when it is called.

    Functions there that another package has wrapped count as those that they wrap.

    Raises:
        ImportError: If the module lacks it, or no function there calls it any more. To replace it
            would then change nothing, in silence.
    """
    functions = [inspect.unwrap(f) for f in vars(_factory).values() if callable(f)]
    own = [f for f in functions
           if isinstance(f, FunctionType) and f.__module__ == _factory.__name__]  # fmt: skip
    if not (hasattr(_factory, name) and any(name in f.__code__.co_names for f in own)):
        raise ImportError(
            f"cannot import name {name!r} from {_factory.__name__!r}", name=_factory.__name__
        )
    return getattr(_factory, name)


def wrap_config_readers(decorator: Callable[[_Read, bool], _Read]) -> None:
    """Decorate the functions by which ``timm.create_model`` reads a config.json.

    Calling this again changes nothing.

    Args:
        decorator: Makes the new function of timm's own, and of whether it reads a folder.

    Raises:
        ImportError: If this version of timm reads it by other functions.
    """
    for name, of_folder in (
        ("load_model_config_from_hf", False), ("load_model_config_from_path", True)
    ):  # fmt: skip
        original = _used_by_the_factory(name)
        if not getattr(original, "_se_zoo", False):
            setattr(_factory, name, decorator(original, of_folder))


def wrap_parse_model_name(decorator: Callable[[_Parse], _Parse]) -> None:
    """Decorate the function by which timm reads every model name.

    timm looks the function up whenever it creates a model, so ``timm.create_model`` calls the
    decorated one even where it was imported earlier. Calling this again changes nothing.

    Args:
        decorator: Makes the new function of timm's own.

    Raises:
        ImportError: If this version of timm reads names by another function.
    """
    original = _used_by_the_factory("parse_model_name")
    if getattr(original, "_se_zoo", False):
        return
    decorated: Any = decorator(original)
    decorated._se_zoo = True
    _factory.parse_model_name = decorated
    timm.models.parse_model_name = decorated  # type: ignore[attr-defined]
