"""The picture of a finished run: right and wrong answers, explained."""

from pathlib import Path
from typing import List, NamedTuple, Set

import torch
from torch import nn

from ..explanations import explain
from ..explanations.target_classes import short_names

#: Answers that are drawn.
_SHOWN = 6
#: Inputs that are predicted at a time.
_BATCH = 6


class _Answer(NamedTuple):
    confidence: float
    image: int
    label: int
    right: bool


def draw_samples(path: Path, model: nn.Module, images: torch.Tensor, truth: torch.Tensor) -> None:
    """Explain right and wrong answers, as PNG with the numbers in a JSON file beside it.

    Half of the answers are wrong ones, if there are as many; the most confident are drawn, each of
    another image and if possible of another label. Of independent labels, an answer is right if the
    label was said to hold and does, and wrong if it was misjudged either way.

    Args:
        path: The PNG file.
        model: A model with an SE head.
        images: Its input, (B, C, H, W), or (B, C, T, H, W) of clips.
        truth: Class indices, (B,), or attributes of 0 and 1, (B, A).
    """
    answers = _answers(model, images, truth)
    wrong = _chosen([a for a in answers if not a.right], _SHOWN // 2, set())
    right = _chosen([a for a in answers if a.right], _SHOWN - len(wrong), {a.image for a in wrong})
    shown = [*right, *wrong]
    if not shown:  # a model of independent labels that says yes to none, and rightly so
        shown = [_Answer(0.0, n, 0, True) for n in range(min(_SHOWN, len(images)))]
    chosen = images[[answer.image for answer in shown]]
    explanation = explain(model, chosen, torch.tensor([answer.label for answer in shown]))
    labels = short_names(
        explanation.label_names or [str(n) for n in range(explanation.logits.shape[1])]
    )
    names = []
    for answer in shown:
        target = truth[answer.image]
        if target.dim():
            known = f"{'' if target[answer.label] > 0.5 else 'not '}{labels[answer.label]}"
        else:
            known = labels[int(target)]
        names.append(f"{'right' if answer.right else 'wrong'}; truth: {known}")
    explanation.save(path, names=names)


def _answers(model: nn.Module, images: torch.Tensor, truth: torch.Tensor) -> List[_Answer]:
    """Return the answers that may be drawn, the most confident first."""
    answers = []
    for start in range(0, len(images), _BATCH):
        found = explain(model, images[start : start + _BATCH], method="activation")
        predicted, probabilities = found.predicted.cpu(), found.probabilities.cpu()
        for n in range(len(found)):
            target = truth[start + n]
            holds = torch.zeros_like(predicted[n])
            if target.dim():
                holds = target > 0.5
            else:
                holds[int(target)] = True
            said = predicted[n].nonzero()[:, 0].tolist()
            missed = (holds & ~predicted[n]).nonzero()[:, 0].tolist() if target.dim() else []
            for label in said:
                sure = float(probabilities[n, label])
                answers.append(_Answer(sure, start + n, label, bool(holds[label])))
            for label in missed:
                sure = 1 - float(probabilities[n, label])
                answers.append(_Answer(sure, start + n, label, False))
    return sorted(answers, reverse=True)


def _chosen(answers: List[_Answer], count: int, images: Set[int]) -> List[_Answer]:
    """Return the first answers of different images, at first of different labels."""
    taken: List[_Answer] = []
    for again in (False, True):
        for answer in answers:
            seen = {a.label for a in taken}
            if len(taken) < count and answer.image not in images:
                if again or answer.label not in seen:
                    taken.append(answer)
                    images = images | {answer.image}
    return taken
