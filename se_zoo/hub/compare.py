"""Whether two models answer and explain alike, to the bit."""

import json
from typing import Any, Dict, List

import torch

from ..models import SpeakerModel
from ..models.examples import example_inputs

#: What preprocesses an image.
_PREPROCESSING = ("input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")


def differences(ours: Any, theirs: Any) -> List[str]:
    """Return in what two SE models differ: answers, maps, gates, labels, preprocessing.

    Args:
        ours: An SE model in eval mode.
        theirs: Another one, which takes the same inputs.
    """
    inputs = example_inputs(ours, 2)
    if isinstance(ours, SpeakerModel):
        return _speaker_differences(ours, theirs, inputs)
    mine, other = (model.explain(inputs["x"], target=0) for model in (ours, theirs))
    return _named(
        {
            "logits": torch.equal(mine.logits, other.logits),
            "heatmap": torch.equal(mine.heatmap, other.heatmap),
            "gate": torch.equal(mine.gate, other.gate),
            "labels": list(ours.class_labels() or ()) == list(theirs.class_labels() or ()),
            "arguments of the head": ours.head_args() == theirs.head_args(),
            "preprocessing": preprocessing(ours) == preprocessing(theirs),
        }
    )


def _speaker_differences(ours: SpeakerModel, theirs: Any, inputs: Dict[str, Any]) -> List[str]:
    mine, other = ours.explain(**inputs), theirs.explain(**inputs)
    return _named(
        {
            "logits": torch.equal(mine.logits, other.logits),
            "heatmap": torch.equal(mine.heatmap, other.heatmap),
            "gate": torch.equal(mine.visual_gate, other.visual_gate),
            "shares": all(torch.equal(v, other.shares[name]) for name, v in mine.shares.items()),
            "labels": ours.class_labels() == theirs.class_labels(),
        }
    )


def _named(equal: Dict[str, bool]) -> List[str]:
    return [name for name, same in equal.items() if not same]


def preprocessing(model: Any) -> Dict[str, Any]:
    """Return what decides how an image becomes the model's input, as JSON's own types."""
    cfg = {**model.pretrained_cfg}
    cfg["crop_mode"] = cfg.get("crop_mode") or "center"
    return json.loads(json.dumps({k: cfg.get(k) for k in _PREPROCESSING}))
