"""What was found out about the heads of models, kept while their weights are the same.

Probing a head takes a forward pass of the head and several synchronisations. Its answer holds until
a parameter, a buffer or a module of the model changes, so it is asked for once. Nothing is kept on
the model itself, so copying and pickling a model carries none of it.
"""

import threading
import weakref
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..layers.grid import Features, feature_map
from . import heads
from .se_model import SEModel

#: Most forms that are kept of a model. A service that takes images of any size would otherwise keep
#: one for each grid, and that of a quantised or wrapped classifier holds a copy of all its rows.
_MOST_FORMS = 16
#: Modules and tensors of a model by their ids, with the number of changes of each tensor.
_Numbers = Tuple[Tuple[int, int], ...]


class _Known(NamedTuple):
    """What is known about the head of one model."""

    numbers: _Numbers
    alive: Tuple["weakref.ref[Any]", ...]  # an id may be given again after its object is gone
    forms: Dict[Any, Optional[heads.HeadForm]]  # by shape and type of the features

    def holds(self, numbers: _Numbers) -> bool:
        """Return whether the model is still the same."""
        return self.numbers == numbers and all(ref() is not None for ref in self.alive)


_LOCK = threading.Lock()
#: For each trained SE block: id and number of changes of its last weight.
_TRAINED: "WeakKeyDictionary[nn.Module, Tuple[int, int]]" = WeakKeyDictionary()
_KNOWN: "WeakKeyDictionary[nn.Module, _Known]" = WeakKeyDictionary()


def form_of(
    model: nn.Module, se_model: SEModel, native: Features, grid: torch.Tensor, dtype: torch.dtype
) -> Optional[heads.HeadForm]:
    """Return the form of a model's head; it is measured once for a state of the model.

    Args:
        model: Model with an SE head.
        se_model: The same, typed by its interface.
        native: Features in the backbone's own layout and in the head's dtype.
        grid: Their (B, C, *grid) view.
        dtype: Type of the folded weights, float32 or double.

    Returns:
        The form, or None for a head that is not average pooling, norm and a linear layer.
    """
    # On a grid of one cell, for example, all poolings are alike.
    key = (tuple(grid.shape[1:]), feature_map(native).dtype, grid.device, dtype)
    state = _state(model)
    known: Optional[_Known] = None
    if state is not None:
        with _LOCK:
            known = _KNOWN.get(model)
            if known is None or not known.holds(state[0]):
                refs = tuple(weakref.ref(each) for each in state[1])
                known = _KNOWN[model] = _Known(state[0], refs, {})
            if key in known.forms:
                return known.forms[key]
    # An image size on which the cells of the grid are squares: tokens find their grid by it alone.
    size = (grid.shape[-2], grid.shape[-1])
    form = heads.find_form(
        model, grid.shape[1], dtype,
        lambda: heads.probe_head(model, native, lambda view: se_model.feature_grid(view, size)),
    )  # fmt: skip
    if known is not None:
        with _LOCK:
            known.forms[key] = form
            while len(known.forms) > _MOST_FORMS:
                del known.forms[next(iter(known.forms))]  # the oldest one
    return form


def gate_trained(model: Any) -> bool:
    """Return the model's ``gate_trained``; of a trained gate the device is asked once.

    One that was never trained is asked each time: fused optimisers do not count their changes.

    Args:
        model: Model with an SE head; models without the attribute count as trained.
    """
    weight = getattr(getattr(model, "se", None), "fc2", None)
    weight = getattr(weight, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.is_inference():
        return bool(getattr(model, "gate_trained", True))
    state = id(weight), weight._version
    with _LOCK:
        known = _TRAINED.get(model.se) == state
    if known:
        return True
    trained = bool(getattr(model, "gate_trained", True))
    if trained:
        with _LOCK:
            _TRAINED[model.se] = state
    return trained


def forget(model: nn.Module) -> None:
    """Forget what is known of a model's head, so that it is measured again."""
    with _LOCK:
        _KNOWN.pop(model, None)


def _state(model: nn.Module) -> Optional[Tuple[_Numbers, List[Any]]]:
    """Return numbers that change with a model, and the objects that they are of.

    None for a model that was loaded in inference mode: its tensors do not count their changes.
    """
    numbers: List[Tuple[int, int]] = []
    objects: List[Any] = []
    for module in model.modules():
        numbers.append((id(module), -1))
        objects.append(module)
        for tensors in (module._parameters, module._buffers):
            for tensor in tensors.values():
                if tensor is None:
                    continue
                if tensor.is_inference():
                    return None
                numbers.append((id(tensor), tensor._version))
                objects.append(tensor)
    return tuple(numbers), objects
