"""Creating an SE variant through timm's own builder, with the right weights in the right place."""

from functools import partial
from typing import Any, Callable, Dict, Optional, Union

import torch
from timm.models import build_model_with_cfg, model_entrypoint
from timm.models._builder import resolve_pretrained_cfg
from torch import nn

from ..errors import WeightsNotFoundError
from ..layers import Layout
from . import families as _families  # noqa: F401  (fills FAMILIES)
from .cfgs import BUNDLED
from .labels import imagenet_labels
from .probe import probe_layout
from .pull import clear_errors, source_overlay
from .sehead import attach_se


def _build(
    create: Callable[..., nn.Module],
    layout: Optional[Layout],
    se_args: Dict[str, Any],
    **kwargs: Any,
) -> nn.Module:
    """Make the backbone and put the SE head on; what timm's builder calls as the model class."""
    model = create(**kwargs)
    if layout is None:
        layout, channels = probe_layout(model, kwargs.get("img_size"))
    else:
        prefix = getattr(model, "num_prefix_tokens", 0) if layout.kind == "NLC" else 0
        layout, channels = Layout(layout.kind, prefix), model.num_features
    return attach_se(model, layout, channels, **se_args)  # type: ignore[arg-type]


def _fill_se(state_dict: Dict[str, torch.Tensor], model: nn.Module) -> Dict[str, torch.Tensor]:
    """A backbone's own weights, given as a file, come without ``se.*``: then the gate stays at
    identity. Under any other gate, or from the Hub, missing SE weights are an error."""
    cfg: Dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    if any(key.startswith("se.") for key in state_dict):
        return state_dict
    if cfg.get("source") or not cfg.get("file") or model.se_args["gate"] != "identity":  # type: ignore[index]
        raise WeightsNotFoundError(
            f"The weights for {cfg.get('architecture')} have no SE block (se.*); a plain "
            'backbone\'s file loads under gate="identity" only.'
        )
    return {**state_dict, **{k: v for k, v in model.state_dict().items() if k.startswith("se.")}}


def create_sehead(
    variant: str,
    pretrained: bool,
    create: Union[str, Callable[..., nn.Module]],
    layout: Optional[Layout],
    feature_cfg: Optional[Dict[str, Any]] = None,
    *,
    gate: str = "identity",
    reduction: int = 16,
    multi_label: Optional[bool] = None,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Optional[Dict[str, Any]] = None,
    cache_dir: Any = None,
    **kwargs: Any,
) -> nn.Module:
    """Create an SE variant: timm's weights into the backbone, the zoo's into the whole model.

    Args:
        variant: Registry name.
        pretrained: Load weights.
        create: timm name of the backbone, or what makes it.
        layout: Layout of its features; probed if None.
        feature_cfg: timm's settings for ``features_only``.
        gate: ``"identity"`` or ``"sigmoid"``.
        reduction: Reduction of the SE block.
        multi_label: Independent yes/no labels; by default as the tag's data set is.
        pretrained_cfg: Tag or config, as timm passes it.
        pretrained_cfg_overlay: Changes to that config.
        cache_dir: Where downloads are kept.
        **kwargs: Model arguments of the backbone.
    """
    cfg = resolve_pretrained_cfg(variant, pretrained_cfg, pretrained_cfg_overlay).to_dict()
    tag = cfg.get("tag") or ""
    if pretrained:
        cfg.update(source_overlay(cfg))
    if tag == "in1k":
        cfg["label_names"] = imagenet_labels()
    if tag in ("celeba", "in1k") and "vit_" in variant:
        kwargs.setdefault("global_pool", "avg")  # exact maps; a class-token head has none
    if multi_label is None:
        multi_label = tag == "celeba" and kwargs.get("num_classes", 40) == 40
    maker: Callable[..., nn.Module] = create if callable(create) else model_entrypoint(create)
    from_timm = (cfg.get("hf_hub_id") or "").startswith("timm/") and not cfg.get("source")
    from_timm = from_timm and not cfg.get("file") and not cfg.get("state_dict")
    if not callable(create):
        source = (
            {k: v for k, v in cfg.items() if k not in ("architecture", "tag")}
            if from_timm
            else None
        )
        maker = partial(
            maker, pretrained=pretrained and from_timm, pretrained_cfg=source, cache_dir=cache_dir
        )
    se_args = {"reduction": reduction, "gate": gate, "multi_label": multi_label}
    with clear_errors(variant, cfg, BUNDLED):
        return build_model_with_cfg(
            partial(_build, maker, layout, se_args),
            variant,
            pretrained and not from_timm,
            pretrained_cfg=cfg,
            pretrained_filter_fn=_fill_se,
            feature_cfg=dict(feature_cfg or {}),
            cache_dir=cache_dir,
            **kwargs,
        )
