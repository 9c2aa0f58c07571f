"""The scale on which the maps of a clip's frames are drawn."""

import torch


def visible_frames(raw: torch.Tensor, from_zero: bool) -> torch.Tensor:
    """Bring the maps of a clip's frames into [0, 1], so that a person can see them.

    On one scale for the clip, the peak of most frames is faint: a single strong frame decides. Here
    a frame whose peak is at least the median of all peaks reaches 1, and a weaker one the ratio of
    its peak to the median. So half of the frames are drawn at full strength, and a frame with
    hardly any evidence stays faint.

    Args:
        raw: Maps of consecutive frames, (T, h, w).
        from_zero: Whether the zero of the maps has a meaning; negative values then become 0. In
            other maps the smallest value of each frame becomes 0.

    Returns:
        (T, h, w) in [0, 1].
    """
    raw = raw.float()
    flat = raw.flatten(1)
    above = raw.clamp(min=0) if from_zero else raw - flat.amin(1)[:, None, None]
    peaks = above.flatten(1).amax(1)
    shown = peaks[peaks > 0]
    if not len(shown):
        return torch.zeros_like(above)
    return above / peaks.clamp(min=float(shown.median()))[:, None, None]
