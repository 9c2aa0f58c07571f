"""Run a recipe with faster gradients of convolutions, for a training in bf16 on a CPU.

    python -m tools.cpu_training recipes/celeba.py --run.mixed-precision bf16 ...

oneDNN computes some gradients of bf16 convolutions slowly. This replaces them with the same sums in
another order; the result differs by the rounding of bf16:

* The gradient of a dense convolution's weights is one matrix product where the grid is small.
* The gradients of a depthwise convolution are computed in float32.
* timm's attention runs without the fused kernel, whose backward pass is slow for few tokens.

Measured on a processor with AMX, two cores, batch 64, torch 2.14: forward and backward of
ResNet-50 on 64 x 52 px take half the time; a depthwise gradient takes a fifth to a thirtieth.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Any, Optional, Tuple, Union

import torch
import torch.nn.functional as F

_plain = F.conv2d
_Pair = Tuple[int, int]
#: Largest grid, in cells, on which a matrix product is faster. Of 0, 64, 256 and 999 it was the
#: fastest for ResNet-50 at both sizes of images.
_MOST_CELLS = 256
#: A convolution of fewer channels, such as the first, stays as it is.
_FEWEST_CHANNELS = 16


def _pair(value: Union[int, Tuple[int, ...]]) -> _Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def dense_weight_gradient(
    x: torch.Tensor, gradient: torch.Tensor, kernel: _Pair, stride: _Pair, padding: _Pair,
    dilation: _Pair,
) -> torch.Tensor:  # fmt: skip
    """Return the gradient of a dense convolution's weights as one matrix product.

    Args:
        x: Input of the convolution, (B, C, H, W).
        gradient: Gradient of its output, (B, O, h, w).
        kernel: Rows and columns of the kernel.
        stride: Stride of rows and columns.
        padding: Zeros on each side.
        dilation: Distance of the kernel's cells.

    Returns:
        (O, C, *kernel).
    """
    x, gradient = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    height, width = gradient.shape[1:3]
    rows = gradient.reshape(-1, gradient.shape[-1])  # (B * h * w, O)
    padded = F.pad(x, (0, 0, padding[1], padding[1], padding[0], padding[0])) if any(padding) else x

    def seen(row: int, column: int) -> torch.Tensor:
        """Return what one cell of the kernel sees at each place of the output."""
        top, left = row * dilation[0], column * dilation[1]
        return padded[
            :, top : top + stride[0] * (height - 1) + 1 : stride[0],
            left : left + stride[1] * (width - 1) + 1 : stride[1],
        ]  # fmt: skip

    parts = [seen(row, column) for row in range(kernel[0]) for column in range(kernel[1])]
    columns = parts[0] if len(parts) == 1 else torch.cat(parts, 3)
    product = rows.t() @ columns.reshape(len(rows), -1)
    return product.view(-1, *kernel, x.shape[-1]).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    """A convolution with the gradients of this module."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: _Pair, padding: _Pair,
        dilation: _Pair, groups: int,
    ) -> torch.Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight)
        ctx.options = stride, padding, dilation, groups
        return _plain(x, weight, None, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        gradient = gradient.contiguous(memory_format=torch.channels_last)

        def plain(dtype: torch.dtype, *wanted: bool) -> Tuple[Optional[torch.Tensor], ...]:
            found = torch.ops.aten.convolution_backward(
                gradient.to(dtype), x.to(dtype), weight.to(dtype), None, stride, padding, dilation,
                False, (0, 0), groups, (*wanted, False),
            )  # fmt: skip
            return tuple(f if f is None else f.to(x.dtype) for f in found[:2])

        of_input, kernel = ctx.needs_input_grad[0], _pair(weight.shape[2:])
        if groups > 1:
            return (*plain(torch.float32, of_input, True), None, None, None, None)
        if gradient.shape[2:].numel() > _MOST_CELLS:
            return (*plain(x.dtype, of_input, True), None, None, None, None)
        of_weight = dense_weight_gradient(x, gradient, kernel, stride, padding, dilation)
        if not of_input:
            below = None
        elif kernel == stride == (1, 1) and not any(padding):
            rows = gradient.permute(0, 2, 3, 1)
            below = (rows @ weight.flatten(1)).permute(0, 3, 1, 2)
        else:
            below = plain(x.dtype, True, False)[0]
        return below, of_weight, None, None, None, None


def conv2d(
    input: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor] = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> torch.Tensor:  # fmt: skip
    """Do what ``torch.nn.functional.conv2d`` does, with the gradients of this module.

    Only while bf16 autocast trains on a CPU, and for dense and depthwise convolutions.
    """
    channels, depthwise = weight.shape[0], weight.shape[1] == 1 and groups == weight.shape[0]
    if not (
        torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and input.device.type == "cpu"
        and input.dim() == 4
        and not isinstance(padding, str)
        and (depthwise or (groups == 1 and weight.shape[1] >= _FEWEST_CHANNELS))
    ):
        return _plain(input, weight, bias, stride, padding, dilation, groups)
    found = _Convolution.apply(
        input.to(torch.bfloat16), weight.to(torch.bfloat16), _pair(stride), _pair(padding),
        _pair(dilation), groups,
    )  # fmt: skip
    return found if bias is None else found + bias.to(found.dtype).view(channels, 1, 1)


def main() -> None:
    """Run the recipe that the command line names."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python -m tools.cpu_training RECIPE [its options]")
    os.environ["TIMM_FUSED_ATTN"] = "0"  # timm reads it when it is imported
    F.conv2d = conv2d
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)  # as if python ran the recipe
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
