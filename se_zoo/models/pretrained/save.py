"""A model as a folder that timm and transformers load: config.json and safetensors."""

import json
import os
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import torch
from safetensors.torch import save as to_bytes
from timm.models._hub import save_config_for_hf
from torch import nn

from ...errors import InvalidInputError, SEZooError
from ...explanations.eval_mode import evaluating
from ..build import NOT_SAVED
from ..examples import example_inputs
from ..sehead import SE_DEFAULTS, NoGate, SEHeadMixin
from ..speaker.model import SpeakerModel
from .errors import as_sentence
from .fetch import WEIGHTS_NAME
from .load import load_any

CONFIG_NAME = "config.json"
#: Largest difference between a model and what its folder makes again, relative to its answers.
_TOLERANCE = 1e-3
_REMEDY = (
    "config.json does not record all that it was made with: a layer was changed later, or timm "
    "(before 1.0.29) kept no record of its arguments. Make it with timm.create_model(<name>_sehead "
    "or timm_sehead, ...) as it has to be, load the state dict into it, and save that."
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

    ``timm.create_model("local-dir:<folder>", pretrained=True)`` loads it after ``import se_zoo``,
    and of image models transformers' ``AutoModelForImageClassification.from_pretrained``. Before
    anything is written to the folder, the model is loaded from what would be in it and has to
    answer as the one that is saved.

    Args:
        model: Image, clip or speaker model, registered or squeezed; it is not changed.
        folder: Where to; it is made if it is not there.
        labels: Names of the classes, in order; by default those that the model has, if any.
        dtype: Type of the stored weights, such as ``torch.float16``; by default the model's own.
        overwrite: Replace the ``config.json`` and ``model.safetensors`` of a folder that has files;
            its other files stay.

    Returns:
        The folder.

    Raises:
        InvalidInputError: If the folder has files already, the model has no SE head, the labels
            are not one a class, the weights are not finite in ``dtype``, or ``config.json`` cannot
            say how the model was made.
    """
    final = Path(folder)
    _check_place(final, overwrite)
    args = model_args_of(model)
    names = check_labels(model, labels)
    weights = _weights(model, dtype)
    with tempfile.TemporaryDirectory(dir=nearest(final.absolute().parent)) as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        try:
            write_export(model, made, args, weights, names)
        except ValueError as error:  # timm's, of arguments that the model is no longer as
            raise InvalidInputError(f"The model's config cannot be written: {error}") from error
        _check_comes_back(model, made, final)
        move(made, final)
    return final


def _check_place(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InvalidInputError(
            f"{folder} is there already and has files; name another folder, or set overwrite=True."
        )


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest above it that is there."""
    return folder if folder.is_dir() else nearest(folder.parent)


def move(made: Path, final: Path) -> None:
    """Move a finished folder to its place; the place never holds files of two models.

    Args:
        made: Folder with ``config.json``, on the same disk.
        final: Where to; files of the same names are replaced.
    """
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(made, final)
        return
    # Without its config.json the folder loads as nothing, rather than as a mixture.
    (final / CONFIG_NAME).unlink(missing_ok=True)
    for file in sorted(made.iterdir(), key=lambda file: file.name == CONFIG_NAME):
        os.replace(file, final / file.name)


def model_args_of(model: nn.Module) -> Dict[str, Any]:
    """Return the arguments of the architecture that make a model again, as it is now.

    Raises:
        InvalidInputError: If it has no SE head, timm did not create it, or an argument cannot be
            written as JSON.
    """
    speaker = isinstance(model, SpeakerModel) and model.se is not None
    if not speaker and not isinstance(model, SEHeadMixin):
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
            "model that was, so nothing says how to make it again."
        )
    args = {
        name: value
        for name, value in getattr(model, "_model_args", {}).items()
        if not name.startswith(NOT_SAVED) and (speaker or name not in SE_DEFAULTS)
    }
    if isinstance(model, SEHeadMixin):
        args.update(model.clip_args if model.takes_clips else {})  # type: ignore[attr-defined]
        args.update(model.head_args())
    for name, value in args.items():
        try:
            json.dumps(value)
        except TypeError:
            raise InvalidInputError(
                f"The model was made with {name}={value!r}, which config.json cannot keep."
            ) from None
    return args


def check_labels(model: Any, labels: Optional[Sequence[str]]) -> Optional[List[str]]:
    """Return the names of a model's classes, or None where it has none.

    Args:
        model: The SE model.
        labels: Names that are to be taken; by default the model's own.

    Raises:
        InvalidInputError: If they are not one text a class.
    """
    if labels is None:
        own = model.class_labels()
        return None if own is None else list(own)
    names = [] if isinstance(labels, str) else list(labels)
    if not all(isinstance(name, str) and name for name in names):
        raise InvalidInputError(f"labels must be texts, one a class: {names!r}.")
    if len(names) != model.num_classes:
        raise InvalidInputError(
            f"{len(names)} labels for {model.num_classes} classes; give a list with one each."
        )
    if isinstance(model, SpeakerModel) and names != list(model.class_labels()):
        raise InvalidInputError(f"A speaker model's label is {model.class_labels()[0]!r}.")
    return names


def _weights(model: nn.Module, dtype: Optional[torch.dtype]) -> Dict[str, torch.Tensor]:
    """Return the state dict on the CPU, in the precision to be stored."""
    if dtype is not None and not dtype.is_floating_point:
        raise InvalidInputError(f"dtype={dtype} cannot hold weights; give a floating-point type.")
    found = {}
    for name, tensor in model.state_dict().items():
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        # A copy: safetensors refuses tensors that share memory or lie in channels_last.
        kept = torch.empty(tensor.shape, dtype=wanted).copy_(tensor)
        if kept.is_floating_point() and not torch.isfinite(kept).all():
            raise InvalidInputError(f"{name} holds NaN or infinite values as {wanted}.")
        found[name] = kept
    return found


def _check_comes_back(model: Any, folder: Path, final: Path) -> None:
    """Load the model from a folder and compare what it answers with the same weights.

    Args:
        model: The model that was saved.
        folder: Where its files are.
        final: Where they will be, for messages.

    Raises:
        InvalidInputError: If it does not load, or answers something else.
    """
    with torch.random.fork_rng(devices=[]):  # its random weights must not change a training
        try:
            other = load_any(f"local-dir:{folder}")
        except SEZooError as error:
            why = str(error).replace(str(folder), str(final))
            raise InvalidInputError(f"The model would not load again: {why} {_REMEDY}") from error
    first = next(model.parameters())
    if first.dtype != torch.float32:
        model = deepcopy(model).float()  # a CPU computes little in half precision
    other.to(first.device).load_state_dict(model.state_dict())
    inputs = {k: v.to(first.device) for k, v in example_inputs(other).items()}
    try:
        with evaluating(model), torch.no_grad():
            ours, theirs = (_answer(m(*inputs.values())) for m in (model, other))
    except Exception as error:  # whatever a model raises of an input that it does not take
        shapes = ", ".join(str(tuple(v.shape)) for v in inputs.values())
        raise InvalidInputError(
            f"The model fails on an input of the size that its config names, {shapes}: "
            f"{as_sentence(error)} Set model.pretrained_cfg.update(input_size=(C, H, W))."
        ) from error
    if (ours - theirs).abs().max() > _TOLERANCE * ours.abs().max():
        raise InvalidInputError(f"The model would answer something else, loaded again. {_REMEDY}")


def _answer(output: Any) -> torch.Tensor:
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
        folder: Where to.
        model_args: Arguments of the architecture, which ``timm.create_model`` gets again.
        weights: Its state dict, in the precision to be stored; contiguous, on the CPU.
        labels: Names of the classes; by default the model's own.
    """
    file = folder / CONFIG_NAME
    save_config_for_hf(model, file, model_args=dict(model_args))  # type: ignore[arg-type]
    config = json.loads(file.read_text("utf-8"))
    # timm from 1.0.29 on adds every argument of create_model: drop_rate is the run's business.
    config["model_args"] = dict(model_args)
    names = model.class_labels() if labels is None else labels  # type: ignore[operator]
    cfg = config["pretrained_cfg"]
    cfg.pop("label_names", None)  # of another number of classes, where the model has no names
    cfg.update({"label_names": list(names)} if names else {})
    file.write_text(json.dumps(complete_config(config), indent=2) + "\n", encoding="utf-8")
    (folder / WEIGHTS_NAME).write_bytes(to_bytes(dict(weights), metadata={"format": "pt"}))


def complete_config(config: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a timm config.json with what transformers' wrapper needs to answer as timm does.

    Without these keys transformers names the labels LABEL_0 on, computes in the precision that the
    weights are stored in, and has independent labels compete in a softmax; and it passes a
    ``num_classes`` of ``model_args`` twice, which fails.

    Args:
        config: As timm's ``save_for_hf`` writes it.
    """
    args = {k: v for k, v in (config.get("model_args") or {}).items() if k != "num_classes"}
    done = {**config, "model_args": args, "dtype": "float32"}
    labels = config.get("label_names") or config.get("pretrained_cfg", {}).get("label_names")
    if labels:
        done["label_names"] = list(labels)
    if args.get("multi_label") or config.get("num_classes") == 1:
        done["problem_type"] = "multi_label_classification"
    return done
