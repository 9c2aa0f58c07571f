"""Encode faces and sound of an active speaker model.

Convolutions take space and time apart, as in LR-ASD. Padding frames stay zero, so that a clip's end
does not see what is behind it.
"""

from typing import Optional, Sequence, Union

import torch
from torch import nn

from ...data.faces.mfcc import WINDOWS

#: Mean and deviation of the grey levels of face crops, of values in [0, 1] (LR-ASD and TalkNet).
MEAN, STD = 0.4161, 0.1688


class _Unit(nn.Module):
    """Apply a convolution, BatchNorm and ReLU; padding frames stay zero.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Sizes of the kernel, two or three axes; the convolution pads to keep the size.
        stride: Strides along the same axes; 1 by default.
    """

    conv: Union[nn.Conv2d, nn.Conv3d]
    norm: Union[nn.BatchNorm2d, nn.BatchNorm3d]

    def __init__(
        self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] = ()
    ) -> None:
        super().__init__()
        conv, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[len(kernel)]
        padding = tuple(size // 2 for size in kernel)
        self.conv = conv(
            inputs, outputs, tuple(kernel), tuple(stride) or 1, padding, bias=False  # type: ignore[arg-type]
        )  # fmt: skip
        self.norm = norm(outputs, eps=1e-3, momentum=0.01)

    def forward(self, x: torch.Tensor, mask: Optional[torch.Tensor]) -> torch.Tensor:
        """Return the features of x (B, C, *), zero where the broadcast mask is False."""
        x = torch.relu(self.norm(self._convolved(x)))
        return x if mask is None else x * mask

    def inside(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of those frames that have all their neighbours in x (B, C, T, *).

        The convolution is over time alone, and nothing is padded.
        """
        return torch.relu(self.norm(self._convolved(x, 0)))

    def _convolved(self, x: torch.Tensor, padding: Optional[int] = None) -> torch.Tensor:
        conv = self.conv
        if tuple(conv.kernel_size[1:]) != (1, 1):
            return conv(x)
        # A convolution over time alone: in two dimensions it trains 2 to 3 times faster on a CPU.
        flat = torch.nn.functional.conv2d(
            x.flatten(3),
            conv.weight[..., 0],
            None,
            1,
            (conv.padding[0] if padding is None else padding, 0),  # type: ignore[arg-type]
        )
        return flat.unflatten(3, x.shape[3:])


def _visual_block(inputs: int, outputs: int, stride: int) -> nn.ModuleList:
    """Return two convolutions in space and two in time."""
    half = outputs // 2
    return nn.ModuleList(
        [
            _Unit(inputs, half, (1, 5, 5), (1, stride, stride)),
            _Unit(half, outputs, (1, 3, 3)),
            _Unit(outputs, outputs, (5, 1, 1)),
            _Unit(outputs, outputs, (3, 1, 1)),
        ]
    )


def _audio_block(inputs: int, outputs: int) -> nn.ModuleList:
    """Return two convolutions over the coefficients and two in time."""
    half = outputs // 2
    return nn.ModuleList(
        [
            _Unit(inputs, half, (5, 1)),
            _Unit(half, outputs, (3, 1)),
            _Unit(outputs, outputs, (1, 5)),
            _Unit(outputs, outputs, (1, 3)),
        ]
    )


class VisualEncoder(nn.Module):
    """Encode grey crops of a face or body.

    Args:
        channels: Channels of each block.
    """

    blocks: nn.ModuleList

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        inputs = (1, *channels[:-1])
        self.blocks = nn.ModuleList(
            _visual_block(i, o, 2 if n == 0 else 1)
            for n, (i, o) in enumerate(zip(inputs, channels, strict=True))
        )

    def forward(self, crops: torch.Tensor, mask: Optional[torch.Tensor]) -> torch.Tensor:
        """Return the features (B, C, T, H / 8, W / 8) of crops (B, T, H, W), 0 to 255."""
        x = self.grey(crops)
        valid = None if mask is None else mask[:, None, :, None, None]
        x = x if valid is None else x * valid
        for n, block in enumerate(self.blocks):
            for unit in block:  # type: ignore[attr-defined]
                x = unit(x, valid)
            if n < len(self.blocks) - 1:
                x = self.pooled(x)
        return x

    def grey(self, crops: torch.Tensor) -> torch.Tensor:
        """Return normalised crops (B, 1, T, H, W) of crops (B, T, H, W), 0 to 255."""
        dtype = self.blocks[0][0].conv.weight.dtype  # type: ignore[index]
        return (crops[:, None].to(dtype) / 255 - MEAN) / STD

    @staticmethod
    def pooled(x: torch.Tensor) -> torch.Tensor:
        """Return a map (B, C, T, H, W) at half its height and width."""
        # In two dimensions: the gradient in three is not reproducible on CUDA.
        return nn.functional.max_pool2d(x.flatten(1, 2), 3, 2, 1).unflatten(1, x.shape[1:3])


class AudioEncoder(nn.Module):
    """Encode the MFCCs of sound.

    Args:
        channels: Channels of each block.
    """

    blocks: nn.ModuleList

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _audio_block(i, o) for i, o in zip((1, *channels[:-1]), channels, strict=True)
        )

    def forward(self, audio: torch.Tensor, mask: Optional[torch.Tensor]) -> torch.Tensor:
        """Return the features (B, T, C) of coefficients (B, 4 T, 13)."""
        x = audio.transpose(1, 2)[:, None]
        repeat = WINDOWS
        for n, block in enumerate(self.blocks):
            valid = None
            if mask is not None:
                valid = mask.repeat_interleave(repeat, 1)[:, None, None]
                x = x * valid
            for unit in block:  # type: ignore[attr-defined]
                x = unit(x, valid)
            if n < len(self.blocks) - 1:
                x = nn.functional.max_pool2d(x, (1, 3), (1, 2), (0, 1))
                repeat //= 2
        return x.mean(2).transpose(1, 2)
