"""Check, before a model is built, that its weights fit its config."""

from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from torch import nn

from .config_check import read_config
from .fetch import config_file, source_name
from .weights_check import (
    Tensors,
    check_classes,
    check_classifier_name,
    check_dtypes,
    check_shapes,
    classifier_names,
    meta_twin,
    read_header,
)


def is_described(cfg: Mapping[str, Any]) -> bool:
    """Return whether a pretrained config was read from a config.json of a folder or repository."""
    return cfg.get("source") in ("local-dir", "hf-hub")


def check_before_building(
    pretrained: bool,
    local: Dict[str, Any],
    cfg: Dict[str, Any],
    build: Callable[[Dict[str, Any], Dict[str, Any], bool], nn.Module],
    args: Dict[str, Any],
    cache_dir: Any,
    taken: Sequence[str],
) -> Optional[Tensors]:
    """Check that weights fit their config, without building the model or reading a tensor.

    Weights with a config.json must load strictly into the model that it describes: then a
    classifier that timm drops is one that the caller replaces.

    Args:
        pretrained: Whether weights will be loaded.
        local: Config that names the local weights.
        cfg: Config as it was resolved.
        build: Makes the model; see :data:`se_zoo.models.build.Build`.
        args: Arguments of the model.
        cache_dir: Where downloads are kept.
        taken: Names of arguments of a config.json that ``build`` has already.

    Returns:
        Names, shapes and types of the weights, on the meta device; None without weights.

    Raises:
        WeightsNotFoundError: If they do not fit, or are of another type.
    """
    place, described = source_name(cfg), is_described(cfg)
    args = {k: v for k, v in args.items() if k != "device"}  # else the twin would be built there
    if not pretrained:
        if described:
            meta_twin(lambda: build(local, args, False), place, None)
        return None
    stored = _stored(local)
    check_classes(stored, cfg, place)
    if described:
        own_args = _described_args(cfg, args, cache_dir)
        own_args = {k: v for k, v in own_args.items() if k not in taken}
        shapes_only = {**local, "file": None, "state_dict": dict(stored)}
        twin = meta_twin(lambda: build(shapes_only, own_args, True), place, stored)
    else:
        twin = meta_twin(lambda: build(local, args, False), place, stored)
    if twin is None:
        return stored
    own = twin.state_dict()
    check_dtypes(stored, own, place)
    if described:
        check_classifier_name(twin, cfg, place)
        # A classifier with a background class has one more row than the model.
        check_shapes(stored, own, place, classifier_names(cfg))
    return stored


def _stored(local: Mapping[str, Any]) -> Tensors:
    """Return names, shapes and types of the weights that a config names."""
    if local.get("state_dict"):  # timm, too, takes it before a file
        return {name: tensor.to("meta") for name, tensor in local["state_dict"].items()}
    return read_header(Path(local["file"]))


def _described_args(
    cfg: Mapping[str, Any], args: Mapping[str, Any], cache_dir: Any
) -> Dict[str, Any]:
    """Return the model arguments that a config.json states, without those of the caller."""
    given = args.get("pretrained_model_args")  # timm passes it from 1.0.29 on
    if given is None:
        given = read_config(config_file(cfg, cache_dir)).get("model_args")
    return dict(given or {})
