"""MFCCs of sound that is still running."""

import numpy as np
import torch

from ..data.faces.mfcc import RATE, mfcc
from ..data.faces.sound import WINDOW

#: Samples from one window to the next.
_STEP = RATE // 100
#: Windows that are kept by default: twenty seconds.
_KEPT = 2000


class LiveSound:
    """The last MFCCs of a running sound, those of the whole recording.

    Args:
        kept: How many windows are kept.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._wave = np.zeros(0, np.int16)  # from the sample before the window `_known` on
        self._begin = 0  # place of its first sample
        self._windows = torch.zeros(0, 13)
        self._first = self._known = 0  # windows that are gone, and windows that are known

    def add(self, samples: np.ndarray) -> None:
        """Add the next samples, int16 (N,) at 16 kHz."""
        self._wave = np.concatenate([self._wave, samples])
        known = max(0, (self._begin + len(self._wave) - WINDOW) // _STEP + 1)
        if known <= self._known:
            return
        start = _STEP * self._known - self._begin
        end = _STEP * (known - 1) + WINDOW - self._begin
        signal = torch.from_numpy(self._wave[:end].astype(np.float32))
        made = mfcc(signal[start:], before=float(signal[start - 1]) if start else None)
        self._windows = torch.cat([self._windows, made])[-self._kept :]
        self._known, self._first = known, known - len(self._windows)
        gone = _STEP * known - 1 - self._begin
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
        lacking = after - first - len(part)
        silence = mfcc(torch.zeros(WINDOW)).expand(lacking, -1)
        return torch.cat([part, silence]) if lacking else part
