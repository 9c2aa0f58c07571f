"""Measure how fast this package decodes videos, beside plain PyAV.

    python -m benchmarks.decoding videos/*.mp4
    python -m benchmarks.decoding videos/*.mp4 --runs 15 --decoder torchcodec

Run time: that of decoding each file 64 times with the default options. Result: printed.

Both sides decode on one thread to RGB, in turns. "all frames" decodes every frame of every file.
"clip" is a training sample: 16 frames at stride 2 from the middle, against decoding the file with
PyAV up to the last of them.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

import av

from se_zoo.data.video.frames import read_frames
from se_zoo.data.video.index import index_file, open_video
from se_zoo.data.video.sampling import clip_indices


def _plain(path: Path, last: Optional[int] = None) -> int:
    """Decode with PyAV alone and return the number of frames.

    Args:
        path: The video.
        last: Number of the last frame that is needed; None for all.
    """
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        pictures = []
        for frame in container.decode(stream):
            pictures.append(frame.to_ndarray(format="rgb24"))
            count += 1
            if last is not None and count > last:
                break
    return count


def main() -> None:
    """Read the command line, time both sides in turns, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="+", type=Path, help="video files")
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each side")
    parser.add_argument(
        "--decoder", choices=["pyav", "torchcodec"], default="pyav", help="the package's decoder"
    )
    args = parser.parse_args()

    def whole(path: Path) -> int:
        video = open_video(path)
        return len(read_frames(video, range(len(video)), args.decoder))

    def clip(path: Path) -> int:
        video = open_video(path)
        return len(read_frames(video, clip_indices(len(video), 16, 2), args.decoder))

    def plain_clip(path: Path) -> int:
        return _plain(path, clip_indices(lengths[path], 16, 2)[-1])

    lengths = {path: len(open_video(path)) for path in args.videos}
    pairs: Dict[str, List[Callable[[Path], int]]] = {
        "all frames": [_plain, whole], "clip": [plain_clip, clip]
    }  # fmt: skip
    for name, sides in pairs.items():
        seconds: Dict[Callable[[Path], int], List[float]] = {side: [] for side in sides}
        for run in range(args.runs + 1):
            for side in sides if run % 2 else sides[::-1]:
                begun = time.perf_counter()
                for path in args.videos:
                    index_file.cache_clear()  # a cached index would hide the cost of indexing
                    side(path)
                if run:  # the first run warms the disk's cache
                    seconds[side].append(time.perf_counter() - begun)
        theirs, ours = (seconds[side] for side in sides)
        ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
        print(
            f"{name:<11}PyAV alone {statistics.median(theirs):.3f} s, {args.decoder} here "
            f"{statistics.median(ours):.3f} s: x {ratio:.2f} of its speed (median of {args.runs})"
        )


if __name__ == "__main__":
    main()
