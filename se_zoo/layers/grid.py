"""How a backbone lays out its features, and the (B, C, *grid) view of them.

This is the only module that knows about NCHW, NHWC, tokens with prefix tokens, NCTHW and NTHWC.
Everything else is written once, against the view: channels second, then the grid, (H, W) for
images and (T, H, W) for clips.
"""

from dataclasses import dataclass
from typing import List, Literal, Optional, Tuple, Union

import torch

Kind = Literal["NCHW", "NHWC", "NLC", "NCL", "NCTHW", "NTHWC"]
#: What ``forward_features`` returns: one tensor or, from a few backbones, a list of them.
Features = Union[torch.Tensor, List[torch.Tensor]]

#: Channel axis of each layout in the backbone's own tensor.
_CHANNEL_AXIS = {"NCHW": 1, "NHWC": 3, "NLC": 2, "NCL": 1, "NCTHW": 1, "NTHWC": 4}
_NDIM = {"NCHW": 4, "NHWC": 4, "NLC": 3, "NCL": 3, "NCTHW": 5, "NTHWC": 5}


def feature_map(features: Features) -> torch.Tensor:
    """The feature map among a backbone's features: the last entry, where they are a list."""
    return features if isinstance(features, torch.Tensor) else features[-1]


def with_feature_map(features: Features, replacement: torch.Tensor) -> Features:
    """The features with another feature map; the other entries of a list stay as they are."""
    if isinstance(features, torch.Tensor):
        return replacement
    return [*features[:-1], replacement]


def in_dtype(features: Features, dtype: torch.dtype) -> Features:
    """The features in another floating type; themselves, where they have it."""
    if isinstance(features, torch.Tensor):
        return features.to(dtype)
    return [entry.to(dtype) for entry in features]


def take(features: Features, images: torch.Tensor) -> Features:
    """The features of chosen images of the batch, by index (N,)."""
    if isinstance(features, torch.Tensor):
        return features[images]
    return [entry[images] for entry in features]


def cell_aspect(grid: Tuple[int, int], image_size: Tuple[int, int]) -> float:
    """Longer over shorter side of a grid's cells on an image, at least 1."""
    height, width = image_size[0] / grid[0], image_size[1] / grid[1]
    return max(height, width) / min(height, width)


def token_grid(tokens: int, image_size: Tuple[int, int]) -> Tuple[int, int]:
    """Height and width of the patch grid behind a number of patch tokens.

    Among all factorisations of ``tokens`` the one whose cells are closest to squares is taken;
    this is right for every backbone with square patches, non-square images included.

    Args:
        tokens: Number of patch tokens, prefix tokens not counted.
        image_size: (H, W) of the input image in pixels.

    Returns:
        (rows, columns) with ``rows * columns == tokens``.

    Raises:
        ValueError: If no factorisation has cells that are roughly square (aspect below 1.5); then
            the tokens are no grid, or prefix tokens were counted in.
    """
    grids = [(rows, tokens // rows) for rows in range(1, tokens + 1) if tokens % rows == 0]
    # Not min(key=...), which torch.compile of torch 2.6 cannot follow.
    aspects = [cell_aspect(grid, image_size) for grid in grids]
    if not aspects or min(aspects) >= 1.5:
        height, width = image_size
        raise ValueError(
            f"{tokens} tokens form no grid of square cells on a {height}x{width} image."
        )
    return grids[aspects.index(min(aspects))]


@dataclass(frozen=True)
class Layout:
    """Layout of the feature map that ``forward_features`` returns.

    Where a backbone returns a list, its last entry is the feature map: the block gates that, and
    the head gets the other entries as they are.

    Args:
        kind: Axis order. ``NLC`` are tokens: (B, prefix + patches, C); ``NCL`` is a grid that the
            backbone flattened.
        prefix_tokens: Class and register tokens in front of the patch tokens (``NLC`` only).
        grid: The patch tokens' grid where the backbone takes one size only, (T, H, W) of a clip;
            by default it is found from the image size.
    """

    kind: Kind
    prefix_tokens: int = 0
    grid: Optional[Tuple[int, ...]] = None

    def __post_init__(self) -> None:
        if self.kind not in _CHANNEL_AXIS:
            raise ValueError(f"Unknown layout {self.kind!r}; known: {', '.join(_CHANNEL_AXIS)}.")
        if self.prefix_tokens and self.kind != "NLC":
            raise ValueError(f"Only token features (NLC) have prefix tokens, not {self.kind}.")

    def check(self, features: Features) -> torch.Tensor:
        """The feature map; raises ``ValueError`` if its rank does not fit the layout."""
        tensor = feature_map(features)
        if tensor.dim() != _NDIM[self.kind]:
            shape = tuple(tensor.shape)
            raise ValueError(
                f"Features of layout {self.kind} have {_NDIM[self.kind]} axes, got {shape}."
            )
        return tensor

    def channels(self, features: Features) -> int:
        """Number of channels C of the features."""
        return feature_map(features).shape[_CHANNEL_AXIS[self.kind]]

    def squeeze(self, features: Features) -> torch.Tensor:
        """Mean over the grid, (B, C); prefix tokens do not count."""
        tensor = self.check(features)
        if self.kind == "NLC":
            return tensor[:, self.prefix_tokens :].mean(dim=1)
        axes = [a for a in range(1, tensor.dim()) if a != _CHANNEL_AXIS[self.kind]]
        return tensor.mean(dim=axes)

    def scale(self, features: Features, gate: torch.Tensor) -> Features:
        """Features times a gate (B, C), in the backbone's own layout; prefix tokens are scaled too,
        because a head that reads the class token alone would otherwise never see the gate."""
        tensor = self.check(features)
        shape = [1] * tensor.dim()
        shape[0], shape[_CHANNEL_AXIS[self.kind]] = gate.shape
        return with_feature_map(features, tensor * gate.view(shape))

    def to_grid(
        self, features: Features, image_size: Optional[Tuple[int, int]] = None
    ) -> torch.Tensor:
        """The (B, C, *grid) view of the features (no copy; prefix tokens left out).

        Args:
            features: What ``forward_features`` returned, or its feature map alone.
            image_size: (H, W) of the input in pixels; needed for tokens and flattened grids only.

        Raises:
            ValueError: If the shape does not fit the layout, or tokens come without an image size.
        """
        tensor = self.check(features)
        if self.kind in ("NCHW", "NCTHW"):
            return tensor
        if self.kind in ("NHWC", "NTHWC"):
            return tensor.movedim(-1, 1)
        if image_size is None and self.grid is None:
            raise ValueError("Token features need the image size to be laid out on their grid.")
        patches = tensor
        if self.kind == "NLC":
            patches = tensor[:, self.prefix_tokens :].transpose(1, 2)
        if self.grid is not None:
            return patches.unflatten(2, self.grid)
        assert image_size is not None
        return patches.unflatten(2, token_grid(patches.shape[2], image_size))

    def from_grid(self, view: torch.Tensor, prefix: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Back from the (B, C, *grid) view to the backbone's own layout.

        Args:
            view: (B, C, *grid).
            prefix: Prefix tokens (B, prefix_tokens, C), needed where the layout has any.
        """
        if self.kind in ("NCHW", "NCTHW"):
            return view
        if self.kind in ("NHWC", "NTHWC"):
            return view.movedim(1, -1)
        if self.kind == "NCL":
            return view.flatten(2)
        patches = view.flatten(2).transpose(1, 2)
        if not self.prefix_tokens:
            return patches
        if prefix is None or prefix.shape[1] != self.prefix_tokens:
            raise ValueError(f"This layout needs its {self.prefix_tokens} prefix tokens back.")
        return torch.cat([prefix, patches], dim=1)


@dataclass(frozen=True)
class FrameLayout:
    """Layout of the features of a clip's frames, one after the other: (B, T, *frame).

    Args:
        frame: Layout of one frame's features, as an image backbone gives them.
    """

    frame: Layout

    def channels(self, features: Features) -> int:
        """Number of channels C of the features."""
        return self.frame.channels(self._flat(features))

    def squeeze(self, features: Features) -> torch.Tensor:
        """Mean over time and grid, (B, C); prefix tokens do not count."""
        tensor = feature_map(features)
        return self.frame.squeeze(self._flat(features)).unflatten(0, tensor.shape[:2]).mean(1)

    def scale(self, features: Features, gate: torch.Tensor) -> Features:
        """Features times a gate (B, C), the same for every frame."""
        tensor = feature_map(features)
        frames = gate.repeat_interleave(tensor.shape[1], 0)
        scaled = self.frame.scale(self._flat(features), frames)
        return feature_map(scaled).unflatten(0, tensor.shape[:2])

    def to_grid(
        self, features: Features, image_size: Optional[Tuple[int, int]] = None
    ) -> torch.Tensor:
        """The (B, C, T, H, W) view of the features (no copy; prefix tokens left out)."""
        tensor = feature_map(features)
        grid = self.frame.to_grid(tensor.flatten(0, 1), image_size)
        return grid.unflatten(0, tensor.shape[:2]).transpose(1, 2)

    @staticmethod
    def _flat(features: Features) -> torch.Tensor:
        return feature_map(features).flatten(0, 1)
