"""Save a model to a folder that timm and transformers load: config.json and safetensors."""

import json
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from ..errors import InvalidInputError, SEZooError
from ..explanations.eval_mode import in_eval_mode
from ..explanations.se_model import uncompiled
from ..files import rename
from ._timm import save_config_for_hf
from .build import saved_args
from .input_size import input_channels
from .load_model import load_any
from .pretrained.config_check import check_label_names
from .pretrained.fetch import WEIGHTS_NAME
from .pretrained.hub_errors import as_sentence
from .sehead import NoGate

_CONFIG_NAME = "config.json"
#: Largest difference between the outputs of a model and of the one that its folder gives,
#: relative to the outputs.
_TOLERANCE = 1e-3
_REMEDY = (
    "config.json does not record everything that the model was made with: a layer was changed "
    "later, or timm (before 1.0.29) did not record the arguments. Make the model again with "
    "timm.create_model(<name>_sehead or timm_sehead, ...), load the state dict, and save that."
)


def save(
    model: nn.Module,
    folder: Union[str, Path],
    *,
    labels: Optional[Sequence[str]] = None,
    dtype: Optional[torch.dtype] = None,
    overwrite: bool = False,
) -> Path:
    """Save a model with an SE head to a folder that loads again.

    After ``import se_zoo``, ``timm.create_model("local-dir:<folder>", pretrained=True)`` loads it,
    and so does transformers' ``AutoModelForImageClassification.from_pretrained`` for image models.
    The files are first written to a temporary folder and loaded from there. They are moved to
    ``folder`` only if the loaded model's weights and outputs are those of ``model``.

    Args:
        model: Image, clip or speaker model, registered or squeezed; it is not changed. Of one
            that ``torch.compile`` returned, the model within is saved.
        folder: The folder; it is created if it does not exist.
        labels: Names of the classes, in order; by default the model's own, if any.
        dtype: Type of the stored weights, such as ``torch.float16``; by default the model's own.
        overwrite: Replace ``config.json`` and ``model.safetensors`` in a folder that has files; its
            other files stay.

    Returns:
        The folder.

    Raises:
        InvalidInputError: If the folder has files already, the model has no SE head, the labels
            are not one for each class, ``thresholds``, ``map_offset`` or ``map_method`` of the
            model cannot be, the weights are not finite in ``dtype``, or ``config.json`` cannot
            describe the model.
    """
    final = Path(folder)
    _check_place(final, overwrite)
    model = uncompiled(model)
    args = model_args_of(model)
    model.check_options()  # type: ignore[operator]
    names = check_labels(model, labels)
    weights = _stored_state(model, dtype)
    # The folder may be a mount point, or a link to another disk.
    final = final.resolve()
    with tempfile.TemporaryDirectory(dir=nearest(final)) as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        try:
            write_export(model, made, args, weights, names)
        except ValueError as error:  # timm's, if the model differs from its arguments
            raise InvalidInputError(f"The model's config cannot be written: {error}") from error
        _check_loads_again(model, made, final, weights)
        move(made, final)
    return Path(folder)


def _check_place(folder: Path, overwrite: bool) -> None:
    """Refuse a file, and a folder with files that must not be replaced."""
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InvalidInputError(
            f"{folder} exists and has files; name another folder, or set overwrite=True."
        )


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest existing folder above it."""
    return folder if folder.is_dir() else nearest(folder.parent)


def move(made: Path, final: Path) -> None:
    """Move a finished folder to its place, which never holds files of two models.

    Args:
        made: Folder with ``config.json``, on the same disk.
        final: Its place; files of the same names are replaced.
    """
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        rename(made, final)
        return
    # Without config.json the folder does not load at all, so no mixture of two models can load.
    (final / _CONFIG_NAME).unlink(missing_ok=True)
    for file in sorted(made.iterdir(), key=lambda file: file.name == _CONFIG_NAME):
        rename(file, final / file.name)


def model_args_of(model: nn.Module) -> Dict[str, Any]:
    """Return the arguments of the architecture that make a model again, as it is now.

    Args:
        model: Image, clip or speaker model with an SE head.

    Returns:
        The ``model_args`` of its config.json.

    Raises:
        InvalidInputError: If the model has no SE head, timm did not create it, or an argument
            cannot be written as JSON.
    """
    if not getattr(model, "explains", False):
        if getattr(getattr(model, "module", None), "explains", False):
            raise InvalidInputError(
                f"{type(model).__name__} wraps the model; save its .module instead."
            )
        raise InvalidInputError(
            f"{type(model).__name__} has no SE head, so se_zoo cannot save it; se_zoo.squeeze "
            "gives a timm classifier one."
        )
    if isinstance(model.se, NoGate):
        raise InvalidInputError("The model's head was pruned, and its SE block with it.")
    cfg = getattr(model, "pretrained_cfg", None) or {}
    if not cfg.get("architecture"):
        raise InvalidInputError(
            f"{type(model).__name__} was not made by timm.create_model or by se_zoo.squeeze of a "
            "model that was, so config.json cannot describe it."
        )
    made_with: Any = model.save_args()  # type: ignore[operator]
    args = saved_args(made_with)
    for name, value in args.items():
        try:
            json.dumps(value)
        except TypeError:
            raise InvalidInputError(
                f"The model was made with {name}={value!r}, which JSON cannot store in config.json."
            ) from None
    return args


def check_labels(model: Any, labels: Optional[Sequence[str]]) -> Optional[List[str]]:
    """Return the label names of a model's classes, or None if it has none.

    Args:
        model: The SE model.
        labels: Names to use; by default the model's own.

    Returns:
        One name for each class.

    Raises:
        InvalidInputError: If ``labels`` are not one text for each class, or the model's labels
            cannot be changed.
    """
    if labels is None:
        own = model.class_labels()
        return None if own is None else list(own)
    if isinstance(labels, str):
        raise InvalidInputError(
            f"labels must be a list of names, one for each class, not the text {labels!r}."
        )
    names = list(labels)
    if not all(isinstance(name, str) and name for name in names):
        raise InvalidInputError(f"labels must be texts, one for each class: {names!r}.")
    if len(names) != model.num_classes:
        raise InvalidInputError(
            f"{len(names)} labels for {model.num_classes} classes; give a list with one for each."
        )
    try:
        check_label_names(names, model.num_classes)
    except ValueError as error:
        raise InvalidInputError(f"labels cannot be used: {error}") from None
    if model.fixed_labels is not None and names != list(model.fixed_labels):
        raise InvalidInputError(
            f"labels must be {list(model.fixed_labels)}: those of a {type(model).__name__} are "
            f"fixed, not {names}."
        )
    return names


def fp16_state(model: nn.Module) -> Dict[str, torch.Tensor]:
    """Return the state dict of a trained model on the CPU, with floating-point tensors as fp16.

    Args:
        model: The model.

    Returns:
        Contiguous tensors by their names; integer buffers keep their type.

    Raises:
        InvalidInputError: If a weight exceeds the range of fp16.
    """
    return _stored_state(model, torch.float16, "; lower --optim.lr")


def _stored_state(
    model: nn.Module, dtype: Optional[torch.dtype], fix: str = ""
) -> Dict[str, torch.Tensor]:
    """Return the state dict on the CPU, in the precision to be stored; see :func:`save`."""
    if dtype is not None and not dtype.is_floating_point:
        raise InvalidInputError(f"dtype={dtype} cannot hold weights; give a floating-point type.")
    found = {}
    for name, tensor in model.state_dict().items():
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        # A copy: safetensors refuses tensors that share memory or are channels_last.
        kept = torch.empty(tensor.shape, dtype=wanted).copy_(tensor)
        if kept.is_floating_point() and not torch.isfinite(kept).all():
            raise InvalidInputError(
                f"{name} holds NaN or infinite values as {wanted} (largest "
                f"{tensor.float().abs().max():.3g}){fix}."
            )
        found[name] = kept
    return found


def _check_loads_again(
    model: Any, folder: Path, final: Path, weights: Mapping[str, torch.Tensor]
) -> None:
    """Load the model from a folder; compare its weights, and its outputs with the model's weights.

    Args:
        model: The model that was saved.
        folder: Folder of its files.
        final: Their final folder, for messages.
        weights: The weights that were stored.

    Raises:
        InvalidInputError: If it does not load, or its weights or outputs differ.
    """
    with torch.random.fork_rng(devices=[]):  # random weights must not change a training's numbers
        try:
            other = load_any(f"local-dir:{folder}")
        except SEZooError as error:
            why = str(error).replace(str(folder), str(final))
            raise InvalidInputError(f"The model would not load again: {why} {_REMEDY}") from error
    if lost := _differences(other.state_dict(), weights):
        raise InvalidInputError(
            f"{len(lost)} of the weights would not come back as they are, first {lost[0]}. "
            f"{_REMEDY}"
        )
    first = next(model.parameters())
    if first.dtype != torch.float32:
        model = deepcopy(model).float()  # not all operations of a CPU take half precision
    other.to(first.device).load_state_dict(model.state_dict())
    inputs = {k: v.to(first.device) for k, v in other.example_inputs().items()}
    try:
        with in_eval_mode(model) as still, torch.no_grad():
            ours, theirs = (_logits(m(*inputs.values())) for m in (still, other))
    except Exception as error:  # a model may raise anything for an input that it does not take
        shapes = ", ".join(str(tuple(v.shape)) for v in inputs.values())
        raise InvalidInputError(
            f"The model fails on an input of the size that its config names, {shapes}: "
            f"{as_sentence(error)} Set model.pretrained_cfg.update(input_size=(C, H, W))."
        ) from error
    if (ours - theirs).abs().max() > _TOLERANCE * ours.abs().max():
        raise InvalidInputError(f"The model's outputs would change after loading. {_REMEDY}")


def _differences(
    loaded: Mapping[str, torch.Tensor], stored: Mapping[str, torch.Tensor]
) -> List[str]:
    """Return the names of tensors that are not the same, but for their precision."""
    return sorted(loaded.keys() ^ stored.keys()) + [
        name
        for name, tensor in loaded.items()
        if name in stored and not torch.equal(tensor.cpu(), stored[name].to(tensor.dtype))
    ]


def _logits(output: Any) -> torch.Tensor:
    """Return the logits in a model's output."""
    return output if isinstance(output, torch.Tensor) else output.logits


def write_export(
    model: nn.Module,
    folder: Path,
    model_args: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    labels: Optional[Sequence[str]] = None,
) -> None:
    """Write ``config.json`` and ``model.safetensors`` into a folder that exists.

    Args:
        model: The model that the config describes.
        folder: The folder.
        model_args: Arguments of the architecture, from which ``timm.create_model`` makes it again.
        weights: Its state dict, in the precision to be stored; contiguous, on the CPU.
        labels: Names of the classes; by default the model's own.
    """
    file = folder / _CONFIG_NAME
    save_config_for_hf(model, file, model_args=dict(model_args))  # type: ignore[arg-type]
    config = json.loads(file.read_text("utf-8"))
    # timm from 1.0.29 on adds all arguments of create_model, such as drop_rate of one run.
    config["model_args"] = dict(model_args)
    names = model.class_labels() if labels is None else labels  # type: ignore[operator]
    cfg = config["pretrained_cfg"]
    cfg.pop("label_names", None)  # they may be of another number of classes
    cfg.update({"label_names": list(names)} if names else {})
    if input_channels(model)[0] not in (1, 3):
        # timm before 1.0.31 takes every stored convolution for one of three channels, and drops
        # those that it cannot convert.
        cfg["first_conv"] = None
    file.write_text(json.dumps(complete_config(config), indent=2) + "\n", encoding="utf-8")
    (folder / WEIGHTS_NAME).write_bytes(to_bytes(dict(weights), metadata={"format": "pt"}))


def complete_config(config: Mapping[str, Any]) -> Dict[str, Any]:
    """Complete timm's config.json so that transformers gives the same predictions.

    Without the added keys transformers names the labels LABEL_0, LABEL_1, ..., computes in the
    precision of the stored weights, and applies a softmax to independent labels. It fails on a
    ``num_classes`` in ``model_args``, which it passes twice.

    Args:
        config: Content of the file as timm's ``save_for_hf`` writes it.

    Returns:
        Its new content.
    """
    args = {k: v for k, v in (config.get("model_args") or {}).items() if k != "num_classes"}
    done = {**config, "model_args": args, "dtype": "float32"}
    labels = config.get("label_names") or config.get("pretrained_cfg", {}).get("label_names")
    if labels:
        done["label_names"] = list(labels)
    if args.get("multi_label") or config.get("num_classes") == 1:
        done["problem_type"] = "multi_label_classification"
    return done
