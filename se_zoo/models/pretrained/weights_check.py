"""Compare weights with the model that is to take them, before that model is built.

timm drops the classifier where the number of classes differs from the config's, and then loads
whatever else fits. A layer without weights would stay random, in silence. So names, shapes and
types are read from the file's header, and compared with the model on the meta device, which has
shapes but no memory.
"""

import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import torch
from safetensors import safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

from ...errors import UnsupportedBackboneError, WeightsNotFoundError
from ..classifiers import classifiers_of

#: Types of stored tensors that are loaded, by their names in safetensors.
_DTYPES: Dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
#: Largest header of a safetensors file that is read, in bytes; 2,000 tensors have 0.2 MB.
_MAX_HEADER = 16_000_000
#: Calls of torch in which a model is built and its layout probed. Of timm's architectures none
#: takes more than 25 a tensor, nor 30,000 in all.
_CALLS_A_TENSOR, _CALLS, _CALLS_WITHOUT_WEIGHTS = 50, 2_000, 60_000
#: Calls that fill a tensor with random numbers. On the meta device they fill nothing, and torch
#: takes longer to find that out than to build a model.
_DRAWS = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_}
#: Beginnings of names in timm's heads; with other classes or another pooling, these are new.
_HEADS = ("fc_norm.", "norm.", "head.", "head_dist.", "attn_pool.")

Tensors = Mapping[str, torch.Tensor]


class _TooLargeError(Exception):
    """Building took more calls than its budget."""


class _Budget(TorchFunctionMode):
    """Count this thread's calls of torch, stop the one above the limit, and draw no weights."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.left = limit

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Optional[Dict[str, Any]] = None
    ) -> Any:
        self.left -= 1
        if self.left < 0:
            raise _TooLargeError
        if func in _DRAWS and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def read_header(file: Path) -> Dict[str, torch.Tensor]:
    """Return names, shapes and types of a safetensors file, without reading a tensor.

    Args:
        file: The file.

    Returns:
        Tensors on the meta device, by name.

    Raises:
        WeightsNotFoundError: If the header is too long, or a type is not one that is loaded.
        SafetensorError: If the header is broken, or the file is longer or shorter than it says.
        OSError: If the file cannot be opened.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if _MAX_HEADER < length < file.stat().st_size:
        raise WeightsNotFoundError(
            f"{file} has a header of {length:,} bytes; at most {_MAX_HEADER:,} are read."
        )
    found = {}
    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():
            stored: Any = opened.get_slice(name)
            kind = str(stored.get_dtype())
            if kind not in _DTYPES:
                raise WeightsNotFoundError(
                    f"{file} stores {name} as {kind}; convert it to one of F16, BF16, F32, F64."
                )
            found[name] = torch.empty(stored.get_shape(), dtype=_DTYPES[kind], device="meta")
    return found


def meta_twin(
    build: Callable[[], nn.Module], place: str, weights: Optional[Tensors]
) -> Optional[nn.Module]:
    """Build a model on the meta device, in a limited number of steps.

    Args:
        build: Makes the model; may load weights that are on the meta device.
        place: Source of the config, for messages.
        weights: Tensors that the model should have, if they are known; they bound the steps.

    Returns:
        The model; None if the architecture cannot be built on the meta device.

    Raises:
        WeightsNotFoundError: If the model is far larger than its weights, or too large at all.
        Exception: What the builder raises for a config that describes no model, and
            RuntimeError from ``load_state_dict`` for weights that do not fit.
    """
    limit = _CALLS_WITHOUT_WEIGHTS
    if weights is not None:
        limit = min(limit, _CALLS + _CALLS_A_TENSOR * len(weights))
    try:
        with torch.device("meta"), _Budget(limit):
            return build()
    except UnsupportedBackboneError:  # maybe of the meta device only; building will tell
        return None
    except _TooLargeError:
        held = "" if weights is None else f"; its weights are {len(weights)} tensors"
        raise WeightsNotFoundError(
            f"The config of {place} describes a model of more layers than can be meant{held}."
        ) from None
    except (NotImplementedError, RuntimeError) as error:
        if "meta" in str(error).lower():  # a function of torch that the meta device lacks
            return None
        raise


def check_dtypes(stored: Tensors, own: Tensors, place: str) -> None:
    """Refuse weights of another kind of type than the model's: whole numbers for floats.

    Args:
        stored: The weights, maybe on the meta device.
        own: State dict of the model.
        place: Source of the weights, for messages.

    Raises:
        WeightsNotFoundError: If there are such; the message names the first.
    """
    for name, tensor in stored.items():
        wanted = own[name] if name in own else None
        strange = tensor.is_complex() or (wanted is None and tensor.dtype == torch.bool)
        if wanted is not None:
            strange = _kind(tensor) != _kind(wanted)
        if strange:
            needs = "floats" if wanted is None else wanted.dtype
            raise WeightsNotFoundError(
                f"The weights from {place} are of another type: {name} is stored as "
                f"{tensor.dtype}, and the model has {needs}. Save the weights as floats."
            )


def _kind(tensor: torch.Tensor) -> str:
    """Return what a tensor holds: floats, complex numbers, truth values or whole numbers."""
    if tensor.is_floating_point() or tensor.is_complex():
        return "complex" if tensor.is_complex() else "float"
    return "bool" if tensor.dtype == torch.bool else "int"


def classifier_names(cfg: Mapping[str, Any]) -> List[str]:
    """Return the names of the classifier's layers that a config states."""
    named = cfg.get("classifier") or ()
    return [named] if isinstance(named, str) else list(named)


def check_classes(stored: Tensors, cfg: Mapping[str, Any], place: str) -> None:
    """Check that the weights have as many classes as their config says.

    Args:
        stored: The weights, maybe on the meta device.
        cfg: Their pretrained config.
        place: Their source, for messages.

    Raises:
        WeightsNotFoundError: If they have not; the message has both numbers.
    """
    stated = cfg.get("num_classes")
    if not stated:
        return
    offset = cfg.get("label_offset") or 0
    for name in classifier_names(cfg):
        weight = stored.get(f"{name}.weight")
        if weight is None or not weight.dim() or weight.shape[0] - offset == stated:
            continue
        raise WeightsNotFoundError(
            f"The weights from {place} do not fit their config: it says num_classes={stated}, and "
            f"their classifier has {weight.shape[0]} ({name}.weight, {_shape(weight)}). "
            f"Correct config.json, or save the model again with se_zoo.save."
        )


def check_shapes(stored: Tensors, own: Tensors, place: str, skip: Sequence[str] = ()) -> None:
    """Refuse weights of other sizes than those of the model that their config describes.

    Args:
        stored: The weights, maybe on the meta device.
        own: State dict of that model.
        place: Their source, for messages.
        skip: Names of layers to leave out.

    Raises:
        WeightsNotFoundError: If a tensor has another number of elements; timm would resize a
            position embedding or a first convolution. The message has both shapes.
    """
    skipped = tuple(f"{name}." for name in skip)
    for name, tensor in stored.items():
        if name in own and tensor.numel() != own[name].numel() and not name.startswith(skipped):
            raise WeightsNotFoundError(
                f"The weights from {place} do not fit their config: {name} has {_shape(tensor)} in "
                f"the weights, and {_shape(own[name])} by the config. Correct config.json, or save "
                "the model again with se_zoo.save."
            )


def check_classifier_name(model: Any, cfg: Mapping[str, Any], place: str) -> None:
    """Check that the layers that a config calls the classifier are the model's classifier.

    timm drops the weights of the named layers where a model gets other classes.

    Raises:
        WeightsNotFoundError: If they are not.
    """
    if not hasattr(model, "get_classifier"):
        return
    heads = classifiers_of(model)
    modules = dict(model.named_modules())
    for name in classifier_names(cfg):
        module = modules.get(name)
        if module is None or not any(module in set(head.modules()) for head in heads):
            raise WeightsNotFoundError(
                f"The config of {place} says classifier={name!r}, which is not the classifier of "
                f"{type(model).__name__}. Save the model again with se_zoo.save."
            )


def check_all_loaded(model: Any, stored: Tensors, cfg: Mapping[str, Any], place: str) -> None:
    """Refuse a model with layers of its own that got no weights.

    With other classes than the config's, timm loads what fits and leaves the rest random.

    Args:
        model: The model after loading.
        stored: The weights; those of a plain backbone get the model's own SE block.
        cfg: Pretrained config of the weights.
        place: Their source, for messages.

    Raises:
        WeightsNotFoundError: If a layer outside the head got none.
    """
    names = set(model.state_dict())
    given = any(cfg.get(key) for key in ("source", "file", "state_dict"))
    if not (given and any(name.startswith("se.") for name in names)):
        # timm renames layers of some files of its own while it loads them.
        if len(names & set(stored)) < len(names) / 2:
            return
    heads = (*(f"{name}." for name in classifier_names(cfg)), "se.", *_HEADS)
    missing = sorted(n for n in names - set(stored) if not n.startswith(heads))
    if missing:
        raise WeightsNotFoundError(
            f"The weights from {place} lack {len(missing)} tensors of the model as the arguments "
            f"make it ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}), which would "
            "stay random. Leave out the arguments that change the backbone, or use "
            "pretrained=False."
        )
    unused = sorted(n for n in set(stored) - names if not n.startswith(heads))
    if unused:
        warnings.warn(
            f"{len(unused)} tensors of the weights from {place} are not used, because the "
            f"arguments make another model ({', '.join(unused[:3])}"
            f"{', ...' if len(unused) > 3 else ''}).",
            stacklevel=2,
        )


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(str(n) for n in tensor.shape) or "one number"
