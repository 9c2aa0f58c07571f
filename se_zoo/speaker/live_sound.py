"""MFCCs of sound that is still running."""

import numpy as np
import torch

from ..data.faces.mfcc import mfcc
from ..data.faces.sound import STEP, WINDOW, with_silence


class LiveSound:
    """The last MFCCs of a running sound, those of the whole recording.

    Args:
        kept: How many windows are kept.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._wave = np.zeros(0, np.int16)  # from the sample before the window `_known` on
        self._begin = 0  # place of its first sample
        self._windows = torch.zeros(0, 13)
        self._first = self._known = 0  # windows that are gone, and windows that are known

    def add(self, samples: np.ndarray) -> None:
        """Add the next samples, int16 (N,) at 16 kHz."""
        self._wave = np.concatenate([self._wave, samples])
        known = max(0, (self._begin + len(self._wave) - WINDOW) // STEP + 1)
        if known <= self._known:
            return
        start = STEP * self._known - self._begin
        end = STEP * (known - 1) + WINDOW - self._begin
        signal = torch.from_numpy(self._wave[:end].astype(np.float32))
        made = mfcc(signal[start:], before=float(signal[start - 1]) if start else None)
        self._windows = torch.cat([self._windows, made])[-self._kept :]
        self._known, self._first = known, known - len(self._windows)
        gone = STEP * known - 1 - self._begin
        self._wave, self._begin = self._wave[gone:], self._begin + gone

    def end(self) -> None:
        """Add the windows that reach beyond the end; silence follows it."""
        self.add(np.zeros(WINDOW, np.int16))

    def windows(self, first: int, after: int) -> torch.Tensor:
        """Return windows by number, (after - first, 13); silence for those that are not known.

        Args:
            first: The first window; it must not be further back than is kept.
            after: The window behind the last one.

        Raises:
            IndexError: If the first window is not kept any more.
        """
        if first < self._first:
            raise IndexError(f"window {first} is gone; the first one is {self._first}.")
        part = self._windows[first - self._first : max(0, after - self._first)]
        return with_silence(part, after - first)
