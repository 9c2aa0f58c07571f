"""Images and videos with labels: opened in one way, checked before they are trained on."""

from .check import check
from .config import ClipDataConfig, DataConfig, SplitsConfig, TableConfig, TrackDataConfig
from .faces.builder import build_tracks
from .faces.track_table import FaceTrack, TrackTable, open_tracks
from .report import Report, SplitCounts
from .tables.open import open_table
from .tables.stream import ImageStream, open_stream
from .tables.table import ImageTable, Table
from .video.clip_table import ClipTable, Footage

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
