"""From decoded frames to what a clip model takes: torchvision's v2 transforms, alike for all
frames of a clip.
"""

from typing import List, Tuple

import numpy as np
import torch
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from ...data.images import seen_size
from .config import ClipConfig


def as_frames(pixels: np.ndarray) -> torch.Tensor:
    """(T, H, W, 3) uint8 as (T, 3, H, W), as torchvision has it."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)


def interpolation_of(config: ClipConfig) -> InterpolationMode:
    """How frames are resized."""
    return InterpolationMode(config.interpolation)


class Normalized(nn.Module):
    """(T, 3, H, W) uint8 -> (3, T, H, W) float32 of the model's mean and deviation."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.steps = v2.Compose(
            [v2.ToDtype(torch.float32, scale=True), v2.Normalize(config.mean, config.std)]
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        clip: torch.Tensor = self.steps(frames).transpose(0, 1)
        return clip


class Views(nn.Module):
    """What a clip model sees of a clip: its middle; or, of three crops, both ends of the longer
    side too (Wang et al., arXiv 1711.07971, section 4.1).
    """

    def __init__(self, config: ClipConfig, crops: int = 1):
        super().__init__()
        self.config, self.crops = config, crops
        self.normalized = Normalized(config)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(T, 3, H, W) uint8 -> (crops, 3, T, H', W') float32."""
        mode = interpolation_of(self.config)
        size = list(self.config.size)
        boxes = self.boxes(frames.shape[-1], frames.shape[-2])
        seen = [functional.resized_crop(frames, *box, size, mode, antialias=True) for box in boxes]
        return torch.stack([self.normalized(clip) for clip in seen])

    def boxes(self, width: int, height: int) -> List[Tuple[int, int, int, int]]:
        """Top, left, height and width of each crop, in pixels of a frame."""
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
