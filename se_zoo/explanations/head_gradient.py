"""The gradient of a head, for heads whose channel weights are not known."""

from typing import Any, Dict, Optional

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from ..errors import InvalidInputError
from ..layers.grid import Features, feature_map, take, with_feature_map
from .classifier_rows import is_quantised
from .rivals import Rivals


def head_gradient(
    model: nn.Module, gated: Features, images: torch.Tensor, targets: torch.Tensor,
    rivals: Optional[Rivals] = None,
) -> torch.Tensor:  # fmt: skip
    """Return the gradient of each row's logit with respect to the gated features.

    Only the head is differentiated. No parameter's ``.grad`` is changed.

    Args:
        model: SE model; its ``classify`` maps gated features to logits.
        gated: Gated features as the backbone lays them out, one feature map per image.
        images: Index of each row's image, (N,).
        targets: Class of each row, (N,).
        rivals: Rivals of the rows, whose logits are subtracted.

    Returns:
        The gradient, N rows of the feature map's shape, detached.

    Raises:
        InvalidInputError: If torch has no gradient of the head, because it is quantised.
    """
    # The caller may be inside no_grad or inference_mode. Only a copy made outside of them can
    # require a gradient.
    with torch.inference_mode(False), torch.enable_grad():
        chosen = take(gated, images)
        leaf = feature_map(chosen).clone().requires_grad_(True)
        try:
            with OutOfInferenceMode():
                logits = model.classify(with_feature_map(chosen, leaf))  # type: ignore[operator]
            rows = torch.arange(len(targets), device=targets.device)
            total = logits[rows, targets.clone()].sum()
            if rivals is not None:
                shares = rivals.shares.clone()[rivals.images.clone()]
                own = shares[rows, targets.clone()] * logits[rows, targets.clone()]
                total = total + own.sum() - (shares * logits).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        except RuntimeError as error:
            if not is_quantised(model):
                raise
            raise InvalidInputError(
                f"torch has no gradient of the quantised head of {type(model).__name__}, which "
                "this map needs. Quantise the backbone alone, or use "
                f'method="gate" or "activation". ({error})'
            ) from error
    return gradient.detach()


class OutOfInferenceMode(TorchFunctionMode):
    """Give every call copies of its tensors that were made in inference mode.

    Autograd refuses such tensors. A model that was created, loaded or cast in inference mode has
    them as parameters; only those of the head are copied, and the model is not changed.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Optional[Dict[str, Any]] = None
    ) -> Any:
        def usable(value: Any) -> Any:
            frozen = isinstance(value, torch.Tensor) and value.is_inference()
            return value.clone() if frozen else value

        return func(*tree_map(usable, args), **tree_map(usable, kwargs or {}))


def reads_prefix_only(gradient_grid: torch.Tensor, gradient: torch.Tensor) -> bool:
    """Return whether a head reads prefix (class) tokens only, but for one cell at most.

    VOLO's adds the logit of its strongest patch to that of the class token.
    """
    cells = gradient_grid.flatten(2).any(1).sum(1)
    prefix = gradient.count_nonzero() > gradient_grid.count_nonzero()
    return bool(prefix) and bool((cells <= 1).all())
