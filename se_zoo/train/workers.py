"""Options that all data loaders of a run have in common."""

import signal
from typing import Any, Dict

import torch

from .config import RunConfig
from .resume.stop import Stop


def loader_options(run: RunConfig) -> Dict[str, Any]:
    """Return the arguments of ``DataLoader`` that do not depend on the samples."""
    return {
        "num_workers": run.workers,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": _ignore_signals,
    }


def _ignore_signals(worker: int) -> None:
    """Ignore SIGTERM and SIGINT in a worker; the main process saves and then ends its workers.

    Schedulers and terminals signal the whole process group. A worker that ended at once would break
    the update that is being finished.

    Args:
        worker: Number of the worker, as ``DataLoader`` passes it.
    """
    for number in Stop.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
