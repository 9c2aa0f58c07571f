"""How a backbone lays out its features, and the (B, C, *grid) view of them.

This is the only module that knows about NCHW, NHWC, tokens with prefix tokens, NCTHW and NTHWC.
Everything else is written once, against the view: channels second, then the grid, (H, W) for
images and (T, H, W) for clips.
"""

from dataclasses import dataclass
from typing import Literal, Optional, Tuple

import torch

Kind = Literal["NCHW", "NHWC", "NLC", "NCTHW", "NTHWC"]

#: Channel axis of each layout in the backbone's own tensor.
_CHANNEL_AXIS = {"NCHW": 1, "NHWC": 3, "NLC": 2, "NCTHW": 1, "NTHWC": 4}
_NDIM = {"NCHW": 4, "NHWC": 4, "NLC": 3, "NCTHW": 5, "NTHWC": 5}


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
    height, width = image_size
    best, best_aspect = None, float("inf")
    for rows in range(1, tokens + 1):
        if tokens % rows:
            continue
        columns = tokens // rows
        cell_height, cell_width = height / rows, width / columns
        aspect = max(cell_height, cell_width) / min(cell_height, cell_width)
        if aspect < best_aspect:
            best, best_aspect = (rows, columns), aspect
    if best is None or best_aspect >= 1.5:
        raise ValueError(f"{tokens} tokens form no grid of square cells on a {height}x{width} image.")
    return best


@dataclass(frozen=True)
class Layout:
    """Layout of the tensor that ``forward_features`` returns.

    Args:
        kind: Axis order. ``NLC`` are tokens: (B, prefix + patches, C).
        prefix_tokens: Class and register tokens in front of the patch tokens (``NLC`` only).
    """

    kind: Kind
    prefix_tokens: int = 0

    def __post_init__(self) -> None:
        if self.kind not in _CHANNEL_AXIS:
            raise ValueError(f"Unknown layout {self.kind!r}; known: {', '.join(_CHANNEL_AXIS)}.")
        if self.prefix_tokens and self.kind != "NLC":
            raise ValueError(f"Only token features (NLC) have prefix tokens, not {self.kind}.")

    def check(self, features: torch.Tensor) -> None:
        """Raise ``ValueError`` if the tensor's rank does not fit the layout."""
        if features.dim() != _NDIM[self.kind]:
            shape = tuple(features.shape)
            raise ValueError(f"Features of layout {self.kind} have {_NDIM[self.kind]} axes, got {shape}.")

    def channels(self, features: torch.Tensor) -> int:
        """Number of channels C of the features."""
        return features.shape[_CHANNEL_AXIS[self.kind]]

    def squeeze(self, features: torch.Tensor) -> torch.Tensor:
        """Mean over the grid, (B, C); prefix tokens do not count."""
        self.check(features)
        if self.kind == "NLC":
            return features[:, self.prefix_tokens :].mean(dim=1)
        axes = [a for a in range(1, features.dim()) if a != _CHANNEL_AXIS[self.kind]]
        return features.mean(dim=axes)

    def scale(self, features: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Features times a gate (B, C), in the backbone's own layout; prefix tokens are scaled too,
        because a head that reads the class token alone would otherwise never see the gate."""
        self.check(features)
        shape = [1] * features.dim()
        shape[0], shape[_CHANNEL_AXIS[self.kind]] = gate.shape
        return features * gate.view(shape)

    def to_grid(
        self, features: torch.Tensor, image_size: Optional[Tuple[int, int]] = None
    ) -> torch.Tensor:
        """The (B, C, *grid) view of the features (no copy; prefix tokens left out).

        Args:
            features: Tensor in this layout.
            image_size: (H, W) of the input in pixels; needed for tokens only.

        Raises:
            ValueError: If the shape does not fit the layout, or tokens come without an image size.
        """
        self.check(features)
        if self.kind in ("NCHW", "NCTHW"):
            return features
        if self.kind in ("NHWC", "NTHWC"):
            return features.movedim(-1, 1)
        if image_size is None:
            raise ValueError("Token features need the image size to be laid out on their grid.")
        patches = features[:, self.prefix_tokens :]
        grid = token_grid(patches.shape[1], image_size)
        return patches.transpose(1, 2).unflatten(2, grid)

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
        patches = view.flatten(2).transpose(1, 2)
        if not self.prefix_tokens:
            return patches
        if prefix is None or prefix.shape[1] != self.prefix_tokens:
            raise ValueError(f"This layout needs its {self.prefix_tokens} prefix tokens back.")
        return torch.cat([prefix, patches], dim=1)
