"""Define backbones that timm does not have."""

from typing import Any, Callable, Dict

from timm.models.resnet import BasicBlock, ResNet
from torch import nn


def slim_resnet(**kwargs: Any) -> ResNet:
    """Create a ResNet-18 of half width and output stride 8 (He et al., arXiv 1512.03385, table 1).

    One block is moved from the last stage to the third. The model has 1.9 M parameters and a
    16 x 13 map on 128 x 104 pixels. The last two stages keep the resolution without dilation,
    unlike timm's ``output_stride``: with a smaller receptive field a cell's features, and so the
    maps, stay close to its place in the image.
    """
    defaults = {"block": BasicBlock, "layers": (2, 2, 3, 1), "channels": (32, 64, 128, 256),
                "output_stride": 8}  # fmt: skip
    model = ResNet(**{**defaults, **kwargs})
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.dilation != (1, 1):
            module.dilation = module.padding = (1, 1)
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
