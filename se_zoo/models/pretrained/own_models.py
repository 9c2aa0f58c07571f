"""Read the zoo's own models from the folders that hold their weights.

``hub_cards/<name>/hub`` is, byte for byte, the model's Hub repository. Its ``config.json`` has what
the registry needs: architecture, tag, preprocessing, labels and model arguments. The models are
exactly those of ``hub_cards/manifest.json``.

Some model arguments hold for a model's own labels only (:func:`with_own_args`), of the zoo's models
as of any folder or repository.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Callable, Dict, Mapping, Optional

from ...errors import SEZooError, UnknownModelError
from .._timm import load_model_config_from_path, split_model_name_tag
from .config_check import checked, read_config
from .fetch import HUB_ORG, WEIGHTS_NAME, config_file, source_name
from .fit_check import is_described
from .manifest import hub_folder, manifest

#: Arguments that hold for a model's own labels only.
_OF_LABELS = ("multi_label", "thresholds", "map_method")
#: Arguments that were measured on the weights, and say nothing of others.
_OF_WEIGHTS = ("thresholds", "map_offset", "map_method")


@dataclass(frozen=True)
class OwnModel:
    """Describe one of the zoo's own models.

    Attributes:
        name: Its name, such as ``resnet50_celeba``; ``timm.create_model`` takes ``se_zoo/<name>``.
        architecture: Registry name, such as ``resnet50_sehead``.
        tag: Tag of the registry name, such as ``celeba``.
        cfg: Pretrained config; ``file`` names the packaged weights, if the package has them.
        model_args: Arguments of the architecture that the weights were trained with.
    """

    name: str
    architecture: str
    tag: str
    cfg: Mapping[str, Any]
    model_args: Mapping[str, Any]

    @property
    def registry_name(self) -> str:
        """Registry name with the tag, such as ``resnet50_sehead.celeba``."""
        return f"{self.architecture}.{self.tag}"


@lru_cache(maxsize=1)
def own_models() -> Dict[str, OwnModel]:
    """Return the models of the manifest by their names.

    Raises:
        SEZooError: If the folder of one of them is missing or broken.
    """
    return {name: _read(name) for name in manifest()}


def _read(name: str) -> OwnModel:
    """Read a model from its folder."""
    folder = hub_folder(name)
    try:
        cfg, architecture, model_args = load_model_config_from_path(folder)
        tag = cfg.pop("tag")
    except (OSError, ValueError, KeyError) as error:
        raise SEZooError(
            f"{folder / 'config.json'} cannot be read ({type(error).__name__}: {error}); install "
            "se_zoo again with pip."
        ) from error
    kept = {k: v for k, v in cfg.items() if k not in ("file", "source", "architecture")}
    kept.update(hf_hub_id=f"{HUB_ORG}/{name}", hf_hub_filename=WEIGHTS_NAME, url="")
    weights = folder / WEIGHTS_NAME
    if weights.is_file():
        kept["file"] = str(weights)
    return OwnModel(name, split_model_name_tag(architecture)[0], tag, kept, model_args or {})


def cfgs_of(architecture: str) -> Dict[str, Dict[str, Any]]:
    """Return the pretrained configs of an architecture's own tags, keyed as timm wants them.

    Args:
        architecture: Registry name, ``resnet50_sehead``.
    """
    own = (model for model in own_models().values() if model.architecture == architecture)
    return {model.registry_name: dict(model.cfg) for model in own}


def _own_model(architecture: str, tag: Any) -> Optional[OwnModel]:
    """Return the zoo's own model of an architecture and tag, or None."""
    name = f"{architecture}.{tag}"
    return next((m for m in own_models().values() if m.registry_name == name), None)


def with_own_args(
    cfg: Dict[str, Any], given: Mapping[str, Any], pretrained: bool, cache_dir: Any = None
) -> Dict[str, Any]:
    """Complete model arguments by those that a model was trained with.

    Args:
        cfg: A resolved pretrained config: of one of the zoo's own models, or one that was read from
            a folder or repository. Of these only the arguments of the labels are added, because the
            others came with the config.
        given: Arguments that were asked for; they take precedence. If ``num_classes`` or
            ``multi_label`` differ from the model's, arguments of its labels are not added.
        pretrained: Whether the weights are loaded. If not, what was measured on the weights of one
            of the zoo's own models is not added.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.

    Returns:
        All arguments; just those given if the config is of no trained model.

    Raises:
        UnknownModelError: If a config.json cannot be read again.
    """
    own = _own_model(str(cfg.get("architecture")), cfg.get("tag"))
    if is_described(cfg):
        args, classes = _described_label_args(cfg, cache_dir), cfg.get("num_classes")
    elif own is not None and not cfg.get("source"):
        args, classes = dict(own.model_args), own.cfg.get("num_classes")
        if not pretrained:
            args = {k: v for k, v in args.items() if k not in _OF_WEIGHTS}
    else:
        return dict(given)
    same = {"num_classes": classes, "multi_label": args.get("multi_label", False)}
    if any(given.get(name) not in (None, value) for name, value in same.items()):
        args = {k: v for k, v in args.items() if k not in _OF_LABELS}
    return {**args, **given}


def _described_label_args(cfg: Dict[str, Any], cache_dir: Any) -> Dict[str, Any]:
    """Return the arguments of the labels in the config.json that a config was read from."""
    try:
        args = read_config(config_file(cfg, cache_dir)).get("model_args")
    except OSError as error:
        raise UnknownModelError(
            f"The config.json of {source_name(cfg)} cannot be read: {error}"
        ) from error
    return {k: v for k, v in args.items() if k in _OF_LABELS} if isinstance(args, dict) else {}


def without_label_args(read: Callable[..., Any], read_first: bool) -> Callable[..., Any]:
    """Return one of timm's readers of a config.json, which leaves out arguments of the labels.

    timm mixes the arguments of a config.json with those of its caller. :func:`with_own_args` adds
    what is left out here, unless the caller asks for other labels.

    Args:
        read: See :func:`~se_zoo.models.pretrained.config_check.checked`.
        read_first: Likewise.

    Returns:
        A function of the same arguments, with errors and values checked.
    """
    read_whole = checked(read, read_first)

    def reader(place: Any, *args: Any, **kwargs: Any) -> Any:
        cfg, architecture, model_args = read_whole(place, *args, **kwargs)
        if "_sehead" in architecture and model_args:
            model_args = {k: v for k, v in model_args.items() if k not in _OF_LABELS}
        return cfg, architecture, model_args

    reader._se_zoo = True  # type: ignore[attr-defined]
    return reader
