"""Score a running video for ``se-zoo speaker --live``."""

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Dict

if TYPE_CHECKING:
    from ..speaker.live import LiveFrame
    from .speaker import Speaker


def run_live(args: "Speaker") -> None:
    """Print the scores of a running video, a line of JSON for each frame.

    Args:
        args: The options.

    Raises:
        DataError: If the video cannot be read, or has no pictures or no such sound.
        InvalidInputError: If the model or an option does not fit.
    """
    from ..data.faces.detect import open_detector
    from ..models import create_speaker_model
    from ..speaker.face_filter import FPS
    from ..speaker.live import LiveSpeakers
    from ..speaker.live_input import read_running
    from .speaker_video import face_filter

    model = create_speaker_model(args.model, pretrained=True)
    detector = open_detector(args.face_model)
    speakers = LiveSpeakers(
        model, detector, args.lookahead, args.every, args.method, face_filter(args)
    )
    begun, frames = time.process_time(), 0
    for picture, sound in read_running(str(args.video), args.audio):
        frames += 1
        for frame in speakers.add(picture, sound):
            _print(frame, FPS)
    for frame in speakers.end():
        _print(frame, FPS)
    used = (time.process_time() - begun) / max(1, frames) * FPS
    print(
        f"{args.video}: {frames} frames; {used:.2f} s of CPU for each second of video; scores come "
        f"{args.lookahead / FPS:.2f} s after their frame",
        file=sys.stderr,
    )


def _print(frame: "LiveFrame", fps: int) -> None:
    """Print a frame's faces."""
    faces = []
    for number, one in sorted(frame.faces.items()):
        shares: Dict[str, Any] = dict(zip(one.modalities, one.shares[0].tolist(), strict=True))
        faces.append({
            "face": number,
            "box": [round(v, 1) for v in one.track.boxes[0].tolist()],
            "score": round(float(one.scores[0]), 4),
            "shares": {name: round(share, 4) for name, share in shares.items()},
        })  # fmt: skip
    row = {"frame": frame.number, "second": round(frame.number / fps, 2), "faces": faces}
    print(json.dumps(row), flush=True)
