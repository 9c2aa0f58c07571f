"""Measure whether the gate alone predicts the labels, without the features behind it.

A gate that reads the label from the image passes it on to the classifier, whatever the features
show. The prediction is right, and the maps say little of why: they draw the features, and what the
gate read has no place in them (the encoding problem of arXiv 2103.01890). It is no problem where
the features alone say the same.
"""

from typing import List, NamedTuple, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InvalidInputError
from ..explanations.eval_mode import in_eval_mode
from ..explanations.se_model import backbone_features, check_images, check_model
from ..layers.grid import Features, take
from ..statistics import average_precisions

#: Least number of images: with fewer, average precision is mostly chance.
LEAST = 64
#: The gate alone keeps most of the score: above this share.
MOST = 0.5
_BATCH = 16


class GateAlone(NamedTuple):
    """Average precision with and without the gate and the features, mean over the labels.

    Attributes:
        whole: That of the model.
        alone: That of each image's gate times the mean features of all images.
        features: That of each image's features times the mean gate of all images.
        chance: That of one equal answer for all images: the mean share of images with the label.
        random: That of random rankings, on average. On few images it is above ``chance``.
        images: Number of images.
    """

    whole: float
    alone: float
    features: float
    chance: float
    random: float
    images: int

    @property
    def kept(self) -> float:
        """Share of the model's gain over chance that the gate alone keeps, in [0, 1].

        It is 0 without a gain.
        """
        gain = self.whole - self.chance
        return min(1.0, max(0.0, (self.alone - self.chance) / gain)) if gain > 0 else 0.0

    @property
    def decides(self) -> bool:
        """Whether the gate alone keeps most of the score, and more than the features alone.

        What random rankings reach too, the gate does not decide.
        """
        return self.kept > MOST and self.alone > max(self.features, self.random)


@torch.no_grad()
def measure_gate_alone(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> GateAlone:
    """Measure what a model predicts from its gate alone.

    The gated features of each image are replaced by its gate times the mean features of all images,
    so that the gate is all that the classifier learns of the image; and by its features times the
    mean gate.

    Args:
        model: Model with an SE head; it is not changed.
        images: Normalised images, (B, C, H, W), or clips, (B, C, T, H, W); 64 or more.
        targets: Class of each image, (B,), or attributes of 0 and 1, (B, K).

    Returns:
        Average precisions. Labels that all or none of the images have are left out.

    Raises:
        InvalidInputError: If there are too few images, or none differ in their labels.
    """
    if len(images) < LEAST:
        raise InvalidInputError(f"{len(images)} images are too few; give {LEAST} or more.")
    parts = check_images(model, images).split(_BATCH)
    with in_eval_mode(model) as still:
        se_model = check_model(still)
        gates, whole, mean = [], [], None
        for part in parts:
            native = backbone_features(se_model, part)
            gates.append(se_model.gate(native))
            whole.append(se_model.classify(se_model.gated(native, gates[-1])))
            sums = [entry.sum(0, keepdim=True) / len(images) for entry in _entries(native)]
            mean = sums if mean is None else [a + b for a, b in zip(mean, sums, strict=True)]
        assert mean is not None
        constant = mean[0] if isinstance(native, torch.Tensor) else mean
        mean_gate = torch.cat(gates).mean(0)
        alone, features = [], []
        for part, gate in zip(parts, gates, strict=True):
            same = take(constant, torch.zeros(len(gate), dtype=torch.long, device=gate.device))
            alone.append(se_model.classify(se_model.gated(same, gate)))
            native = backbone_features(se_model, part)  # again: all of them may not fit into memory
            features.append(se_model.classify(se_model.gated(native, mean_gate.expand_as(gate))))
        multi_label = se_model.is_multi_label()
    logits = [torch.cat(parts) for parts in (whole, alone, features)]
    return _compared(logits, targets, multi_label)


def _entries(features: Features) -> List[torch.Tensor]:
    """Return the tensors of a backbone's features."""
    return [features] if isinstance(features, torch.Tensor) else features


def _compared(found: Sequence[torch.Tensor], targets: torch.Tensor, multi_label: bool) -> GateAlone:
    """Return the average precisions of the whole model's logits (N, K), and of the others'."""
    truth = (targets if multi_label else F.one_hot(targets, found[0].shape[1])).bool().cpu()
    known = truth.any(0) & ~truth.all(0)
    if not known.any():
        raise InvalidInputError("all images have the same labels; give images that differ.")
    truth, once = truth[:, known], torch.ones(1, len(truth), dtype=torch.float64)
    means = []
    for logits in found:
        scores = logits.cpu().double()  # in this order: MPS has no double
        scores = (scores if multi_label else scores.softmax(1))[:, known]
        means.append(float(average_precisions(truth, scores, once).mean()))
    whole, alone, features = means
    chance, random = float(truth.double().mean()), _random_precision(truth)
    return GateAlone(whole, alone, features, chance, random, len(truth))


def _random_precision(truth: torch.Tensor) -> float:
    """Return the mean average precision of random rankings, for labels bool (N, K)."""
    # A positive at rank r counts itself, and as many of the r - 1 before it as are positive by
    # chance: its precision is 1 / r + others * (1 - 1 / r). All ranks are equally likely.
    images = len(truth)
    others = (truth.double().sum(0) - 1) / (images - 1)
    itself = (1 / torch.arange(1, images + 1, dtype=torch.float64)).mean()
    return float((itself + others * (1 - itself)).mean())
