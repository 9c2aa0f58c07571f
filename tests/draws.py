"""Draw the weights of new models quickly: they are many, and most tests need no others."""

from typing import Any, Iterator
from unittest import mock

import pytest
import torch

#: Numbers in a pool, from which weights are taken in runs that begin anywhere.
_POOL = 2**20


@pytest.fixture(scope="module")
def cheap_draws() -> Iterator[None]:
    """Fill new weights with numbers that were drawn before.

    Where a model has millions of weights, drawing takes longer than all that a test does with it.
    """
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2 * _POOL, generator=generator)
    uniform = torch.rand(2 * _POOL, generator=generator)
    drawn = torch.Tensor.normal_, torch.Tensor.uniform_

    def normal_(self: torch.Tensor, mean: float = 0, std: float = 1, **given: Any) -> torch.Tensor:
        if _is_small(self) or given.get("generator"):
            return drawn[0](self, mean, std, **given)
        return _fill(self, normal).mul_(std).add_(mean)

    def uniform_(self: torch.Tensor, low: float = 0, high: float = 1, **given: Any) -> torch.Tensor:
        if _is_small(self) or given.get("generator"):
            return drawn[1](self, low, high, **given)
        return _fill(self, uniform).mul_(high - low).add_(low)

    def trunc_normal_(self: torch.Tensor, mean: float, std: float, *_: float) -> torch.Tensor:
        return normal_(self, mean, std)

    with (
        mock.patch.object(torch.Tensor, "normal_", normal_),
        mock.patch.object(torch.Tensor, "uniform_", uniform_),
        mock.patch("timm.layers.weight_init._trunc_normal_", trunc_normal_),
    ):
        yield


def _is_small(tensor: torch.Tensor) -> bool:
    plain = tensor.dtype == torch.float32 and tensor.is_contiguous() and not tensor.is_meta
    return tensor.numel() < 10_000 or not plain


def _fill(tensor: torch.Tensor, pool: torch.Tensor) -> torch.Tensor:
    """Copy numbers of the pool; where they begin is drawn for every run of them."""
    for part in tensor.detach().view(-1).split(_POOL):
        begin = int(torch.randint(_POOL, ()))
        part.copy_(pool[begin : begin + len(part)])
    return tensor
