"""``se-zoo speaker``: who speaks in a video, and why the model thinks so."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

import tyro

from ..errors import DataError, InvalidInputError
from ..zoo_names import check_name


@dataclass(frozen=True)
class Speaker:
    """Find the faces in a video and say, frame by frame, who of them speaks.

    Give a folder to do so for all videos in it; the same command continues an interrupted run.

    Writes the video with boxes, scores, a heatmap on each face, a bar of what sound (blue) and face
    (yellow) have to do with the score, and the original sound; and beside it a csv of the scores as
    AVA-ActiveSpeaker's script takes them: no header, the score in the last column, and for a label
    in every row what the score is of, SPEAKING_AUDIBLE. Green is speaking. Videos are looked at
    at 25 frames a second, whatever theirs; memory grows by about 10 MiB for each minute.
    """

    video: tyro.conf.Positional[Path]
    """The video, with sound, or a folder of videos."""
    model: str
    """se_zoo/asd_small_grid, which comes with the package, local-dir:<folder> or
    hf-hub:<repository>. `se-zoo convert lr-asd` makes a folder of published weights that were
    trained on films."""
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
    """Score at most so many faces at a time: the largest. Of another face the parts are scored
    in which there is room, if they are as long as --shortest."""
    smallest: float = 0.0
    """Leave out smaller faces: least side as a share of the picture's shorter side."""
    shortest: float = 0.4
    """Leave out faces that are seen for fewer seconds."""
    boxes: Optional[Path] = None
    """Take the faces from this csv instead of finding them: the columns frame, x0, y0, x1, y1
    (frames of the file from 0, pixels) and, if it has one, track. All of them are scored."""
    live: bool = False
    """Read the video as it comes, from a file, a pipe or - (the standard input), and print a line
    of JSON for each frame: its number, second, and each face's box, score and shares."""
    lookahead: int = 25
    """With --live: frames between a frame and its scores, at 25 a second. The scores come closer to
    those of the whole video with more."""


def run_speaker(args: Speaker) -> None:
    """Run ``se-zoo speaker``.

    Raises:
        InvalidInputError: For options that cannot work.
        UnknownModelError: With the closest names.
        DataError: If the video cannot be read, has no sound, or shows no face; for a folder, if
            this holds for some of its videos, after all of them were tried.
    """
    _check(args)
    if args.live:
        from .speaker_live import run_live

        run_live(args)
        return
    if args.video.is_dir():
        from .speaker_folder import run_folder

        run_folder(args)
        return
    out = args.out or Path("speaker.mp4")
    if out.suffix.lower() != ".mp4" or not out.parent.is_dir():
        raise InvalidInputError(f"--out {out} must be an .mp4 file in an existing folder")
    if args.video.is_file() and out.exists() and out.samefile(args.video):
        raise InvalidInputError(f"--out {out} is the video itself.")
    table = out.with_suffix(".csv")
    if args.boxes is not None and table.exists() and table.samefile(args.boxes):
        raise InvalidInputError(f"the scores would replace --boxes {table}; name another --out.")
    from ..data.images import IMAGE_SUFFIXES

    if args.video.suffix.lower() in IMAGE_SUFFIXES:
        raise InvalidInputError(f"{args.video} is a photo; name a video with sound.")
    # These import torch, which takes seconds.
    from ..models import create_speaker_model
    from ..speaker.annotate import write_table
    from .speaker_video import face_finder, score_video

    find = face_finder(args)
    model = create_speaker_model(args.model, pretrained=True)
    scored, size = score_video(args, args.video, model, find, out)
    if not scored:
        raise DataError(
            f"{args.video}: no face was found, or none that is large, long and steady enough."
        )
    write_table(table, args.video.stem, scored, size)


def _check(args: Speaker) -> None:
    """Refuse options that cannot work, as far as that is known without torch."""
    check_name(args.model)
    if args.every < 1:
        raise InvalidInputError("--every must be 1 or more.")
    if args.faces is not None and args.faces < 1:
        raise InvalidInputError("--faces must be 1 or more.")
    if not 0 <= args.smallest <= 1 or not 0 <= args.shortest < math.inf:
        raise InvalidInputError("--smallest must lie between 0 and 1, and --shortest must be >= 0.")
    if args.boxes is not None and args.face_model is not None:
        raise InvalidInputError("--boxes already says where faces are; leave out --face-model.")
    if args.live and (args.boxes is not None or args.out is not None):
        raise InvalidInputError(
            "--live prints its scores; it takes neither --out nor --boxes, which need a file."
        )
    if args.live and args.video.is_dir():
        raise InvalidInputError("--live reads one video; without it the command takes a folder.")
    if args.boxes is not None and args.video.is_dir():
        raise InvalidInputError("--boxes is a table of one video; give a video, not a folder.")
    video = None if args.live and str(args.video) == "-" else args.video
    for path in (video, args.boxes, args.face_model):
        if path is not None and not path.exists():
            raise InvalidInputError(f"no such file or folder: {path}")
