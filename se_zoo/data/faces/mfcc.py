"""Mel-frequency cepstral coefficients (MFCCs), the sound input of speaker models."""

import math
from typing import Optional, Tuple

import torch

from ...errors import DataError

#: Sample rate in Hz.
RATE = 16_000
#: Coefficients per window, and windows per frame of video.
COEFFICIENTS, WINDOWS = 13, 4
#: Samples of the Fourier transform; longer windows are cut to it, as in python_speech_features.
_FFT, _FILTERS, _LIFTER, _EMPHASIS = 512, 26, 22, 0.97


def mfcc(signal: torch.Tensor, fps: float = 25.0, before: Optional[float] = None) -> torch.Tensor:
    """Return the MFCCs of a recording, four windows per frame of video.

    They equal those of python_speech_features' ``mfcc`` within 2e-6. At 25 frames per second the
    windows are 25 ms long and start every 10 ms; at other rates both times are multiplied by
    25 / fps, as TalkNet and LR-ASD do.

    Args:
        signal: Samples at 16 kHz in the range of 16-bit integers, (N,).
        fps: Frames per second of the video.
        before: The sample before ``signal``, if ``signal`` is not the start of the recording.
            Pre-emphasis needs it.

    Returns:
        (windows, 13) float32; the first coefficient is the logarithm of the energy.

    Raises:
        DataError: If ``signal`` is empty or not one-dimensional, or ``fps`` is not positive.
    """
    if signal.dim() != 1 or not len(signal):
        raise DataError(
            f"the signal has the shape {tuple(signal.shape)}; give one or more samples, (N,)."
        )
    if not 0 < fps < math.inf:
        raise DataError(f"fps is {fps}; it must be positive.")
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
    """Return the length of a window and the step to the next one, in samples.

    Args:
        fps: Frames per second of the video.
    """
    length, step = (int(seconds * 25 / fps * RATE + 0.5) for seconds in (0.025, 0.010))
    return length, step


def _filters() -> torch.Tensor:
    """Return the triangular filters on the mel scale, (26, 257)."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    mels = torch.linspace(0, top, _FILTERS + 2, dtype=torch.float64)
    edges = torch.floor((_FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / RATE)
    bins = torch.arange(_FFT // 2 + 1, dtype=torch.float64)
    left, middle, right = (edges[i : i + _FILTERS, None] for i in range(3))
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    inside = torch.where(bins < middle, rising, falling)
    return torch.where((bins >= left) & (bins < right), inside, torch.zeros_like(inside))


def _cosines() -> torch.Tensor:
    """Return the matrix of the orthonormal cosine transform, type II, (13, 26)."""
    rows = torch.arange(COEFFICIENTS, dtype=torch.float64)[:, None]
    columns = torch.arange(_FILTERS, dtype=torch.float64)
    matrix = torch.cos(math.pi * rows * (2 * columns + 1) / (2 * _FILTERS))
    matrix *= math.sqrt(2 / _FILTERS)
    matrix[0] /= math.sqrt(2)
    return matrix


def _lifter() -> torch.Tensor:
    order = torch.arange(COEFFICIENTS, dtype=torch.float64)
    return 1 + _LIFTER / 2 * torch.sin(math.pi * order / _LIFTER)
