"""The SE block, and the layouts of the backbones' features."""

from .grid import FrameLayout, Layout, token_grid
from .squeeze_excite import GATES, SqueezeExcite

__all__ = ["GATES", "FrameLayout", "Layout", "SqueezeExcite", "token_grid"]
