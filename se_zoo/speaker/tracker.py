"""Tracking faces from frame to frame."""

from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from ..data.faces.detect import Box, Face, FaceDetector, find_faces, overlap
from ..data.faces.find import square_of
from .face_filter import FaceFilter, Track

#: Least intersection over union of a detection and the last box of the track that it belongs to.
_LEAST_OVERLAP = 0.5


class Seen(NamedTuple):
    """A face in a frame of a track that has not ended yet.

    Attributes:
        number: Number of the track, from 0.
        box: Smoothed box, (4,): x0, y0, x1, y1 in pixels.
        until: Frame of the last detection.
        frames: Frames from the first to the last detection.
        score: Mean of what the detector says of how sure it is; None if it says nothing.
        found: Share of the looks in which the detector found the face.
    """

    number: int
    box: np.ndarray
    until: int
    frames: int
    score: Optional[float]
    found: float


@dataclass
class _Open:
    """A track that has not ended yet."""

    number: int
    first: int
    """Frame of the first detection."""
    frames: List[int] = field(default_factory=list)
    """Frames of the detections; of all, or of the last ones."""
    boxes: List[Box] = field(default_factory=list)
    found: int = 0
    """Number of detections."""
    scored: int = 0
    """Number of those with a score."""
    scores: float = 0.0
    """Sum of the scores."""
    looks: int = 0
    """Looks since the first detection."""
    until: int = 0
    """Looks until the last detection."""

    def add(self, frame: int, face: Face) -> None:
        self.frames.append(frame)
        self.boxes.append(square_of(face))
        self.found += 1
        if face.score is not None:
            self.scored += 1
            self.scores += face.score
        self.until = self.looks

    @property
    def score(self) -> Optional[float]:
        """Return the mean score of the detections."""
        return self.scores / self.scored if self.scored else None

    @property
    def share(self) -> float:
        """Return the share of the looks that found the face, up to the last detection."""
        return self.found / self.until


class Tracker:
    """Joins detections to tracks, frame by frame.

    A detection belongs to the open track that it overlaps most. Boxes between two detections are
    interpolated, and a running median smooths all boxes, because detections jitter.

    Args:
        gap: Frames without a detection after which a track ends.
        shortest: Frames of the shortest track that is kept.
        smooth: Width of the median, in frames.
        whole: Return the tracks that end. Otherwise only what :meth:`at` needs is kept of a track,
            so that memory does not grow.
    """

    gap: int
    shortest: int
    smooth: int
    whole: bool

    def __init__(self, gap: int = 10, shortest: int = 10, smooth: int = 13, whole: bool = True):
        self.gap, self.shortest, self.smooth, self.whole = gap, shortest, smooth, whole
        self._open: List[_Open] = []
        self._begun = 0

    def add(self, frame: int, faces: Sequence[Union[Face, Box]]) -> List[Track]:
        """Add a frame's detections.

        Args:
            frame: Number of the frame; it must increase from call to call.
            faces: The faces in it; boxes will do. A face with eyes gets the square box that speaker
                models are trained on (:func:`~se_zoo.data.faces.find.square_of`).

        Returns:
            The tracks that ended before the frame.
        """
        found = [face if isinstance(face, Face) else Face(*face) for face in faces]
        boxes = [square_of(face) for face in found]
        ended = [t for t in self._open if frame - t.frames[-1] > self.gap]
        self._open = [t for t in self._open if t not in ended]
        pairs = [
            (overlap(track.boxes[-1], box), n, m)
            for n, track in enumerate(self._open)
            for m, box in enumerate(boxes)
        ]
        for track in self._open:
            track.looks += 1
        taken, used = set(), set()
        for share, n, m in sorted(pairs, reverse=True):
            if share < _LEAST_OVERLAP or n in used or m in taken:
                continue
            used.add(n)
            taken.add(m)
            self._open[n].add(frame, found[m])
            if not self.whole:
                del (
                    self._open[n].frames[: -4 * self.smooth],
                    self._open[n].boxes[: -4 * self.smooth],
                )
        for m, face in enumerate(found):
            if m not in taken:
                begun = _Open(self._begun, frame, looks=1)
                self._begun += 1
                begun.add(frame, face)
                self._open.append(begun)
        return self._kept(ended)

    def at(self, frame: int) -> List[Seen]:
        """Return the faces of the open tracks in a frame, of which later frames may be known.

        Args:
            frame: Number of the frame. After a track's last detection its last box counts.
        """
        faces, half = [], self.smooth // 2
        for track in self._open:
            first, until = track.first, track.frames[-1]
            if frame < first:
                continue
            # Those around the frame; a long track has many more.
            frames, boxes = track.frames[-4 * self.smooth :], track.boxes[-4 * self.smooth :]
            near = np.arange(max(first, frame - half), max(frame, min(until, frame + half)) + 1)
            known = np.array(boxes)
            box = [np.median(np.interp(near, frames, known[:, side])) for side in range(4)]
            count = until - first + 1
            faces.append(Seen(track.number, np.array(box), until, count, track.score, track.share))
        return faces

    def end(self) -> List[Track]:
        """Close all open tracks and return them."""
        ended, self._open = self._open, []
        return self._kept(ended)

    def _kept(self, ended: Iterable[_Open]) -> List[Track]:
        tracks = [self._whole(track) for track in ended if self.whole]
        return [track for track in tracks if len(track) >= self.shortest]

    def _whole(self, track: _Open) -> Track:
        """Return the track with a smoothed box in every frame."""
        frames = np.arange(track.frames[0], track.frames[-1] + 1)
        known = np.array(track.boxes)
        boxes = np.stack([np.interp(frames, track.frames, known[:, i]) for i in range(4)], 1)
        half = min(self.smooth // 2, (len(boxes) - 1) // 2)
        if half:
            padded = np.pad(boxes, ((half, half), (0, 0)), mode="reflect")
            windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
            boxes = np.median(windows, axis=-1)
        return Track(track.first, boxes, track.score, track.share)


class Cuts:
    """Detects cuts between shots: the picture changes by far more than it did just before."""

    def __init__(self) -> None:
        self._picture: Optional[np.ndarray] = None
        self._before: Optional[np.ndarray] = None
        self._usual: Optional[float] = 0.0  # None: no change of the shot is known yet

    def seen(self, picture: np.ndarray) -> bool:
        """Return whether a picture, (H, W, 3) uint8, is the first one of a new shot."""
        rows, columns = (max(1, size // 24) for size in picture.shape[:2])
        small = picture[::rows, ::columns].astype(np.float32).mean(2)
        if self._picture is None or self._before is None:
            self._picture, self._before = picture, small
            return False
        if picture.shape != self._picture.shape:  # a stream may change its size: boxes do not fit
            self._picture, self._before, self._usual = picture, small, None
            return True
        change = float(np.abs(small - self._before).mean())
        # Of a video with fewer than 25 frames a second each picture is seen several times.
        repeated = picture is self._picture and not change
        self._picture, self._before = picture, small
        if repeated:
            return False
        if self._usual is None:  # a shot may begin in motion, which is no cut
            self._usual = change
            return False
        if change > 8 and change > 5 * (self._usual + 0.5):  # of 256 grey levels
            self._usual = None
            return True
        self._usual += 0.2 * (change - self._usual)
        return False


def find_tracks(
    pictures: Iterable[np.ndarray],
    detector: FaceDetector,
    every: int = 3,
    seen: Callable[[], Any] = lambda: None,
    keep: Optional[FaceFilter] = None,
) -> List[Track]:
    """Find faces in a video; tracks end where a shot does.

    Args:
        pictures: Frames, (H, W, 3) uint8, at 25 per second.
        detector: Finds the faces in a picture.
        every: Detect faces in every so many frames.
        seen: Called after every frame.
        keep: Which tracks are faces; by default a :class:`FaceFilter`.

    Returns:
        Tracks, sorted by their first frame.
    """
    tracker, cuts = Tracker(gap=10 + every, shortest=1), Cuts()  # `keep` drops short tracks
    tracks: List[Track] = []
    frame, side = -1, 0
    for frame, picture in enumerate(pictures):
        side = min(picture.shape[:2])
        cut = cuts.seen(picture)
        if cut:
            tracks += _held(tracker.end(), every, frame)
        if cut or frame % every == 0:
            tracks += _held(tracker.add(frame, find_faces(detector, picture)), every, frame)
        seen()
    tracks += _held(tracker.end(), every, frame + 1)
    return sorted(
        (keep or FaceFilter()).kept(tracks, side),
        key=lambda track: (track.first, float(track.boxes[0, 0])),
    )


def _held(tracks: List[Track], every: int, end: int) -> List[Track]:
    """Extend ended tracks to the next frame with detection, or to the end of the shot.

    The last box is repeated.
    """
    for track in tracks:
        more = max(0, min(every - 1, end - track.after))
        track.boxes = np.concatenate([track.boxes, np.repeat(track.boxes[-1:], more, 0)])
    return tracks
