"""Select the channels whose gate stands out (arXiv 2412.05134)."""

from typing import NamedTuple, Tuple

import torch

#: One-sided 10 % quantile of the normal distribution, the paper's threshold in standard deviations.
_TOP_TENTH_SIGMA = 1.2816


class Selection(NamedTuple):
    """Selected channels of each image.

    Attributes:
        mask: (B, C) bool.
        rule: The rule that selected them, of each image: ``"threshold"`` or ``"rank"``.
    """

    mask: torch.Tensor
    rule: Tuple[str, ...]


def select_channels(gate: torch.Tensor) -> Selection:
    """Select the channels whose gate stands out.

    A channel is selected where ``s > mean(s) + 1.2816 std(s)``, as in arXiv 2412.05134. This
    selects about a tenth of spread-out gates, and none of saturated or constant ones. For an image
    without such a channel, the tenth of the channels with the largest gates is selected; of equal
    gates the first channels.

    Args:
        gate: SE vectors, (B, C); C is 0 where they were not kept.

    Returns:
        The selected channels, (B, C) bool, and the rule of each image, "" where C is 0.
    """
    if not gate.shape[1]:
        return Selection(gate > 0, ("",) * len(gate))
    mask, found = selection_mask(in_double(gate.detach()))
    rule = tuple("threshold" if n else "rank" for n in found[:, 0].tolist())
    return Selection(mask.to(gate.device), rule)


def in_double(values: torch.Tensor) -> torch.Tensor:
    """Return numbers in double, on their device; on the CPU if that has no double (MPS).

    Of gates: rounding in the mean would select channels of a constant gate.
    """
    return values.cpu().double() if values.device.type == "mps" else values.double()


def selection_mask(values: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Select channels as :func:`select_channels` does, with tensor operations only.

    Args:
        values: Gates in double, (B, C).

    Returns:
        The mask, (B, C) bool, and whether a channel exceeds the threshold, (B, 1) bool; else the
        mask was selected by rank.
    """
    mean = values.mean(1, keepdim=True)
    # Of a constant gate, rounding in the mean would select channels. ONNX keeps factors in float32,
    # in which 1 + 1e-12 would be 1.
    mean = torch.add(mean, mean, alpha=1e-12)
    std = values.std(1, keepdim=True, correction=0)
    mask = values > torch.add(mean, std, alpha=_TOP_TENTH_SIGMA)
    found = mask.any(1, keepdim=True)
    count = max(1, round(0.1 * values.shape[1]))
    # The largest tenth, of equal values the first. ONNX has no stable sort.
    last = values.topk(count, dim=1).values[:, -1:]
    above, equal = values > last, values == last
    by_rank = above | (equal & (equal.cumsum(1) <= count - above.sum(1, keepdim=True)))
    return mask | (by_rank & ~found), found  # onnxruntime has no `where` of bools
