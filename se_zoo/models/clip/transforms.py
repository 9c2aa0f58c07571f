"""Turn decoded frames into the input of a clip model, in the same way for all frames of a clip."""

from typing import List, Tuple

import numpy as np
import torch
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from ...data.images import seen_size
from .config import ClipConfig


def as_frames(pixels: np.ndarray) -> torch.Tensor:
    """Return frames (T, H, W, 3) uint8 as torchvision takes them, (T, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)


def interpolation_of(config: ClipConfig) -> InterpolationMode:
    """Return torchvision's name of a config's interpolation."""
    return InterpolationMode(config.interpolation)


class Normalized(nn.Module):
    """Normalise frames by the model's mean and standard deviation.

    Args:
        config: What the model takes.
    """

    steps: nn.Module

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.steps = v2.Compose(
            [v2.ToDtype(torch.float32, scale=True), v2.Normalize(config.mean, config.std)]
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return frames (T, 3, H, W) uint8 as a clip (3, T, H, W) float32."""
        clip: torch.Tensor = self.steps(frames).transpose(0, 1)
        return clip


class Views(nn.Module):
    """Crop and normalise a clip as a model sees it in evaluation.

    Args:
        config: What the model takes.
        crops: 1: the middle. 3: both ends of the longer side too (Wang et al., arXiv 1711.07971,
            section 4.1).
    """

    config: ClipConfig
    crops: int
    normalized: Normalized

    def __init__(self, config: ClipConfig, crops: int = 1) -> None:
        super().__init__()
        self.config, self.crops = config, crops
        self.normalized = Normalized(config)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the views (crops, 3, T, H', W') float32 of frames (T, 3, H, W) uint8."""
        mode = interpolation_of(self.config)
        size = list(self.config.size)
        boxes = self.boxes(frames.shape[-1], frames.shape[-2])
        seen = [functional.resized_crop(frames, *box, size, mode, antialias=True) for box in boxes]
        return torch.stack([self.normalized(clip) for clip in seen])

    def boxes(self, width: int, height: int) -> List[Tuple[int, int, int, int]]:
        """Return top, left, height and width of each crop of a frame, in pixels.

        Args:
            width: Width of the frame, in pixels.
            height: Its height, in pixels.
        """
        config = self.config
        across, down = seen_size((width, height), config.size, config.crop_pct)
        spare_x, spare_y = width - across, height - down
        places = [0.5] if self.crops == 1 else [0.0, 0.5, 1.0]
        wide = spare_x >= spare_y
        return [
            (
                int(spare_y * (0.5 if wide else place)),
                int(spare_x * (place if wide else 0.5)),
                down,
                across,
            )
            for place in places
        ]
