"""Images, videos and face tracks with labels: settings, tables, and checks before training."""

from .checks.report import Report, SplitCounts
from .checks.table_check import check
from .config import ClipDataConfig, DataConfig, SplitsConfig, TableConfig, TrackDataConfig
from .faces.builder import build_tracks
from .faces.track_table import FaceTrack, TrackTable, open_tracks
from .tables.clip_table import ClipTable, Footage
from .tables.open import open_table
from .tables.stream import ImageStream, open_stream
from .tables.table import ImageTable, Table

__all__ = [
    "ClipDataConfig",
    "ClipTable",
    "DataConfig",
    "FaceTrack",
    "Footage",
    "ImageStream",
    "ImageTable",
    "Report",
    "SplitCounts",
    "SplitsConfig",
    "Table",
    "TableConfig",
    "TrackDataConfig",
    "TrackTable",
    "build_tracks",
    "check",
    "open_stream",
    "open_table",
    "open_tracks",
]
