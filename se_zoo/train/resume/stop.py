"""SIGTERM and SIGINT: the current update is finished, a checkpoint saved, and the run left."""

import signal
from typing import Any, List, Optional

import torch
from accelerate import Accelerator


class Stop:
    """A context that notes the signals; a second SIGINT interrupts at once, as usual."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    accelerator: Accelerator

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.received: Optional[int] = None
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

    def asked(self) -> Optional[int]:
        """Return the signal that any process has received, the same to all processes.

        Returns:
            The signal's number; None if no process has received one.
        """
        if self.accelerator.num_processes == 1:
            return self.received
        mine = torch.tensor(self.received or 0, device=self.accelerator.device)
        everyone: Any = self.accelerator.gather(mine.view(1))
        return int(everyone.max()) or None
