"""Measure `se-zoo predict`: speed beside the bare forward, memory over the length, two processes.

    python -m benchmarks.predict photos/ throughput
    python -m benchmarks.predict photos/ memory --photos 200 --times 100
    python -m benchmarks.predict photos/ processes

Run time: with the defaults and the bundled model, minutes on two idle cores. Needs psutil.
Result: printed as JSON.

The data set is made of links to the photos of a folder, as many as asked for. `throughput` feeds
the model's plain forward by the same loader; both sides take turns, and the ratio is the median of
the rounds. On a busy machine, look at the ratio of CPU times. `memory` adds up the peaks of all
processes of a command, for some photos and for many times as many. `processes` times the whole
command with one process and with two, of one thread each, less the time of the command when
nothing is left to do.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

import psutil
import torch

from benchmarks.predict_kill import Command
from se_zoo import BatchExplainer
from se_zoo.data.images import IMAGE_SUFFIXES
from se_zoo.inference.predict.open import open_source
from se_zoo.inference.predict.run import Run


def link_photos(source: Path, folder: Path, count: int) -> Path:
    """Fill a folder with links to photos, each as often as needed."""
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    folder.mkdir(parents=True)
    for i, photo in zip(range(count), itertools.cycle(found), strict=False):
        (folder / f"{i:07d}{photo.suffix}").symlink_to(photo.resolve())
    return folder


def throughput(args: argparse.Namespace, folder: Path) -> Dict[str, Any]:
    """Time predicting and the bare forward in turns."""
    source = open_source(str(link_photos(args.source, folder / "photos", args.photos)))
    explainer = BatchExplainer(args.model, args.target or None)
    model: Any = explainer.model

    def predicted(out: Path) -> None:
        Run(source, out, explainer, args.batch_size, 1024).work(args.workers)

    def bare(out: Path) -> None:
        with torch.no_grad():
            for _, photos in Run(source, out, explainer, args.batch_size, 1024).batches(
                args.workers
            ):
                model(explainer.normalized(photos.pixels)).cpu()

    seconds: Dict[str, List[float]] = {"predict": [], "bare": []}
    cpu: Dict[str, List[float]] = {"predict": [], "bare": []}
    for n in range(args.rounds + 1):
        sides = [("predict", predicted), ("bare", bare)]
        for name, side in sides if n % 2 else sides[::-1]:
            out = folder / f"{name}{n}"
            out.mkdir()
            begun, spent = time.perf_counter(), sum(os.times()[:4])
            side(out)
            if n:  # the first round warms caches up
                seconds[name].append(time.perf_counter() - begun)
                cpu[name].append(sum(os.times()[:4]) - spent)  # with that of loader processes
    rates = {k: round(args.photos / statistics.median(v), 1) for k, v in seconds.items()}
    return {
        "photos_per_second": rates,
        "predict_over_bare": _ratios(seconds),
        "predict_over_bare_in_cpu_time": _ratios(cpu),
    }


def _ratios(seconds: Dict[str, List[float]]) -> Dict[str, float]:
    """Return median and range of the speed of predicting over that of the bare forward."""
    ratios = [b / p for p, b in zip(seconds["predict"], seconds["bare"], strict=True)]
    found = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return {name: round(value, 3) for name, value in found.items()}


def memory(args: argparse.Namespace, folder: Path) -> Dict[str, Any]:
    """Return peak memory for some photos, and for many times as many."""
    found = {}
    for count in (args.photos, args.photos * args.times):
        source = link_photos(args.source, folder / f"photos{count}", count)
        run = _command(args, source).start(folder / f"out{count}")
        peaks: Dict[int, int] = {}
        process = psutil.Process(run.pid)
        while run.poll() is None:
            try:
                for one in [process, *process.children(recursive=True)]:
                    peaks[one.pid] = max(peaks.get(one.pid, 0), one.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
            time.sleep(0.05)
        printed = run.communicate()[0]
        if run.returncode:
            raise RuntimeError(printed[-3000:])
        found[count] = sum(peaks.values()) / 2**20
    small, large = found.values()
    return {
        "peak_mib": {str(count): round(mib, 1) for count, mib in found.items()},
        "growth": round(large / small - 1, 4),
    }


def processes(args: argparse.Namespace, folder: Path) -> Dict[str, Any]:
    """Time one process and two, less the time of a command with nothing to do."""
    source = link_photos(args.source, folder / "photos", args.photos)
    seconds: Dict[int, List[float]] = {1: [], 2: []}
    for n in range(args.rounds):
        for count in (1, 2) if n % 2 else (2, 1):
            command, out = _command(args, source, count), folder / f"out{count}-{n}"
            whole = command.finish(out)
            seconds[count].append(whole - command.finish(out))
    one, two = (statistics.median(seconds[count]) for count in (1, 2))
    return {
        "seconds": {count: [round(s, 2) for s in found] for count, found in seconds.items()},
        "speed_up": round(one / two, 2),
    }


def _command(args: argparse.Namespace, source: Path, count: int = 1) -> Command:
    """Return ``se-zoo predict`` with files small enough for both processes to have some."""
    options = ["--batch-size", str(args.batch_size), "--workers", str(args.workers)]
    options += ["--rows-per-file", str(max(args.batch_size, min(1024, args.photos // 8)))]
    if args.target:
        options += ["--target", *args.target]
    return Command(str(source), args.model, options, count)


def main() -> None:
    """Read the command line, measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder of photos")
    parser.add_argument("what", choices=["throughput", "memory", "processes"])
    parser.add_argument("--model", default="se_zoo/resnet18_slim_celeba", help="name of the model")
    parser.add_argument("--target", nargs="*", help="labels to explain; by default the predicted")
    parser.add_argument("--photos", type=int, default=2000, help="number of photos")
    parser.add_argument("--times", type=int, default=10, help="memory: how many times as many")
    parser.add_argument("--batch-size", type=int, default=64, help="photos at a time")
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each side")
    args = parser.parse_args()
    measure = {"throughput": throughput, "memory": memory, "processes": processes}[args.what]
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, Path(folder))
    threads = int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()))
    print(json.dumps({"photos": args.photos, "threads": threads, **found}, indent=2))


if __name__ == "__main__":
    main()
