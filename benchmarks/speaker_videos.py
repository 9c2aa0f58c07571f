"""Memory and speed of `se-zoo speaker` over the length of a video.

    python -m benchmarks.speaker_videos --model local-dir:asd \\
        --clips $SE_ZOO_DATA/grid/video/s1_*.mpg

The clips are strung together, over and over, to videos of the lengths asked for (in minutes), and
each is given to the command in a process of its own, which reports its peak memory. The command
itself prints the frames a second of each stage.
"""

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, List

import av


def string_together(clips: List[Path], minutes: float, path: Path) -> None:
    """Clips behind each other until the video is long enough; h264 and AAC."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", 25)
        video.pix_fmt, video.options = "yuv420p", {"preset": "ultrafast", "g": "50"}
        sound: Any = out.add_stream("aac", 44_100)
        resampler = av.AudioResampler("fltp", "stereo", 44_100)
        frames, samples, turn = 0, 0, 0
        while frames < minutes * 60 * 25:
            with av.open(str(clips[turn % len(clips)])) as clip:
                for frame in clip.decode(video=0):
                    if not frames:
                        video.width, video.height = frame.width, frame.height
                    frame.pts, frame.time_base = frames, Fraction(1, 25)
                    out.mux(video.encode(frame))
                    frames += 1
            with av.open(str(clips[turn % len(clips)])) as clip:
                for frame in clip.decode(audio=0):
                    frame.pts = None
                    for made in resampler.resample(frame):
                        if samples / 44_100 < frames / 25:
                            made.pts, samples = samples, samples + made.samples
                            out.mux(sound.encode(made))
            turn += 1
        out.mux(video.encode())
        out.mux(sound.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", nargs="+", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--minutes", nargs="+", type=float, default=[1, 10])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for minutes in args.minutes:
            path = Path(folder) / f"{minutes:g}.mp4"
            string_together(args.clips, minutes, path)
            code = (
                "import resource, sys; from se_zoo import cli; cli.main(sys.argv[1:]); "
                "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, 'MiB')"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, "speaker", str(path), "--model", args.model,
                 "--out", str(Path(folder) / "out.mp4")],
                capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode:
                sys.exit(done.stderr)
            *_, rates, peak = done.stdout.strip().splitlines()
            print(f"{minutes:g} minutes: {peak}; {rates.partition(': ')[2]}", flush=True)


if __name__ == "__main__":
    main()
