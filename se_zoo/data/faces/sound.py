"""Sound of a video: decoded, aligned to the pictures, and as MFCCs in constant memory."""

from typing import Any, Iterator, List

import numpy as np
import torch

from ...errors import DataError
from ..video.index import Source, open_container, pyav
from .mfcc import RATE, mfcc

#: Step between two windows and length of a window, in samples, at 25 frames per second.
_STEP, WINDOW = RATE // 100, RATE // 40
#: Windows that are computed at a time: ten seconds of sound.
_BLOCK = 1000


def sound_features(source: Source, name: str, begins: float = 0.0) -> torch.Tensor:
    """Return the MFCCs of a video's sound, 100 windows per second from its first picture on.

    Only the MFCCs are kept in memory, never the whole sound.

    Args:
        source: The file, or its bytes.
        name: The video's name in messages.
        begins: Time at which the first picture is shown, in seconds of the file.

    Returns:
        (windows, 13) float32.

    Raises:
        DataError: If there is no sound, or it is empty or cannot be decoded.
    """
    av = pyav()
    try:
        with open_container(source) as container:
            if not container.streams.audio:
                raise DataError(f"{name} has no sound; give a video with sound.")
            blocks = list(_features(_samples(container, begins)))
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the sound of {name} cannot be decoded: {error}") from error
    if not blocks:
        raise DataError(f"the sound of {name} is empty.")
    return torch.cat(blocks)


def read_sound(source: Source, name: str, begins: float = 0.0) -> np.ndarray:
    """Read a whole recording.

    Args:
        source: A file with sound, or its bytes.
        name: The recording's name in messages.
        begins: For a video, the time at which the first picture is shown, in seconds of the file.

    Returns:
        Mono samples at 16 kHz, int16 (N,).

    Raises:
        DataError: If the file does not exist, has no sound, is empty or cannot be decoded.
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
    """Check that a file has sound, without decoding it.

    Raises:
        DataError: If it has none.
    """
    with open_container(source) as container:
        if not container.streams.audio:
            raise DataError(f"{name} has no sound.")


def aligned_sound(
    container: Any, begins: float, sample_format: str, layout: str, rate: int
) -> Iterator[np.ndarray]:
    """Decode a file's sound, aligned to the pictures by its time stamps.

    Silence fills gaps, and the start if the sound begins after the pictures. Sound before the first
    picture, and sound whose time stamps overlap, is cut off.

    Args:
        container: The open file.
        begins: Time at which the first picture is shown, in seconds of the file.
        sample_format: FFmpeg's name of the sample format to return, such as ``s16``.
        layout: FFmpeg's name of the channel layout to return, such as ``mono``.
        rate: Sample rate to return, in Hz.

    Yields:
        Arrays in PyAV's layout: (channels, N), or (1, N) for packed formats.
    """
    resampler: Any = None
    kind, place = None, 0
    for frame in container.decode(container.streams.audio[0]):
        own = (frame.format.name, frame.layout.name, frame.sample_rate)
        if own != kind:  # a recording may change its format
            resampler, kind = pyav().AudioResampler(sample_format, layout, rate), own
        late = 0
        if frame.time is not None:
            late = round((frame.time - begins) * rate) - place
        made = [m.to_ndarray() for m in resampler.resample(frame)]
        samples = np.concatenate(made, 1) if made else None
        if samples is None:
            continue
        # Rounded time stamps and resampling shift the sound by a few samples; that is not a gap.
        if late > (0 if place == 0 else rate // 25):
            place += late
            yield np.zeros((samples.shape[0], late), samples.dtype)
        elif late < (0 if place == 0 else -rate // 25):
            samples = samples[:, -late:]
        place += samples.shape[1]
        if samples.shape[1]:
            yield samples


def _samples(container: Any, begins: float) -> Iterator[np.ndarray]:
    """Decode 16-bit mono samples at 16 kHz from the first picture on, int16 (N,) at a time."""
    return (part[0] for part in aligned_sound(container, begins, "s16", "mono", RATE))


def _features(parts: Iterator[np.ndarray]) -> Iterator[torch.Tensor]:
    """Return the MFCCs of ten seconds at a time.

    Each block after the first includes the sample before it, which pre-emphasis needs.
    """
    waiting: List[np.ndarray] = []
    held, before = 0, 0
    need = (_BLOCK - 1) * _STEP + WINDOW
    for part in parts:
        waiting.append(part)
        held += len(part)
        while held >= before + need:
            wave = np.concatenate(waiting)
            yield _block(wave[: before + need], before)
            start = before + _BLOCK * _STEP - 1
            waiting, held, before = [wave[start:]], len(wave) - start, 1
    wave = np.concatenate(waiting) if waiting else np.zeros(0, np.int16)
    if len(wave) > before:
        yield _block(wave, before)


def _block(wave: np.ndarray, before: int) -> torch.Tensor:
    """Return the MFCCs of a block; ``before`` is 1 if its first sample belongs to the last one."""
    signal = torch.from_numpy(wave.astype(np.float32))
    return mfcc(signal[before:], before=float(signal[0]) if before else None)
