"""The sound of a video as speaker models take it, a few seconds at a time."""

from typing import Any, Iterator, List

import numpy as np
import torch

from ...errors import DataError
from ..video.index import Source, open_container, pyav
from .mfcc import RATE, mfcc

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
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the sound of {name} cannot be decoded: {error}") from error
    if not blocks:
        raise DataError(f"the sound of {name} is empty.")
    return torch.cat(blocks)


def read_sound(source: Source, name: str, begins: float = 0.0) -> np.ndarray:
    """All of a recording, mono at 16 kHz, int16 (N,).

    Args:
        source: A file with sound, or its bytes.
        name: What messages call it.
        begins: Of a video, when the first picture is shown, in seconds of the file.

    Raises:
        DataError: If there is no such file, it cannot be decoded, or is empty.
    """
    av = pyav()
    try:
        with open_container(source) as container:
            if not container.streams.audio:
                raise DataError(f"{name} has no sound.")
            parts = list(_samples(container, begins))
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} cannot be decoded: {error}") from error
    if not sum(map(len, parts)):
        raise DataError(f"{name} is empty.")
    return np.concatenate(parts)


def check_sound(source: Source, name: str) -> None:
    """Refuse a file without sound, without decoding it.

    Raises:
        DataError: Naming it.
    """
    with open_container(source) as container:
        if not container.streams.audio:
            raise DataError(f"{name} has no sound.")


def aligned_sound(
    container: Any, begins: float, sample_format: str, layout: str, rate: int
) -> Iterator[np.ndarray]:
    """A file's sound by its time stamps: silence where it begins later than the pictures or has a
    gap, a cut where it begins earlier or repeats itself.

    Args:
        container: The open file.
        begins: When the first picture is shown, in seconds of the file.
        sample_format: FFmpeg's name of what is wanted, such as ``s16``.
        layout: Likewise, such as ``mono``.
        rate: Samples a second.

    Yields:
        Arrays as PyAV makes them, (channels, N), or (1, N) of packed formats.
    """
    resampler: Any = None
    kind, place = None, 0
    for frame in container.decode(container.streams.audio[0]):
        own = (frame.format.name, frame.layout.name, frame.sample_rate)
        if own != kind:  # a recording may change them in its midst
            resampler, kind = pyav().AudioResampler(sample_format, layout, rate), own
        late = 0
        if frame.time is not None:
            late = round((frame.time - begins) * rate) - place
        made = [m.to_ndarray() for m in resampler.resample(frame)]
        samples = np.concatenate(made, 1) if made else None
        if samples is None:
            continue
        # Time stamps are rounded, and resampling shifts by a few samples: that is no gap.
        if late > (0 if place == 0 else rate // 25):
            place += late
            yield np.zeros((samples.shape[0], late), samples.dtype)
        elif late < (0 if place == 0 else -rate // 25):
            samples = samples[:, -late:]
        place += samples.shape[1]
        if samples.shape[1]:
            yield samples


def _samples(container: Any, begins: float) -> Iterator[np.ndarray]:
    """16-bit samples at 16 kHz, mono, from the time of the first picture on."""
    return (part[0] for part in aligned_sound(container, begins, "s16", "mono", RATE))


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
