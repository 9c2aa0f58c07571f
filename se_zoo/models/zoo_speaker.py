"""Registered models of two inputs: who of the people in a video speaks.

They are in timm's registry, as far as it goes: ``timm.create_model`` makes and loads them, while
what timm does with images (its data configs, its transforms) is not for them.
"""

from contextlib import nullcontext
from functools import partial
from typing import Any, Dict, Optional

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from ..errors import UnknownModelError, WeightsNotFoundError
from .build import config_in_force
from .labels import SPEAKER_LABELS
from .names import registry_name
from .pretrained.errors import clear_errors
from .pretrained.fetch import check_finite, local_source, restore_source, source_name
from .pretrained.load import load_any
from .pretrained.own_models import cfgs_of, with_own_args
from .speaker.model import MEAN, STD, SpeakerModel

#: Channels of the encoders' blocks, and units of the detector.
SIZES: Dict[str, Dict[str, Any]] = {
    "asd_tiny_sehead": {"channels": (16, 32, 64), "hidden": 56},
    "asd_small_sehead": {"channels": (32, 64, 128), "hidden": 64},
}


#: What holds for every speaker model, trained or not.
_CFG: Dict[str, Any] = {
    "num_classes": 1, "label_names": SPEAKER_LABELS, "input_size": (1, 112, 112),
    "mean": (MEAN,), "std": (STD,), "crop_pct": 1.0, "classifier": "detector.classifier",
    "url": "",
}  # fmt: skip
#: timm's registry reads this name.
default_cfgs = generate_default_cfgs(
    {k: v for name in SIZES for k, v in (cfgs_of(name) or {name: _CFG}).items()}
)

_DEFAULTS: Dict[str, Any] = {"gate": "identity", "reduction": 16, "pool": "frame", "body": False}
#: What timm may give every model: here it can only be this.
_FIXED = {"num_classes": 1, "in_chans": 1, "drop_rate": 0.0, "drop_path_rate": 0.0}


def _create(
    variant: str,
    pretrained: bool,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Optional[Dict[str, Any]] = None,
    cache_dir: Any = None,
    se: bool = True,
    **kwargs: Any,
) -> nn.Module:
    """Create a speaker model through timm's builder."""
    # What timm's newer versions tell their builder of hf-hub: and local-dir: names.
    builders = {k: kwargs.pop(k) for k in ("pretrained_model_args",) if k in kwargs}
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    cfg = config_in_force(variant, pretrained_cfg, pretrained_cfg_overlay)
    given = {name: kwargs.pop(name) for name in _DEFAULTS if name in kwargs}
    ours = {**_DEFAULTS, **with_own_args(cfg, given)}
    given = [name for name, only in _FIXED.items() if kwargs.pop(name, None) not in (None, only)]
    if given or kwargs:
        names = ", ".join([*given, *kwargs])
        raise ValueError(f"{variant} takes gate, reduction, pool, body and se, not {names}.")
    if pretrained and not any(cfg.get(k) for k in ("file", "source", "hf_hub_id", "state_dict")):
        raise WeightsNotFoundError(
            f"There are no weights of {variant}. LR-ASD's fit asd_small_sehead: `se-zoo convert "
            "lr-asd` makes a folder of them. Use pretrained=False for random weights."
        )
    place = nullcontext() if device is None else torch.device(device)
    with clear_errors(variant, cfg, cache_dir), place:
        local = {**cfg, **(local_source(cfg, cache_dir) if pretrained else {})}
        model: Any = build_model_with_cfg(
            partial(SpeakerModel, **SIZES[variant], **ours, se=se), variant, pretrained,
            pretrained_cfg=local, kwargs_filter=("num_classes", "in_chans", "global_pool"),  # type: ignore[arg-type]
            **builders,
        )  # fmt: skip
    restore_source(model, cfg)
    if pretrained:
        check_finite(model, source_name(cfg))
    model._model_args = ours
    return model if dtype is None else model.to(dtype)


@register_model
def asd_tiny_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """LR-ASD's architecture at half its width, with an SE block; a quarter of a million weights."""
    return _create("asd_tiny_sehead", pretrained, **kwargs)


@register_model
def asd_small_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """LR-ASD's architecture with an SE block; its weights fit after ``se-zoo convert lr-asd``."""
    return _create("asd_small_sehead", pretrained, **kwargs)


def create_speaker_model(name: str, pretrained: bool = False, **kwargs: Any) -> SpeakerModel:
    """A speaker model by any of its names.

    Args:
        name: ``se_zoo/asd_tiny_grid``, ``asd_tiny_sehead``, ``asd_small_sehead``,
            ``hf-hub:<repository>`` or ``local-dir:<folder>``.
        pretrained: Load weights; a folder or repository always has its own.
        **kwargs: ``gate``, ``reduction``, ``pool``, ``body`` and ``se`` of an architecture.

    Returns:
        The model in eval mode.

    Raises:
        UnknownModelError: For a name of another kind of model.
        WeightsNotFoundError: If the weights cannot be had.
    """
    if ":" in name:
        if kwargs:
            raise UnknownModelError(
                f"{name} says itself what it is; leave out {', '.join(kwargs)}."
            )
        model = load_any(name)
    else:
        registered = registry_name(name)
        if registered.partition(".")[0] not in SIZES:
            raise UnknownModelError(f"{name} is no speaker model; these are: {', '.join(SIZES)}.")
        model = timm.create_model(registered, pretrained=pretrained, **kwargs).eval()
    if not isinstance(model, SpeakerModel):
        raise UnknownModelError(f"{name} is no speaker model but a {type(model).__name__}.")
    return model
