"""Eval mode during an explanation, restored afterwards, for several threads at once."""

import threading
from contextlib import contextmanager
from typing import Iterator, List, Tuple
from weakref import WeakKeyDictionary

from torch import nn

_LOCK = threading.Lock()
#: For each model: the number of running explanations, and the modules that were in train mode
#: before the first of them.
_ACTIVE: "WeakKeyDictionary[nn.Module, Tuple[int, List[nn.Module]]]" = WeakKeyDictionary()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module of a model into eval mode, and restore the mode of each at the end.

    The last of several concurrent explanations restores the modes, so that no thread switches
    dropout or batch statistics back on while another one runs. A model that is already in eval
    mode is not changed.
    """
    with _LOCK:
        running, training = _ACTIVE.get(model, (0, []))
        if not running:
            training = [module for module in model.modules() if module.training]
            for module in training:
                module.training = False
        _ACTIVE[model] = (running + 1, training)
    try:
        yield
    finally:
        with _LOCK:
            running, training = _ACTIVE[model]
            if running > 1:
                _ACTIVE[model] = (running - 1, training)
            else:
                del _ACTIVE[model]
                for module in training:
                    module.training = True
