"""Image data sets with labels: opened in one way, checked before they are trained on."""

from .check import check
from .config import DataConfig
from .report import Report, SplitCounts
from .streams import ImageStream, open_stream
from .tables import ImageTable, open_table

__all__ = [
    "DataConfig",
    "ImageStream",
    "ImageTable",
    "Report",
    "SplitCounts",
    "check",
    "open_stream",
    "open_table",
]
