"""What explanations need of a model, and the checks of models and images."""

import math
import warnings
from typing import (
    TYPE_CHECKING,
    Callable,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    TypeVar,
    Union,
    cast,
)

import torch
from torch import nn

from ..errors import InvalidInputError, SEZooWarning
from ..layers.grid import Features, cell_sizes
from .maps import Placement
from .photo import Photo

if TYPE_CHECKING:
    import os

    from ..data.faces.detect import FaceDetector
    from ..data.faces.find import FaceFinder
    from ..data.photos import Photos

    #: What is explained: a normalised tensor, or photos.
    Images = Union[torch.Tensor, Photos]
    #: Whether and how faces are found in photos.
    Face = Union[bool, str, os.PathLike[str], FaceDetector, FaceFinder]


#: A batch without negative values looks as if it were not normalised if normalised black lies this
#: far below 0, and if its values are this far apart, as those of photos are.
_CLEARLY = 0.25


class SEModel(Protocol):
    """The interface of a model with an SE head. Explanations use nothing else of a model."""

    def forward_features(self, x: torch.Tensor) -> Features:
        """Return the backbone's features of normalised images, (B, C, H, W), or clips."""
        ...

    def forward_head(self, x: Features) -> torch.Tensor:
        """Return the logits of ungated features, (B, num_classes)."""
        ...

    def gate(self, features: Features) -> torch.Tensor:
        """Return the SE vectors of features, (B, channels)."""
        ...

    def gated(self, features: Features, gate: Optional[torch.Tensor] = None) -> Features:
        """Return the features times the gate; by default, times their own."""
        ...

    def classify(self, gated: Features) -> torch.Tensor:
        """Return the logits of gated features, (B, num_classes)."""
        ...

    def feature_grid(self, features: Features, image_size: Tuple[int, int]) -> torch.Tensor:
        """Return the (B, C, *grid) view of features of images of this height and width."""
        ...

    def class_labels(self) -> Optional[Sequence[str]]:
        """Return the label names in the order of the classes, or None."""
        ...

    def image_stats(self) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
        """Return the channel means and standard deviations that images are normalised with."""
        ...

    def is_multi_label(self) -> bool:
        """Return whether the classes are independent yes/no labels."""
        ...

    def read_photos(
        self, photos: "Photos", face: "Face" = False
    ) -> Tuple[torch.Tensor, Tuple[Photo, ...]]:
        """Return photos as a normalised batch, and what it shows of each."""
        ...


def check_model(model: nn.Module) -> SEModel:
    """Return the model, typed as one with an SE head.

    Raises:
        InvalidInputError: If it has no SE head.
    """
    if not all(hasattr(model, name) for name in ("gate", "classify", "feature_grid")):
        if hasattr(model, "modalities"):
            raise InvalidInputError(
                f"{type(model).__name__} takes sound and faces, not images; use "
                "model.explain(audio, face), or se_zoo.ExplainedSpeaker(model) to export it."
            )
        if hasattr(getattr(model, "module", None), "feature_grid"):
            raise InvalidInputError(
                f"{type(model).__name__} wraps the model; explain its .module instead."
            )
        raise InvalidInputError(
            f"{type(model).__name__} has no SE head; give it one with se_zoo.squeeze(model)."
        )
    return cast(SEModel, model)


def label_names(model: SEModel, num_classes: int) -> Optional[Sequence[str]]:
    """Return the label names of a model's classes, or None.

    Args:
        model: The model.
        num_classes: Number of its logits. A replaced classifier may have another number than there
            are names.
    """
    names = model.class_labels()
    return None if names is None or len(names) != num_classes else names


def uncompiled(model: nn.Module) -> nn.Module:
    """Return the model that ``torch.compile`` wrapped; any other model as it is.

    The wrapper has the model's attributes, but is no instance of its class.
    """
    inner = getattr(model, "_orig_mod", None)
    return uncompiled(inner) if isinstance(inner, nn.Module) else model


def as_batch(
    model: SEModel, images: "Images", face: "Face" = False
) -> Tuple[torch.Tensor, Optional[Tuple[Photo, ...]]]:
    """Return images as a tensor; photos are read and preprocessed by the model.

    Args:
        model: The model.
        images: A normalised tensor, which is returned as it is, or photos.
        face: Whether and how to find faces in the photos.

    Returns:
        The batch, and the photo of each of its images; None if a tensor was given.

    Raises:
        InvalidInputError: If a photo cannot be used, or ``face`` is given with a tensor.
    """
    if not isinstance(images, torch.Tensor):
        return model.read_photos(images, face)
    if face is not False:
        raise InvalidInputError(
            "face= finds faces in photos, and a tensor was given; give a path, a PIL image or a "
            "uint8 array (H, W, 3)."
        )
    return images, None


def check_images(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Check images with their values, and return them on the model's device and in its dtype.

    Raises:
        InvalidInputError: As :func:`to_batch` and :func:`check_values`.
    """
    batch = to_batch(model, images)
    low, high = torch.stack(images.detach().aminmax()).tolist()
    check_values(cast(SEModel, model), low, high)
    return batch


def to_batch(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Check the form of images, and return them on the model's device and in its dtype.

    Clip models take (B, C, T, H, W). Images, (B, C, H, W), become clips of one frame for them.

    Raises:
        InvalidInputError: If the images are not a non-empty float tensor of such a shape.
    """
    clips = bool(getattr(model, "takes_clips", False))
    shape = "(B, C, T, H, W)" if clips else "(B, C, H, W)"
    if not isinstance(images, torch.Tensor):
        raise InvalidInputError(
            f"images must be a tensor {shape}, not {type(images).__name__}; use timm's "
            "create_transform(**resolve_data_config(model=model)) on PIL images."
        )
    if clips and images.dim() == 4:
        images = images.unsqueeze(2)
    if images.dim() != 4 + clips or images.numel() == 0:
        raise InvalidInputError(
            f"images must have shape {shape} and not be empty, got {tuple(images.shape)}"
            + ("; add the batch axis with images[None]." if images.dim() == 3 else ".")
        )
    if not images.is_floating_point():
        raise InvalidInputError(
            f"images must be floats normalised with the model's mean and std, got {images.dtype}; "
            "give photos as paths, PIL images or uint8 numpy arrays (H, W, 3)."
        )
    parameter = next(model.parameters())
    dtype = parameter.dtype if parameter.is_floating_point() else images.dtype
    return images.to(device=parameter.device, dtype=dtype)


def check_values(model: SEModel, low: float, high: float) -> None:
    """Refuse images by their lowest and highest value; both are NaN if any value is.

    Raises:
        InvalidInputError: If a value is not finite, or the values are plainly not normalised.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidInputError("images contain NaN or infinite values; check the preprocessing.")
    mean, std = model.image_stats()
    white = max((1 - m) / s for m, s in zip(mean, std, strict=True))
    # Black is at or below 0 for every model, so a batch of pixels from 0 to 255 has no negative
    # value. White is at `white`; sharpened images go somewhat beyond it.
    if low >= 0 and high > 4 * max(white, 1.0):
        raise InvalidInputError(
            f"images have values from {low:g} to {high:g}, which look like pixels from 0 to 255; "
            f"normalise them: (pixels / 255 - mean) / std with mean {mean} and std {std}. Or give "
            "the photos: model.explain(path), a PIL image or a uint8 numpy array (H, W, 3)."
        )


def warn_unnormalised(model: SEModel, low: float, high: float) -> None:
    """Warn of a tensor that looks like pixels from 0 to 1, by its lowest and highest value.

    A whole batch in this range is rare where it is normalised, unless black itself is near 0. A
    batch of all but one value, such as zeros, is nobody's photo.
    """
    mean, std = model.image_stats()
    black = min(-m / s for m, s in zip(mean, std, strict=True))
    if 0 <= low < high - _CLEARLY <= 1 - _CLEARLY and black < -_CLEARLY:
        warnings.warn(
            f"images have values from {low:g} to {high:g}, which look like pixels from 0 to 1 that "
            f"were not normalised, as (pixels - mean) / std with mean {mean} and std {std}: then "
            "the prediction is wrong. Give the photos themselves, model.explain(path), or the "
            "tensor that model.read_photos returns.",
            SEZooWarning,
            stacklevel=4,
        )


def placement_of(model: nn.Module, grid: Tuple[int, ...], size: Tuple[int, ...]) -> Placement:
    """Return where the cells of a model's maps lie in its input.

    Args:
        model: Model with an SE head; ``map_offset`` is (0, 0) where nobody measured it.
        grid: Size of the raw maps.
        size: Size of the input, (H, W), of clips (T, H, W).
    """
    stages = getattr(model, "feature_info", None)
    last = stages[-1] if isinstance(stages, (list, tuple)) and stages else {}
    stride = last.get("reduction") if isinstance(last, dict) else None
    cells = cell_sizes(grid, size, stride if isinstance(stride, int) else None)
    x, y = getattr(model, "map_offset", (0.0, 0.0))
    return Placement(cells, (x, y))


_T = TypeVar("_T")

#: Parts of torch's errors that are the machine's, whatever the images and options are.
_OF_MACHINE = (
    "CUDA error", "CUDA out of memory", "cuDNN error", "CUBLAS_STATUS", "DefaultCPUAllocator",
    "DataLoader worker",
)  # fmt: skip


def is_of_machine(error: BaseException) -> bool:
    """Return whether an error of torch is the machine's (memory, device) and not the caller's."""
    return any(part in str(error) for part in _OF_MACHINE)


def backbone_features(model: SEModel, images: torch.Tensor) -> Features:
    """Return the backbone's features, in its own layout.

    Raises:
        InvalidInputError: As :func:`taken`.
    """
    return taken(model, images, model.forward_features)


def taken(model: object, images: torch.Tensor, forward: Callable[[torch.Tensor], _T]) -> _T:
    """Return what a backbone makes of images.

    Raises:
        InvalidInputError: If the backbone refuses the images, with its own reason (such as the
            number of channels, or a fixed size).
    """
    try:
        return forward(images)
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError) as error:
        # As an error of the images, it would become the row of a photo that cannot be used.
        if is_of_machine(error):
            raise
        if "DTensor" in str(error):
            raise InvalidInputError(
                f"The weights of {type(model).__name__} are spread over processes (FSDP); call "
                "model.unshard() in each of them first, and model.reshard() afterwards."
            ) from error
        raise InvalidInputError(
            f"{type(model).__name__} does not take images of shape {tuple(images.shape)}: {error}"
        ) from error


def check_float32(model: nn.Module) -> None:
    """Check that a model's weights can be exported.

    Raises:
        InvalidInputError: If they are not float32.
    """
    dtype = next(model.parameters()).dtype
    if dtype != torch.float32:
        raise InvalidInputError(f"The model's weights are {dtype}; convert it with model.float().")
