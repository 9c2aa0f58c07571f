"""Find out which inputs a model takes: as it was made, not as its config says of the weights."""

from typing import Any, Dict, List, Tuple, Union

import timm.models
from timm.data.config import resolve_data_config
from timm.layers import to_2tuple  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

ImageSize = Union[int, Tuple[int, int], None]


def input_size(model: nn.Module, img_size: ImageSize = None) -> Tuple[int, int]:
    """Return the height and width that a model is made for, in pixels.

    Models of one size store it in the module that cuts the image into patches, the first one with
    an ``img_size``; ``set_input_size`` changes it there. For models of any size, it is what they
    were created with, or else the size in their config.

    Args:
        model: A timm model.
        img_size: What the model was created with as ``img_size``, if it is known.

    Returns:
        (H, W).
    """
    cfg: Any = getattr(model, "pretrained_cfg", None) or {}
    size = tuple(cfg.get("input_size") or (3, 224, 224))
    recorded = hasattr(timm.models, "get_model_input_config")  # from timm 1.0.31 on
    if recorded:
        size = timm.models.get_model_input_config(model)["input_size"]
    made_with = getattr(model, "_model_args", None) or {}
    kept: List[Any] = [m for m in model.modules() if getattr(m, "img_size", None)]
    # Older versions record the size of models of any size in that module alone.
    if img_size is None and kept and (not recorded or getattr(kept[0], "strict_img_size", True)):
        img_size = kept[0].img_size
    height, width = to_2tuple(img_size or made_with.get("img_size") or size[1:])  # type: ignore[misc]
    return int(height), int(width)


def data_config(model: nn.Module) -> Dict[str, Any]:
    """Return timm's data config of a model, with the input that the model is made for.

    timm's ``resolve_data_config`` takes the size that the weights had.

    Args:
        model: A timm model for images.

    Returns:
        ``input_size`` (C, H, W), ``mean``, ``std``, ``interpolation``, ``crop_pct``, ``crop_mode``.
    """
    size = (input_channels(model)[0], *input_size(model))
    return {**resolve_data_config(model=model), "input_size": size}


def input_channels(model: nn.Module) -> List[int]:
    """Return the possible numbers of input channels of a model, the likeliest first.

    Before timm 1.0.31 many models have no ``in_chans``. Then the arguments tell that they were
    created with, the config, or the first convolution, which may come after a rearrangement of the
    image, as in TResNet.

    Args:
        model: A timm model.
    """
    cfg: Any = getattr(model, "pretrained_cfg", None) or {}
    declared = getattr(model, "in_chans", None) or (getattr(model, "_model_args", None) or {}).get(
        "in_chans"
    )
    if declared:
        return [int(declared)]
    stated, first = int((cfg.get("input_size") or (3,))[0]), cfg.get("first_conv")
    try:
        layer = model.get_submodule(first) if isinstance(first, str) else None
    except AttributeError:
        layer = None
    if not isinstance(layer, (nn.Conv2d, nn.Conv3d)):
        return [stated]
    taken = layer.in_channels
    rearranged = taken % stated == 0  # in blocks of pixels, 2 x 2 or 4 x 4
    return list(dict.fromkeys([stated, taken] if rearranged else [taken, stated]))
