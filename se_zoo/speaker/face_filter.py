"""Tracks of faces, and which of them to keep."""

from dataclasses import dataclass, replace
from typing import Iterable, List, Optional, Tuple

import numpy as np

#: Frames per second of faces and sound: the rate that the models were trained on.
FPS = 25


@dataclass(eq=False)
class Track:
    """One face in consecutive frames.

    Attributes:
        first: The first frame.
        boxes: Box in every frame from ``first`` on, (T, 4): x0, y0, x1, y1 in pixels.
        score: Mean of what the detector says of how sure it is, from 0 to 1; None if it says
            nothing.
        found: Share of the looks, from the first to the last detection, in which the detector
            found it.
    """

    first: int
    boxes: np.ndarray
    score: Optional[float] = None
    found: float = 1.0

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.boxes)

    @property
    def after(self) -> int:
        """Return the first frame after the track."""
        return self.first + len(self)

    @property
    def side(self) -> float:
        """Return the median side of the boxes: the root of their area, in pixels."""
        sizes = self.boxes[:, 2:] - self.boxes[:, :2]
        return float(np.median(np.sqrt(sizes.clip(min=0).prod(1))))


@dataclass(frozen=True)
class FaceFilter:
    """Which tracks of a detector are faces, and which faces are wanted.

    ``python -m benchmarks.face_tracks`` measures what the defaults leave out.

    Args:
        score: Least mean score of a track, where the detector gives one.
        found: Least share of the looks in which the detector found the face.
        smallest: Least side of a face, as a share of the picture's shorter side.
        shortest: Least number of frames.
        most: How many faces to keep at a time, those of the largest tracks; None: all. Of another
            track the parts are kept in which there is room, if they are long enough.
    """

    score: float = 0.5
    found: float = 0.4
    smallest: float = 0.0
    shortest: int = 10
    most: Optional[int] = None

    def kept(self, tracks: Iterable[Track], side: int) -> List[Track]:
        """Return the tracks that are kept.

        Args:
            tracks: The tracks of a video.
            side: The picture's shorter side, in pixels.
        """
        faces = [track for track in tracks if self._is_face(track, side)]
        if self.most is None:
            return faces
        after = max((track.after for track in faces), default=0)
        shown, kept = np.zeros(after, int), []
        for track in sorted(faces, key=lambda one: one.side, reverse=True):
            for begin, end in _runs(shown[track.first : track.after] < self.most):
                if end - begin < self.shortest:
                    continue
                shown[track.first + begin : track.first + end] += 1
                whole = end - begin == len(track)
                part = replace(track, first=track.first + begin, boxes=track.boxes[begin:end])
                kept.append(track if whole else part)
        return kept

    def _is_face(self, track: Track, side: int) -> bool:
        return self.takes(track.score, track.found, track.side / side, len(track))

    def takes(self, score: Optional[float], found: float, side: float, frames: int) -> bool:
        """Return whether a track is a face that is wanted, whatever others there are.

        Args:
            score: Mean of what the detector says; None if it says nothing.
            found: Share of the looks in which the detector found the face.
            side: Side of the face, as a share of the picture's shorter side.
            frames: Number of frames.
        """
        return (
            (score is None or score >= self.score)
            and found >= self.found
            and side >= self.smallest
            and frames >= self.shortest
        )


def _runs(free: np.ndarray) -> List[Tuple[int, int]]:
    """Return begin and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], free.astype(int), [0]])))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]
