"""The loss and the figures of speaker models."""

from typing import Any, Dict, Optional

import numpy as np
import torch
import torch.nn.functional as F

from ...metrics import average_precision
from ...models import SpeakerOutput

#: Weight of the loss of the face alone (LR-ASD and Light-ASD).
_FACE_WEIGHT = 0.5
#: Metrics that may select the best weights of a run.
METRICS = ("average_precision", "accuracy", "balanced_accuracy")


def speaker_loss(
    output: SpeakerOutput,
    labels: torch.Tensor,
    face_labels: Optional[torch.Tensor] = None,
    mask: Optional[torch.Tensor] = None,
    weight: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Return the binary cross-entropy of face and sound together, plus half that of the face alone.

    Args:
        output: Output of a speaker model, (B, T).
        labels: 0 and 1, (B, T).
        face_labels: Labels of the face alone, where the sound was replaced; None: ``labels``.
        mask: Which frames count, (B, T) bool; None: all.
        weight: Weight of the frames with speech; None: 1.

    Returns:
        The mean over the frames that count.
    """
    total = torch.zeros((), device=labels.device)
    seen = labels if face_labels is None else face_labels
    for logits, truth, share in zip(output, (labels, seen), (1.0, _FACE_WEIGHT), strict=True):
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), truth, pos_weight=weight, reduction="none"
        )
        total = total + share * (losses.mean() if mask is None else losses[mask].mean())
    return total


def speech_weight(labels: torch.Tensor) -> torch.Tensor:
    """Return the weight of frames with speech that balances them with the others: 1 to 10.

    Args:
        labels: 0 and 1, (N,).
    """
    yes = labels.sum()
    return ((len(labels) - yes) / yes.clamp(min=1)).clamp(1, 10)


def figures_of(truth: np.ndarray, logits: np.ndarray) -> Dict[str, Any]:
    """Return the figures of rows: AVA's average precision, accuracy at a probability of 0.5, loss.

    Args:
        truth: (N,) bool.
        logits: (N,).

    Returns:
        The figures by name, rounded to five decimals.

    Raises:
        DataError: If no row is positive.
    """
    said = logits > 0
    loss = np.logaddexp(0, np.where(truth, -logits, logits)).mean()
    recalls = [float((said == truth)[truth == side].mean()) for side in np.unique(truth)]
    share = float(truth.mean())
    values = {
        "loss": float(loss),
        "average_precision": average_precision(truth.tolist(), logits.tolist()),
        "accuracy": float((said == truth).mean()),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "positive": share,
        "majority_accuracy": max(share, 1 - share),
        "majority_balanced_accuracy": 1 / len(recalls),
    }
    return {name: round(value, 5) for name, value in values.items()}
