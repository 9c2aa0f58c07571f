"""The model of a run, and the weights that it starts from."""

import ast
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import InvalidInputError, WeightsNotFoundError
from ..models import unsqueeze
from ..models.labels import LABELS_OF
from .config import AnyModelConfig, ClipModelConfig, ModelConfig

#: What a pretrained configuration says of timm's weights.
_OF_WEIGHTS = (
    "url",
    "file",
    "hf_hub_id",
    "tag",
    "license",
    "origin_url",
    "paper_name",
    "paper_ids",
    "notes",
)


def model_args(config: ModelConfig) -> Dict[str, Any]:
    """Return the arguments of the architecture itself, those that config.json has to name.

    Raises:
        InvalidInputError: If one is not given as name=value.
    """
    args: Dict[str, Any] = {"gate": config.gate}
    if isinstance(config, ClipModelConfig):
        clip = {name: getattr(config, name) for name in ("num_frames", "frame_stride", "fps")}
        args.update({name: value for name, value in clip.items() if value is not None})
        args["sampling"] = config.sampling
    if config.backbone is not None:
        args["backbone"] = config.backbone
    base = timm.get_pretrained_cfg(config.backbone or config.name)
    if config.input_size is not None and base is not None and base.fixed_input_size:
        args["img_size"] = config.input_size  # transformers are made for one size
    for pair in config.args:
        name, found, value = pair.partition("=")
        if not found:
            raise InvalidInputError(f"--model.args {pair}: give name=value.")
        args[name] = _literal(value)
    return args


def _literal(text: str) -> Any:
    """A number, a tuple, True, False or None; any other text is itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def build_model(
    config: ModelConfig, labels: Sequence[str], multi_label: bool, tag: str
) -> nn.Module:
    """The model with a classifier for the labels, whose names it knows.

    Raises:
        InvalidInputError: If the architecture has no SE head, or a backbone is named for one that
            takes none.
        WeightsNotFoundError: If ``pretrained`` weights cannot be had.
    """
    architecture = config.name.partition(".")[0]
    _check_architecture(config, architecture)
    optional: Dict[str, Any] = {}
    if config.drop_path_rate:
        optional["drop_path_rate"] = config.drop_path_rate
    try:
        model = timm.create_model(
            config.name,
            pretrained=config.pretrained,
            num_classes=len(labels),
            multi_label=multi_label,
            drop_rate=config.drop_rate,
            **optional,
            **model_args(config),
        )
    except TypeError as error:
        raise InvalidInputError(f"--model.args {' '.join(config.args)}: {error}") from error
    cfg = cfg_of_run(model, config, labels, tag)
    asked = ("mean", "std", "crop_pct")
    cfg.update({k: v for k in asked if (v := getattr(config, k)) is not None})
    if config.input_size is not None:
        cfg["input_size"] = (cfg["input_size"][0], *config.input_size)
        cfg["pool_size"] = None  # that of the architecture's own input size
    model.pretrained_cfg = model.default_cfg = cfg  # type: ignore[assignment]
    return model if config.se else unsqueeze(model)


def cfg_of_run(
    model: nn.Module, config: AnyModelConfig, labels: Sequence[str], tag: str
) -> Dict[str, Any]:
    """The model's pretrained configuration as that of a run: with the run's labels, with the zoo's
    tag if it is that model, and without what is said of weights that it does not start from."""
    cfg: Any = model.pretrained_cfg
    if not config.pretrained:
        cfg = {k: v for k, v in cfg.items() if k not in _OF_WEIGHTS}
    cfg = {**cfg, "num_classes": len(labels), "label_names": list(labels)}
    if tag and list(labels) == list(LABELS_OF.get(tag, labels)):
        cfg["tag"] = tag
    return cfg


def _check_architecture(config: ModelConfig, architecture: str) -> None:
    """Refuse what has no SE head, or takes other samples than the recipe has."""
    clips = isinstance(config, ClipModelConfig)
    known = timm.list_models("*_sehead", module="zoo_video" if clips else "zoo_image")
    any_backbone = "framewise_sehead" if clips else "timm_sehead"
    if isinstance(config, ClipModelConfig) and config.sampling != "dense":
        if config.frame_stride is not None:
            raise InvalidInputError(
                f"--model.frame-stride is for --model.sampling dense; {config.sampling} takes its "
                "frames from the whole video."
            )
    if architecture not in known:
        why = "has no SE head"
        if timm.is_model(architecture) and architecture.endswith("_sehead"):
            why = "takes images, not clips" if clips else "takes clips, not images"
        raise InvalidInputError(
            f"--model.name {config.name} {why}; choose one of: {', '.join(known)}. Any timm "
            f"backbone: --model.name {any_backbone} --model.backbone NAME."
        )
    if (config.backbone is not None) != (architecture == any_backbone):
        fix = "name one" if config.backbone is None else "add --model.backbone None"
        raise InvalidInputError(
            f"--model.backbone goes with --model.name {any_backbone}, and only so: {fix}."
        )


def load_init(model: nn.Module, path: Path) -> str:
    """Load weights to start from; a classifier for other labels is left as it is.

    Args:
        model: The model of the run.
        path: Safetensors file, or a run's folder.

    Returns:
        What was loaded, and what was not.

    Raises:
        WeightsNotFoundError: If there is no such file, or it does not fit.
    """
    file = path
    if path.is_dir():  # of a run, or of a model as timm and `se-zoo convert` write it
        own = path / "model.safetensors"
        file = own if own.is_file() else path / "export" / "model.safetensors"
    if file.suffix != ".safetensors":
        raise WeightsNotFoundError(
            f"--run.init {path} is no .safetensors file and no run's folder."
        )
    if path.is_dir() and not file.is_file():
        raise WeightsNotFoundError(
            f"--run.init {path} has no export: it is no run, or one that is not finished."
        )
    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsNotFoundError(f"--run.init {file} cannot be read: {error}") from error
    own = model.state_dict()
    classifier = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if module is model.get_classifier()  # type: ignore[operator]
    )
    other = [k for k in state if k in own and own[k].shape != state[k].shape]
    if any(not k.startswith(classifier) for k in other):
        raise WeightsNotFoundError(f"--run.init {file} has other shapes: {_some(other)}.")
    before, now = _labels_beside(file), model.pretrained_cfg.get("label_names")  # type: ignore[union-attr]
    if before is not None and before != (None if now is None else list(now)):
        other = [k for k in state if k.startswith(classifier)]  # of other labels, though as many
    kept = {k: v for k, v in state.items() if k not in other}
    missing, unexpected = model.load_state_dict(kept, strict=False)
    plain = not any(k.startswith("se.") for k in state)  # a backbone's own: the block is new
    lacking = [k for k in missing if k not in other and not (plain and k.startswith("se."))]
    if lacking or unexpected:
        raise WeightsNotFoundError(
            f"--run.init {file} is of another model: it lacks {_some(lacking)}, and has "
            f"{_some(unexpected)} besides. --run.init None leaves it out."
        )
    return f"{file}" + (f", but for the classifier ({', '.join(other)})" if other else "")


def _some(names: Sequence[str]) -> str:
    """Names for a message: how many, and the first."""
    if len(names) <= 3:
        return ", ".join(names) or "nothing"
    return f"{len(names)} tensors ({', '.join(names[:3])}, ...)"


def _labels_beside(file: Path) -> Optional[List[str]]:
    """The labels that an export's config names, if the weights are of one."""
    config = file.with_name("config.json")
    if not config.is_file():
        return None
    content = json.loads(config.read_text("utf-8"))
    return content.get("label_names") or content.get("pretrained_cfg", {}).get("label_names")


def fp16_state(model: nn.Module) -> Dict[str, torch.Tensor]:
    """The state dict on the CPU, floating tensors as fp16, integer buffers as they are.

    Raises:
        InvalidInputError: If a weight exceeds the range of fp16.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()  # safetensors refuses channels_last
        state[name] = tensor.half() if tensor.is_floating_point() else tensor
        if not torch.isfinite(state[name]).all():
            raise InvalidInputError(
                f"{name} does not fit into fp16 (largest {tensor.abs().max():.3g}); lower "
                "--optim.lr."
            )
    return state
