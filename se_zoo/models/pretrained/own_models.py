"""The zoo's own models, read from the folders that hold their weights.

``hub_cards/<name>/hub`` is, byte for byte, the model's Hub repository. Its ``config.json``
holds what the registry has to know: architecture, tag, preprocessing, labels, model arguments. The
models are those of ``hub_cards/manifest.json``, and no others.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, Mapping, Optional

from ...errors import SEZooError
from .._timm import load_model_config_from_path, split_model_name_tag
from .fetch import HUB_ORG, WEIGHTS_NAME
from .manifest import hub_folder, manifest

#: Arguments that hold for a model's own labels and mean nothing for others.
OF_LABELS = ("multi_label", "thresholds", "map_method")


@dataclass(frozen=True)
class OwnModel:
    """One of the zoo's own models.

    Attributes:
        name: Such as ``resnet50_celeba``; ``se_zoo/<name>`` for ``timm.create_model``.
        architecture: Registry name, ``resnet50_sehead``.
        tag: ``celeba``.
        cfg: Pretrained config; ``file`` is the packaged weights, where they are there.
        model_args: Arguments of the architecture that the weights were trained with.
    """

    name: str
    architecture: str
    tag: str
    cfg: Mapping[str, Any]
    model_args: Mapping[str, Any]

    @property
    def registry_name(self) -> str:
        """Return timm's name, ``resnet50_sehead.celeba``."""
        return f"{self.architecture}.{self.tag}"


@lru_cache(maxsize=1)
def own_models() -> Dict[str, OwnModel]:
    """Return the models of the manifest by their names.

    Raises:
        SEZooError: If the folder of one of them is missing or broken.
    """
    return {name: _read(name) for name in manifest()}


def _read(name: str) -> OwnModel:
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


def own_model(architecture: str, tag: Any) -> Optional[OwnModel]:
    """Return the zoo's own model of an architecture and tag, or None."""
    name = f"{architecture}.{tag}"
    return next((m for m in own_models().values() if m.registry_name == name), None)


def with_own_args(cfg: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    """Return model arguments completed by those of one of the zoo's own models.

    Args:
        cfg: A resolved pretrained config. One that was read from a folder or a repository (it has
            a ``source``) brings its own arguments and gets none here.
        given: Arguments that are asked for, which win. With another ``num_classes`` or
            ``multi_label`` than the model's, what holds for its labels alone is left out.

    Returns:
        The arguments; of any config that is not of the zoo's own, those given.
    """
    own = own_model(str(cfg.get("architecture")), cfg.get("tag"))
    if own is None or cfg.get("source"):
        return dict(given)
    args = dict(own.model_args)
    same = {
        "num_classes": own.cfg.get("num_classes"),
        "multi_label": args.get("multi_label", False),
    }
    if any(given.get(name) not in (None, value) for name, value in same.items()):
        args = {k: v for k, v in args.items() if k not in OF_LABELS}
    return {**args, **given}
