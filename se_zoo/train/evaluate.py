"""Evaluation of a split: exact for any number of processes and any size."""

from contextlib import contextmanager, nullcontext
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from ..data import ClipDataConfig
from .clip_samples import mean_logits
from .config import Config
from .loader import Samples, evaluation_batches
from .metrics import Scores


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute convolutions on GPUs in full fp32, instead of TF32, which is the default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.inference_mode()
def evaluate(
    model: torch.nn.Module,
    samples: Samples,
    transform: Any,
    config: Config,
    labels: Sequence[str],
    multi_label: bool,
    accelerator: Accelerator,
    mixed_precision: bool,
) -> Tuple[Dict[str, Any], Optional[torch.Tensor]]:
    """Evaluate a model on a split.

    Each process takes every n-th sample, none twice and none left out, so there is no padding to
    undo; the sums of all processes are then added up.

    Args:
        model: The model.
        samples: The split.
        transform: What turns one of its samples into the model's input.
        config: The run.
        labels: Names of the classes or attributes, K of them.
        multi_label: Whether they are independent attributes.
        accelerator: Knows the processes and the device.
        mixed_precision: Evaluate in ``--run.mixed-precision`` instead of fp32.

    Returns:
        The loss and the figures by name, and the tally of a multi-label split, see
        :func:`se_zoo.statistics.tally`; None instead of the tally for exclusive classes.

    Raises:
        RuntimeError: If the number of samples seen is not the size of the split.
    """
    model.eval()
    scores = Scores(labels, multi_label, len(samples), accelerator.device)
    batches = evaluation_batches(
        samples, transform, config, accelerator.process_index, accelerator.num_processes
    )
    totals = torch.zeros(2, dtype=torch.float64)  # loss, samples
    for images, targets in batches:
        images, targets = images.to(accelerator.device), targets.to(accelerator.device)
        with accelerator.autocast() if mixed_precision else nullcontext():
            logits = _logits(model, images, config, multi_label)
        scores.update(logits, targets)
        if multi_label:
            loss = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="sum")
            loss = loss / len(labels)
        else:
            loss = F.cross_entropy(logits, targets, reduction="sum")
        totals += torch.tensor([loss.item(), len(targets)], dtype=torch.float64)
    exact = torch.float32 if accelerator.device.type == "mps" else torch.float64
    summed: Any = accelerator.reduce(totals.to(accelerator.device, exact), reduction="sum")
    if round(summed[1].item()) != len(samples):
        raise RuntimeError(f"Evaluated {summed[1].item():.0f} of {len(samples)} samples.")
    figures = {"loss": round(summed[0].item() / len(samples), 6), **scores.compute()}
    return figures, None if scores.tally is None else scores.tally.compute()


def convert_to_channels_last(model: torch.nn.Module) -> None:
    """Convert the weights of 2-D convolutions to channels_last, in place; 3-D ones stay."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def in_memory_format(images: torch.Tensor, config: Config) -> torch.Tensor:
    """Return images in the memory format of ``--run.channels-last``; clips unchanged.

    The features of a frame-by-frame clip model take the format of the weights, and the weights of
    3-D convolutions are not in channels_last.
    """
    if config.run.channels_last and images.dim() == 4:
        return images.contiguous(memory_format=torch.channels_last)
    return images


def _logits(
    model: torch.nn.Module, images: torch.Tensor, config: Config, multi_label: bool
) -> torch.Tensor:
    """Return logits (B, K); videos (B, views, *) get those of the mean probabilities."""
    if not isinstance(config.data, ClipDataConfig):
        return model(in_memory_format(images, config)).float()
    chunks = images.flatten(0, 1).split(config.optim.batch_size)  # one video may have many views
    views = torch.cat([model(chunk) for chunk in chunks]).float()
    return mean_logits(views.unflatten(0, images.shape[:2]), multi_label)
