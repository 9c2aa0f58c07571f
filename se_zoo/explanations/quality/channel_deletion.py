"""Channel deletion: what a logit loses without the channels that a map is drawn from."""

from typing import NamedTuple, Optional, Sequence, cast

import torch
from torch import nn

from ...errors import InvalidInputError
from ...layers.grid import feature_map, in_dtype
from ..eval_mode import in_eval_mode
from ..head_gradient import head_gradient, reads_prefix_only
from ..se_model import backbone_features, check_images, check_model
from .pixels import image_seeds


@torch.no_grad()
def channel_contributions(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return what each gated channel adds to the logit of its image's class.

    This is the gradient of the head times the gated features, summed over the grid and, of a head
    that reads class tokens, over these. For a head of pooling and a linear layer, the sum over the
    channels is the logit less its bias.

    Args:
        model: Model with an SE head.
        images: Normalised images, (B, C, H, W), or clips, (B, C, T, H, W).
        targets: Class of each image, (B,).

    Returns:
        (B, channels).

    Raises:
        InvalidInputError: For images, targets or a model that cannot be explained.
    """
    check_model(model)
    batch = check_images(model, images)
    with in_eval_mode(model) as model:
        se_model = check_model(model)
        native = in_dtype(backbone_features(se_model, batch), batch.dtype)
        gated = se_model.gated(native)
        _check_targets(targets, se_model.classify(gated))
        rows = torch.arange(len(batch), device=batch.device)
        gradient = head_gradient(cast(nn.Module, model), gated, rows, targets)
        size = (batch.shape[-2], batch.shape[-1])
        grid = se_model.feature_grid(gradient, size)
        if reads_prefix_only(grid, gradient):
            return (gradient * feature_map(gated)).flatten(1, -2).sum(1)  # tokens: channels last
        parts = grid * se_model.feature_grid(gated, size)
    return parts.flatten(2).sum(2)


def top_channels(values: torch.Tensor, share: float = 0.1) -> torch.Tensor:
    """Select the channels with the largest values.

    Args:
        values: Value of each channel, (B, channels).
        share: Share of the channels to select; at least one is selected.

    Returns:
        (B, channels) bool; of equal values the first channels are selected.
    """
    count = max(1, round(share * values.shape[1]))
    order = values.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, order, True)


class Deleted(NamedTuple):
    """Losses of the class's logit when channels are dropped, (B,) each."""

    selected: torch.Tensor
    """Loss without the selected channels."""
    random: torch.Tensor
    """Loss without the same number of random channels, mean over the draws."""


@torch.no_grad()
def channel_deletion(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    selected: torch.Tensor,
    draws: int = 5,
    seeds: Optional[Sequence[int]] = None,
) -> Deleted:
    """Measure how much a class's logit falls without the selected, and without random channels.

    This is the SE-vector manipulation of arXiv 2412.05134, with random channels as a control.

    Args:
        model: Model with an SE head.
        images: Normalised images, (B, C, H, W), or clips, (B, C, T, H, W).
        targets: Class of each image, (B,).
        selected: Channels to drop, (B, channels) bool, such as ``explanation.selected``.
        draws: Number of draws of random channels.
        seeds: Seed of each image's draws, so that they do not depend on the batch; by default
            0, 1, and so on.

    Returns:
        The losses, logit before less logit after.

    Raises:
        InvalidInputError: For images, targets or a model that cannot be explained, or if
            ``selected`` does not have the model's channels.
    """
    check_model(model)
    batch = check_images(model, images)
    rows = torch.arange(len(batch), device=batch.device)
    with in_eval_mode(model) as model:
        se_model = check_model(model)
        native = backbone_features(se_model, batch)
        gate = se_model.gate(native)
        if selected.shape != gate.shape or selected.dtype != torch.bool:
            raise InvalidInputError(
                f"Selected channels are {tuple(gate.shape)} bool, not {tuple(selected.shape)} "
                f"{selected.dtype}."
            )

        def logit(dropped: torch.Tensor) -> torch.Tensor:
            return se_model.classify(se_model.gated(native, gate * ~dropped))[rows, targets]

        logits = se_model.classify(se_model.gated(native, gate))
        _check_targets(targets, logits)
        whole = logits[rows, targets]
        generators = [
            torch.Generator().manual_seed(seed) for seed in image_seeds(len(batch), seeds)
        ]
        losses = []
        for _ in range(draws):
            places = [torch.randperm(gate.shape[1], generator=each) for each in generators]
            # As many channels as are selected of that image.
            random = torch.stack(places).to(gate.device) < selected.sum(1, keepdim=True)
            losses.append(whole - logit(random))
        return Deleted(whole - logit(selected), torch.stack(losses).mean(0))


def _check_targets(targets: torch.Tensor, logits: torch.Tensor) -> None:
    """Check that there is one class of the model for each image; -1 would be the last one.

    Raises:
        InvalidInputError: If there is not.
    """
    count, classes = logits.shape
    whole = isinstance(targets, torch.Tensor) and not targets.is_floating_point()
    if not whole or targets.shape != (count,) or targets.dtype == torch.bool:
        raise InvalidInputError(
            f"targets must be a tensor of {count} class indices, one per image, not {targets!r}."
        )
    if not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise InvalidInputError(
            f"targets must be classes from 0 to {classes - 1}, not {targets.tolist()}."
        )
