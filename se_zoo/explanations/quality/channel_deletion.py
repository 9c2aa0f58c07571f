"""Whether the channels that a map is drawn from matter: what the logit loses without them."""

from typing import NamedTuple, Optional, Sequence, cast

import torch
from torch import nn

from ...errors import InvalidInputError
from ...layers.grid import in_dtype
from .. import heads
from ..eval_mode import evaluating
from ..explainer import backbone_features, check_images, check_model
from .pixels import seeds_of


@torch.no_grad()
def channel_contributions(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """What each gated channel adds to the logit of its image's class: gradient of the head times
    gated features, summed over the grid. Of a head of pooling and a linear layer they add up to the
    logit less its bias.

    Args:
        model: Model with an SE head.
        images: Normalised, (B, C, H, W), or clips.
        targets: Class of each, (B,).

    Returns:
        (B, channels).

    Raises:
        InvalidInputError: For images or a model that cannot be explained.
    """
    se_model = check_model(model)
    batch = check_images(model, images)
    with evaluating(model):
        native = in_dtype(backbone_features(se_model, batch), batch.dtype)
        gated = se_model.gated(native)
        rows = torch.arange(len(batch), device=batch.device)
        gradient = heads.head_gradient(cast(nn.Module, model), gated, rows, targets)
        size = (batch.shape[-2], batch.shape[-1])
        parts = se_model.feature_grid(gradient, size) * se_model.feature_grid(gated, size)
    return parts.flatten(2).sum(2)


def top_channels(values: torch.Tensor, share: float = 0.1) -> torch.Tensor:
    """The channels with the largest values, by rank.

    Args:
        values: (B, channels).
        share: Of the channels; at least one is taken.

    Returns:
        (B, channels) bool; of equal values the first are taken.
    """
    count = max(1, round(share * values.shape[1]))
    order = values.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, order, True)


class Deleted(NamedTuple):
    """What the class's logit loses without some channels; each (B,)."""

    selected: torch.Tensor
    """Without the selected ones."""
    random: torch.Tensor
    """Without as many of all channels by chance, the mean over the draws."""


@torch.no_grad()
def channel_deletion(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    selected: torch.Tensor,
    draws: int = 5,
    seeds: Optional[Sequence[int]] = None,
) -> Deleted:
    """How much the logit of a class falls without the selected channels, and without random ones.

    The SE-vector manipulation of arXiv 2412.05134, with the control that it lacks.

    Args:
        model: Model with an SE head.
        images: Normalised, (B, C, H, W), or clips.
        targets: Class of each, (B,).
        selected: Channels to drop, (B, channels) bool, such as ``explanation.selected``.
        draws: Of random channels.
        seeds: Of each image's draws; 0, 1, ... if None.

    Raises:
        InvalidInputError: For images or a model that cannot be explained, or channels that are not
            those of the model.
    """
    se_model = check_model(model)
    batch = check_images(model, images)
    rows = torch.arange(len(batch), device=batch.device)
    with evaluating(model):
        native = backbone_features(se_model, batch)
        gate = se_model.gate(native)
        if selected.shape != gate.shape or selected.dtype != torch.bool:
            raise InvalidInputError(
                f"channels are {tuple(gate.shape)} bool; got {tuple(selected.shape)}."
            )

        def logit(dropped: torch.Tensor) -> torch.Tensor:
            return se_model.classify(se_model.gated(native, gate * ~dropped))[rows, targets]

        whole = logit(torch.zeros_like(selected))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds_of(len(batch), seeds)]
        falls = []
        for _ in range(draws):
            places = [torch.randperm(gate.shape[1], generator=each) for each in generators]
            # As many as were selected of that image.
            chance = torch.stack(places).to(gate.device) < selected.sum(1, keepdim=True)
            falls.append(whole - logit(chance))
        return Deleted(whole - logit(selected), torch.stack(falls).mean(0))
