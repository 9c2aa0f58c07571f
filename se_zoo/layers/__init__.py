"""Building blocks: the SE block and the one place that knows how backbones lay out features."""

from .grid import FrameLayout, Layout, token_grid
from .squeeze_excite import GATES, SqueezeExcite

__all__ = ["GATES", "FrameLayout", "Layout", "SqueezeExcite", "token_grid"]
