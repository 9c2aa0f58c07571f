"""Active speakers in raw videos: face tracks, scores, explanations and annotated videos."""

from ..data.faces.detect import Box, FaceDetector, HaarDetector
from ..data.faces.sound import sound_features
from .clips import SpeakerClip, load_speakers
from .scores import ScoredTrack, score_tracks
from .tracker import Track, Tracker, find_tracks

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
