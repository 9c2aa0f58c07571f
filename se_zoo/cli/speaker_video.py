"""Score one video for ``se-zoo speaker``, by itself or as one of a folder."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

if TYPE_CHECKING:
    from ..speaker import FaceFilter, ScoredTrack, Track
    from .speaker import Speaker

    #: A function of a video's pictures, and of what is called after every frame.
    Finder = Callable[[Any, Callable[..., Any]], List[Track]]

#: Largest difference of a pixel's width and height, as a share, of which nothing is said.
_SQUARE = 0.02


def score_video(
    args: "Speaker", video: Path, model: Any, find: "Finder", out: Path
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
    from ..speaker.scores import describe
    from ..speaker.video_frames import Pictures

    pictures = Pictures(video)
    aspect = pictures.video.pixel_aspect
    if abs(aspect - 1) > _SQUARE:
        print(
            f"{video}: its pixels are not square ({aspect.numerator}:{aspect.denominator}), so "
            "faces are seen squeezed; encode it anew: ffmpeg -vf scale=iw*sar:ih,setsar=1"
        )
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
    for line in describe(scored):
        print(line)
    rates = ", ".join(f"{name} {len(pictures) / s:.0f}" for name, s in stages.items())
    print(f"{out if args.draw else video}: {len(pictures)} frames; frames a second: {rates}")
    return scored, (width, height)


def face_filter(args: "Speaker") -> "FaceFilter":
    """Return which tracks are faces that are wanted."""
    from ..speaker.face_filter import FPS, FaceFilter

    return FaceFilter(smallest=args.smallest, shortest=round(args.shortest * FPS), most=args.faces)


def face_finder(args: "Speaker") -> "Finder":
    """Return a function from a video's pictures to face tracks: by a detector or by a table."""
    from ..data.faces.detect import open_detector
    from ..speaker import find_tracks, read_boxes, tracks_of_boxes

    if args.boxes is not None:
        name, rows = str(args.boxes), read_boxes(args.boxes)

        def from_table(pictures: Any, seen: Callable[..., Any]) -> "List[Track]":
            width, height = next(iter(pictures)).shape[1::-1]
            seen(len(pictures))
            frames = len(pictures.video.seconds)
            return tracks_of_boxes(rows, pictures.numbers, (width, height), name, frames)

        return from_table
    detector = open_detector(args.face_model)
    keep = face_filter(args)
    return lambda pictures, seen: find_tracks(pictures, detector, args.every, seen, keep)


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
