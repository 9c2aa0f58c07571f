"""Options that all data loaders of a run have in common."""

import signal
from typing import Any, Dict

import torch

from .config import RunConfig
from .resume.stop import Stop


def loader_options(run: RunConfig) -> Dict[str, Any]:
    """Return what a ``DataLoader`` of a run is made with, beside its samples and batches."""
    return {
        "num_workers": run.workers,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": ignore_signals,
    }


def ignore_signals(worker: int) -> None:
    """Leave SIGTERM and SIGINT to the main process, which saves the state and ends its workers.

    Schedulers and terminals signal the whole process group; a worker that ended at once would break
    the update that is being finished.

    Args:
        worker: Number of the worker, as ``DataLoader`` passes it.
    """
    for number in Stop.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
