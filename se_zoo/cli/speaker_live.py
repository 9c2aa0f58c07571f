"""Score a running video for ``se-zoo speaker --live``."""

import json
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Dict

if TYPE_CHECKING:
    from ..speaker.live import LiveFrame
    from .speaker import Speaker


def run_live(args: "Speaker") -> None:
    """Print the scores of a running video, a line of JSON for each frame.

    Also where Ctrl-C or an error ends the video, the frames that wait for their scores are printed.

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
    interrupt = _Interrupt()
    try:
        with interrupt:
            for picture, sound in read_running(str(args.video), args.audio, _say):
                interrupt.held = True
                frames += 1
                for frame in speakers.add(picture, sound):
                    _print(frame, FPS)
                interrupt.held = False
                interrupt.check()
            interrupt.check()
    finally:
        if not interrupt.held:  # else a frame failed half-way, and its faces cannot be ended
            for frame in speakers.end():
                _print(frame, FPS)
    used = (time.process_time() - begun) / max(1, frames) * FPS
    print(
        f"{args.video}: {frames} frames; {used:.2f} s of CPU for each second of video; scores come "
        f"{args.lookahead / FPS:.2f} s after their frame",
        file=sys.stderr,
    )


class _Interrupt:
    """Hold Ctrl-C back while a frame is scored; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.held = self.asked = self._ours = False

    def __enter__(self) -> None:
        # Elsewhere Python allows no handler, and one of another program is left alone.
        main = threading.current_thread() is threading.main_thread()
        self._ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            signal.signal(signal.SIGINT, self._ask)

    def __exit__(self, *_: Any) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _ask(self, *_: Any) -> None:
        again, self.asked = self.asked, True
        if again or not self.held:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise what was held back, or what PyAV dropped while it read."""
        if self.asked:
            raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
