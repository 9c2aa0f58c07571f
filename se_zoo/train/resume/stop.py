"""SIGTERM and SIGINT: the current update is finished, a checkpoint saved, and the run left."""

import signal
import time
from typing import Any, List, Optional, Tuple

import torch
from accelerate import Accelerator

#: Seconds between two questions to all processes, if an update takes no longer. torchrun kills its
#: processes 30 seconds after the signal, and a checkpoint takes a part of them.
_BETWEEN = 5.0


class Stop:
    """A context that notes the signals; a second SIGINT interrupts at once, as usual."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    accelerator: Accelerator

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.received: Optional[int] = None
        self._asked: Optional[Tuple[int, float]] = None  # after which update, and when
        self._next = 0
        self._before: List[Any] = []

    def __enter__(self) -> "Stop":
        self._before = [signal.signal(s, self._note) for s in self.SIGNALS]
        return self

    def __exit__(self, *args: object) -> None:
        for number, handler in zip(self.SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        """Handle a signal."""
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def due(self, update: int) -> bool:
        """Return whether it is time to ask all processes; the answer is the same in all of them.

        Asking makes them wait for each other, so several do not ask after every short update.

        Args:
            update: Updates made.
        """
        return self.accelerator.num_processes == 1 or update >= self._next

    def asked(self, update: int) -> Optional[int]:
        """Return the signal that any process has received, the same to all processes.

        Args:
            update: Updates made.

        Returns:
            The signal's number; None if no process has received one.
        """
        if self.accelerator.num_processes == 1:
            return self.received
        now, took = time.monotonic(), _BETWEEN
        if self._asked is not None:
            before, since = self._asked
            took = (now - since) / max(1, update - before)
        # The slowest process's time is known to all then, so all ask again after the same update.
        mine = torch.tensor(
            [[self.received or 0, round(1000 * took)]], device=self.accelerator.device
        )
        everyone: Any = self.accelerator.gather(mine)
        number, slowest = everyone.amax(0).tolist()
        self._asked = update, now
        self._next = update + max(1, round(1000 * _BETWEEN) // max(1, slowest))
        return number or None
