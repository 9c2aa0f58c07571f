"""Sound of a video: decoded, aligned to the pictures, and as MFCCs in constant memory."""

from dataclasses import dataclass
from typing import Any, Iterator, List, Tuple

import numpy as np
import torch

from ...errors import DataError
from ..video.index import Source, open_container, pyav
from .mfcc import RATE, mfcc

#: Step between two windows and length of a window, in samples, at 25 frames per second.
STEP, WINDOW = RATE // 100, RATE // 40
#: Windows that are computed at a time: ten seconds of sound.
_BLOCK = 1000


#: Two channels cancel each other if their mean has less than this share of their energy.
_CANCELLED = 0.01
#: Seconds of audible sound after which it is known whether the channels cancel each other.
_PROBED = 30
#: Longest gap that is filled, in seconds. The clock of MPEG-TS begins again after 26.5 hours; what
#: is longer is a wrong time stamp, and silence for it would fill the memory.
LONGEST_GAP = 27 * 3600
#: Seconds of silence that are made at a time.
_SILENCE = 60


@dataclass(frozen=True)
class SoundTrack:
    """One of the sound tracks of a file.

    Attributes:
        number: Its number, from 0.
        count: Number of sound tracks.
        kind: Codec, channels and sample rate, as text.
        silent: Whether it is silent throughout.
        cancels: Whether its two channels cancel each other; then the left one is taken.
    """

    number: int
    count: int
    kind: str
    silent: bool
    cancels: bool

    def __str__(self) -> str:
        """Return what is taken as sound, and what is strange about it."""
        text = f"sound track {self.number} of {self.count} ({self.kind})"
        if self.cancels:
            text += ", of which the left channel alone, because the two cancel each other"
        if self.silent:
            other = "; --audio takes another track" if self.count > 1 else ""
            text += f": it is silent{other}"
        return text


class Channels:
    """Find out whether two channels cancel each other."""

    def __init__(self) -> None:
        self._mixed = self._single = 0.0
        self._heard = 0

    def add(self, part: np.ndarray) -> None:
        """Add samples, (2, N)."""
        left, right = part.astype(np.float64)
        self._single += float((left**2 + right**2).sum()) / 2
        self._mixed += float((((left + right) / 2) ** 2).sum())
        self._heard += len(left) if self._single else 0

    @property
    def known(self) -> bool:
        """Return whether enough was heard to decide."""
        return self._heard > _PROBED * RATE

    @property
    def silent(self) -> bool:
        """Return whether nothing was heard."""
        return not self._single

    @property
    def cancel(self) -> bool:
        """Return whether the mean of the channels is nearly silent while they are not."""
        return self._mixed < _CANCELLED * self._single


def probe_sound(source: Source, name: str, audio: int = 0) -> SoundTrack:
    """Look at a sound track: decode it until it is audible, and half a minute more.

    Args:
        source: The file, or its bytes.
        name: The file's name in messages.
        audio: Number of the sound track, from 0.

    Returns:
        What was found.

    Raises:
        DataError: If there is no such track, or it cannot be decoded.
    """
    av = pyav()
    channels = Channels()
    try:
        with open_container(source) as container:
            stream = _stream(container, name, audio)
            kind = sound_kind(stream)
            count = len(container.streams.audio)
            # A recording's clock may begin hours before its first sound.
            begins = float((stream.start_time or 0) * stream.time_base)
            for part in aligned_sound(container, begins, "s16p", "stereo", RATE, audio):
                channels.add(part)
                if channels.known:
                    break
            two = stream.layout.nb_channels == 2
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the sound of {name} cannot be decoded: {error}") from error
    return SoundTrack(audio, count, kind, channels.silent, two and channels.cancel)


def sound_kind(stream: Any) -> str:
    """Return codec, channels and sample rate of a sound track of an open file, as text."""
    return f"{stream.codec_context.name}, {stream.layout.name}, {stream.rate} Hz"


def _stream(container: Any, name: str, audio: int) -> Any:
    """Return a sound track of an open file; refuse a number that it has not."""
    found = container.streams.audio
    if not found:
        raise DataError(f"{name} has no sound; give a video with sound.")
    if not 0 <= audio < len(found):
        raise DataError(f"{name} has {len(found)} sound tracks, from 0; there is no track {audio}.")
    if found[audio].codec_context is None:
        raise DataError(f"the sound of {name} is in an unknown codec.")
    return found[audio]


def _left_alone(container: Any, source: Source, name: str, audio: int) -> bool:
    """Return whether the left channel is taken, because the mean of both would be silence."""
    two = _stream(container, name, audio).layout.nb_channels == 2
    return two and probe_sound(source, name, audio).cancels


def sound_features(source: Source, name: str, begins: float = 0.0, audio: int = 0) -> torch.Tensor:
    """Return the MFCCs of a video's sound, 100 windows per second from its first picture on.

    Only the MFCCs are kept in memory, never the whole sound.

    Args:
        source: The file, or its bytes.
        name: The video's name in messages.
        begins: Time at which the first picture is shown, in seconds of the file.
        audio: Number of the sound track, from 0.

    Returns:
        (windows, 13) float32.

    Raises:
        DataError: If there is no sound, or it is empty or cannot be decoded.
    """
    av = pyav()
    try:
        with open_container(source) as container:
            left = _left_alone(container, source, name, audio)
            blocks = list(_features(_samples(container, begins, audio, left)))
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the sound of {name} cannot be decoded: {error}") from error
    if not blocks:
        raise DataError(f"the sound of {name} is empty.")
    return torch.cat(blocks)


def with_silence(windows: torch.Tensor, count: int) -> torch.Tensor:
    """Return MFCCs with windows of silence after them, (count, 13).

    Args:
        windows: MFCCs of at most ``count`` windows, (N, 13).
        count: How many windows to return.
    """
    lacking = count - len(windows)
    if not lacking:  # as for all but the last frames of a video
        return windows
    return torch.cat([windows, mfcc(torch.zeros(WINDOW)).expand(lacking, -1)])


def read_sound(source: Source, name: str, begins: float = 0.0, audio: int = 0) -> np.ndarray:
    """Read a whole recording.

    Args:
        source: A file with sound, or its bytes.
        name: The recording's name in messages.
        begins: For a video, the time at which the first picture is shown, in seconds of the file.
        audio: Number of the sound track, from 0.

    Returns:
        Mono samples at 16 kHz, int16 (N,).

    Raises:
        DataError: If the file does not exist, has no sound, is empty or cannot be decoded.
    """
    av = pyav()
    try:
        with open_container(source) as container:
            left = _left_alone(container, source, name, audio)
            parts = list(_samples(container, begins, audio, left))
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} cannot be decoded: {error}") from error
    if not sum(map(len, parts)):
        raise DataError(f"{name} is empty.")
    return np.concatenate(parts)


def check_sound(source: Source, name: str, audio: int = 0) -> None:
    """Check that a file has a sound track, without decoding it.

    Raises:
        DataError: If it has none of this number.
    """
    try:
        with open_container(source) as container:
            _stream(container, name, audio)
    except (pyav().FFmpegError, OSError) as error:
        raise DataError(f"the sound of {name} cannot be read: {error}") from error


def aligned_sound(
    container: Any, begins: float, sample_format: str, layout: str, rate: int, audio: int = 0
) -> Iterator[np.ndarray]:
    """Decode a file's sound, aligned to the pictures by its time stamps.

    Silence fills gaps, and the start if the sound begins after the pictures. Sound before the first
    picture, and sound whose time stamps overlap, is cut off. Where they go back by more than a
    second, another recording begins, as in files that were joined byte by byte; its sound follows.

    Args:
        container: The open file.
        begins: Time at which the first picture is shown, in seconds of the file.
        sample_format: FFmpeg's name of the sample format to return, such as ``s16``.
        layout: FFmpeg's name of the channel layout to return, such as ``mono``.
        rate: Sample rate to return, in Hz.
        audio: Number of the sound track, from 0.

    Yields:
        Arrays in PyAV's layout: (channels, N), or (1, N) for packed formats.
    """
    aligner = SoundAligner(begins, sample_format, layout, rate)
    for frame in container.decode(container.streams.audio[audio]):
        yield from aligner.add(frame)


class SoundAligner:
    """Align decoded sound to the pictures by its time stamps; see :func:`aligned_sound`.

    Args:
        begins: Time at which the first picture is shown, in seconds of the file.
        sample_format: FFmpeg's name of the sample format to return, such as ``s16``.
        layout: FFmpeg's name of the channel layout to return, such as ``mono``.
        rate: Sample rate to return, in Hz.
    """

    begins: float
    form: Tuple[str, str, int]
    rate: int
    place: int

    def __init__(self, begins: float, sample_format: str, layout: str, rate: int):
        self.begins, self.form = begins, (sample_format, layout, rate)
        self.rate, self.place = rate, 0
        self._resampler: Any = None
        self._kind: Any = None

    def add(self, frame: Any) -> Iterator[np.ndarray]:
        """Yield the samples up to the end of a decoded frame, in PyAV's layout.

        Raises:
            ValueError: If the gap before it is longer than LONGEST_GAP.
        """
        own = (frame.format.name, frame.layout.name, frame.sample_rate)
        if own != self._kind:  # a recording may change its format
            self._resampler, self._kind = pyav().AudioResampler(*self.form), own
        late, rate = 0, self.rate
        if frame.time is not None:
            late = round((frame.time - self.begins) * rate) - self.place
            if self.place and late < -rate:  # another recording, whose clock starts again
                self.begins, late = frame.time - self.place / rate, 0
        if late > LONGEST_GAP * rate:
            raise ValueError(
                f"its time stamps leave out {late / rate / 3600:,.0f} hours; encode it anew, for "
                "example with ffmpeg"
            )
        made = [m.to_ndarray() for m in self._resampler.resample(frame)]
        if not made:
            return
        samples = np.concatenate(made, 1)
        # Rounded time stamps and resampling shift the sound by a few samples; that is not a gap.
        if late > (0 if self.place == 0 else rate // 25):
            self.place += late
            for start in range(0, late, _SILENCE * rate):
                length = min(_SILENCE * rate, late - start)
                yield np.zeros((samples.shape[0], length), samples.dtype)
        elif late < (0 if self.place == 0 else -rate // 25):
            samples = samples[:, -late:]
        self.place += samples.shape[1]
        if samples.shape[1]:
            yield samples


def _samples(container: Any, begins: float, audio: int, left: bool) -> Iterator[np.ndarray]:
    """Decode 16-bit samples at 16 kHz from the first picture on, int16 (N,) at a time.

    They are the mean of all channels, or the ``left`` one alone.
    """
    kind = ("s16p", "stereo") if left else ("s16", "mono")
    return (part[0] for part in aligned_sound(container, begins, *kind, RATE, audio))


def _features(parts: Iterator[np.ndarray]) -> Iterator[torch.Tensor]:
    """Return the MFCCs of ten seconds at a time.

    Each block after the first includes the sample before it, which pre-emphasis needs.
    """
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
    """Return the MFCCs of a block; ``before`` is 1 if its first sample belongs to the last one."""
    signal = torch.from_numpy(wave.astype(np.float32))
    return mfcc(signal[before:], before=float(signal[0]) if before else None)
