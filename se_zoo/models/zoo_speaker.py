"""Register speaker models: who in a video speaks, by face and sound.

``timm.create_model`` creates and loads them. timm's data configs and transforms are for images and
do not apply.
"""

from contextlib import nullcontext
from functools import partial
from typing import Any, Dict, Optional

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from ..errors import InvalidInputError, UnknownModelError, WeightsNotFoundError
from .build import build_and_load, resolve_config
from .label_lists import SPEAKER_LABELS
from .load_model import load_any
from .names import registry_name
from .pretrained.fit_check import is_described
from .pretrained.own_models import cfgs_of, with_own_args
from .speaker.encoders import MEAN, STD
from .speaker.model import SpeakerModel

#: By architecture: channels of each encoder's blocks, and units of the detector.
SIZES: Dict[str, Dict[str, Any]] = {
    "asd_tiny_sehead": {"channels": (16, 32, 64), "hidden": 56},
    "asd_small_sehead": {"channels": (32, 64, 128), "hidden": 64},
}


#: Config that all speaker models share.
_CFG: Dict[str, Any] = {
    "num_classes": 1, "label_names": SPEAKER_LABELS, "input_size": (1, 112, 112),
    "mean": (MEAN,), "std": (STD,), "crop_pct": 1.0, "classifier": "detector.classifier",
    "url": "",
}  # fmt: skip
#: Configs by architecture and tag; timm's registry reads this name.
default_cfgs: Any = generate_default_cfgs(
    {k: v for name in SIZES for k, v in (cfgs_of(name) or {name: _CFG}).items()}
)

_DEFAULTS: Dict[str, Any] = {
    "gate": "identity", "reduction": 16, "pool": "frame", "body": False, "map_method": None,
}  # fmt: skip
#: Arguments that timm passes to every model, with the only value that speaker models take.
_FIXED = {"num_classes": 1, "in_chans": 1, "drop_rate": 0.0, "drop_path_rate": 0.0}


def _create(
    variant: str,
    pretrained: bool,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Optional[Dict[str, Any]] = None,
    cache_dir: Any = None,
    **kwargs: Any,
) -> nn.Module:
    """Create a speaker model through timm's builder."""
    # From timm 1.0.29 on, of hf-hub: and local-dir: names.
    builder_args = {k: kwargs.pop(k) for k in ("pretrained_model_args",) if k in kwargs}
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    cfg = resolve_config(variant, pretrained_cfg, pretrained_cfg_overlay)
    given = {name: kwargs.pop(name) for name in (*_DEFAULTS, "se") if name in kwargs}
    own_args = with_own_args(cfg, given, pretrained, cache_dir)
    model_args = {**_DEFAULTS, **own_args}
    refused = [name for name, only in _FIXED.items() if kwargs.pop(name, None) not in (None, only)]
    strange = [name for name in own_args if name not in (*_DEFAULTS, "se")]  # of a config.json
    if refused or strange or kwargs:
        names = ", ".join(dict.fromkeys([*refused, *strange, *kwargs]))
        kind = UnknownModelError if is_described(cfg) else InvalidInputError
        raise kind(f"{variant} takes gate, reduction, pool, body, map_method and se, not {names}.")
    if pretrained and not any(cfg.get(k) for k in ("file", "source", "hf_hub_id", "state_dict")):
        raise WeightsNotFoundError(
            f"There are no weights of {variant}. LR-ASD's fit asd_small_sehead: `se-zoo convert "
            "lr-asd` makes a folder of them. Use pretrained=False for random weights."
        )

    def build(local: Dict[str, Any], args: Dict[str, Any], load: bool) -> nn.Module:
        place = args.get("device")
        own = {**_DEFAULTS, **{k: v for k, v in args.items() if k != "device"}}
        make: Any = partial(SpeakerModel, **SIZES[variant], **own)
        not_taken: Any = ("num_classes", "in_chans", "global_pool")
        with nullcontext() if place is None else torch.device(place):
            return build_model_with_cfg(
                make, variant, load, pretrained_cfg=local, kwargs_filter=not_taken, **builder_args
            )

    args = {**model_args, "device": device}
    model = build_and_load(variant, pretrained, cfg, build, args, cache_dir)
    model._model_args = {k: v for k, v in model_args.items() if v is not None}
    return model if dtype is None else model.to(dtype)


@register_model
def asd_tiny_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create LR-ASD at half its width with an SE block; 0.25 million parameters."""
    return _create("asd_tiny_sehead", pretrained, **kwargs)


@register_model
def asd_small_sehead(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create LR-ASD with an SE block; ``se-zoo convert lr-asd`` converts its weights."""
    return _create("asd_small_sehead", pretrained, **kwargs)


def create_speaker_model(name: str, pretrained: bool = False, **kwargs: Any) -> SpeakerModel:
    """Create a speaker model by any of its names.

    Args:
        name: ``se_zoo/asd_tiny_grid``, ``asd_tiny_sehead``, ``asd_small_sehead``,
            ``hf-hub:<repository>`` or ``local-dir:<folder>``.
        pretrained: Load weights; those of a folder or repository are always loaded.
        **kwargs: ``gate``, ``reduction``, ``pool``, ``body``, ``map_method`` and ``se`` of an
            architecture.

    Returns:
        The model in eval mode.

    Raises:
        UnknownModelError: If the name is not that of a speaker model.
        WeightsNotFoundError: If the weights cannot be fetched or do not fit.
    """
    if ":" in name:
        if kwargs:
            raise UnknownModelError(
                f"{name} already defines its architecture; leave out {', '.join(kwargs)}."
            )
        model = load_any(name)
    else:
        registered = registry_name(name)
        if registered.partition(".")[0] not in SIZES:
            raise UnknownModelError(
                f"{name} is not a speaker model; these are: {', '.join(SIZES)}."
            )
        model = timm.create_model(registered, pretrained=pretrained, **kwargs).eval()
    if not isinstance(model, SpeakerModel):
        raise UnknownModelError(f"{name} is a {type(model).__name__}, not a speaker model.")
    return model
