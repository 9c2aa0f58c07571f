"""Images and videos with labels: opened in one way, checked before they are trained on."""

from .check import check
from .clips import ClipTable, Footage
from .config import ClipDataConfig, DataConfig, SplitsConfig, TableConfig, TrackDataConfig
from .opening import open_table
from .report import Report, SplitCounts
from .streams import ImageStream, open_stream
from .tables import ImageTable, Table
from .track_builder import build_tracks
from .tracks import FaceTrack, TrackTable, open_tracks

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
