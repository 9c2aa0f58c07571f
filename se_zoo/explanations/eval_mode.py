"""Eval mode for the time of an explanation, restored afterwards, in several threads at once."""

import threading
from contextlib import contextmanager
from typing import Iterator, List, Tuple
from weakref import WeakKeyDictionary

from torch import nn

_LOCK = threading.Lock()
#: Per model: how many explanations run now, and the modules that the first found in train mode.
_ACTIVE: "WeakKeyDictionary[nn.Module, Tuple[int, List[nn.Module]]]" = WeakKeyDictionary()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module of the model into eval mode and restore each one's own mode at the end.

    The modes are restored by the last of several concurrent explanations, so that no thread
    switches dropout or batch statistics back on under another one. A model that is in eval mode
    already is not touched at all.
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
