"""Predictions with some channels of the gate removed, which show what a channel adds."""

from typing import List, Sequence, Union

import torch
from torch import nn

from ..errors import InvalidInputError
from .eval_mode import in_eval_mode
from .se_model import backbone_features, check_images, check_model, uncompiled


def channel_logits(
    model: nn.Module,
    images: torch.Tensor,
    keep: Union[torch.Tensor, Sequence[int], None] = None,
    drop: Union[torch.Tensor, Sequence[int], None] = None,
) -> torch.Tensor:
    """Return the logits with some gate channels kept or dropped.

    This is the SE-vector manipulation of arXiv 2412.05134.

    Args:
        model: Model with an SE head.
        images: Normalised images, (B, C, H, W), or clips, (B, C, T, H, W), for a clip model.
        keep: Channels to keep: indices, or a bool mask (C,) or (B, C). All others become zero. A
            class-gate explanation's ``selected`` has one mask a row, (N, C): give the image of each
            row then, ``images[explanation.image_index]``.
        drop: Channels that become zero, in the same forms. Give exactly one of the two.

    Returns:
        Logits, (B, num_classes), detached.

    Raises:
        InvalidInputError: If not exactly one of ``keep`` and ``drop`` is given, the channels do
            not exist, or the model has no SE head.
    """
    if (keep is None) == (drop is None):
        raise InvalidInputError("Give exactly one of keep and drop.")
    model = uncompiled(model)
    check_model(model)
    batch = check_images(model, images)
    with torch.no_grad(), in_eval_mode(model) as still:
        se_model = check_model(still)
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
            f"Channels must be indices or a bool mask, not {channels!r}."
        ) from error
    if given.dtype == torch.bool:
        if given.shape not in ((count,), tuple(gate.shape)):
            rows = given.dim() == 2 and given.shape[1] == count
            raise InvalidInputError(
                f"A channel mask must have shape ({count},) or {tuple(gate.shape)}, "
                f"not {tuple(given.shape)}."
                + (
                    " A class-gate explanation has one mask a row; give the image of each row: "
                    "images[explanation.image_index]."
                    if rows
                    else ""
                )
            )
        return given.expand_as(gate)
    indices: List[int] = given.flatten().tolist()
    wrong = [i for i in indices if not 0 <= i < count or i != int(i)]
    if wrong:
        raise InvalidInputError(f"Channel indices must be from 0 to {count - 1}, not {wrong}.")
    mask = torch.zeros(count, dtype=torch.bool, device=gate.device)
    mask[[int(i) for i in indices]] = True
    return mask.expand_as(gate)
