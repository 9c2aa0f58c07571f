"""Eval mode during an explanation, for several threads at once, while another one may train."""

import functools
import threading
import types
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

_LOCK = threading.Lock()
#: For each model: the number of running explanations, and the modules that were in train mode
#: before the first of them.
_ACTIVE: "WeakKeyDictionary[nn.Module, Tuple[int, List[nn.Module]]]" = WeakKeyDictionary()


class _Casts(threading.local):
    """What a thread's autocast does with weights that it casts."""

    running = 0  # explanations of this thread
    kept = True  # whether it kept the weights before the first of them


_CASTS = _Casts()


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a model in eval mode that shares all tensors with the given one.

    A model in eval mode is yielded as it is. Of a model in train mode, copies of its modules are
    yielded: their parameters and buffers are the model's own, their mode is not. So the model stays
    in train mode for a thread that trains it at the same time. Modules that cannot be copied so
    (of TorchScript or torch.compile, or with a replaced method) are switched, as by
    :func:`evaluating`.

    Args:
        model: The model; it is not changed.

    Yields:
        The model to use within the block. Autocast keeps no weights that it casts there.
    """
    with _LOCK:
        # A model that another explanation has switched is in eval mode only until that one ends.
        switched = _ACTIVE.get(model, (0, []))[1]
        ready = not switched and not any(module.training for module in model.modules())
    view = model if ready else _view(model, {})
    if view is None:
        with evaluating(model):
            yield model
        return
    with _no_casts_kept():
        yield view


@contextmanager
def _no_casts_kept() -> Iterator[None]:
    """Keep autocast from storing the weights that it casts.

    Before torch 2.11, those that were cast without gradients have none in a later forward pass of
    the same autocast region: training would not reach them. The setting is each thread's own; the
    last of a thread's explanations restores it.
    """
    if not _CASTS.running:
        _CASTS.kept = torch.is_autocast_cache_enabled()
    _CASTS.running += 1
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        _CASTS.running -= 1
        if not _CASTS.running:
            torch.set_autocast_cache_enabled(_CASTS.kept)


def _view(module: nn.Module, made: Dict[int, nn.Module]) -> Optional[nn.Module]:
    """Return a copy in eval mode that shares the tensors; None if there can be none."""
    if id(module) in made:
        return made[id(module)]
    state = dict(vars(module))
    state.pop("_compiled_call_impl", None)  # it calls the module itself
    own = ("_modules", "_parameters", "_buffers")
    # The class and hooks of a module know nothing of the instance; what is stored on it may.
    if (
        isinstance(module, torch.jit.ScriptModule)
        or "forward" in state
        or any(_refers_to_module(value) for name, value in state.items() if name not in own)
    ):
        return None
    view: nn.Module = object.__new__(type(module))
    made[id(module)] = view
    children = {}
    for name, child in module._modules.items():
        children[name] = None if child is None else _view(child, made)
        if child is not None and children[name] is None:
            return None
    vars(view).update(state, _modules=children, training=False)
    if module.training:
        vars(view).update({name: {} for name in _caches(module)})
    return view


def _caches(module: nn.Module) -> Dict[str, Dict[Any, Any]]:
    """Return what a module stores for eval mode, by the names of its attributes.

    Attentions of timm (LeViT, EfficientFormer, TinyViT) store ``attention_bias_cache``, made of
    their weights, until their mode is set again. A module in train mode neither uses nor renews it.
    """
    found = vars(module).items()
    return {name: kept for name, kept in found if name.endswith("_cache") and type(kept) is dict}


def _refers_to_module(value: Any) -> bool:
    """Return whether an attribute holds a module, or a function that is bound to one."""
    if isinstance(value, functools.partial):
        return any(map(_refers_to_module, (value.func, *value.args, *value.keywords.values())))
    if isinstance(value, (list, tuple)):
        return any(map(_refers_to_module, value))
    if type(value) is dict:
        return any(map(_refers_to_module, value.values()))
    if isinstance(value, types.FunctionType):
        return any(map(_is_bound, _used_by(value)))
    return _is_bound(value)


def _is_bound(value: Any) -> bool:
    """Return whether a value is a module, or a method of one."""
    return isinstance(value, nn.Module) or isinstance(getattr(value, "__self__", None), nn.Module)


def _used_by(function: types.FunctionType) -> List[Any]:
    """Return what a function wraps, and the variables around it that it uses.

    ``model.forward_features = torch.compile(model.forward_features)`` stores such a function.
    """
    found = [getattr(function, "__wrapped__", None)]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # a variable that has no value yet
            continue
    return found


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module of a model into eval mode, and restore the mode of each at the end.

    The last of several concurrent explanations restores the modes, so that no thread switches
    dropout or batch statistics back on while another one runs. A model that is already in eval
    mode is not changed. Nobody may train the model meanwhile; see :func:`in_eval_mode`. Autocast
    keeps no weights that it casts within the block.
    """
    with _LOCK:
        running, training = _ACTIVE.get(model, (0, []))
        if not running:
            training = [module for module in model.modules() if module.training]
            _switch(training, False)
        _ACTIVE[model] = (running + 1, training)
    try:
        with _no_casts_kept():
            yield
    finally:
        with _LOCK:
            running, training = _ACTIVE[model]
            if running > 1:
                _ACTIVE[model] = (running - 1, training)
            else:
                del _ACTIVE[model]
                _switch(training, True)


def _switch(modules: List[nn.Module], training: bool) -> None:
    """Set the mode of modules alone, without their children, and drop what they stored for it."""
    for module in modules:
        module.training = training
        for kept in _caches(module).values():
            kept.clear()
