"""Define and check what goes into speaker models and what comes out."""

from typing import Dict, NamedTuple, Optional, Sequence

import torch

from ...data.faces.crops import CROP
from ...data.faces.mfcc import COEFFICIENTS, WINDOWS
from ...errors import InvalidInputError

#: Frames of one second.
_FRAMES = 25


class SpeakerOutput(NamedTuple):
    """Logits of a speaker model.

    Attributes:
        logits: Log-odds of speaking from face and sound, (B, T).
        visual_logits: Log-odds from the face alone, (B, T); they help training.
    """

    logits: torch.Tensor
    visual_logits: torch.Tensor


class Streams(NamedTuple):
    """Features of each modality before its gate.

    Attributes:
        audio: Features of the sound, (B, T, C).
        visual: Map of the face, (B, C, T, H, W).
        body: Map of the body, (B, C, T, H, W); None in models without that stream.
    """

    audio: torch.Tensor
    visual: torch.Tensor
    body: Optional[torch.Tensor] = None


def clip_lengths(
    audio: torch.Tensor,
    face: torch.Tensor,
    body: Optional[torch.Tensor],
    mask: Optional[torch.Tensor],
    has_body: bool,
) -> torch.Tensor:
    """Check a batch of clips and return the number of frames of each.

    Args:
        audio: MFCCs, (B, 4 T, 13).
        face: Face crops, (B, T, H, W).
        body: Body crops, (B, T, H, W), or None.
        mask: Which frames are the clip's own, (B, T) bool; None: all.
        has_body: Whether the model has a body stream.

    Returns:
        Frames of each clip that are its own, (B,) int64.

    Raises:
        InvalidInputError: If the shapes do not fit together, or the mask has gaps.
    """
    if face.dim() != 4 or min(face.shape) < 1:
        raise InvalidInputError(f"face must have shape (B, T, H, W), got {tuple(face.shape)}.")
    count, frames = face.shape[:2]
    if tuple(audio.shape) != (count, WINDOWS * frames, COEFFICIENTS):
        raise InvalidInputError(
            f"audio of {count} clips of {frames} frames must have shape ({count}, "
            f"{WINDOWS * frames}, {COEFFICIENTS}), {WINDOWS} windows a frame; got "
            f"{tuple(audio.shape)}."
        )
    if (body is not None) != has_body:
        raise InvalidInputError(
            "this model has a body stream: give body."
            if has_body
            else "this model has no body stream; create it with body=True."
        )
    if body is not None and body.shape[:2] != face.shape[:2]:
        raise InvalidInputError(
            f"body has {tuple(body.shape[:2])} clips and frames, face {tuple(face.shape[:2])}."
        )
    if mask is None:
        return torch.full((count,), frames, device=face.device)
    if mask.shape != face.shape[:2] or mask.dtype != torch.bool:
        raise InvalidInputError(
            f"mask must be bool {tuple(face.shape[:2])}; got {mask.dtype}, {tuple(mask.shape)}."
        )
    lengths = mask.sum(1)
    first = torch.arange(frames, device=mask.device) < lengths[:, None]
    if not bool(lengths.min()) or not torch.equal(first, mask):
        raise InvalidInputError(
            "mask must be True for the first frames of each clip and False for the rest."
        )
    return lengths


def random_second(modalities: Sequence[str], count: int, seed: int) -> Dict[str, torch.Tensor]:
    """Return random inputs of one second; see :meth:`SpeakerModel.example_inputs`."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, WINDOWS * _FRAMES, COEFFICIENTS)
    found = {"audio": torch.randn(shape, generator=generator)}
    for name in modalities[1:]:
        found[name] = torch.rand(count, _FRAMES, CROP, CROP, generator=generator) * 255
    return found
