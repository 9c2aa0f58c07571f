"""Compare two models: whether they answer and explain the same, to the bit."""

import json
from typing import Any, Dict, List

#: Keys of a pretrained_cfg that decide how an image becomes the model's input.
_PREPROCESSING = ("input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")


def differences(ours: Any, theirs: Any) -> List[str]:
    """Return what differs between two models: outputs, labels, arguments or preprocessing.

    Args:
        ours: An image, clip or speaker model in eval mode.
        theirs: Another model, which takes the same inputs.

    Returns:
        Names of what differs, such as "logits" and "labels"; empty for equal models.
    """
    equal = {
        "labels": list(ours.class_labels() or ()) == list(theirs.class_labels() or ()),
        "arguments of the head": ours.head_args() == theirs.head_args(),
        "preprocessing": _preprocessing(ours) == _preprocessing(theirs),
    }
    outputs = ours.output_differences(theirs, ours.example_inputs(2))
    return [*outputs, *(name for name, same in equal.items() if not same)]


def _preprocessing(model: Any) -> Dict[str, Any]:
    """Return how images are preprocessed, in JSON's types, so that tuples equal lists."""
    cfg = {**model.pretrained_cfg}
    cfg["crop_mode"] = cfg.get("crop_mode") or "center"
    return json.loads(json.dumps({k: cfg.get(k) for k in _PREPROCESSING}))
