"""Images and videos with labels: opened in one way, checked before they are trained on."""

from .check import check
from .clips import ClipTable, Footage
from .config import ClipDataConfig, DataConfig, TableConfig
from .opening import open_table
from .report import Report, SplitCounts
from .streams import ImageStream, open_stream
from .tables import ImageTable, Table

__all__ = [
    "ClipDataConfig",
    "ClipTable",
    "DataConfig",
    "Footage",
    "ImageStream",
    "ImageTable",
    "Report",
    "SplitCounts",
    "Table",
    "TableConfig",
    "check",
    "open_stream",
    "open_table",
]
