"""Inputs of speaker models: the faces of a video with their sound."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Union

import numpy as np
import torch

from ..data.faces.crops import cut_face
from ..data.faces.detect import FaceDetector, open_detector
from ..data.faces.mfcc import WINDOWS
from ..data.faces.sound import sound_features, with_silence
from ..errors import DataError
from .face_filter import FaceFilter, Track
from .tracker import find_tracks
from .video_frames import Pictures


@dataclass(frozen=True, eq=False)
class SpeakerClip:
    """One face during a part of a video, and the sound of that part.

    Attributes:
        track: The face's first frame at 25 frames per second, and its box in every frame.
        audio: MFCCs, four windows per frame, (1, 4 T, 13) float32.
        face: Grey crops, (1, T, 112, 112) uint8.
    """

    track: Track
    audio: torch.Tensor
    face: torch.Tensor


def load_speakers(
    video: Union[str, Path],
    detector: Union[str, "os.PathLike[str]", FaceDetector, None] = None,
    every: int = 3,
    audio: int = 0,
    keep: Optional[FaceFilter] = None,
) -> List[SpeakerClip]:
    """Find the faces of a video and load them as inputs of a speaker model.

    All crops stay in memory, 12 KB each; for long videos use ``se-zoo speaker``, which keeps few.

    Args:
        video: The file; it is resampled to 25 frames per second.
        detector: YuNet's ONNX file, or any detector; OpenCV's cascades by default.
        every: Detect faces in every so many frames.
        audio: Number of the sound track, from 0.
        keep: Which tracks are faces, and which are wanted; by default a :class:`FaceFilter`.

    Returns:
        One clip per face, in the order in which they appear.

    Raises:
        DataError: If the video cannot be read, has no sound, or no face is found.
        InvalidInputError: If OpenCV is needed and not installed.
    """
    path = Path(video)
    pictures = Pictures(path)
    sound = sound_features(path, str(path), pictures.begins, audio)
    tracks = find_tracks(pictures, open_detector(detector), every, keep=keep)
    if not tracks:
        raise DataError(f"{path}: no face was found, or none for long enough.")
    crops: List[List[Any]] = [[] for _ in tracks]
    for frame, picture in enumerate(pictures):
        for found, track in zip(crops, tracks, strict=True):
            if track.first <= frame < track.after:
                found.append(cut_face(picture, track.boxes[frame - track.first]))
    return [
        SpeakerClip(
            track,
            sound_of(sound, track.first, len(track))[None],
            torch.from_numpy(np.stack(found))[None],
        )
        for found, track in zip(crops, tracks, strict=True)
    ]


def sound_of(sound: torch.Tensor, first: int, frames: int) -> torch.Tensor:
    """Return the MFCCs of some frames, (4 frames, 13); silence after the end of the sound."""
    part = sound[WINDOWS * first : WINDOWS * (first + frames)]
    return with_silence(part, WINDOWS * frames)
