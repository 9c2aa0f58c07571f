"""Active speakers in raw videos: face tracks, scores, explanations and annotated videos."""

from ..data.faces.detect import Box, Face, FaceDetector, HaarDetector, YuNetDetector
from ..data.faces.sound import sound_features
from .box_table import BoxRow, read_boxes, tracks_of_boxes
from .clips import SpeakerClip, load_speakers
from .face_filter import FaceFilter, Track
from .live import LiveFrame, LiveSpeakers
from .live_input import read_running
from .scores import ScoredTrack, score_tracks
from .tracker import Tracker, find_tracks

__all__ = [
    "Box",
    "BoxRow",
    "Face",
    "FaceDetector",
    "FaceFilter",
    "HaarDetector",
    "LiveFrame",
    "LiveSpeakers",
    "ScoredTrack",
    "SpeakerClip",
    "Track",
    "Tracker",
    "YuNetDetector",
    "find_tracks",
    "load_speakers",
    "read_boxes",
    "read_running",
    "score_tracks",
    "sound_features",
    "tracks_of_boxes",
]
