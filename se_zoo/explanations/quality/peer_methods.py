"""The methods of grad-cam, captum and torch-cam that ours are compared with, one function each.

Each takes a model with a layer after the gate, images and one class each, and returns the library's
maps before any normalisation. :mod:`.peers` calls them.
"""

import importlib
from functools import partial
from typing import Any, Callable, Dict, List

import torch
from torch import nn

from ...layers.grid import feature_map, with_feature_map
from ..se_model import SEModel, check_model


class _Copy(nn.Module):
    """Return a copy of a tensor. Some libraries detach the layer's output in place at the end."""

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()


class AfterGate(nn.Module):
    """An SE model with a layer for hooks, as other libraries need it.

    Attributes:
        layer: A layer whose output is the gated feature map, (B, C, *grid), whatever the
            backbone's own layout is.
    """

    layer: nn.Module

    def __init__(self, model: nn.Module):
        super().__init__()
        check_model(model)
        self.model = model
        self.layer = _Copy()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, K) of images (B, C, H, W) or clips (B, C, T, H, W)."""
        model: SEModel = self.model  # type: ignore[assignment]
        size = (images.shape[-2], images.shape[-1])
        gated = model.gated(model.forward_features(images))
        native = feature_map(gated)
        grid = model.feature_grid(gated, size)
        if torch.is_grad_enabled() and not grid.requires_grad:
            grid.requires_grad_()  # the backbone is frozen
        if grid is native:
            return model.classify(with_feature_map(gated, self.layer(grid)))
        back = native.clone()
        model.feature_grid(with_feature_map(gated, back), size).copy_(self.layer(grid))
        return model.classify(with_feature_map(gated, back))


def _cam_image(cam: Any, call: Callable[[], Any]) -> torch.Tensor:
    """Return grad-cam's maps before its ReLU, at the layer's own grid, that a call makes."""
    found: List[Any] = []
    own = cam.get_cam_image

    def keep(*args: Any, **kwargs: Any) -> Any:
        found.append(own(*args, **kwargs))
        return found[-1]

    cam.get_cam_image = keep
    try:
        call()
    finally:
        del cam.get_cam_image  # it refers to cam, and both would stay until Python collects cycles
    return torch.as_tensor(found[-1])


def grad_cam(
    name: str, module: str, model: nn.Module, images: torch.Tensor, targets: torch.Tensor,
    **where: Any,
) -> torch.Tensor:  # fmt: skip
    """Return the maps of a class of grad-cam, (B, *grid), before its ReLU.

    Args:
        name: The class.
        module: Its module in ``pytorch_grad_cam``.
        model: The model; a map is that of its logit.
        images: Its images.
        targets: Class of each image, (B,).
        **where: Options of the class: the layers, and how their tokens become a grid.
    """
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kind: Any = getattr(importlib.import_module(f"pytorch_grad_cam.{module}"), name)
    with kind(model, **where) as cam:
        wanted = [ClassifierOutputTarget(target) for target in targets.tolist()]
        return _cam_image(cam, lambda: cam(images, wanted)).to(images.device)


def _grad_cam(name: str, module: str) -> Callable[..., torch.Tensor]:
    def compute(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return grad_cam(name, module, model, images, targets, target_layers=[model.layer])

    return compute


def _finer_targets(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> List[Any]:
    """Return FinerCAM's targets: each class against the three whose logits are nearest.

    This is what the library does for the top class.
    """
    from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

    with torch.no_grad():
        logits = model(images)
    apart = (logits - logits.gather(1, targets[:, None])).abs()
    nearest = apart.scatter(1, targets[:, None], -1.0).argsort(1)[:, 1:4].tolist()
    pairs = zip(targets.tolist(), nearest, strict=True)
    return [FinerWeightedTarget(*pair, 1) for pair in pairs]


def finer_cam(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **where: Any
) -> torch.Tensor:
    """Return the maps of grad-cam's FinerCAM; see :func:`grad_cam`."""
    from pytorch_grad_cam import FinerCAM

    wanted = _finer_targets(model, images, targets)
    with FinerCAM(model, **where) as cam:
        return _cam_image(cam.base_cam, lambda: cam(images, wanted)).to(images.device)


def _finer_cam(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return finer_cam(model, images, targets, target_layers=[model.layer])


def _layer_grad_cam(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    from captum.attr import LayerGradCam

    found: Any = LayerGradCam(model, model.layer).attribute(images, targets)
    return found.detach()[:, 0]


def _integrated_gradients(
    model: AfterGate, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    from captum.attr import IntegratedGradients

    found: Any = IntegratedGradients(model).attribute(
        images, target=targets, n_steps=25, internal_batch_size=len(images)
    )
    return found.detach().sum(1).float()


def _occlusion(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    from captum.attr import Occlusion

    # A window of a seventh of each side, as wide as a cell of a common 7 x 7 grid; steps of half.
    window = tuple(min(n, max(2, -(-n // 7))) for n in images.shape[2:])
    with torch.no_grad():
        found: Any = Occlusion(model).attribute(
            images,
            sliding_window_shapes=(images.shape[1], *window),
            strides=(images.shape[1], *(max(1, n // 2) for n in window)),
            target=targets,
            perturbations_per_eval=4,
        )
    return found.detach()[:, 0]


def _torch_cam(
    name: str, model: AfterGate, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    import torchcam.methods

    kind = getattr(torchcam.methods, name)
    with kind(model, target_layer="layer") as cam:
        logits = model(images)
        return cam(targets.tolist(), logits, normalized=False)[0].detach()


def _class_activation_map(
    model: AfterGate, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    from torchcam.methods import CAM

    classifier: Any = model.model.get_classifier()  # type: ignore[operator]
    with torch.no_grad(), CAM(model, target_layer="layer", fc_layer=classifier) as cam:
        logits = model(images)
        return cam(targets.tolist(), logits, normalized=False)[0].detach()


def _principal(name: str, module: str) -> Callable[..., torch.Tensor]:
    """Return a method that projects on a principal component, whose sign is arbitrary."""

    def compute(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        found = _grad_cam(name, module)(model, images, targets).float()
        # The sign is chosen so that the strongest value is positive (Chung and Ying,
        # Seg-Eigen-CAM, doi 10.3390/app15137562, equation 13).
        flat = found.flatten(1)
        turned = flat.amin(1).abs() > flat.amax(1).abs()
        return torch.where(turned.view(-1, *[1] * (found.dim() - 1)), -found, found)

    return compute


#: Methods that take a forward pass for each channel of the layer.
BY_CHANNEL = ("grad-cam/ScoreCAM", "grad-cam/AblationCAM")
#: Methods that take many passes for one map.
SLOW = (*BY_CHANNEL, "captum/IntegratedGradients", "captum/Occlusion")
#: Methods that attribute to the pixels of the input; the others work on the layer after the gate.
OF_PIXELS = ("captum/IntegratedGradients", "captum/Occlusion")
#: Methods that have a map for a head that reads class tokens only. They do not need the head's
#: gradient on the grid.
ANY_HEAD = (
    *OF_PIXELS, "grad-cam/ScoreCAM", "grad-cam/EigenCAM", "grad-cam/KPCA-CAM", "grad-cam/FEM",
)  # fmt: skip
#: Methods whose zero has no meaning, because their weights hold no evidence against the class.
#: Their maps are stretched from minimum to maximum, like gate and activation maps, and as grad-cam
#: does. The heatmaps of the others begin at 0, like contribution and support maps.
STRETCHED = (
    "grad-cam/GradCAM++", "grad-cam/LayerCAM", "grad-cam/EigenCAM", "grad-cam/KPCA-CAM",
    "grad-cam/FEM", "grad-cam/ScoreCAM", "grad-cam/EigenGradCAM", "grad-cam/SegEigenCAM",
    "grad-cam/GradCAMElementWise", "torch-cam/GradCAM++", "torch-cam/LayerCAM",
)  # fmt: skip
#: Functions that return the maps, (B, *grid) or (B, *size), of images and one class each.
GRID_PEERS: Dict[str, Callable[[AfterGate, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "grad-cam/GradCAM": _grad_cam("GradCAM", "grad_cam"),
    "grad-cam/GradCAM++": _grad_cam("GradCAMPlusPlus", "grad_cam_plusplus"),
    "grad-cam/HiResCAM": _grad_cam("HiResCAM", "hirescam"),
    "grad-cam/LayerCAM": _grad_cam("LayerCAM", "layer_cam"),
    "grad-cam/XGradCAM": _grad_cam("XGradCAM", "xgrad_cam"),
    "grad-cam/ShapleyCAM": _grad_cam("ShapleyCAM", "shapley_cam"),
    "grad-cam/FinerCAM": _finer_cam,
    "grad-cam/EigenCAM": _principal("EigenCAM", "eigen_cam"),
    "grad-cam/KPCA-CAM": _principal("KPCA_CAM", "kpca_cam"),
    "grad-cam/FEM": _grad_cam("FEM", "fem"),
    "grad-cam/EigenGradCAM": _principal("EigenGradCAM", "eigen_grad_cam"),
    "grad-cam/SegEigenCAM": _principal("SegEigenCAM", "seg_eigen_cam"),
    "grad-cam/GradCAMElementWise": _grad_cam("GradCAMElementWise", "grad_cam_elementwise"),
    "grad-cam/ScoreCAM": _grad_cam("ScoreCAM", "score_cam"),
    "grad-cam/AblationCAM": _grad_cam("AblationCAM", "ablation_cam"),
    "captum/LayerGradCam": _layer_grad_cam,
    "captum/IntegratedGradients": _integrated_gradients,
    "captum/Occlusion": _occlusion,
    "torch-cam/CAM": _class_activation_map,
    "torch-cam/GradCAM": partial(_torch_cam, "GradCAM"),
    "torch-cam/GradCAM++": partial(_torch_cam, "GradCAMpp"),
    "torch-cam/XGradCAM": partial(_torch_cam, "XGradCAM"),
    "torch-cam/LayerCAM": partial(_torch_cam, "LayerCAM"),
    "torch-cam/FinerCAM": partial(_torch_cam, "FinerCAM"),
}
