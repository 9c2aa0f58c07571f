"""Images, videos and face tracks with labels: settings, tables, and checks before training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

#: The names of each module. Tables need torch; the command line finds photos without it.
_NAMES = {
    "checks.report": ("Report", "SplitCounts"),
    "checks.table_check": ("check",),
    "config": ("ClipDataConfig", "DataConfig", "SplitsConfig", "TableConfig", "TrackDataConfig"),
    "faces.builder": ("build_tracks",),
    "faces.track_table": ("FaceTrack", "TrackTable", "open_tracks"),
    "tables.clip_table": ("ClipTable", "Footage"),
    "tables.open": ("open_table",),
    "tables.stream": ("ImageStream", "open_stream"),
    "tables.table": ("ImageTable", "Table"),
}


def __getattr__(name: str) -> Any:
    """Import the module of a name on first use."""
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
