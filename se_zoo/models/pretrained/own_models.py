"""Read the zoo's own models from the folders that hold their weights.

``hub_cards/<name>/hub`` is, byte for byte, the model's Hub repository. Its ``config.json`` has what
the registry needs: architecture, tag, preprocessing, labels and model arguments. The models are
exactly those of ``hub_cards/manifest.json``.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, Mapping, Optional

from ...errors import SEZooError
from .._timm import load_model_config_from_path, split_model_name_tag
from .fetch import HUB_ORG, WEIGHTS_NAME
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
    cfg: Mapping[str, Any], given: Mapping[str, Any], pretrained: bool
) -> Dict[str, Any]:
    """Complete model arguments by those that one of the zoo's own models was trained with.

    Args:
        cfg: A resolved pretrained config. If it was read from a folder or repository (it has a
            ``source``), nothing is added: its arguments came with it.
        given: Arguments that were asked for; they take precedence. If ``num_classes`` or
            ``multi_label`` differ from the model's, arguments of its labels are not added.
        pretrained: Whether the weights are loaded. If not, what was measured on them is not added.

    Returns:
        All arguments; just those given if the config is not of one of the zoo's own models.
    """
    own = _own_model(str(cfg.get("architecture")), cfg.get("tag"))
    if own is None or cfg.get("source"):
        return dict(given)
    args = dict(own.model_args)
    same = {
        "num_classes": own.cfg.get("num_classes"),
        "multi_label": args.get("multi_label", False),
    }
    if any(given.get(name) not in (None, value) for name, value in same.items()):
        args = {k: v for k, v in args.items() if k not in _OF_LABELS}
    if not pretrained:
        args = {k: v for k, v in args.items() if k not in _OF_WEIGHTS}
    return {**args, **given}
