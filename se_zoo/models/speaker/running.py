"""Encode the faces of a running video, frame by frame."""

from typing import Any, Dict, List, Optional

import torch

from .encoders import VisualEncoder


class RunningEncoder:
    """Give the features of a :class:`.encoders.VisualEncoder` while the video is still running.

    Each convolution over time keeps the frames that its next results need, so that nothing is
    computed twice. The features are those of the whole video, and come late by the frames that the
    convolutions look ahead.

    Args:
        encoder: The encoder, in eval mode.

    Attributes:
        delay: Frames that have to follow a frame before its features are known.
    """

    delay: int

    def __init__(self, encoder: VisualEncoder):
        self.encoder = encoder
        self._kept: Dict[Any, torch.Tensor] = {}
        units: List[Any] = [unit for block in encoder.blocks for unit in block]  # type: ignore[attr-defined]
        self.delay = sum(unit.conv.kernel_size[0] // 2 for unit in units)

    @torch.no_grad()
    def add(self, crops: torch.Tensor, last: bool = False) -> Optional[torch.Tensor]:
        """Add the next frames.

        Args:
            crops: Grey crops, (1, T, H, W), 0 to 255; T may be 0.
            last: Whether no frames follow: the features of all frames are then known.

        Returns:
            Features of the frames that have become known, (1, C, N, H / 8, W / 8); None if there
            are none.
        """
        x = self.encoder.grey(crops) if crops.shape[1] else None
        for n, block in enumerate(self.encoder.blocks):
            for unit in block:  # type: ignore[attr-defined]
                if unit.conv.kernel_size[0] > 1:
                    x = self._over_time(unit, x, last)
                elif x is not None:
                    x = unit(x, None)
            if x is not None and n < len(self.encoder.blocks) - 1:
                x = self.encoder.pooled(x)
        return x

    def _over_time(
        self, unit: Any, x: Optional[torch.Tensor], last: bool
    ) -> Optional[torch.Tensor]:
        """Return the features of a convolution over time for the frames that have their neighbours.

        Frames of zeros stand before the first frame and behind the last one, as in the encoder.
        """
        size, kept = unit.conv.kernel_size[0], self._kept.get(unit)
        parts = [part for part in (kept, x) if part is not None]
        if not parts:
            return None
        zeros = torch.zeros_like(parts[0][:, :, :1]).expand(-1, -1, size // 2, -1, -1)
        if kept is None:
            parts.insert(0, zeros)
        x = torch.cat([*parts, zeros] if last else parts, 2)
        self._kept[unit] = x[:, :, max(0, x.shape[2] - size + 1) :]
        return unit.inside(x) if x.shape[2] >= size else None
