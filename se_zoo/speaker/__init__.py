"""Raw videos: who is in them, who of them speaks, and why a model thinks so."""

from ..data.sound import sound_features
from .faces import Box, FaceDetector, HaarDetector
from .load import SpeakerClip, load_speakers
from .scores import ScoredTrack, score_tracks
from .tracks import Track, Tracker, find_tracks

__all__ = [
    "Box",
    "FaceDetector",
    "HaarDetector",
    "ScoredTrack",
    "SpeakerClip",
    "Track",
    "Tracker",
    "find_tracks",
    "load_speakers",
    "score_tracks",
    "sound_features",
]
