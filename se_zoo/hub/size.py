"""How large a model is: parameters, operations, activations, cells of its map."""

from copy import deepcopy
from typing import Any, Dict, Tuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from ..explanations import explain
from ..models import SpeakerModel
from ..models.examples import example_inputs

COUNTED_BY = "torch.utils.flop_counter, attention included; outputs of convolutions and products"


class _Activations(TorchDispatchMode):
    """Counts the elements that convolutions and matrix products put out, as timm's cards do."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            first = result[0] if isinstance(result, (tuple, list)) else result
            self.elements += first.numel()
        return result


def measure_size(model: nn.Module) -> Dict[str, Any]:
    """Parameters, multiply-accumulates and activations of one input of the model's own size.

    Args:
        model: An SE model with a config, on any device.

    Returns:
        ``parameters``, ``gmacs`` (10^9, attention included), ``mactivations`` (10^6 elements),
        ``input_size`` (C, [T,] H, W), ``map`` ([time steps,] rows, columns) and ``channels``.
    """
    if isinstance(model, SpeakerModel):
        return _measure_speaker(model)
    size: Tuple[int, ...] = model.input_shape()  # type: ignore[operator]
    # Counted without computing: fused attention of a CPU or GPU would hide its products.
    model = deepcopy(model).to("meta").eval()
    image = torch.zeros(1, *size, device="meta", dtype=next(model.parameters()).dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as flops, _Activations() as activations:
        features = model.forward_features(image)  # type: ignore[operator]
        model.forward_head(features)  # type: ignore[operator]
    grid = model.feature_grid(features, size[-2:])  # type: ignore[operator]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "gmacs": round(flops.get_total_flops() / 2e9, 3),
        "mactivations": round(activations.elements / 1e6, 3),
        "input_size": list(size),
        "map": list(grid.shape[2:]),
        "channels": grid.shape[1],
    }


def _measure_speaker(model: SpeakerModel) -> Dict[str, Any]:
    """The same of a speaker model, for one second of one face."""
    model, inputs = deepcopy(model).cpu().eval(), example_inputs(model)
    with torch.no_grad(), FlopCounterMode(display=False) as flops, _Activations() as activations:
        model(**inputs)
    with torch.no_grad():
        grid = model.forward_features(**inputs).visual
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "gmacs": round(flops.get_total_flops() / 2e9, 3),
        "mactivations": round(activations.elements / 1e6, 3),
        "input_size": list(inputs["face"].shape[1:]),
        "map": list(grid.shape[2:]),
        "channels": grid.shape[1],
    }


def size_facts(model: nn.Module) -> Dict[str, Any]:
    """The size, and whether the model's contribution maps are exact (``exact``).

    Args:
        model: An SE model with weights of any kind; it computes one explanation.
    """
    if isinstance(model, SpeakerModel):
        return {**measure_size(model), "exact": False, "counted_by": COUNTED_BY}
    image = torch.randn(1, *model.input_shape())  # type: ignore[operator]
    exact = bool(model.num_classes) and explain(model.eval(), image).exact
    return {**measure_size(model), "exact": exact, "counted_by": COUNTED_BY}
