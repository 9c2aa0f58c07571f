r"""Measure memory and speed of `se-zoo speaker` on videos of several lengths.

    python -m benchmarks.speaker_videos --model local-dir:lr_asd \
        --clips $SE_ZOO_DATA/grid/video/s1_*.mpg

Run time: about eleven minutes on a core for the default 1 and 10 minutes, by the rates that it
measured. Result: docs/speakers.md.

The clips are joined, again and again, to videos of the lengths asked for, in minutes. Each video
is given to the command in a fresh process, which reports its peak memory. The command itself prints
the frames a second of each stage; with ``--live``, the seconds of CPU for each second of video.
"""

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, List

import av


def _join_clips(clips: List[Path], minutes: float, path: Path) -> None:
    """Write a video of clips, one after the other, that is at least so many minutes long.

    Args:
        clips: Video files; they repeat.
        minutes: Length of the video.
        path: The file to write, with h264 and AAC.
    """
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", 25)
        video.pix_fmt, video.options = "yuv420p", {"preset": "ultrafast", "g": "50"}
        sound: Any = out.add_stream("aac", 44_100)
        resampler = av.AudioResampler("fltp", "stereo", 44_100)
        frames, samples, number = 0, 0, 0
        while frames < minutes * 60 * 25:
            with av.open(str(clips[number % len(clips)])) as clip:
                for frame in clip.decode(video=0):
                    if not frames:
                        video.width, video.height = frame.width, frame.height
                    frame.pts, frame.time_base = frames, Fraction(1, 25)
                    out.mux(video.encode(frame))
                    frames += 1
            with av.open(str(clips[number % len(clips)])) as clip:
                for frame in clip.decode(audio=0):
                    frame.pts = None
                    for piece in resampler.resample(frame):
                        if samples / 44_100 < frames / 25:
                            piece.pts, samples = samples, samples + piece.samples
                            out.mux(sound.encode(piece))
            number += 1
        out.mux(video.encode())
        out.mux(sound.encode())


def main() -> None:
    """Read the command line, run the command on each video, and print peak memory and rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="video files to join")
    parser.add_argument("--model", required=True, help="a speaker model, such as local-dir:lr_asd")
    parser.add_argument(
        "--minutes", nargs="+", type=float, default=[1, 10], help="lengths of the videos"
    )
    parser.add_argument("--live", action="store_true", help="read the videos as they come")
    parser.add_argument("--face-model", type=Path, help="YuNet's ONNX file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for minutes in args.minutes:
            path = Path(folder) / f"{minutes:g}.mp4"
            _join_clips(args.clips, minutes, path)
            code = (
                "import resource, sys; from se_zoo import cli; cli.main(sys.argv[1:]); "
                "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, 'MiB')"
            )
            options = ["--live"] if args.live else ["--out", str(Path(folder) / "out.mp4")]
            if args.face_model is not None:
                options += ["--face-model", str(args.face_model)]
            done = subprocess.run(
                [sys.executable, "-c", code, "speaker", str(path), "--model", args.model, *options],
                capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode:
                sys.exit(done.stderr)
            *_, rates, peak = done.stdout.strip().splitlines()
            if args.live:
                rates = done.stderr.strip().splitlines()[-1]
            print(f"{minutes:g} minutes: {peak}; {rates.partition(': ')[2]}", flush=True)


if __name__ == "__main__":
    main()
