r"""Measure memory and speed of `se-zoo speaker` on videos of several lengths.

    python -m benchmarks.speaker_videos --model local-dir:lr_asd \
        --clips $SE_ZOO_DATA/grid/video/s1_*.mpg

Run time: about eleven minutes on a core for the default 1 and 10 minutes, by the rates that it
measured. Result: docs/speakers.md.

The clips are joined, again and again, to videos of the lengths asked for, in minutes. Each video
is given to the command in a fresh process, which reports its peak memory. The command itself prints
the frames a second of each stage. With ``--live``, it prints the seconds of CPU for each second of
video, and its answers are compared with those of the whole video.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence

import av

from se_zoo.data.faces.detect import overlap


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


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command, and stop with its errors if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done


def _agreement(live: Iterable[Dict[str, Any]], table: Path, video: Path) -> str:
    """Compare scores of a running video with those of the whole one, face by face.

    Args:
        live: Rows of ``se-zoo speaker --live``.
        table: The csv of ``se-zoo speaker``.
        video: The video.
    """
    with av.open(str(video)) as opened:
        sides = [opened.streams.video[0].width, opened.streams.video[0].height] * 2
    whole: Dict[int, List[Any]] = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            box: Any = [float(v) * side for v, side in zip(row[2:6], sides, strict=True)]
            whole.setdefault(round(float(row[1]) * 25), []).append((box, float(row[-1])))
    pairs = []
    for row in live:
        for face in row["faces"]:
            near = [
                (overlap(box, face["box"]), score) for box, score in whole.get(row["frame"], [])
            ]
            if near and max(near)[0] > 0.5:
                pairs.append((face["score"], max(near)[1]))
    same = sum((a > 0.5) == (b > 0.5) for a, b in pairs) / max(1, len(pairs))
    apart = sum(abs(a - b) for a, b in pairs) / max(1, len(pairs))
    count = sum(map(len, whole.values()))
    return (
        f"{len(pairs)} of {count} faces' frames are scored, {same:.1%} with the same answer, "
        f"{apart:.3f} apart on average"
    )


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
    parser.add_argument(
        "--live", nargs="+", type=int, default=[], help="also read them as they come: lookaheads"
    )
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
            command = [sys.executable, "-c", code, "speaker", str(path), "--model", args.model]
            if args.face_model is not None:
                command += ["--face-model", str(args.face_model)]
            whole = ["--out", str(Path(folder) / "out.mp4"), *(["--no-draw"] * bool(args.live))]
            done = _run([*command, *whole])
            *_, rates, peak = done.stdout.strip().splitlines()
            print(f"{minutes:g} minutes: {peak}; {rates.partition(': ')[2]}", flush=True)
            for ahead in args.live:
                done = _run([*command, "--live", "--lookahead", str(ahead)])
                *lines, peak = done.stdout.strip().splitlines()
                rates = done.stderr.strip().splitlines()[-1]
                same = _agreement(map(json.loads, lines), Path(folder) / "out.csv", path)
                print(f"live: {peak}; {rates.partition(': ')[2]}; {same}", flush=True)


if __name__ == "__main__":
    main()
