"""Methods of other libraries, called like the project's own (needs the extra ``compare``).

Each method works on the layer after the gate, or attributes to pixels. Its map is resized and
normalised like the project's own. These libraries use hooks and gradients; hooks are removed and
gradients restored afterwards.
"""

import contextlib
import importlib
import io
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

import torch
from torch import nn

from ...errors import InvalidInputError
from ...layers.grid import feature_map, with_feature_map
from .. import maps
from ..eval_mode import evaluating
from ..explainer import explain
from ..explanation import Explanation
from ..methods import CLASS_TOKEN_WEIGHTS
from ..se_model import SEModel, check_images, check_model
from ..target_classes import Target


class AfterGate(nn.Module):
    """An SE model with a layer for hooks, as other libraries need it.

    Attributes:
        layer: An identity whose output is the gated feature map, (B, C, *grid), whatever the
            backbone's own layout is.
    """

    layer: nn.Module

    def __init__(self, model: nn.Module):
        super().__init__()
        check_model(model)
        self.model = model
        self.layer = nn.Identity()

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


def _grad_cam(name: str, module: str) -> Callable[..., torch.Tensor]:
    def compute(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        kind: Any = getattr(importlib.import_module(f"pytorch_grad_cam.{module}"), name)
        found: List[Any] = []
        with kind(model, [model.layer]) as cam:
            own = cam.get_cam_image

            def keep(*args: Any, **kwargs: Any) -> Any:
                found.append(own(*args, **kwargs))  # before its ReLU, at the layer's own grid
                return found[-1]

            cam.get_cam_image = keep
            cam(images, [ClassifierOutputTarget(target) for target in targets.tolist()])
        return torch.as_tensor(found[-1]).to(images.device)

    return compute


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


def _torch_cam(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    from torchcam.methods import GradCAM

    with GradCAM(model, target_layer="layer") as cam:
        logits = model(images)
        return cam(targets.tolist(), logits, normalized=False)[0].detach()


def _eigen_cam(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    found = _grad_cam("EigenCAM", "eigen_cam")(model, images, targets)
    # The sign of a singular vector is arbitrary. It is chosen so that the strongest value is
    # positive (Chung and Ying, Seg-Eigen-CAM, doi 10.3390/app15137562, equation 13).
    flat = found.flatten(1)
    turned = flat.amin(1).abs() > flat.amax(1).abs()
    return torch.where(turned.view(-1, *[1] * (found.dim() - 1)), -found, found)


#: Methods that take a forward pass for each channel of the layer.
BY_CHANNEL = ("grad-cam/ScoreCAM", "grad-cam/AblationCAM")
#: Methods that take many passes for one map.
SLOW = (*BY_CHANNEL, "captum/IntegratedGradients", "captum/Occlusion")
#: Methods that attribute to the pixels of the input; the others work on the layer after the gate.
OF_PIXELS = ("captum/IntegratedGradients", "captum/Occlusion")
#: Methods that have a map for a head that reads class tokens only. They do not need the head's
#: gradient on the grid.
ANY_HEAD = (*OF_PIXELS, "grad-cam/ScoreCAM", "grad-cam/EigenCAM")
#: Methods whose zero has no meaning, because their weights hold no evidence against the class.
#: Their maps are stretched from minimum to maximum, like gate and activation maps, and as grad-cam
#: does. The heatmaps of the others begin at 0, like contribution and support maps.
_STRETCHED = ("grad-cam/GradCAM++", "grad-cam/LayerCAM", "grad-cam/EigenCAM", "grad-cam/ScoreCAM")
#: Functions that return the maps, (B, *grid) or (B, *size), of images and one class each.
PEERS: Dict[str, Callable[[AfterGate, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "grad-cam/GradCAM": _grad_cam("GradCAM", "grad_cam"),
    "grad-cam/GradCAM++": _grad_cam("GradCAMPlusPlus", "grad_cam_plusplus"),
    "grad-cam/HiResCAM": _grad_cam("HiResCAM", "hirescam"),
    "grad-cam/LayerCAM": _grad_cam("LayerCAM", "layer_cam"),
    "grad-cam/EigenCAM": _eigen_cam,
    "grad-cam/ScoreCAM": _grad_cam("ScoreCAM", "score_cam"),
    "grad-cam/AblationCAM": _grad_cam("AblationCAM", "ablation_cam"),
    "captum/LayerGradCam": _layer_grad_cam,
    "captum/IntegratedGradients": _integrated_gradients,
    "captum/Occlusion": _occlusion,
    "torch-cam/GradCAM": _torch_cam,
}


def check_libraries(methods: Iterable[str]) -> Dict[str, str]:
    """Return the versions of the libraries that methods need.

    Args:
        methods: Names from :data:`PEERS`.

    Returns:
        The version of each library, by its name.

    Raises:
        InvalidInputError: If one is not installed.
    """
    packages = dict.fromkeys(method.split("/")[0] for method in methods)
    found = {}
    for package in packages:
        name = "torchcam" if package == "torch-cam" else package
        try:
            found[package] = version(name)
        except PackageNotFoundError as error:
            raise InvalidInputError(
                f"{package} is not installed: pip install 'se_zoo[compare]'."
            ) from error
    return found


def peer_maps(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, method: str
) -> torch.Tensor:
    """Return another library's map of each image's class, not normalised.

    Maps of ``grad-cam`` (pytorch-grad-cam) are taken before its ReLU; ``torch-cam`` gives the
    positive part only. EigenCAM's sign is arbitrary, and is chosen so that the strongest value is
    positive. Classes are scored by their logits. ``IntegratedGradients`` takes 25 steps from a
    zero image and is summed over the colours. ``Occlusion`` covers a seventh of each side, in
    steps of half of that.

    Args:
        model: Model with an SE head; its mode and its gradients are as before afterwards.
        images: Normalised images, (B, C, H, W), or clips, (B, C, T, H, W).
        targets: Class of each image, (B,).
        method: Name from :data:`PEERS`.

    Returns:
        (B, *grid) at the grid of the layer after the gate; (B, *size) for methods that attribute to
        pixels.

    Raises:
        InvalidInputError: If the library is not installed, or does not take such inputs.
    """
    if method not in PEERS:
        raise InvalidInputError(f"Unknown method {method!r}; the peers are {', '.join(PEERS)}.")
    batch = check_images(model, images)
    if batch.dtype in (torch.float16, torch.bfloat16):
        raise InvalidInputError(
            f"The peers need float32, not {batch.dtype}; convert the model with model.float()."
        )
    if batch.dim() == 5 and method in BY_CHANNEL:
        raise InvalidInputError(f"{method} takes images only, not clips.")
    with evaluating(model), _keep_grads(model), torch.inference_mode(False), torch.enable_grad():
        try:
            # Clones, because autograd takes no tensors made in inference mode.
            inputs = batch.clone(), targets.to(batch.device).clone()
            return PEERS[method](AfterGate(model), *inputs).float()
        except ImportError as error:
            raise InvalidInputError(
                f"{method} needs the extra compare: pip install 'se_zoo[compare]' ({error})."
            ) from error


@contextlib.contextmanager
def _keep_grads(model: nn.Module) -> Iterator[None]:
    """Restore the gradients of the parameters at the end, and hide progress bars until then."""
    before: List[Tuple[nn.Parameter, Any]] = [(p, p.grad) for p in model.parameters()]
    for parameter, _ in before:
        parameter.grad = None
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for parameter, grad in before:
            parameter.grad = grad


def peer_explain(
    model: nn.Module, images: torch.Tensor, target: Target = None, method: str = "grad-cam/GradCAM"
) -> Explanation:
    """Explain images as :func:`se_zoo.explain` does, with the maps of another library.

    Args:
        model: Model with an SE head.
        images: As in :func:`se_zoo.explain`.
        target: As in :func:`se_zoo.explain`.
        method: Name from :data:`PEERS`.

    Returns:
        An :class:`Explanation` with the usual predictions, gate and rows, and the peer's maps, made
        heatmaps by :func:`peer_heatmap`. ``weights`` is ``"peer"`` and ``exact`` is False.

    Raises:
        InvalidInputError: As :func:`peer_maps`; and for a head that reads class tokens only,
            unless the method is one of :data:`ANY_HEAD`.
    """
    ours = explain(model, images, target)
    if ours.weights in CLASS_TOKEN_WEIGHTS and method not in ANY_HEAD:
        raise InvalidInputError(
            f"The head reads class tokens only and ignores the grid after the gate, so {method} "
            f"has no map of it; use {', '.join(ANY_HEAD)}, or create the model with "
            'global_pool="avg".'
        )
    images = ours.images
    rows = ours.image_index.to(images.device)
    raw = peer_maps(model, images[rows], torch.tensor(ours.target), method)
    size = tuple(images.shape[2:])
    heatmap = peer_heatmap(raw, method, size)
    zeros = torch.zeros_like(ours.constant)
    return replace(
        ours, raw=raw, heatmap=heatmap, constant=zeros, method=method, exact=False, weights="peer",
        placement=maps.stretched(tuple(raw.shape[1:]), size), class_gate=None,
    )  # fmt: skip


def peer_heatmap(raw: torch.Tensor, method: str, size: Tuple[int, ...]) -> torch.Tensor:
    """Return a peer's maps as heatmaps (N, *size) in [0, 1], normalised like the project's own.

    They are stretched over the image, as the peers' libraries do; ``map_offset`` is not applied.

    Args:
        raw: Maps of :func:`peer_maps`.
        method: Name from :data:`PEERS`.
        size: Height and width of the images; for clips with the frames in front.
    """
    placement = maps.stretched(tuple(raw.shape[1:]), size)
    return maps.to_heatmap(raw, method not in _STRETCHED, "image", size, placement)
