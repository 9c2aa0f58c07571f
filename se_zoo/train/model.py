"""The model of a run, and the weights that it starts from."""

import ast
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import InvalidInputError, UnknownModelError, WeightsNotFoundError
from ..models import unsqueeze
from ..models.classifiers import classifiers_of
from ..models.label_lists import LABELS_OF
from ..models.pretrained.config_check import check_config, read_config
from ..models.pretrained.fetch import check_finite
from ..models.pretrained.weights_check import check_dtypes, read_header
from .config import AnyModelConfig, ModelConfig

#: Entries of a pretrained configuration that describe timm's weights.
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
    """Return the arguments of the architecture, which the export's config.json must name.

    Raises:
        InvalidInputError: If one of ``--model.args`` is not given as name=value, or timm does not
            know a tag.
    """
    args: Dict[str, Any] = {"gate": config.gate, **config.input_args()}
    if config.backbone is not None:
        args["backbone"] = config.backbone
    try:
        base = timm.get_pretrained_cfg(config.backbone or config.name)
    except RuntimeError as error:  # how timm answers a tag that it does not know
        option = f"--model.name {config.name}"
        option = option if config.backbone is None else f"--model.backbone {config.backbone}"
        raise InvalidInputError(f"{option}: {error}") from error
    if config.input_size is not None and base is not None and base.fixed_input_size:
        args["img_size"] = config.input_size  # transformers are built for one size
    for pair in config.args:
        name, found, value = pair.partition("=")
        if not found:
            raise InvalidInputError(f"--model.args {pair}: give name=value.")
        args[name] = _literal(value)
    return args


def _literal(text: str) -> Any:
    """Return the Python literal that a text is; any other text as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def build_model(
    config: ModelConfig, labels: Sequence[str], multi_label: bool, tag: str
) -> nn.Module:
    """Return the model, with a classifier for the labels and their names in its configuration.

    Args:
        config: The model's options.
        labels: Names of the classes or attributes.
        multi_label: Whether they are independent attributes.
        tag: The zoo's tag of the data set, or "".

    Raises:
        InvalidInputError: If the architecture has no SE head or does not take its arguments, a
            backbone is named for an architecture that takes none, or the export would be refused
            when it is loaded.
        WeightsNotFoundError: If the ``pretrained`` weights are not available.
    """
    architecture = config.name.partition(".")[0]
    _check_architecture(config, architecture)
    args = model_args(config)
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
            **args,
        )
    except TypeError as error:
        raise InvalidInputError(f"{_further_options(config)}: {error}") from error
    if "map_method" not in args:  # that of the zoo's weights says nothing of the run's
        model.map_method = None  # type: ignore[assignment]
    cfg = pretrained_cfg_of_run(model, config, labels, tag)
    given = ("mean", "std", "crop_pct")
    cfg.update({k: v for k in given if (v := getattr(config, k)) is not None})
    if config.input_size is not None:
        cfg["input_size"] = (cfg["input_size"][0], *config.input_size)
        cfg["pool_size"] = None  # the stored one is for the architecture's own input size
    try:
        check_config(cfg, "The config.json of the run's export")
    except UnknownModelError as error:  # now, and not when the trained model is loaded
        raise InvalidInputError(str(error)) from error
    model.pretrained_cfg = model.default_cfg = cfg  # type: ignore[assignment]
    return model if config.se else unsqueeze(model)


def _further_options(config: ModelConfig) -> str:
    """Return the options by which an architecture is given arguments that it may not take."""
    given = [f"--model.args {' '.join(config.args)}"] if config.args else []
    given += [f"--model.drop-path-rate {config.drop_path_rate}"] if config.drop_path_rate else []
    return ", ".join([*given, f"--model.drop-rate {config.drop_rate}"])


def pretrained_cfg_of_run(
    model: nn.Module, config: AnyModelConfig, labels: Sequence[str], tag: str
) -> Dict[str, Any]:
    """Return the pretrained configuration for the model of a run.

    It has the run's labels, the zoo's tag if the labels are those of the tag, and no entries that
    describe weights from which the model does not start.
    """
    cfg: Any = model.pretrained_cfg
    if not config.pretrained:
        cfg = {k: v for k, v in cfg.items() if k not in _OF_WEIGHTS}
    cfg = {**cfg, "num_classes": len(labels), "label_names": list(labels)}
    if tag and list(labels) == list(LABELS_OF.get(tag, labels)):
        cfg["tag"] = tag
    return cfg


def _check_architecture(config: ModelConfig, architecture: str) -> None:
    """Refuse architectures without an SE head, and those that take another kind of input."""
    known = timm.list_models("*_sehead", module=config.registry)
    if architecture not in known:
        registered = timm.is_model(architecture) and architecture.endswith("_sehead")
        why = f"does not take {config.noun}s" if registered else "has no SE head"
        raise InvalidInputError(
            f"--model.name {config.name} {why}; choose one of: {', '.join(known)}. Any timm "
            f"backbone: --model.name {config.any_backbone} --model.backbone NAME."
        )
    if (config.backbone is not None) != (architecture == config.any_backbone):
        fix = "name one" if config.backbone is None else "add --model.backbone None"
        raise InvalidInputError(
            f"--model.backbone is required for --model.name {config.any_backbone}, and for no "
            f"other architecture: {fix}."
        )


def freeze_backbone(model: nn.Module) -> None:
    """Leave gradients to the SE block and the classifier; of speakers, to all but the encoders.

    Args:
        model: The model of the run; without an SE block, the classifier alone gets gradients.
    """
    if hasattr(model, "modalities"):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("_encoder." not in name)
        return
    model.requires_grad_(False)
    trained: List[Any] = [model.se] if hasattr(model, "se_layout") else []
    for part in (*trained, *classifiers_of(model)):
        part.requires_grad_(True)


def classifier_prefixes(model: nn.Module) -> Tuple[str, ...]:
    """Return what the names of the classifier's tensors begin with.

    Args:
        model: The model of the run.
    """
    found = set(classifiers_of(model))
    return tuple(f"{name}." for name, module in model.named_modules() if module in found)


def load_init(model: nn.Module, path: Path) -> str:
    """Load weights to start from; a classifier for other labels keeps its random weights.

    Args:
        model: The model of the run.
        path: Safetensors file, or the folder of a run or model.

    Returns:
        The file that was loaded, and the tensors that were not.

    Raises:
        WeightsNotFoundError: If there is no such file, or if it does not fit the model.
    """
    file = _weights_file(path)
    try:
        read_header(file)  # before any tensor is read
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsNotFoundError(f"--run.init {file} cannot be read: {error}") from error
    own = model.state_dict()
    check_dtypes(state, own, f"--run.init {file}")
    classifier = classifier_prefixes(model)
    skipped = [k for k in state if k in own and own[k].shape != state[k].shape]
    if any(not k.startswith(classifier) for k in skipped):
        raise WeightsNotFoundError(f"--run.init {file} has other shapes: {_summary(skipped)}.")
    before, now = _labels_of(file), model.pretrained_cfg.get("label_names")  # type: ignore[union-attr]
    if before is not None and before != (None if now is None else list(now)):
        skipped = [k for k in state if k.startswith(classifier)]  # other labels, maybe as many
    kept = {k: v for k, v in state.items() if k not in skipped}
    missing, unexpected = model.load_state_dict(kept, strict=False)
    check_finite(model, f"--run.init {file}")
    # The weights of a backbone have no SE block; then it is new.
    new = () if any(k.startswith("se.") for k in state) else ("se.",)
    lacking = [k for k in missing if k not in skipped and not k.startswith(new)]
    if lacking or unexpected:
        raise WeightsNotFoundError(
            f"--run.init {file} is of another model. Missing: {_summary(lacking)}; unexpected: "
            f"{_summary(unexpected)}. --run.init None starts without it."
        )
    return f"{file}" + (f", but for the classifier ({', '.join(skipped)})" if skipped else "")


def _weights_file(path: Path) -> Path:
    """Return the safetensors file that ``--run.init`` stands for."""
    file = path
    if path.is_dir():  # of a run, or of a model as timm and `se-zoo convert` write it
        own = path / "model.safetensors"
        file = own if own.is_file() else path / "export" / "model.safetensors"
    if file.suffix != ".safetensors":
        raise WeightsNotFoundError(
            f"--run.init {path} is neither a .safetensors file nor a run's folder."
        )
    if path.is_dir() and not file.is_file():
        raise WeightsNotFoundError(
            f"--run.init {path} has no export: it is not a run, or one that is not finished."
        )
    return file


def _summary(names: Sequence[str]) -> str:
    """Return names for a message: all of a few, or how many and the first three."""
    if len(names) <= 3:
        return ", ".join(names) or "nothing"
    return f"{len(names)} tensors ({', '.join(names[:3])}, ...)"


def _labels_of(file: Path) -> Optional[List[str]]:
    """Return the labels that weights were trained for; None if no file says so.

    An export or a saved model has a config.json beside it. The run's files tell of other weights
    of a run, and of an export without an SE block.
    """
    config = file.with_name("config.json")
    if config.is_file():
        content = _read(config, file)
        nested = content.get("pretrained_cfg")
        return content.get("label_names") or (nested if isinstance(nested, dict) else {}).get(
            "label_names"
        )
    run = _run_of(file)
    # An unfinished run has no summary.
    for told in () if run is None else (run / "summary.json", run / "best" / "metrics.json"):
        labels = _read(told, file).get("labels") if told.is_file() else None
        if isinstance(labels, list):
            return labels
    return None


def _run_of(file: Path) -> Optional[Path]:
    """Return the folder of the run that weights lie in; None if it is no run's."""
    place = file.absolute().parent
    if place.name in ("best", "export"):
        return place.parent
    return place.parent.parent if place.parent.name == "state" else None


def _read(described: Path, weights: Path) -> Dict[str, Any]:
    """Return the content of a JSON file that describes the weights of ``--run.init``."""
    try:
        return read_config(described)
    except UnknownModelError as error:
        raise WeightsNotFoundError(f"--run.init {weights}: {error}") from error
