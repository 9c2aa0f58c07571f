"""Count how large a model is: parameters, operations, activations, cells of its map."""

from copy import deepcopy
from typing import Any, Dict

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

COUNTED_BY = "torch.utils.flop_counter, attention included; outputs of convolutions and products"


class _Activations(TorchDispatchMode):
    """Count the output elements of convolutions and matrix products, as timm's cards do."""

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
    """Count parameters, and the operations and activations of one input of the model's own size.

    Args:
        model: An image, clip or speaker model with a config, on any device. For a speaker model,
            the input is one second of one face.

    Returns:
        ``parameters``, ``gmacs`` (10^9 multiply-accumulates, attention included),
        ``mactivations`` (10^6 elements), ``input_size`` ((C, [T,] H, W), of speaker models
        (T, H, W)), ``map`` ([time steps,] rows, columns) and ``channels`` of the map.
    """
    sized: Any = model
    counted: Any = deepcopy(model).to("meta").eval()  # fused attention would hide its products
    dtype = next(counted.parameters()).dtype
    inputs = {name: value.to("meta", dtype) for name, value in sized.example_inputs().items()}
    shape = inputs[counted.map_input].shape
    with torch.no_grad(), FlopCounterMode(display=False) as flops, _Activations() as activations:
        counted(*inputs.values())
    with torch.no_grad():
        features = counted.forward_features(*inputs.values())
        grid = counted.feature_grid(features, shape[-2:])
    return {
        "parameters": sum(p.numel() for p in counted.parameters()),
        "gmacs": round(flops.get_total_flops() / 2e9, 3),
        "mactivations": round(activations.elements / 1e6, 3),
        "input_size": list(shape[1:]),
        "map": list(grid.shape[2:]),
        "channels": grid.shape[1],
    }


def size_facts(model: nn.Module) -> Dict[str, Any]:
    """Measure a model's size, and whether its contribution maps are exact.

    Args:
        model: An image, clip or speaker model; its weights may be random. It is put into eval mode
            and may compute one explanation.

    Returns:
        The result of :func:`measure_size`, with ``exact`` and ``counted_by``.
    """
    exact = model.eval().has_exact_maps()  # type: ignore[operator]
    return {**measure_size(model), "exact": exact, "counted_by": COUNTED_BY}
