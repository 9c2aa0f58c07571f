"""One forward pass of a model, and what the host is told of it, all at once."""

import math
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, cast

import numpy as np
import torch
from torch import nn

from ..errors import InvalidInputError
from ..layers.grid import Features, in_dtype
from .class_token import TokenTrace, traced_features
from .se_model import SEModel, backbone_features, taken


class ForwardPass(NamedTuple):
    """Results of one forward pass, from which every map is computed."""

    native: Features  # in the backbone's layout and the dtype of the head's parameters
    features: torch.Tensor  # (B, C, *grid)
    gate: torch.Tensor  # (B, C), float32 or double
    model_gate: torch.Tensor  # (B, C), in the dtype in which the model gave it
    logits: torch.Tensor  # (B, num_classes)
    trace: Optional[TokenTrace] = None  # of a transformer, if it was asked for

    @property
    def pooled(self) -> torch.Tensor:
        """Mean of the gated features over the grid, (B, C)."""
        return self.features.flatten(2).to(self.gate.dtype).mean(2) * self.gate

    @property
    def square_cells(self) -> Tuple[int, int]:
        """An image size on which the grid's cells are squares.

        A token layout finds its grid from the aspect of the image alone.
        """
        return self.features.shape[-2], self.features.shape[-1]


def run_forward(model: nn.Module, images: torch.Tensor, tokens: bool = False) -> ForwardPass:
    """Return features, gate and logits of a batch, from one forward pass.

    Args:
        model: Model with an SE head.
        images: Normalised images, on the model's device and in its dtype.
        tokens: Whether to keep the tokens around the blocks; see :func:`.class_token.is_traced`.
    """
    se_model, trace = cast(SEModel, model), None
    if tokens:
        native, trace = taken(model, images, lambda batch: traced_features(model, batch))
    else:
        native = backbone_features(se_model, images)
    # The gate is computed once, for the logits and for the maps.
    model_gate = se_model.gate(native)
    logits = se_model.classify(se_model.gated(native, model_gate))
    with torch.autocast(images.device.type, enabled=False):
        # Features that autocast left in half precision do not fit the head's parameters.
        native = in_dtype(native, images.dtype)
        grid = se_model.feature_grid(native, (images.shape[-2], images.shape[-1]))
        gate = model_gate if model_gate.dtype == torch.float64 else model_gate.float()
    # Without a classifier, timm's heads return the pooled features, which look like logits.
    if logits.dim() != 2 or not getattr(model, "num_classes", logits.shape[1]):
        raise InvalidInputError(
            f"The model's head gives {tuple(logits.shape)}, not (B, num_classes); give it a "
            "classifier with reset_classifier(num_classes, 'avg')."
        )
    return ForwardPass(native, grid, gate, model_gate, logits, trace)


def tell_host(tensors: Sequence[torch.Tensor]) -> List[np.ndarray]:
    """Return tensors as numpy arrays in double, with one synchronisation for all of them.

    Args:
        tensors: Numbers, of any type and shape. Integers are exact up to 2 ** 24.
    """
    if not tensors:
        return []
    flat = [t if t.dim() == 1 else t.reshape(-1) for t in tensors]
    if all(t.dtype != torch.float64 for t in flat):
        # Half precision would round classes; whole numbers alone would stay whole numbers.
        flat[0] = flat[0].float()
    values = np.asarray(torch.cat(flat).tolist(), dtype=np.float64)
    ends = np.cumsum([t.numel() for t in tensors])[:-1]
    return [a.reshape(t.shape) for a, t in zip(np.split(values, ends), tensors, strict=True)]


def extents(images: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the smallest and largest value of images and of logits, (4,); NaN if one is NaN."""
    return torch.stack((images.amin(), images.amax(), logits.amin(), logits.amax()))


def check_finite(logits: np.ndarray, dtype: Any) -> None:
    """Refuse logits that are not finite.

    Args:
        logits: smallest and largest logit.
        dtype: Type of the logits, for the message.

    Raises:
        InvalidInputError: If a value is NaN or infinite.
    """
    if not all(map(math.isfinite, logits)):
        raise InvalidInputError(
            f"The model's logits are NaN or infinite ({dtype}): its weights are "
            "damaged, or its activations exceed the range of its dtype."
        )
