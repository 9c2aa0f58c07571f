"""Models with named and with unnamed classes, shared by the tests of explain."""

import functools
from typing import Any

import pytest
import timm
import torch

from .copies import Mould
from .tester import randomise, spread_gate, varied_images

SIZE = 64


def images(batch: int = 2) -> torch.Tensor:
    return varied_images(batch, (SIZE, SIZE))


def ready(model: Any) -> Any:
    return spread_gate(randomise(model).eval(), images(8))


@functools.cache
def made(name: str, **kwargs: Any) -> Mould:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Mould(ready(timm.create_model(name, **kwargs)))


@pytest.fixture
def celeba() -> Any:
    """40 named yes/no labels."""
    return made("resnet18_slim_sehead.celeba").cast()


@pytest.fixture
def plain() -> Any:
    """7 exclusive classes without names."""
    return made("resnet10t_sehead", num_classes=7, gate="sigmoid").cast()
