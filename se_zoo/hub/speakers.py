"""Speaker models where cards and publishing need an input of them."""

from typing import Any, Dict, List

import torch

from ..data.mfcc import COEFFICIENTS, WINDOWS
from ..models import SpeakerModel

#: Frames of a second.
_FRAMES = 25


def one_second(model: SpeakerModel, clips: int = 1, seed: int = 0) -> Dict[str, torch.Tensor]:
    """Random sound and faces of one second, as the model takes them."""
    generator = torch.Generator().manual_seed(seed)
    found = {"audio": torch.randn(clips, WINDOWS * _FRAMES, COEFFICIENTS, generator=generator)}
    for name in model.modalities[1:]:
        found[name] = torch.rand(clips, _FRAMES, 112, 112, generator=generator) * 255
    return found


def speaker_differences(ours: SpeakerModel, theirs: Any) -> List[str]:
    """In what two speaker models differ: answers, maps, gates, shares, labels."""
    inputs: Any = one_second(ours, clips=2)
    mine, other = ours.explain(**inputs), theirs.explain(**inputs)
    equal = {
        "logits": torch.equal(mine.logits, other.logits),
        "heatmap": torch.equal(mine.heatmap, other.heatmap),
        "gate": torch.equal(mine.visual_gate, other.visual_gate),
        "shares": all(torch.equal(mine.shares[name], other.shares[name]) for name in mine.shares),
        "labels": ours.class_labels() == theirs.class_labels(),
    }
    return [name for name, same in equal.items() if not same]
