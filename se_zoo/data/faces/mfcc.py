"""Mel-frequency cepstral coefficients, as speaker models were trained on them."""

import math
from typing import Optional, Tuple

import torch

from ...errors import DataError

RATE = 16_000
#: Coefficients a window, and windows a frame of video.
COEFFICIENTS, WINDOWS = 13, 4
#: Samples of the Fourier transform; longer windows are cut to it, as in python_speech_features.
_FFT, _FILTERS, _LIFTER, _EMPHASIS = 512, 26, 22, 0.97


def mfcc(signal: torch.Tensor, fps: float = 25.0, before: Optional[float] = None) -> torch.Tensor:
    """MFCCs of a recording, four windows a frame of video.

    The coefficients of python_speech_features' ``mfcc`` (to 2e-6) with windows of 25 ms every 10 ms
    at 25 frames a second, both scaled by 25 / fps, as TalkNet and LR-ASD compute them.

    Args:
        signal: Samples at 16 kHz in the range of 16-bit integers, (N,).
        fps: Frames a second of the video.
        before: The sample in front of the first, of a recording that comes in pieces.

    Returns:
        (windows, 13) float32; the first coefficient is the logarithm of the energy.

    Raises:
        DataError: If there is no sample, or ``fps`` is not positive.
    """
    if signal.dim() != 1 or not len(signal):
        raise DataError(f"a recording is (N,) samples, at least one; got {tuple(signal.shape)}.")
    if not 0 < fps < math.inf:
        raise DataError(f"fps must be positive, got {fps}.")
    wave = signal.double()
    first = wave[:1] if before is None else wave[:1] - _EMPHASIS * before
    wave = torch.cat([first, wave[1:] - _EMPHASIS * wave[:-1]])
    length, step = window_step(fps)
    count = 1 + max(0, math.ceil((len(wave) - length) / step))
    wave = torch.nn.functional.pad(wave, (0, (count - 1) * step + length - len(wave)))
    windows = wave.unfold(0, length, step)
    power = torch.fft.rfft(windows[:, :_FFT], _FFT).abs().square() / _FFT
    smallest = torch.finfo(torch.float64).eps
    bands = (power @ _filters().T).clamp(min=smallest).log()
    found = (bands @ _cosines().T) * _lifter()
    found[:, 0] = power.sum(1).clamp(min=smallest).log()
    return found.float()


def window_step(fps: float) -> Tuple[int, int]:
    """Samples of a window, and from one to the next, for video of so many frames a second."""
    length, step = (int(seconds * 25 / fps * RATE + 0.5) for seconds in (0.025, 0.010))
    return length, step


def _filters() -> torch.Tensor:
    """Triangles on the mel scale, (26, 257)."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    mels = torch.linspace(0, top, _FILTERS + 2, dtype=torch.float64)
    edges = torch.floor((_FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / RATE)
    bins = torch.arange(_FFT // 2 + 1, dtype=torch.float64)
    left, middle, right = (edges[i : i + _FILTERS, None] for i in range(3))
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    inside = torch.where(bins < middle, rising, falling)
    return torch.where((bins >= left) & (bins < right), inside, torch.zeros_like(inside))


def _cosines() -> torch.Tensor:
    """Orthonormal cosine transform, type II, (13, 26)."""
    rows = torch.arange(COEFFICIENTS, dtype=torch.float64)[:, None]
    columns = torch.arange(_FILTERS, dtype=torch.float64)
    matrix = torch.cos(math.pi * rows * (2 * columns + 1) / (2 * _FILTERS))
    matrix *= math.sqrt(2 / _FILTERS)
    matrix[0] /= math.sqrt(2)
    return matrix


def _lifter() -> torch.Tensor:
    order = torch.arange(COEFFICIENTS, dtype=torch.float64)
    return 1 + _LIFTER / 2 * torch.sin(math.pi * order / _LIFTER)
