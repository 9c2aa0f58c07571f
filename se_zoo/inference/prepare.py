"""Prepare photos of any kind for a model, in any process."""

import io
from pathlib import Path
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image

from ..data.images import read_rgb, upright_rgb
from ..errors import InvalidInputError
from ..explanations.photo import Region
from ..models.photos import check_resized, seen_region
from ..transform import evaluation_transform


class Prepared(NamedTuple):
    """Photos of a batch, ready for the model.

    Attributes:
        ids: Name of each photo.
        errors: Why a photo cannot be used, or None.
        regions: Part of each photo that the model sees, (x0, y0, x1, y1) in its upright pixels.
        pixels: uint8 (n, 3, H, W), the photos that can be used.
    """

    ids: List[str]
    errors: List[Optional[str]]
    regions: List[Optional[Region]]
    pixels: torch.Tensor


class Preprocess:
    """Read, cut and resize photos as a model's config says. It can be pickled.

    Args:
        config: The model's, of ``timm.data.resolve_data_config``.

    Raises:
        InvalidInputError: If its input has not three channels.
    """

    config: "dict[str, Any]"
    transform: "Any"

    def __init__(self, config: Mapping[str, Any]):
        self.config = dict(config)
        channels, *size = config["input_size"]
        if channels != 3:
            raise InvalidInputError(
                f"photos have 3 channels, and the model takes {channels}; give model.explain a "
                "normalised tensor."
            )
        self.size: Tuple[int, int] = (size[0], size[1])
        # Meant for timm's prefetcher, pixels stay uint8: a quarter of the bytes to hand over.
        self.transform = evaluation_transform(self.config, use_prefetcher=True)

    def __call__(self, ids: Sequence[str], images: Sequence[Any]) -> Prepared:
        """Prepare photos; those that cannot be read or resized come back as errors.

        Args:
            ids: Name of each photo.
            images: Encoded bytes, paths, PIL images, uint8 arrays (H, W, 3) or (H, W), dicts with
                ``bytes`` or ``path`` as in data sets of the Hub, or an exception to hand on.

        Returns:
            The prepared photos.
        """
        errors: List[Optional[str]] = []
        regions: List[Optional[Region]] = []
        pixels: List[torch.Tensor] = []
        for image in images:
            try:
                photo = open_photo(image)
                check_resized(photo.size, self.config)
                made = torch.as_tensor(self.transform(photo))
            except (OSError, ValueError) as error:
                errors.append(str(error) or type(error).__name__)
                regions.append(None)
                continue
            pixels.append(made)
            errors.append(None)
            regions.append(seen_region(photo.size, self.config))
        batch = torch.stack(pixels) if pixels else torch.empty(0, 3, *self.size, dtype=torch.uint8)
        return Prepared(list(ids), errors, regions, batch)


def open_photo(image: Any) -> Image.Image:
    """Open a photo of any kind as an upright RGB image.

    Args:
        image: One of the images that :class:`Preprocess` takes.

    Returns:
        The image.

    Raises:
        ValueError: If it cannot be read, or is none of these.
        OSError: If its file cannot be opened.
    """
    if isinstance(image, Exception):
        raise ValueError(str(image))
    if isinstance(image, Mapping):
        given = image.get("bytes") or image.get("path")
        if not given:
            raise ValueError("the row has neither the bytes nor the path of an image")
        image = given
    if isinstance(image, (bytes, bytearray, memoryview)):
        return read_rgb(io.BytesIO(image))
    if isinstance(image, (str, Path)):
        return read_rgb(Path(image))
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        if image.size and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
            return Image.fromarray(image).convert("RGB")
    shape = f" {image.dtype} {image.shape}" if isinstance(image, np.ndarray) else ""
    raise ValueError(
        f"an image must be bytes, a path, a PIL image or a uint8 array (H, W, 3), not "
        f"{type(image).__name__}{shape}"
    )
