"""Predict and explain data sets of any size: sources, the run, and its manifest."""

from ..rows import schema

schema()  # where pyarrow is missing, say how to get it before it is imported

from .open import open_source  # noqa: E402
from .run import Summary, predict  # noqa: E402
from .sources import Source  # noqa: E402

__all__ = ["Source", "Summary", "open_source", "predict"]
