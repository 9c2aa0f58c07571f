"""What the server answers to a video: the video with maps drawn on it, and what they say."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..data.faces.detect import open_detector
from ..data.faces.sound import sound_features
from ..data.video.index import open_container, open_video, pyav, video_stream
from ..errors import DataError, InvalidInputError, UnknownModelError
from ..explanations.draw.clips import side_by_side, write_video
from ..explanations.methods import SPEAKER_METHODS, offered_methods
from ..explanations.target_classes import short_names, target_of
from ..files import replacing
from ..inference.clips import clip_rate, explain_frames, read_clip
from ..models.clip.config import resolve_clip_config
from ..models.speaker.model import SpeakerModel
from ..speaker import find_tracks, score_tracks
from ..speaker.annotate import write_annotated
from ..speaker.scores import describe
from ..speaker.video_frames import Pictures

#: Longest video, in seconds.
MAX_SECONDS = 30
#: Largest number of frames: half a minute at 60 a second.
MAX_FRAMES = 60 * MAX_SECONDS
#: Largest number of packets of pictures, sound and data together.
MAX_PACKETS = 20 * MAX_FRAMES
#: Largest frame, in pixels. A multiple of 16 lines: codecs pad to it.
MAX_FRAME = 1920 * 1088
#: Largest number of faces times frames that are scored.
MAX_FACE_FRAMES = 4 * 25 * MAX_SECONDS
#: Number of labels in the list of predictions.
SHOWN_LABELS = 10
#: Name of every video in messages: its path on the server is not for users.
_NAME = "the video"


class VideoAnswer(NamedTuple):
    """The answer to one video.

    Attributes:
        probabilities: The likeliest labels; None from a speaker model.
        notes: What the drawn video shows.
    """

    probabilities: Optional[Dict[str, float]]
    notes: str


class VideoExplainers:
    """The clip and speaker models of a server.

    Args:
        models: The models by their names.
    """

    names: Tuple[str, ...]

    def __init__(self, models: Mapping[str, Any]):
        self._models = dict(models)
        self.names = tuple(models)

    def model(self, name: str) -> Any:
        """Return a model by a name that a user gave.

        Raises:
            UnknownModelError: If it is none of the server's models of videos.
        """
        if name not in self._models:
            raise UnknownModelError(
                f"Unknown model {name!r}; for videos this demo offers {', '.join(self.names)}."
            )
        return self._models[name]

    def labels(self, name: str) -> List[str]:
        """Return the labels of a model; numbers as text if it has no names, none of speakers."""
        model = self.model(name)
        if isinstance(model, SpeakerModel):
            return []
        return list(model.class_labels() or map(str, range(model.num_classes)))

    def methods(self, name: str) -> List[str]:
        """Return the maps that a model offers, its default first."""
        model = self.model(name)
        speakers = isinstance(model, SpeakerModel)
        offered = (
            SPEAKER_METHODS
            if speakers
            else offered_methods(model.is_multi_label(), model.num_classes)
        )
        return sorted(offered, key=lambda method: method != model.map_method)

    def answer(
        self, video: Optional[Path], name: str, label: Optional[str], method: str, out: Path
    ) -> VideoAnswer:
        """Explain a video, and draw it.

        Args:
            video: File of the video.
            name: Name of the model.
            label: Label to explain; the likeliest by default. Speaker models have none.
            method: Which map.
            out: The drawn video, .mp4; written whole or not at all.

        Returns:
            The answer.

        Raises:
            SEZooError: If the video cannot be read or is too long, or model, label or method are
                unknown.
        """
        if video is None:
            raise InvalidInputError("Choose a video first.")
        model = self.model(name)
        if method not in self.methods(name):
            raise InvalidInputError(
                f"Unknown map {method!r}; this model has {', '.join(self.methods(name))}."
            )
        check_video(video)
        if isinstance(model, SpeakerModel):
            return _speakers(model, video, method, out)
        return self._clip(name, video, label, method, out)

    def _clip(
        self, name: str, video: Path, label: Optional[str], method: str, out: Path
    ) -> VideoAnswer:
        """Explain the clip in the middle of a video; frames and overlays stand side by side."""
        model, names = self.model(name), self.labels(name)
        config, opened = resolve_clip_config(model), open_video(video, _NAME)
        wanted = target_of(label, model.class_labels(), model.num_classes) if label else None
        frames, numbers = read_clip(opened, config)
        likeliest, drawn = explain_frames(model, frames, method="activation")
        shares = likeliest.probabilities[0]
        order: List[int] = shares.argsort(descending=True).tolist()
        target = order[0] if wanted is None else wanted
        explanation, drawn = explain_frames(model, frames, [target], method)
        with replacing(out) as temporary:
            write_video(
                temporary, side_by_side(explanation, drawn), clip_rate(opened, config, numbers)
            )
        # The likelier one of two labels with the same name, which comes last here.
        shown = {names[index]: float(shares[index]) for index in reversed(order[:SHOWN_LABELS])}
        heaviest = int(explanation.frame_weights[0].argmax())
        first, last = opened.seconds[numbers[0]], opened.seconds[numbers[-1]]
        return VideoAnswer(
            shown,
            f"**{short_names(names)[target]} {float(shares[target]):.1%}**. The model saw "
            f"{len(frames)} frames from second {first:.2f} to {last:.2f}. The map is strongest in "
            f"frame {heaviest}.",
        )


def check_video(path: Path) -> None:
    """Refuse a video that would take too long, before a frame of it is decoded.

    Args:
        path: The file.

    Raises:
        DataError: If PyAV is not installed.
        InvalidInputError: If it is no video, too long, or too large.
    """
    av = pyav()
    try:
        with open_container(path) as container:
            stream = video_stream(container)
            width, height = stream.codec_context.width, stream.codec_context.height
            begin = (container.start_time or 0) / av.time_base
            seconds, frames, packets = 0.0, 0, 0
            for packet in container.demux():
                packets += 1
                frames += packet.stream is stream and packet.size > 0
                if packet.pts is not None and packet.time_base:
                    seconds = max(seconds, float(packet.pts * packet.time_base) - begin)
                # A second more, because no file has exactly 30 seconds.
                if seconds > MAX_SECONDS + 1 or frames > MAX_FRAMES or packets > MAX_PACKETS:
                    break
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InvalidInputError("This file is not a video that can be read.") from error
    if seconds > MAX_SECONDS + 1 or frames > MAX_FRAMES or packets > MAX_PACKETS:
        raise InvalidInputError(
            f"The video is longer than {MAX_SECONDS} seconds, or has more than {MAX_FRAMES} "
            "frames; cut it."
        )
    if width * height > MAX_FRAME:
        raise InvalidInputError(
            f"The video has {width} x {height} pixels, more than 1920 x 1080; make it smaller."
        )


def _speakers(model: SpeakerModel, video: Path, method: str, out: Path) -> VideoAnswer:
    """Find the faces of a video, score them frame by frame, and draw boxes, scores and maps."""
    pictures = Pictures(video, _NAME)
    sound = sound_features(video, _NAME, pictures.begins)
    tracks = find_tracks(pictures, open_detector())
    if not tracks:
        raise DataError("No face was found, or none for long enough.")
    if sum(map(len, tracks)) > MAX_FACE_FRAMES:
        raise InvalidInputError(
            f"The video shows {len(tracks)} faces, too many for its length; cut it."
        )
    scored = score_tracks(model, pictures, tracks, sound, method)
    write_annotated(out, video, pictures, scored, pictures.begins)
    notes = (
        "The number at each face is the probability that it speaks; green is speaking. The bar "
        "below shows the shares of sound (blue) and face (yellow) in the score."
    )
    return VideoAnswer(None, "\n".join([notes, "", *(f"- {line}" for line in describe(scored))]))
