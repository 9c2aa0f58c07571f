"""Score who speaks while a video is still running, with a bounded delay."""

from collections import deque
from dataclasses import dataclass, field
from typing import Deque, Dict, List, NamedTuple, Optional

import numpy as np
import torch

from ..data.faces.crops import CROP, cut_face
from ..data.faces.detect import FaceDetector, find_faces
from ..data.faces.mfcc import WINDOWS
from ..errors import InvalidInputError
from ..explanations.draw.frame_scale import visible_frames
from ..explanations.methods import FROM_ZERO_METHODS, SPEAKER_METHODS, default_method
from ..explanations.speaker import explain_features
from ..models.speaker.model import SpeakerModel
from ..models.speaker.running import RunningEncoder
from ..models.speaker.tensors import Streams
from .face_filter import FaceFilter, Track
from .live_sound import LiveSound
from .scores import CONTEXT, ScoredTrack
from .tracker import Cuts, Seen, Tracker

#: Frames of which the maps set the scale of drawing: ten seconds.
_SCALE = 250
#: Frames of sound around a frame that its features see.
_SOUND = 8


class LiveFrame(NamedTuple):
    """A frame with the faces that are in it.

    Attributes:
        number: Number of the frame, at 25 frames per second.
        picture: The frame, (H, W, 3) uint8, RGB.
        faces: Scores of each face by the number of its track: tracks of this one frame.
    """

    number: int
    picture: np.ndarray
    faces: Dict[int, ScoredTrack]


@dataclass
class _Face:
    """A face that is being scored."""

    encoder: RunningEncoder
    first: int
    """Its first frame."""
    begin: int
    """Frame of the first of the maps that are kept."""
    crops: List[np.ndarray] = field(default_factory=list)
    """Crops that are not encoded yet: several at a time are faster."""
    maps: Optional[torch.Tensor] = None
    """Features, (1, C, N, h, w)."""
    raw: Optional[torch.Tensor] = None
    """The last maps that were drawn, (N, h, w)."""
    boxes: Dict[int, np.ndarray] = field(default_factory=dict)
    shown: Dict[int, bool] = field(default_factory=dict)
    after: Optional[int] = None
    """First frame after the track; None while it runs."""
    closed: bool = False
    """Whether the encoder knows that the track has ended."""


class LiveSpeakers:
    """Score the faces of a running video, a little later than they are seen.

    A score sees at most ``lookahead`` frames behind its own. With more of them it comes closer to
    that of the whole video, in which the recurrent detector sees all that follows. Memory does not
    grow: of a face only the last seconds are kept.

    Args:
        model: A speaker model of faces and sound, with an SE block.
        detector: Finds the faces in a picture.
        lookahead: Frames between a frame and its scores, at 25 a second.
        every: Detect faces in every so many frames.
        method: Method of the maps, by default the model's own; see
            :func:`se_zoo.explanations.explain_speaker`.
        keep: Which tracks are faces, and which are wanted. A face is scored from when it is known
            for long enough.

    Raises:
        InvalidInputError: If the lookahead is too small, or the model or method does not fit.
    """

    model: SpeakerModel
    detector: FaceDetector
    lookahead: int
    every: int
    method: str
    keep: FaceFilter
    least: int
    block: int
    tracker: Tracker
    cuts: Cuts
    sound: LiveSound
    newest: int
    done: int
    cropped: int

    def __init__(
        self,
        model: SpeakerModel,
        detector: FaceDetector,
        lookahead: int = 25,
        every: int = 3,
        method: Optional[str] = None,
        keep: Optional[FaceFilter] = None,
    ):
        if model.se is None or model.body_encoder is not None or model.pool != "frame":
            raise InvalidInputError(
                "live scores need a model of faces and sound with an SE block and a gate for each "
                "frame (pool='frame')."
            )
        self.method = method or default_method(model)
        if self.method not in SPEAKER_METHODS:
            raise InvalidInputError(
                f"method is one of {', '.join(SPEAKER_METHODS)}, not {self.method!r}."
            )
        self.model, self.detector, self.every = model.eval(), detector, every
        self.keep = keep or FaceFilter()
        # A crop waits for the next look, and its features for the crops that they see.
        self.least = every + RunningEncoder(model.visual_encoder).delay
        if lookahead < self.least:
            raise InvalidInputError(
                f"the lookahead is {lookahead} frames; with a face search in every {every} frames "
                f"it must be {self.least} or more."
            )
        self.lookahead = lookahead
        #: Frames that are scored at a time; the last of them still sees half of the lookahead that
        #: is left for the detector.
        self.block = (lookahead - self.least) // 2 + 1
        self.tracker, self.cuts = Tracker(gap=10 + every, whole=False), Cuts()
        self.sound = LiveSound(WINDOWS * (max(500, lookahead) + CONTEXT + 2 * _SOUND))
        self.newest, self.done, self.cropped = -1, 0, 0
        self.pictures: Deque[np.ndarray] = deque()  # from the frame `done` on
        self.faces: Dict[int, _Face] = {}

    def add(self, picture: np.ndarray, sound: np.ndarray) -> List[LiveFrame]:
        """Add a frame and its sound.

        Args:
            picture: (H, W, 3) uint8, RGB; at 25 frames per second.
            sound: The samples of its time, int16 (N,) at 16 kHz; usually 640.

        Returns:
            The frames whose scores are known now, in order; often none.
        """
        self.newest += 1
        self.pictures.append(picture)
        self.sound.add(sound)
        if self.cuts.seen(picture):
            self._crop(self.newest)
            self.tracker.end()
            self._end_lost()
        if self.newest % self.every == 0:
            self.tracker.add(self.newest, find_faces(self.detector, picture))
            self._end_lost()
        self._crop(self.newest - self.every + 1)
        return self._score(self.newest - self.lookahead + self.block)

    def end(self) -> List[LiveFrame]:
        """Return all frames that are left."""
        self._crop(self.newest + 1)
        self.tracker.end()
        self._end_lost()
        self.sound.end()
        found: List[LiveFrame] = []
        while self.done <= self.newest:
            found += self._score(min(self.newest + 1, self.done + self.block), final=True)
        return found

    def _crop(self, until: int) -> None:
        """Cut the faces out of the frames before ``until``, and encode them."""
        if until <= self.cropped:
            return
        for frame in range(self.cropped, until):
            picture = self.pictures[frame - self.done]
            for seen in self._wanted(frame, picture):
                face = self.faces.get(seen.number)
                if face is None:
                    face = _Face(RunningEncoder(self.model.visual_encoder), frame, frame)
                    self.faces[seen.number] = face
                face.boxes[frame] = seen.box
                face.shown[frame] = frame < seen.until + self.every
                face.crops.append(cut_face(picture, seen.box.tolist()))
        self.cropped = until

    def _wanted(self, frame: int, picture: np.ndarray) -> List[Seen]:
        """Return the faces to score in a frame: those that are scored already, and new ones."""
        side = min(picture.shape[:2])
        seen = self.tracker.at(frame)
        sizes = {s.number: _side(s.box) / side for s in seen}
        known = [s for s in seen if s.number in self.faces]
        new = [
            s for s in seen if s.number not in self.faces
            and self.keep.takes(s.score, s.found, sizes[s.number], s.frames)
        ]  # fmt: skip
        if self.keep.most is not None:
            new.sort(key=lambda s: -sizes[s.number])
            new = new[: max(0, self.keep.most - len(known))]
        return known + new

    @staticmethod
    def _encode(face: _Face) -> None:
        """Encode the crops that wait; of a face that has ended, all features are then known."""
        last = face.after is not None and not face.closed
        if not face.crops and not last:
            return
        none = np.zeros((0, CROP, CROP), np.uint8)
        crops = np.stack(face.crops) if face.crops else none
        found = face.encoder.add(torch.from_numpy(crops)[None], last)
        face.crops, face.closed = [], last
        if found is not None:
            face.maps = found if face.maps is None else torch.cat([face.maps, found], 2)

    def _end_lost(self) -> None:
        """End the faces whose tracks have ended."""
        running = {seen.number for seen in self.tracker.at(self.newest)}
        for number, face in self.faces.items():
            if number not in running and face.after is None:
                face.after = max(face.boxes) + 1

    def _score(self, until: int, final: bool = False) -> List[LiveFrame]:
        """Score the frames before ``until``, and return them."""
        if until - self.done < self.block and not final:
            return []
        scored: Dict[int, Dict[int, ScoredTrack]] = {}
        for number, face in list(self.faces.items()):
            for frame, one in self._score_face(face, until).items():
                scored.setdefault(frame, {})[number] = one
            if face.after is not None and face.after <= until:
                del self.faces[number]
        frames = range(self.done, until)
        self.done = until
        return [LiveFrame(n, self.pictures.popleft(), scored.get(n, {})) for n in frames]

    def _score_face(self, face: _Face, until: int) -> Dict[int, ScoredTrack]:
        """Return the scores of a face in the frames before ``until`` that are not scored yet."""
        first = max(face.first, self.done)
        last = until if face.after is None else min(until, face.after)
        self._encode(face)
        if first >= last or face.maps is None:
            return {}
        count = face.maps.shape[2]
        streams = Streams(self._audio(face, face.begin, count), face.maps)
        found = explain_features(
            self.model, streams, torch.tensor([count]), tuple(face.maps.shape[3:]), self.method
        )
        part = slice(first - face.begin, last - face.begin)
        new = found.raw[0, part]
        raw = new if face.raw is None else torch.cat([face.raw, new])
        face.raw = raw[-_SCALE:]
        visible = visible_frames(face.raw, self.method in FROM_ZERO_METHODS)[-len(new) :]
        drawn = (visible * 255).round().to(torch.uint8).numpy()
        scores, shares = found.scores[0, part].numpy(), found.shares["features"][0, part].numpy()
        result = {}
        for n, frame in enumerate(range(first, last)):
            box, shown = face.boxes.pop(frame), face.shown.pop(frame)
            if shown:
                result[frame] = ScoredTrack(
                    Track(frame, box[None]), scores[n : n + 1], drawn[n : n + 1],
                    shares[n : n + 1], self.model.modalities,
                )  # fmt: skip
        gone = max(0, until - CONTEXT - face.begin)
        face.maps, face.begin = face.maps[:, :, gone:], face.begin + gone
        return result

    @torch.no_grad()
    def _audio(self, face: _Face, begin: int, count: int) -> torch.Tensor:
        """Return the features of the sound of some frames, (1, count, C).

        Sound before the face's first frame is left out, as for a clip that begins there.
        """
        start = max(face.first, begin - _SOUND)
        after = begin + count + _SOUND if face.after is None else face.after
        sound = self.sound.windows(WINDOWS * start, WINDOWS * after)
        features: torch.Tensor = self.model.audio_encoder(sound[None], None)
        return features[:, begin - start : begin - start + count]


def _side(box: np.ndarray) -> float:
    """Return the side of a square of a box's area, in pixels."""
    return float(np.sqrt(max(0.0, (box[2] - box[0]) * (box[3] - box[1]))))
