"""A recurrent layer as one operation, so that it can be exported for clips of any length.

``torch.export`` unrolls ``torch.nn.GRU`` over the steps of the example, whose number is then fixed.
"""

from typing import Any, Callable, Dict

import torch
from torch import nn


@torch.library.custom_op("se_zoo::gru", mutates_args=())
def _gru(
    x: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor,
    bias_hh: torch.Tensor,
) -> torch.Tensor:
    start = x.new_zeros(1, x.shape[0], weight_hh.shape[1])
    weights = [weight_ih, weight_hh, bias_ih, bias_hh]
    states, _ = torch.gru(x, start, weights, True, 1, 0.0, False, False, True)
    return states.contiguous()


@_gru.register_fake
def _(x: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> torch.Tensor:
    return x.new_empty(x.shape[0], x.shape[1], weight_hh.shape[1])


def gru_states(layer: nn.GRU, x: torch.Tensor) -> torch.Tensor:
    """Return the states of a GRU as one operation; it has no gradient.

    Args:
        layer: GRU of one layer and one direction, ``batch_first``.
        x: (B, T, inputs).

    Returns:
        (B, T, units).
    """
    return _gru(
        x, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0
    )  # fmt: skip


def onnx_translations() -> Dict[Callable[..., Any], Callable[..., Any]]:
    """Return how ``torch.onnx`` writes the operation: as GRU of ONNX."""
    from onnxscript import opset18

    op: Any = opset18  # its types are those of graphs, not of what a function of Python may give

    def translated(x: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
        units = weight_hh.shape[1]
        # The update gate comes first in ONNX, the reset gate in torch.
        order = [*range(units, 2 * units), *range(units), *range(2 * units, 3 * units)]
        places = op.Constant(value_ints=order)
        w, r, *biases = (
            op.Gather(t, places, axis=0) for t in (weight_ih, weight_hh, bias_ih, bias_hh)
        )
        states, _ = op.GRU(
            op.Transpose(x, perm=[1, 0, 2]),  # onnxruntime has the axis of time first
            op.Unsqueeze(w, [0]),
            op.Unsqueeze(r, [0]),
            op.Unsqueeze(op.Concat(*biases, axis=0), [0]),
            hidden_size=units,
            linear_before_reset=1,
        )
        return op.Transpose(op.Squeeze(states, [1]), perm=[1, 0, 2])

    return {torch.ops.se_zoo.gru.default: translated}
