"""``se-zoo speaker``: who speaks in a video, and why the model thinks so."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Literal, Optional, Tuple

import tyro

from ..errors import DataError, InvalidInputError

if TYPE_CHECKING:
    from ..speaker import ScoredTrack, Track

    #: A function of a video's pictures, and of what is called after every frame.
    Finder = Callable[[Any, Callable[..., Any]], List[Track]]


@dataclass(frozen=True)
class Speaker:
    """Find the faces in a video and say, frame by frame, who of them speaks.

    Give a folder to do so for all videos in it; the same command continues an interrupted run.

    Writes the video with boxes, scores, a heatmap on each face, a bar of what sound (blue) and face
    (yellow) have to do with the score, and the original sound; and beside it a csv of the scores as
    AVA-ActiveSpeaker's script takes them: no header, the score in the last column, and for a label
    in every row what the score is of, SPEAKING_AUDIBLE. Green is speaking. Videos are looked at
    at 25 frames a second, whatever theirs, and in constant memory, whatever their length.
    """

    video: tyro.conf.Positional[Path]
    """The video, with sound, or a folder of videos."""
    model: str
    """local-dir:<folder>, hf-hub:<repository>, or se_zoo/asd_tiny_grid, which comes with the
    package and is for trying this out. `se-zoo convert lr-asd` makes a folder of published weights
    that are for real videos."""
    out: Optional[Path] = None
    """The annotated video, .mp4; by default speaker.mp4. The csv has the same name; files of these
    names are replaced. For a folder of videos it is a folder, by default speakers, which gets a
    parquet file of each video with a row for each face and frame, and its annotated video."""
    draw: bool = True
    """Write annotated videos."""
    method: Optional[Literal["contribution", "gate", "activation"]] = None
    """Which map is drawn on the faces; by default the one that points best, as the model's config
    says."""
    audio: int = 0
    """Number of the sound track, from 0, if the video has several."""
    every: int = 3
    """Of so many frames one is searched for faces; between them, boxes are interpolated."""
    face_model: Optional[Path] = None
    """Find faces with YuNet, in this ONNX file: it finds more than OpenCV's cascades, and turned
    heads. OpenCV 5 has no cascades and needs it."""
    faces: Optional[int] = None
    """Score at most so many faces at a time: the largest."""
    smallest: float = 0.0
    """Leave out smaller faces: least side as a share of the picture's shorter side."""
    shortest: float = 0.4
    """Leave out faces that are seen for fewer seconds."""
    boxes: Optional[Path] = None
    """Take the faces from this csv instead of finding them: the columns frame, x0, y0, x1, y1
    (frames of the file from 0, pixels) and, if it has one, track. All of them are scored."""


def run_speaker(args: Speaker) -> None:
    """Run ``se-zoo speaker``.

    Raises:
        InvalidInputError: For options that cannot work.
        DataError: If the video cannot be read, has no sound, or shows no face; for a folder, if
            this holds for some of its videos, after all of them were tried.
    """
    _check(args)
    if args.video.is_dir():
        from .speaker_folder import run_folder

        run_folder(args)
        return
    from ..models import create_speaker_model
    from ..speaker.annotate import write_table

    out = args.out or Path("speaker.mp4")
    if out.suffix.lower() != ".mp4" or not out.parent.is_dir():
        raise InvalidInputError(f"--out {out} must be an .mp4 file in an existing folder")
    if args.video.is_file() and out.exists() and out.samefile(args.video):
        raise InvalidInputError(f"--out {out} is the video itself.")
    find = face_finder(args)
    model = create_speaker_model(args.model, pretrained=True)
    scored, size = score_video(args, args.video, model, find, out)
    if not scored:
        raise DataError(
            f"{args.video}: no face was found, or none that is large, long and steady enough."
        )
    write_table(out.with_suffix(".csv"), args.video.stem, scored, size)


def score_video(
    args: Speaker, video: Path, model: Any, find: "Finder", out: Path
) -> Tuple[List["ScoredTrack"], Tuple[int, int]]:
    """Score the faces of a video, print how much each speaks, and draw them if asked.

    Args:
        args: The options.
        video: The video.
        model: The speaker model.
        find: Finds the tracks, from :func:`face_finder`.
        out: The annotated video to write.

    Returns:
        The scored tracks, none if there is no face, and the width and height of a picture.

    Raises:
        DataError: If the video cannot be read or has no sound.
    """
    from ..data.faces.sound import probe_sound
    from ..speaker import score_tracks, sound_features
    from ..speaker.annotate import write_annotated
    from ..speaker.video_frames import Pictures

    pictures = Pictures(video)
    print(probe_sound(video, str(video), args.audio))
    sound = sound_features(video, str(video), pictures.begins, args.audio)
    width, height = next(iter(pictures)).shape[1::-1]
    stages: Dict[str, float] = {}
    with _stage("find faces", pictures, stages) as seen:
        tracks = find(pictures, seen)
    if not tracks:
        return [], (width, height)
    with _stage("score", pictures, stages) as seen:
        scored = score_tracks(model, pictures, tracks, sound, args.method, seen)
    if args.draw:
        with _stage("draw", pictures, stages) as seen:
            write_annotated(out, video, pictures, scored, pictures.begins, seen, args.audio)
    for number, one in enumerate(scored):
        first, after = one.track.first / 25, one.track.after / 25
        spoken = float((one.scores > 0.5).mean())
        print(f"face {number}: second {first:.2f} to {after:.2f}, speaks in {spoken:.0%} of it")
    rates = ", ".join(f"{name} {len(pictures) / s:.0f}" for name, s in stages.items())
    print(f"{out if args.draw else video}: {len(pictures)} frames; frames a second: {rates}")
    return scored, (width, height)


def _check(args: Speaker) -> None:
    """Refuse options that cannot work."""
    if args.every < 1:
        raise InvalidInputError("--every must be 1 or more.")
    if args.faces is not None and args.faces < 1:
        raise InvalidInputError("--faces must be 1 or more.")
    if not 0 <= args.smallest <= 1 or args.shortest < 0:
        raise InvalidInputError("--smallest must lie between 0 and 1, and --shortest must be >= 0.")
    if args.boxes is not None and args.face_model is not None:
        raise InvalidInputError("--boxes already says where faces are; leave out --face-model.")
    if args.boxes is not None and args.video.is_dir():
        raise InvalidInputError("--boxes is a table of one video; give a video, not a folder.")


def face_finder(args: Speaker) -> "Finder":
    """Return a function from a video's pictures to face tracks: by a detector or by a table."""
    from ..data.faces.detect import open_detector
    from ..speaker import FaceFilter, find_tracks, read_boxes, tracks_of_boxes

    if args.boxes is not None:
        name, rows = str(args.boxes), read_boxes(args.boxes)

        def from_table(pictures: Any, seen: Callable[..., Any]) -> "List[Track]":
            width, height = next(iter(pictures)).shape[1::-1]
            seen(len(pictures))
            return tracks_of_boxes(rows, pictures.numbers, (width, height), name)

        return from_table
    detector = open_detector(args.face_model)
    frames = round(args.shortest * 25)
    keep = FaceFilter(smallest=args.smallest, shortest=frames, most=args.faces)
    return lambda pictures, seen: find_tracks(pictures, detector, args.every, None, seen, keep)


class _stage:
    """A bar for one pass over the video, and its time."""

    def __init__(self, name: str, pictures: Any, stages: Dict[str, float]):
        self.name, self.count, self.stages = name, len(pictures), stages

    def __enter__(self) -> Any:
        from tqdm import tqdm

        self.begun = time.perf_counter()
        self.bar: Any = tqdm(total=self.count, desc=self.name, unit=" frames", disable=None)
        return self.bar.update

    def __exit__(self, *_: Any) -> None:
        self.bar.close()
        self.stages[self.name] = max(1e-9, time.perf_counter() - self.begun)
