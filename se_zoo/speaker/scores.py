"""Scoring face tracks with a speaker model, a few seconds at a time."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
import torch

from ..data.faces.crops import cut_face
from ..explanations.draw.frame_scale import visible_frames
from ..explanations.methods import FROM_ZERO_METHODS, default_method
from ..models.speaker.model import SpeakerModel
from .clips import sound_of
from .face_filter import FPS, Track

#: Frames that are scored at a time, and frames of context before and after them: a score depends
#: on the frames around it.
CHUNK, CONTEXT = 250, 25


@dataclass(eq=False)
class ScoredTrack:
    """A face track with its scores and explanations, frame by frame.

    Attributes:
        track: The face's frames and boxes.
        scores: Probability of speaking, (T,).
        maps: Heatmaps of the face for drawing, (T, h, w) uint8; see
            :func:`~se_zoo.explanations.draw.frame_scale.visible_frames`.
        shares: Share of each modality, by gate times magnitude of its features, (T, M).
        modalities: Names of the modalities.
    """

    track: Track
    scores: np.ndarray
    maps: np.ndarray
    shares: np.ndarray
    modalities: Tuple[str, ...]


def describe(scored: Sequence[ScoredTrack]) -> List[str]:
    """Say of every track when it is seen, and in which share of its frames it speaks.

    Args:
        scored: The tracks.

    Returns:
        A line for each track.
    """
    lines = []
    for number, one in enumerate(scored):
        first, after = one.track.first / FPS, one.track.after / FPS
        spoken = float((one.scores > 0.5).mean())
        lines.append(
            f"face {number}: second {first:.2f} to {after:.2f}, speaks in {spoken:.0%} of it"
        )
    return lines


class _Scorer:
    """Collects the crops of a track, and scores and discards them chunk by chunk."""

    def __init__(
        self, model: SpeakerModel, track: Track, sound: torch.Tensor, method: Optional[str]
    ):
        self.model, self.track, self.sound = model, track, sound
        self.method = method or default_method(model)
        self.crops: List[np.ndarray] = []
        self.begin = 0  # frame of the track that the first crop is of
        self.done = 0  # frames that are scored
        self.parts: List[Tuple[np.ndarray, ...]] = []

    def add(self, picture: np.ndarray, frame: int) -> None:
        """Add a frame, which must be the track's next."""
        self.crops.append(cut_face(picture, self.track.boxes[frame - self.track.first]))
        if self.begin + len(self.crops) - self.done == CHUNK + CONTEXT:
            self._score(self.done + CHUNK)

    def result(self) -> ScoredTrack:
        """Return the scored track; call it after the last frame."""
        if self.done < len(self.track):
            self._score(len(self.track))
        scores, raw, shares = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        # One scale for the whole track: with one per chunk, the colours would jump.
        visible = visible_frames(torch.from_numpy(raw), self.method in FROM_ZERO_METHODS)
        maps = (visible * 255).round().to(torch.uint8).numpy()
        return ScoredTrack(self.track, scores, maps, shares, self.model.modalities)

    def _score(self, until: int) -> None:
        first = self.track.first + self.begin
        count = len(self.crops)
        face = torch.from_numpy(np.stack(self.crops))[None]
        audio = sound_of(self.sound, first, count)
        found = self.model.explain(audio[None], face, method=self.method)
        chosen = slice(self.done - self.begin, until - self.begin)
        kept = found.scores, found.raw.half(), found.shares["features"]
        self.parts.append(tuple(part[0, chosen].numpy().copy() for part in kept))
        self.done = until
        keep = max(0, until - CONTEXT)
        self.crops = self.crops[keep - self.begin :]
        self.begin = keep


def score_tracks(
    model: SpeakerModel,
    pictures: Iterable[np.ndarray],
    tracks: Sequence[Track],
    sound: torch.Tensor,
    method: Optional[str] = None,
    seen: Callable[[], Any] = lambda: None,
) -> List[ScoredTrack]:
    """Score every frame of every track.

    Args:
        model: A speaker model of faces and sound, with an SE block.
        pictures: Frames, (H, W, 3) uint8, at 25 per second; read once.
        tracks: The face tracks.
        sound: MFCCs, 100 windows per second; see :func:`~se_zoo.speaker.sound_features`.
        method: Method of the maps, by default the model's own; see
            :func:`se_zoo.explanations.explain_speaker`.
        seen: Called after every frame.

    Returns:
        Scored tracks in the order of ``tracks``.

    Raises:
        InvalidInputError: As :func:`se_zoo.explanations.explain_speaker`.
    """
    coming = sorted(range(len(tracks)), key=lambda n: tracks[n].first, reverse=True)
    here: Dict[int, _Scorer] = {}  # the tracks that are visible now
    found: Dict[int, ScoredTrack] = {}
    for frame, picture in enumerate(pictures):
        while coming and tracks[coming[-1]].first <= frame:
            n = coming.pop()
            here[n] = _Scorer(model, tracks[n], sound, method)
        for n in list(here):
            here[n].add(picture, frame)
            if frame == tracks[n].after - 1:
                found[n] = here.pop(n).result()
        seen()
    return [found[n] for n in range(len(tracks))]
