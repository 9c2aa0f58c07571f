"""The sound of a video as speaker models take it, a few seconds at a time."""

from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import torch

from ..data.mfcc import RATE, mfcc
from ..data.videos import Source, open_container, pyav
from ..errors import DataError

#: Samples between two windows, and of a window, at 25 frames a second.
STEP, WINDOW = RATE // 100, RATE // 40
#: Windows that are computed at a time: ten seconds.
_BLOCK = 1000


def sound_features(source: Source, name: str, begins: float = 0.0) -> torch.Tensor:
    """MFCCs of a video's sound, 100 windows a second from its first picture on.

    Args:
        source: The file, or its bytes.
        name: What messages call it.
        begins: When the first picture is shown, in seconds of the file.

    Returns:
        (windows, 13) float32; nothing but these is kept in memory.

    Raises:
        DataError: If there is no sound, or it cannot be decoded.
    """
    av = pyav()
    try:
        with open_container(source) as container:
            if not container.streams.audio:
                raise DataError(f"{name} has no sound, so nobody can be heard to speak.")
            blocks = list(_features(_samples(container, begins)))
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"the sound of {name} cannot be decoded: {error}") from error
    if not blocks:
        raise DataError(f"the sound of {name} is empty.")
    return torch.cat(blocks)


def _samples(container: Any, begins: float) -> Iterator[np.ndarray]:
    """16-bit samples at 16 kHz, mono, from the time of the first picture on."""
    resampler = pyav().AudioResampler(format="s16", layout="mono", rate=RATE)
    late = None
    for frame in container.decode(container.streams.audio[0]):
        if late is None:  # silence if the sound begins later, a cut if it begins earlier
            late = round(((frame.time or 0.0) - begins) * RATE)
            if late > 0:
                yield np.zeros(late, np.int16)
        for made in resampler.resample(frame):
            samples = made.to_ndarray()[0]
            if late < 0:
                cut = min(-late, len(samples))
                samples, late = samples[cut:], late + cut
            if len(samples):
                yield samples


def _features(parts: Iterator[np.ndarray]) -> Iterator[torch.Tensor]:
    """Windows of ten seconds at a time; each block brings the sample in front of it along."""
    waiting: List[np.ndarray] = []
    held, before = 0, 0
    need = (_BLOCK - 1) * STEP + WINDOW
    for part in parts:
        waiting.append(part)
        held += len(part)
        while held >= before + need:
            wave = np.concatenate(waiting)
            yield _block(wave[: before + need], before)
            start = before + _BLOCK * STEP - 1
            waiting, held, before = [wave[start:]], len(wave) - start, 1
    wave = np.concatenate(waiting) if waiting else np.zeros(0, np.int16)
    if len(wave) > before:
        yield _block(wave, before)


def _block(wave: np.ndarray, before: int) -> torch.Tensor:
    signal = torch.from_numpy(wave.astype(np.float32))
    return mfcc(signal[before:], before=float(signal[0]) if before else None)


def read_sound(path: Path) -> np.ndarray:
    """All samples of a sound or video file, 16 bit at 16 kHz, mono.

    Raises:
        DataError: As :func:`sound_features`.
    """
    av = pyav()
    try:
        with open_container(path) as container:
            if not container.streams.audio:
                raise DataError(f"{path} has no sound.")
            parts = list(_samples(container, 0.0))
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"the sound of {path} cannot be decoded: {error}") from error
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)
