"""Layouts of the backbones' features, and the (B, C, *grid) view of them.

Only this module knows about NCHW, NHWC, tokens with prefix tokens, NCTHW and NTHWC. All other code
uses the view: channels second, then the grid, (H, W) for images and (T, H, W) for clips.
"""

import math
from dataclasses import dataclass
from typing import List, Literal, Optional, Tuple, Union

import torch

Kind = Literal["NCHW", "NHWC", "NLC", "NCL", "NCTHW", "NTHWC"]
#: Result of ``forward_features``: one tensor or, from a few backbones, a list of them.
Features = Union[torch.Tensor, List[torch.Tensor]]

#: Channel axis of each layout in the backbone's own tensor.
_CHANNEL_AXIS = {"NCHW": 1, "NHWC": 3, "NLC": 2, "NCL": 1, "NCTHW": 1, "NTHWC": 4}
_NDIM = {"NCHW": 4, "NHWC": 4, "NLC": 3, "NCL": 3, "NCTHW": 5, "NTHWC": 5}


def feature_map(features: Features) -> torch.Tensor:
    """Return the feature map of a backbone's features: the last entry if they are a list."""
    return features if isinstance(features, torch.Tensor) else features[-1]


def with_feature_map(features: Features, replacement: torch.Tensor) -> Features:
    """Return the features with another feature map; other entries of a list are unchanged."""
    if isinstance(features, torch.Tensor):
        return replacement
    return [*features[:-1], replacement]


def in_dtype(features: Features, dtype: torch.dtype) -> Features:
    """Return the features in a floating type; not copied if they already have it."""
    if isinstance(features, torch.Tensor):
        return features.to(dtype)
    return [entry.to(dtype) for entry in features]


def take(features: Features, images: torch.Tensor) -> Features:
    """Return the features of some images of the batch, by index (N,)."""
    if isinstance(features, torch.Tensor):
        return features[images]
    return [entry[images] for entry in features]


def cell_aspect(grid: Tuple[int, int], image_size: Tuple[int, int]) -> float:
    """Return the longer over the shorter side of a grid's cells on an image, at least 1."""
    height, width = image_size[0] / grid[0], image_size[1] / grid[1]
    return max(height, width) / min(height, width)


def token_grid(tokens: int, image_size: Tuple[int, int]) -> Tuple[int, int]:
    """Return the height and width of the patch grid of a number of patch tokens.

    Of all factorisations of ``tokens``, it is the one whose cells are closest to squares. This is
    right for every backbone with square patches, also on images that are not square.

    Args:
        tokens: Number of patch tokens, without prefix tokens.
        image_size: (H, W) of the input image in pixels.

    Returns:
        (rows, columns) with ``rows * columns == tokens``.

    Raises:
        ValueError: If no factorisation has roughly square cells (aspect below 1.5). Then the tokens
            form no grid, or prefix tokens were counted.
    """
    grids = [(rows, tokens // rows) for rows in range(1, tokens + 1) if tokens % rows == 0]
    # Not min(key=...), which torch.compile of torch 2.6 cannot trace.
    aspects = [cell_aspect(grid, image_size) for grid in grids]
    if not aspects or min(aspects) >= 1.5:
        height, width = image_size
        raise ValueError(
            f"{tokens} tokens form no grid of square cells on a {height}x{width} image; give the "
            "number of patch tokens without prefix tokens."
        )
    return grids[aspects.index(min(aspects))]


def cell_sizes(
    grid: Tuple[int, ...], size: Tuple[int, ...], stride: Optional[int] = None
) -> Tuple[float, ...]:
    """Return the distance between neighbouring cells of a grid, in pixels or frames.

    Cell i is centred at ``cell_size * (i + 0.5)``. A grid need not tile its image: a backbone pads
    the image to whole cells, or leaves out a rest (a ViT with ``dynamic_img_pad`` at 225 pixels, a
    ConvNeXt at 159).

    Args:
        grid: Cells along each axis, (rows, columns), of clips (steps, rows, columns).
        size: Size of the input along the same axes, in pixels and frames.
        stride: The backbone's stride in pixels, if it is known. Where the number of cells does not
            fit it, and in time, it is a power of two if one fits: rather one that pads the input
            than one that leaves out a rest.

    Returns:
        The distances. Where no whole stride fits, the cells divide the input evenly.
    """
    space = len(grid) - 2
    return tuple(
        _cell_size(cells, length, stride if axis >= space else None)
        for axis, (cells, length) in enumerate(zip(grid, size, strict=True))
    )


def _cell_size(cells: int, length: int, stride: Optional[int]) -> float:
    if stride and cells in (length // stride, -(-length // stride)):
        return float(stride)
    powers = [2**n for n in range(length.bit_length())]
    # Two cells may fit both: 10 frames are 2 padded cells of 8, or 2 of 4 and a rest.
    fits = [step for step in powers if cells == -(-length // step)]
    fits = fits or [step for step in powers if cells == length // step]
    return float(fits[0]) if fits else length / cells


@dataclass(frozen=True)
class Layout:
    """Layout of the feature map that ``forward_features`` returns.

    If a backbone returns a list, its last entry is the feature map. The SE block gates this entry
    only, and the head gets the other entries unchanged.

    Args:
        kind: Axis order. ``NLC`` are tokens, (B, prefix + patches, C). ``NCL`` is a grid that the
            backbone has flattened.
        prefix_tokens: Number of class and register tokens before the patch tokens (``NLC`` only).
        grid: Grid of the patch tokens for backbones of a fixed input size, such as (T, H, W) of
            clips; by default it is computed from the image size.

    Raises:
        ValueError: If the kind is unknown, or has prefix tokens without being ``NLC``.
    """

    kind: Kind
    prefix_tokens: int = 0
    grid: Optional[Tuple[int, ...]] = None

    def __post_init__(self) -> None:
        if self.kind not in _CHANNEL_AXIS:
            raise ValueError(f"Unknown layout {self.kind!r}; known: {', '.join(_CHANNEL_AXIS)}.")
        if self.prefix_tokens and self.kind != "NLC":
            raise ValueError(
                f"Only token features (NLC) have prefix tokens, not {self.kind}; got "
                f"prefix_tokens={self.prefix_tokens}."
            )

    def check(self, features: Features) -> torch.Tensor:
        """Return the feature map, after checking its number of axes.

        Args:
            features: Result of ``forward_features``.

        Raises:
            ValueError: If the number of axes does not fit the layout.
        """
        tensor = feature_map(features)
        if tensor.dim() != _NDIM[self.kind]:
            shape = tuple(tensor.shape)
            raise ValueError(
                f"Features of layout {self.kind} have {_NDIM[self.kind]} axes, got {shape}."
            )
        return tensor

    def channels(self, features: Features) -> int:
        """Return the number of channels C.

        Args:
            features: Result of ``forward_features``.
        """
        return feature_map(features).shape[_CHANNEL_AXIS[self.kind]]

    def squeeze(self, features: Features) -> torch.Tensor:
        """Return the mean over the grid, without prefix tokens, (B, C).

        Args:
            features: Result of ``forward_features``.
        """
        tensor = self.check(features)
        if self.kind == "NLC":
            return tensor[:, self.prefix_tokens :].mean(dim=1)
        axes = [a for a in range(1, tensor.dim()) if a != _CHANNEL_AXIS[self.kind]]
        return tensor.mean(dim=axes)

    def scale(self, features: Features, gate: torch.Tensor) -> Features:
        """Return the features times a gate, in the backbone's own layout.

        Prefix tokens are scaled, too. Otherwise the gate would not reach a head that reads class
        tokens only.

        Args:
            features: Result of ``forward_features``.
            gate: (B, C).
        """
        tensor = self.check(features)
        shape = [1] * tensor.dim()
        shape[0], shape[_CHANNEL_AXIS[self.kind]] = gate.shape
        return with_feature_map(features, tensor * gate.view(shape))

    def to_grid(
        self, features: Features, image_size: Optional[Tuple[int, int]] = None
    ) -> torch.Tensor:
        """Return the (B, C, *grid) view of the features, without a copy and without prefix tokens.

        Args:
            features: Result of ``forward_features``, or its feature map.
            image_size: (H, W) of the input in pixels; only needed for tokens and flattened grids.

        Returns:
            (B, C, H, W) for images, (B, C, T, H, W) for clips.

        Raises:
            ValueError: If the shape does not fit the layout, or tokens come without an image size.
        """
        tensor = self.check(features)
        if self.kind in ("NCHW", "NCTHW"):
            return tensor
        if self.kind in ("NHWC", "NTHWC"):
            return tensor.movedim(-1, 1)
        if image_size is None and self.grid is None:
            raise ValueError("Token features have no grid without the image size; give image_size.")
        patches = tensor
        if self.kind == "NLC":
            patches = tensor[:, self.prefix_tokens :].transpose(1, 2)
        if self.grid is not None:
            if patches.shape[2] != math.prod(self.grid):
                raise ValueError(
                    f"{patches.shape[2]} tokens do not form the fixed grid {self.grid}; give "
                    "inputs of the size that the model was made for."
                )
            return patches.unflatten(2, self.grid)
        assert image_size is not None
        return patches.unflatten(2, token_grid(patches.shape[2], image_size))


@dataclass(frozen=True)
class FrameLayout:
    """Layout of clip features that consist of the features of each frame, (B, T, *frame).

    Args:
        frame: Layout of the features of one frame, which an image backbone returns.
    """

    frame: Layout

    def channels(self, features: Features) -> int:
        """Return the number of channels C.

        Args:
            features: Result of ``forward_features``.
        """
        return self.frame.channels(self._flat(features))

    def squeeze(self, features: Features) -> torch.Tensor:
        """Return the mean over time and grid, without prefix tokens, (B, C).

        Args:
            features: Result of ``forward_features``.
        """
        tensor = feature_map(features)
        return self.frame.squeeze(self._flat(features)).unflatten(0, tensor.shape[:2]).mean(1)

    def scale(self, features: Features, gate: torch.Tensor) -> Features:
        """Return the features times a gate, which is the same for every frame.

        Args:
            features: Result of ``forward_features``.
            gate: (B, C).
        """
        tensor = feature_map(features)
        frames = gate.repeat_interleave(tensor.shape[1], 0)
        scaled = self.frame.scale(self._flat(features), frames)
        return feature_map(scaled).unflatten(0, tensor.shape[:2])

    def to_grid(
        self, features: Features, image_size: Optional[Tuple[int, int]] = None
    ) -> torch.Tensor:
        """Return the (B, C, T, H, W) view, without a copy and without prefix tokens.

        Args:
            features: Result of ``forward_features``, or its feature map.
            image_size: (H, W) of the frames in pixels; only needed for tokens and flattened grids.
        """
        tensor = feature_map(features)
        grid = self.frame.to_grid(tensor.flatten(0, 1), image_size)
        return grid.unflatten(0, tensor.shape[:2]).transpose(1, 2)

    @staticmethod
    def _flat(features: Features) -> torch.Tensor:
        return feature_map(features).flatten(0, 1)
