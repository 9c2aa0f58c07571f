"""Clips for training and evaluation: which frames of a video, and what becomes of them."""

import re
from typing import Any, Tuple

import torch
from torch import nn
from torchvision.transforms import v2

from ..data import ClipDataConfig, Footage
from ..data.video.sampling import evaluation_indices, training_indices
from ..errors import InvalidInputError
from ..models import resolve_clip_config
from ..models.clip.config import ClipConfig
from ..models.clip.transforms import Normalized, Views, as_frames, interpolation_of
from .config import AugmentConfig


def clip_transforms(
    model: nn.Module, data: ClipDataConfig, augment: AugmentConfig
) -> Tuple["RandomClip", "ClipViews"]:
    """What makes a clip of a :class:`~se_zoo.data.Footage` in training, and in evaluation.

    Raises:
        InvalidInputError: For an augmentation that is not made for clips.
    """
    config = resolve_clip_config(model)
    return RandomClip(config, data, augment), ClipViews(config, data)


class RandomClip:
    """Frames at a random place of the video, augmented alike; (3, T, H, W) float32.

    All random numbers are torch's default generator's.
    """

    def __init__(self, config: ClipConfig, data: ClipDataConfig, augment: AugmentConfig):
        self.config, self.data = config, data
        self.augmented = v2.Compose(_augmentations(config, augment))

    def __call__(self, footage: Footage) -> torch.Tensor:
        config = self.config
        frames = footage.at_rate(config.fps)
        places = training_indices(
            len(frames), config.num_frames, config.frame_stride, config.sampling
        )
        clip: torch.Tensor = self.augmented(as_frames(footage.read([frames[i] for i in places])))
        return clip


class ClipViews:
    """Clips evenly spaced over the video, in one or three crops; (views, 3, T, H, W) float32."""

    def __init__(self, config: ClipConfig, data: ClipDataConfig):
        self.config, self.data = config, data
        self.views = Views(config, data.crops)

    def __call__(self, footage: Footage) -> torch.Tensor:
        config = self.config
        frames = footage.at_rate(config.fps)
        clips = evaluation_indices(
            len(frames), config.num_frames, config.frame_stride, config.sampling, self.data.clips
        )
        # In one go, as clips may overlap; resized at once, as videos may be large.
        needed = sorted({frames[place] for clip in clips for place in clip})
        small = torch.cat([self.views(as_frames(b)) for b in footage.blocks(needed)], 2)
        where = {number: place for place, number in enumerate(needed)}
        return torch.cat([small[:, :, [where[frames[i]] for i in clip]] for clip in clips])

    def __repr__(self) -> str:
        return f"ClipViews({self.config}, {self.data.clips} x {self.data.crops})"


def _augmentations(config: ClipConfig, augment: AugmentConfig) -> Any:
    """torchvision's transforms; given all frames of a clip at once, they do the same to each."""
    steps: Any = [
        v2.RandomResizedCrop(
            config.size,
            augment.scale,
            augment.ratio,
            interpolation=interpolation_of(config),
            antialias=True,
        ),
        v2.RandomHorizontalFlip(augment.hflip),
    ]
    if augment.auto_augment is not None:
        steps.append(_rand_augment(augment.auto_augment))
    elif augment.color_jitter:
        steps.append(v2.ColorJitter(*[augment.color_jitter] * 3))  # as timm's: no hue
    steps.append(Normalized(config))
    if augment.reprob:
        steps.append(v2.RandomErasing(augment.reprob))
    return steps


def _rand_augment(policy: str) -> Any:
    found = re.fullmatch(r"rand-m(\d+)(?:-n(\d+))?", policy)
    if found is None:
        raise InvalidInputError(
            f"--augment.auto-augment {policy}: for clips it is rand-mM or rand-mM-nN, magnitude "
            "and number of operations, such as rand-m9-n2."
        )
    magnitude, count = int(found[1]), int(found[2] or 2)
    if not (magnitude < 31 and 0 < count < 15):
        raise InvalidInputError(
            f"--augment.auto-augment {policy}: magnitudes are 0 to 30, operations 1 to 14."
        )
    return v2.RandAugment(count, magnitude)


def mean_logits(views: torch.Tensor, multi_label: bool) -> torch.Tensor:
    """Logits whose probabilities are the mean of the views' probabilities.

    Args:
        views: Logits, (B, V, K).
        multi_label: Whether the K answers are independent.

    Returns:
        (B, K): log-probabilities, or log-odds of independent answers.
    """
    if multi_label:
        yes = torch.nn.functional.logsigmoid(views).logsumexp(1)
        return yes - torch.nn.functional.logsigmoid(-views).logsumexp(1)
    means: torch.Tensor = views.log_softmax(2).logsumexp(1) - torch.log(
        torch.tensor(float(views.shape[1]))
    )
    return means
