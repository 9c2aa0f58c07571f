"""Masks of photos as regions of a model's input."""

from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from PIL import Image
from torch import nn

from ...errors import InvalidInputError
from ...transform import evaluation_transform


def mask_regions(
    model: nn.Module,
    masks: Sequence[Image.Image],
    classes: Optional[Sequence[int]] = None,
    unknown: Optional[int] = 255,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Put masks through a model's preprocessing, as its photos are.

    A mask is resized and cropped like its photo, with the nearest pixel's number.

    Args:
        model: timm model, whose config says how photos are resized and cropped.
        masks: A mask for each photo, of the photo's size; images of one channel (modes ``1``, ``L``
            and ``P``) whose pixels are class numbers.
        classes: Numbers of the classes whose pixels are the region; by default all but 0.
        unknown: Number of pixels of which nobody knows the class; None: there are none.

    Returns:
        Regions and known pixels, (B, H, W) bool each, as the measures take them.

    Raises:
        InvalidInputError: If a mask has several channels, or there is none.
    """
    from timm.data.config import resolve_data_config

    wrong = [mask.mode for mask in masks if mask.mode not in ("1", "L", "P")]
    if wrong or not masks:
        raise InvalidInputError(
            f"masks must be images of class numbers, of modes 1, L or P; got {wrong or 'none'}."
        )
    # One value, with which timm's crop mode border fills.
    changed: Dict[str, Any] = {"interpolation": "nearest", "mean": (0.0,)}
    input_shape: Any = getattr(model, "input_shape", None)
    if input_shape is not None:  # timm's config has the size of the weights
        changed["input_size"] = input_shape()
    config = {**resolve_data_config(model=model), **changed}
    transform = evaluation_transform(config, normalize=False)
    plain = [m.convert("L").point([0] + [1] * 255) if m.mode == "1" else m for m in masks]
    numbers = torch.stack([transform(mask)[0] for mask in plain])
    known = torch.ones_like(numbers, dtype=torch.bool) if unknown is None else numbers != unknown
    chosen = numbers != 0 if classes is None else torch.isin(numbers, torch.tensor(list(classes)))
    return chosen & known, known
