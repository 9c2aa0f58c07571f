"""Random inputs of the size that a model is made for."""

from typing import Any, Dict

import torch

from ..data.faces.mfcc import COEFFICIENTS, WINDOWS
from .speaker.model import SpeakerModel

#: Frames of a second of a speaker model's input.
FRAMES = 25


def example_inputs(model: Any, count: int = 1, seed: int = 0) -> Dict[str, torch.Tensor]:
    """Return random inputs of an SE model, by the names of its arguments.

    Args:
        model: Image, clip or speaker model with a config.
        count: Size of the batch.
        seed: Of the random numbers.

    Returns:
        ``x`` (B, C, H, W), of clips (B, C, T, H, W), from a normal distribution; of a speaker
        model one second of ``audio`` and ``face``, and ``body`` where it takes one.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(model, SpeakerModel):
        return _one_second(model, count, generator)
    return {"x": torch.randn(count, *model.input_shape(), generator=generator)}


def _one_second(
    model: SpeakerModel, count: int, generator: torch.Generator
) -> Dict[str, torch.Tensor]:
    found = {"audio": torch.randn(count, WINDOWS * FRAMES, COEFFICIENTS, generator=generator)}
    for name in model.modalities[1:]:
        found[name] = torch.rand(count, FRAMES, 112, 112, generator=generator) * 255
    return found
