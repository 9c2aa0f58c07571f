"""Scoring a split: exact for any number of processes and any size."""

from contextlib import nullcontext
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from .clip_samples import mean_logits
from .config import Config
from .loader import Samples, evaluation_batches
from .metrics import Scores


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
    """Return loss and figures of a model on a split, and the tally of a multi-label one.

    Each process takes every n-th sample, no sample twice and none left out, so no padding has to be
    undone; the sums are then added up.

    Raises:
        RuntimeError: If the samples that were seen are not as many as the split has.
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


def lay_out(model: torch.nn.Module) -> None:
    """Put the weights of 2-D convolutions into ``--run.channels-last``; those in 3-D stay."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def laid_out(images: torch.Tensor, config: Config) -> torch.Tensor:
    """Images as ``--run.channels-last`` asks for. Clips stay: frame by frame, their features take
    the layout of the weights, and 3-D convolutions have none of it."""
    if config.run.channels_last and images.dim() == 4:
        return images.contiguous(memory_format=torch.channels_last)
    return images


def _logits(
    model: torch.nn.Module, images: torch.Tensor, config: Config, multi_label: bool
) -> torch.Tensor:
    """(B, K); of clips (B, views, C, T, H, W), those of the mean probabilities of the views."""
    if images.dim() < 6:
        return model(laid_out(images, config)).float()
    chunks = images.flatten(0, 1).split(config.optim.batch_size)  # one video may have many views
    views = torch.cat([model(chunk) for chunk in chunks]).float()
    return mean_logits(views.unflatten(0, images.shape[:2]), multi_label)
