"""Define backbones that timm does not have, and find any backbone by its name."""

from dataclasses import asdict
from typing import Any, Callable, Dict, Union

import timm
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from ..errors import UnknownModelError
from ._timm import split_model_name_tag
from .names import closest_names


def slim_resnet(**kwargs: Any) -> ResNet:
    """Create a ResNet-18 of half width and output stride 8 (He et al., arXiv 1512.03385, table 1).

    One block is moved from the last stage to the third. The model has 1.9 M parameters and a
    16 x 13 map on 128 x 104 pixels. The last two stages keep the resolution without dilation,
    unlike timm's ``output_stride``: with a smaller receptive field a cell's features, and so the
    maps, stay close to its place in the image.
    """
    defaults = {"block": BasicBlock, "layers": (2, 2, 3, 1), "channels": (32, 64, 128, 256),
                "output_stride": 8}  # fmt: skip
    return undilated(ResNet(**{**defaults, **kwargs}))


def undilated(model: nn.Module) -> Any:
    """Take the dilation out of a model's convolutions, in place.

    timm's ``output_stride`` dilates the convolutions of the stages that keep their resolution, so
    that they see as much of the image as with strides. Weights that were trained with strides need
    that. Without it a cell's features stay closer to its place in the image.

    Args:
        model: A model with convolutions.

    Returns:
        The model.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.dilation != (1, 1):
            if not isinstance(module.padding, str) and any(module.padding):
                module.padding = tuple(size // 2 for size in module.kernel_size)
            module.dilation = (1, 1)
    return model


def _slim_cfg(**kwargs: Any) -> Dict[str, Any]:
    """Return the config of the slim ResNet, which takes upright faces framed as in CelebA."""
    return {
        "num_classes": 40, "input_size": (3, 128, 104), "pool_size": (16, 13), "crop_pct": 1.0,
        "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
        "first_conv": "conv1", "classifier": "fc", **kwargs,
    }  # fmt: skip


#: Functions that create the backbones, by name.
OWN_BACKBONES: Dict[str, Callable[..., nn.Module]] = {"resnet18_slim": slim_resnet}
#: Functions that return their pretrained configs, by name.
OWN_BACKBONE_CFGS: Dict[str, Callable[..., Dict[str, Any]]] = {"resnet18_slim": _slim_cfg}


def find_backbone(backbone: str) -> Union[str, Callable[..., nn.Module]]:
    """Return timm's name of a backbone without its tag, or the function that makes one of ours.

    Raises:
        UnknownModelError: If there is no such backbone.
    """
    if not isinstance(backbone, str):
        raise UnknownModelError(f"The backbone must be timm's name of one, not {backbone!r}.")
    if backbone in OWN_BACKBONES:
        return OWN_BACKBONES[backbone]
    name = split_model_name_tag(backbone)[0]
    if not timm.is_model(name) or "_sehead" in name:
        raise UnknownModelError(f"timm has no backbone {backbone!r}.{closest_names(name)}")
    return name


def backbone_config(backbone: str) -> Dict[str, Any]:
    """Return the pretrained config of a backbone that :func:`find_backbone` knows."""
    if backbone in OWN_BACKBONE_CFGS:
        return OWN_BACKBONE_CFGS[backbone]()
    try:
        base = timm.get_pretrained_cfg(backbone)
    except RuntimeError as error:  # how timm answers a tag that it does not know
        raise UnknownModelError(f"timm has no backbone {backbone!r}: {error}") from error
    if base is None:
        raise UnknownModelError(f"timm has no pretrained config {backbone!r}.")
    return asdict(base)
