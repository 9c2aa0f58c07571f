"""Clips for training and evaluation: which frames of a video, and how they are transformed."""

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
) -> Tuple["_RandomClip", "ClipViews"]:
    """Return the transforms of a :class:`~se_zoo.data.Footage` for training and for evaluation.

    Args:
        model: A clip model, whose configuration says which clips it takes.
        data: The crop of the frames, and the clips of a video in evaluation.
        augment: The augmentation.

    Raises:
        InvalidInputError: If the augmentation does not exist for clips.
    """
    config = resolve_clip_config(model)
    return _RandomClip(config, data, augment), ClipViews(config, data)


class _RandomClip:
    """Takes frames at a random position of the video and augments them alike.

    It returns (3, T, H, W) float32. All random numbers are from torch's default generator.
    """

    config: ClipConfig
    data: ClipDataConfig
    augmented: Any

    def __init__(self, config: ClipConfig, data: ClipDataConfig, augment: AugmentConfig):
        self.config, self.data = config, data
        self.augment = v2.Compose(_augmentations(config, augment))

    def __call__(self, footage: Footage) -> torch.Tensor:
        config = self.config
        frames = footage.at_rate(config.fps)
        places = training_indices(
            len(frames), config.num_frames, config.frame_stride, config.sampling
        )
        clip: torch.Tensor = self.augment(as_frames(footage.read([frames[i] for i in places])))
        return clip


class ClipViews:
    """Takes clips evenly spaced over the video, in one or three crops.

    Args:
        config: What the model takes.
        data: How many clips and crops.
    """

    config: ClipConfig
    data: ClipDataConfig
    views: Views

    def __init__(self, config: ClipConfig, data: ClipDataConfig):
        self.config, self.data = config, data
        self.views = Views(config, data.crops)

    def __call__(self, footage: Footage) -> torch.Tensor:
        """Return the views of a video, (views, 3, T, H, W) float32."""
        config = self.config
        frames = footage.at_rate(config.fps)
        clips = evaluation_indices(
            len(frames), config.num_frames, config.frame_stride, config.sampling, self.data.clips
        )
        # Clips may overlap, so every frame is read once; it is resized at once to save memory.
        needed = sorted({frames[place] for clip in clips for place in clip})
        small = torch.cat([self.views(as_frames(b)) for b in footage.blocks(needed)], 2)
        where = {number: place for place, number in enumerate(needed)}
        return torch.cat([small[:, :, [where[frames[i]] for i in clip]] for clip in clips])

    def __repr__(self) -> str:
        # Cached features are used again for views of the same text.
        crop = "" if self.data.crop is None else f", crop {self.data.crop}"
        return f"ClipViews({self.config}, {self.data.clips} x {self.data.crops}{crop})"


def _augmentations(config: ClipConfig, augment: AugmentConfig) -> Any:
    """Return torchvision's transforms, which treat all frames of a clip alike."""
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
    """Return torchvision's RandAugment for a policy such as rand-m9-n2."""
    found = re.fullmatch(r"rand-m(\d+)(?:-n(\d+))?", policy)
    if found is None:
        raise InvalidInputError(
            f"--augment.auto-augment {policy}: clips need rand-mM or rand-mM-nN, where M is the "
            "magnitude and N the number of operations, such as rand-m9-n2."
        )
    magnitude, count = int(found[1]), int(found[2] or 2)
    if not (magnitude < 31 and 0 < count < 15):
        raise InvalidInputError(
            f"--augment.auto-augment {policy}: the magnitude must be 0 to 30, the number of "
            "operations 1 to 14."
        )
    return v2.RandAugment(count, magnitude)


def mean_logits(views: torch.Tensor, multi_label: bool) -> torch.Tensor:
    """Return logits whose probabilities are the mean of the views' probabilities.

    Args:
        views: Logits, (B, V, K).
        multi_label: Whether the K classes are independent attributes.

    Returns:
        (B, K): log-probabilities; log-odds for independent attributes.
    """
    if multi_label:
        yes = torch.nn.functional.logsigmoid(views).logsumexp(1)
        return yes - torch.nn.functional.logsigmoid(-views).logsumexp(1)
    means: torch.Tensor = views.log_softmax(2).logsumexp(1) - torch.log(
        torch.tensor(float(views.shape[1]))
    )
    return means
