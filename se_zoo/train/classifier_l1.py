"""An L1 penalty on the classifier, so that few channels carry the evidence for a class."""

from typing import Any

import torch

from ..errors import InvalidInputError
from ..explanations.classifier_rows import is_plain
from ..explanations.eval_mode import in_eval_mode
from ..explanations.head_forms import form_of
from ..layers.grid import Features


def classifier_l1(model: Any, features: Features) -> torch.Tensor:
    """Return ``mean_k sum_c |W_kc| sigma_c``, the L1 norm of the weights of standardised channels.

    ``sigma_c`` is the standard deviation of the gated and pooled channel c over the batch. It makes
    the penalty the same for channels of any scale, and for a gate that scales a channel down. No
    gradient flows through it.

    Args:
        model: Model with an SE head that :func:`check_l1` takes.
        features: A batch of results of ``forward_features``.

    Returns:
        The penalty, a scalar.
    """
    with torch.no_grad():
        squeezed = model.se_layout.squeeze(features)
        sigma = (squeezed * model.se.excite(squeezed)).std(0)
    penalty: torch.Tensor = (model.get_classifier().weight.abs() * sigma).sum(1).mean()
    return penalty


@torch.no_grad()
def check_l1(model: Any, batch_size: int) -> None:
    """Refuse heads whose evidence is not the classifier's weights times the channels.

    Args:
        model: Model with an SE head, on its device.
        batch_size: Samples of a batch, over which the standard deviation is taken.

    Raises:
        InvalidInputError: If the head is not average pooling and a linear layer, or batches are of
            one sample.
    """
    if batch_size < 2:
        raise InvalidInputError(
            "--optim.l1-classifier needs the spread of each channel over a batch; "
            f"--optim.batch-size is {batch_size}, give 2 or more."
        )
    with in_eval_mode(model) as still:
        sample: Any = still
        inputs = sample.example_inputs(2)["x"].to(next(model.parameters()).device)
        native = sample.forward_features(inputs)
        size = (inputs.shape[-2], inputs.shape[-1])
        form = form_of(still, sample, native, sample.feature_grid(native, size), torch.float32)
    # A layer that stands for a linear one, such as LeViT's with a BatchNorm, has no weight itself.
    if form is None or form.norm is not None or not is_plain(form.classifier):
        raise InvalidInputError(
            "--optim.l1-classifier needs a head of average pooling and a linear layer, without a "
            f"norm between them; that of {type(model).__name__} is another. Leave it at 0."
        )
