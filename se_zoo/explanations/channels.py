"""Predictions with chosen channels of the gate only: what a channel does to the logits."""

from typing import List, Sequence, Union

import torch
from torch import nn

from ..errors import InvalidInputError
from .eval_mode import evaluating
from .explainer import backbone_features, check_images, check_model


def channel_logits(
    model: nn.Module,
    images: torch.Tensor,
    keep: Union[torch.Tensor, Sequence[int], None] = None,
    drop: Union[torch.Tensor, Sequence[int], None] = None,
) -> torch.Tensor:
    """Logits when only some gate channels stay, or some go (the paper's SE-vector manipulation).

    Args:
        model: Model with an SE head.
        images: Normalised images, (B, C, H, W).
        keep: Channels that stay: indices, or a bool mask (C,) or (B, C). All others become zero.
        drop: Channels that become zero, in the same forms. Give exactly one of the two.

    Returns:
        Logits, (B, num_classes), detached.

    Raises:
        InvalidInputError: If not exactly one of ``keep`` and ``drop`` is given, the channels do
            not exist, or the model has no SE head.
    """
    if (keep is None) == (drop is None):
        raise InvalidInputError("Give exactly one of keep and drop.")
    se_model = check_model(model)
    batch = check_images(model, images)
    with torch.no_grad(), evaluating(model):
        native = backbone_features(se_model, batch)
        gate = se_model.gate(native)
        chosen = _channel_mask(keep if keep is not None else drop, gate)
        stays = chosen if keep is not None else ~chosen
        return se_model.classify(se_model.gated(native, gate * stays))


def _channel_mask(
    channels: Union[torch.Tensor, Sequence[int], None], gate: torch.Tensor
) -> torch.Tensor:
    count = gate.shape[1]
    try:
        given = torch.as_tensor(channels, device=gate.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(
            f"Channels are indices or a bool mask, not {channels!r}."
        ) from error
    if given.dtype == torch.bool:
        if given.shape not in ((count,), tuple(gate.shape)):
            raise InvalidInputError(
                f"A channel mask has shape ({count},) or {tuple(gate.shape)}, "
                f"got {tuple(given.shape)}."
            )
        return given.expand_as(gate)
    indices: List[int] = given.flatten().tolist()
    wrong = [i for i in indices if not 0 <= i < count or i != int(i)]
    if wrong:
        raise InvalidInputError(f"Channel indices lie in 0 to {count - 1}, got {wrong}.")
    mask = torch.zeros(count, dtype=torch.bool, device=gate.device)
    mask[[int(i) for i in indices]] = True
    return mask.expand_as(gate)
