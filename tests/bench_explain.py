"""Time and memory of predict + explain over the plain timm forward, alternating in one run.

    python -m tests.bench_explain                                  # the table of the README
    python -m tests.bench_explain --models resnet50 --runs 15 --threads 2
    python -m tests.bench_explain --models se_zoo/resnet18_slim_celeba --out speed.json
    python -m tests.bench_explain --models r2plus1d_18 swin3d_t --batch 1        # clips
    python -m tests.bench_explain --import-time                    # `import se_zoo` over timm

The plain side is timm's own model with the same weights. Peak memory is the growth of the process
over its state before the call, read from the kernel (VmHWM, Linux), one fresh process per figure.
"""

import json
import statistics
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import timm
import torch
import torchvision
import tyro

import se_zoo
from se_zoo.models.zoo_video import CLIPS
from se_zoo.provenance import provenance

METHODS = ("gate", "contribution")


@dataclass(frozen=True)
class Bench:
    """What to measure."""

    models: Tuple[str, ...] = ("resnet50", "convnext_tiny", "vit_base_patch16_224")
    """timm names of backbones; or torchvision's of clip backbones, or a zoo's model, which are
    measured at their own size."""
    batch: int = 8
    size: int = 224
    runs: int = 9
    """Alternating runs of each side, after two that are not counted."""
    threads: int = 2
    memory: bool = True
    """Measure peak memory too."""
    memory_runs: int = 7
    """Processes per figure of the peak memory."""
    out: Optional[Path] = None
    """Write the figures of the one model as JSON too."""
    import_time: bool = False
    """Measure the import instead."""
    peak_of: str = ""
    """Internal: print the peak memory growth of one side ("plain" or a method) and exit."""


def sides(name: str, batch: int, size: int) -> Dict[str, Callable[[], object]]:
    """The plain forward and predict + explain, on models with equal backbone weights."""
    torch.manual_seed(0)
    if name.startswith("se_zoo/"):
        squeezed = timm.create_model(name, pretrained=True).eval()
        plain = se_zoo.unsqueeze(deepcopy(squeezed))
        images = torch.randn(batch, *squeezed.pretrained_cfg["input_size"])
    elif name in CLIPS:
        plain = getattr(torchvision.models.video, name)().eval()
        squeezed = timm.create_model(f"{name}_sehead").eval()
        squeezed.load_state_dict(plain.state_dict(), strict=False)
        images = torch.randn(batch, *squeezed.input_shape())
    else:
        plain = timm.create_model(name).eval()
        squeezed = timm.create_model("timm_sehead", backbone=name).eval()
        squeezed.load_state_dict(plain.state_dict(), strict=False)
        images = torch.randn(batch, 3, size, size)

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return plain(images)

    explained = {m: lambda m=m: se_zoo.explain(squeezed, images, method=m) for m in METHODS}
    return {"plain": forward, **explained}


def peak_growth(call: Callable[[], object]) -> float:
    """Growth of this process's peak resident memory through one call, MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    before = _status("VmRSS")
    call()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {key}; memory is measured on Linux only.")


def print_peak(bench: Bench) -> None:
    """One figure, in a process of its own, of its first call: an allocator that has been used keeps
    what it had, and would hide the growth."""
    print(peak_growth(sides(bench.models[0], bench.batch, bench.size)[bench.peak_of]))


def measure_peak(bench: Bench, name: str, side: str) -> float:
    """Median over processes: a single figure jumps with what the allocator finds free."""
    command = [sys.executable, "-m", "tests.bench_explain", "--models", name, "--peak-of", side,
               "--batch", str(bench.batch), "--size", str(bench.size),
               "--threads", str(bench.threads)]  # fmt: skip
    peaks = []
    for _ in range(bench.memory_runs):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(done.stdout))
    return statistics.median(peaks)


def measure_time(bench: Bench, name: str) -> Dict[str, List[float]]:
    """Seconds of each side, taken in turn, so that drift of the machine hits all alike."""
    calls = sides(name, bench.batch, bench.size)
    seconds: Dict[str, List[float]] = {side: [] for side in calls}
    for run in range(bench.runs + 2):
        for side, call in calls.items():
            start = time.perf_counter()
            call()
            if run >= 2:
                seconds[side].append(time.perf_counter() - start)
    return seconds


def row(bench: Bench, name: str) -> Dict[str, object]:
    seconds = measure_time(bench, name)
    plain = statistics.median(seconds["plain"])
    result: Dict[str, object] = {"model": name, "plain_ms": round(1000 * plain, 1)}
    for method in METHODS:
        # The ratio of each turn, then the median: one slow turn cannot tilt it.
        ratios = [m / p for m, p in zip(seconds[method], seconds["plain"], strict=True)]
        result[f"{method}_time"] = round(statistics.median(ratios), 3)
    if bench.memory:
        peak = measure_peak(bench, name, "plain")
        result["plain_mb"] = round(peak)
        for method in METHODS:
            result[f"{method}_memory"] = round(measure_peak(bench, name, method) / peak, 3)
    return result


def import_seconds(statement: str) -> float:
    """Wall time of one import in a new process, the interpreter's start left out."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return float(output.stdout)


def print_import_time(bench: Bench) -> None:
    timm_side, both = [], []
    for _ in range(bench.runs + 1):
        timm_side.append(import_seconds("import timm"))
        both.append(import_seconds("import timm, se_zoo"))
    more = [b - t for b, t in zip(both[1:], timm_side[1:], strict=True)]
    print(f"import timm {statistics.median(timm_side[1:]):.2f} s, "
          f"se_zoo over it {statistics.median(more):.3f} s (median of {bench.runs})")  # fmt: skip


def main(bench: Bench) -> None:
    torch.set_num_threads(bench.threads)
    if bench.import_time:
        print_import_time(bench)
        return
    if bench.peak_of:
        print_peak(bench)
        return
    if bench.out is not None and len(bench.models) != 1:
        sys.exit("--out takes the figures of one model; name one with --models.")
    print(f"torch {torch.__version__}, timm {timm.__version__}, {bench.threads} threads, batch "
          f"{bench.batch}, {bench.size} px, median of {bench.runs} alternating runs")  # fmt: skip
    for name in bench.models:
        figures = row(bench, name)
        print(json.dumps(figures), flush=True)
        if bench.out is not None:
            settings = {"batch": bench.batch, "runs": bench.runs}
            report = {**provenance(), **settings, **figures}
            bench.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
