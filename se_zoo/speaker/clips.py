"""The faces of a video with their sound, as speaker models take them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Union

import numpy as np
import torch

from ..data.faces.crops import cut_face
from ..data.faces.detect import FaceDetector, HaarDetector
from ..data.faces.mfcc import WINDOWS, mfcc
from ..data.faces.sound import WINDOW, sound_features
from ..errors import DataError
from .tracker import Track, find_tracks
from .video_frames import Pictures


@dataclass(frozen=True, eq=False)
class SpeakerClip:
    """A face over a stretch of a video, and the sound of that stretch.

    Attributes:
        track: Where it is: its first frame at 25 a second, and a box for every frame.
        audio: MFCCs, four windows a frame, (1, 4 T, 13).
        face: Grey crops, 0 to 255, (1, T, 112, 112) uint8.
    """

    track: Track
    audio: torch.Tensor
    face: torch.Tensor


def load_speakers(
    video: Union[str, Path], detector: Optional[FaceDetector] = None, every: int = 3
) -> List[SpeakerClip]:
    """Find the faces of a video; each can be given to a speaker model's ``explain``.

    All crops are held in memory, 12 KB each; ``se-zoo speaker`` does not hold them.

    Args:
        video: The file; whatever its frames a second, it is looked at at 25.
        detector: What finds faces; OpenCV's cascade by default.
        every: Of so many frames one is searched.

    Returns:
        In the order in which they appear.

    Raises:
        DataError: If the video cannot be read, has no sound, or shows no face.
        InvalidInputError: If OpenCV is needed and not installed.
    """
    path = Path(video)
    pictures = Pictures(path)
    sound = sound_features(path, str(path), pictures.begins)
    tracks = find_tracks(pictures, detector or HaarDetector(), every)
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
    """The windows of some frames, (4 frames, 13); silence where the sound ends before."""
    part = sound[WINDOWS * first : WINDOWS * (first + frames)]
    lacking = WINDOWS * frames - len(part)
    silence = mfcc(torch.zeros(WINDOW)).expand(lacking, -1)
    return torch.cat([part, silence]) if lacking else part
