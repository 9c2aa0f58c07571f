"""Methods of other libraries, called like the project's own (needs the extra ``compare``).

A method reads the layer after the gate, attributes to pixels, or is made for heads that read the
class token only. Every map is resized and normalised like the project's own. The libraries use
hooks and gradients: hooks are removed and gradients restored afterwards.
"""

import contextlib
import io
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Dict, Iterable, Iterator, List, Tuple

import torch
from torch import nn

from ...errors import InvalidInputError
from .. import maps
from ..eval_mode import evaluating
from ..explainer import explain
from ..explanation import Explanation
from ..methods import CLASS_TOKEN_WEIGHTS
from ..se_model import check_images
from ..target_classes import Target
from .peer_methods import ANY_HEAD, BY_CHANNEL, GRID_PEERS, STRETCHED, AfterGate
from .token_peers import TOKEN_PEERS, TOKEN_STRETCHED

#: All methods of others, by their names. Those of :data:`TOKEN_PEERS` are for heads that read the
#: class token only.
PEERS = {**GRID_PEERS, **TOKEN_PEERS}
#: Those that have a map for a head that reads class tokens only.
CLASS_TOKEN_PEERS = (*ANY_HEAD, *TOKEN_PEERS)


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
                f'{package} is not installed: pip install "se_zoo[compare]".'
            ) from error
    return found


def peer_maps(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, method: str
) -> torch.Tensor:
    """Return another library's map of each image's class, not normalised.

    Maps of ``grad-cam`` (pytorch-grad-cam) are taken before its ReLU; ``torch-cam`` gives the
    positive part only. The sign of EigenCAM, EigenGradCAM and KPCA-CAM is arbitrary, and is chosen
    so that the strongest value is positive. FinerCAM compares with the three classes whose logits
    are nearest, as both libraries do; each keeps its own weight of the comparison (1 and 0.6).
    Classes are scored by their logits. ``IntegratedGradients`` takes 25 steps from a zero image and
    is summed over the colours. ``Occlusion`` covers a seventh of each side, in steps of half of
    that.

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
                f'{method} needs the extra compare: pip install "se_zoo[compare]" ({error}).'
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
            unless the method is one of :data:`CLASS_TOKEN_PEERS`.
    """
    ours = explain(model, images, target, "contribution")
    if ours.weights in CLASS_TOKEN_WEIGHTS and method not in CLASS_TOKEN_PEERS:
        raise InvalidInputError(
            f"The head reads class tokens only and ignores the grid after the gate, so {method} "
            f"has no map of it; use {', '.join(CLASS_TOKEN_PEERS)}, or create the model with "
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
    return maps.to_heatmap(
        raw, method not in (*STRETCHED, *TOKEN_STRETCHED), "image", size, placement
    )
