"""What an explanation costs: time and peak memory beside the plain forward and other libraries.

    pip install -e ".[train,compare]"
    python benchmarks/maps.py cost                         # README's table; an hour
    python benchmarks/maps.py cost --debug                 # seconds
    python benchmarks/maps.py cost --models resnet50 --batches 8 --peers grad-cam/GradCAM
    python benchmarks/maps.py cost --models r2plus1d_18 --batches 1            # clips
    python benchmarks/maps.py cost --models se_zoo/resnet18_slim_celeba --peers \\
        --out speed.json                                         # for the model's card

Of every backbone, with random weights, at its own size: the plain forward (timm's or torchvision's
own model), predict + gate map, predict + contribution map, predict + support map, and each peer, to
a heatmap of the input's resolution. The sides take turns in one process, so that drift of the
machine hits all alike; ratios are medians of the ratios of each turn. ScoreCAM and AblationCAM,
which take a forward pass for each channel, run once, at batch 1, between two plain forwards. Peak
memory on a CPU is the growth of the process over its state before the call, read from the kernel
(VmHWM, Linux), one fresh process a figure, whose allocator gives back at once what is freed
(glibc); on a GPU it is that of torch's allocator. A stopped bench goes on when the same command is
given again: with the next model or batch.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import timm
import torch
import torchvision

import se_zoo
from se_zoo.errors import InvalidInputError
from se_zoo.explanations.quality.peers import (
    BY_CHANNEL,
    PEERS,
    check_libraries,
    peer_heatmap,
    peer_maps,
)
from se_zoo.files import write_json
from se_zoo.models.zoo_video import CLIPS
from se_zoo.provenance import provenance
from se_zoo.train.run_folder import plain as as_json

OURS = ("gate", "contribution", "support")
#: Those whose map takes about one pass, forward and back.
PASSES = ("grad-cam/GradCAM", "grad-cam/GradCAM++", "grad-cam/HiResCAM", "grad-cam/LayerCAM",
          "grad-cam/EigenCAM", "captum/LayerGradCam", "torch-cam/GradCAM")  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Time and memory."""

    output: Path = Path("runs/explain/cost")
    models: Tuple[str, ...] = ("resnet50", "convnext_tiny", "vit_base_patch16_224", "r2plus1d_18")
    """timm names of backbones, torchvision's of clip backbones, or a zoo's model."""
    batches: Tuple[int, ...] = (1, 8)
    """Of images; clips are measured one by one."""
    peers: Tuple[str, ...] = (*PASSES, *BY_CHANNEL)
    runs: int = 7
    """Turns, after two that are not counted."""
    threads: int = 2
    device: str = "cpu"
    """Or cuda."""
    memory_runs: int = 1
    """Processes a figure of the peak memory, at the last of the batches; 0 leaves memory out. On
    Linux with glibc the figures of several lie within 1 MB."""
    out: Optional[Path] = None
    """Write the figures of one model and batch here, as a card wants them."""
    debug: bool = False
    """Does everything run? A tiny model."""
    peak_of: str = ""
    """Internal: print the peak memory growth of one side and exit."""


def build(name: str) -> Tuple[Any, Any]:
    """The plain model and the squeezed one with the same backbone weights. Of ViT the patch tokens
    are averaged: with a class token alone no peer has a map behind the gate."""
    torch.manual_seed(0)
    if name.startswith("se_zoo/"):
        squeezed = timm.create_model(name, pretrained=True)
        return se_zoo.unsqueeze(deepcopy(squeezed)).eval(), squeezed.eval()
    if name in CLIPS:
        plain = getattr(torchvision.models.video, name)()
        squeezed = timm.create_model(f"{name}_sehead")
    else:
        options: Dict[str, Any] = {"global_pool": "avg"} if name.startswith("vit") else {}
        plain = timm.create_model(name, **options)
        squeezed = timm.create_model("timm_sehead", backbone=name, **options)
    squeezed.load_state_dict(plain.state_dict(), strict=False)
    return plain.eval(), squeezed.eval()


def sides(given: Cost, name: str, batch: int) -> Dict[str, Callable[[], object]]:
    """What is measured, by name; the first is the plain forward."""
    plain, squeezed = (model.to(given.device) for model in build(name))
    images = torch.randn(batch, *squeezed.input_shape(), device=given.device)
    targets = torch.zeros(batch, dtype=torch.long, device=given.device)
    size = tuple(images.shape[2:])

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return plain(images)

    calls: Dict[str, Callable[[], object]] = {"plain": forward}
    for method in OURS:
        calls[method] = lambda m=method: se_zoo.explain(squeezed, images, targets, m)
    for peer in given.peers:
        if images.dim() == 4 or peer not in BY_CHANNEL:
            calls[peer] = lambda p=peer: peer_heatmap(
                peer_maps(squeezed, images, targets, p), p, size
            )
    return calls


def seconds_of(call: Callable[[], object], device: str) -> float:
    """Of one call; on a GPU between two events."""
    if device == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    call()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000


def measure_time(given: Cost, name: str, batch: int) -> Dict[str, Dict[str, float]]:
    """Milliseconds of each side and its ratio to the plain forward of the same turn."""
    for call in sides(given, "test_resnet", 1).values():
        call()  # what is imported at first use is none of its cost
    calls = sides(given, name, batch)
    slow = {peer: calls.pop(peer) for peer in BY_CHANNEL if peer in calls}
    seconds: Dict[str, List[float]] = {side: [] for side in calls}
    names = list(calls)
    for run in range(given.runs + 2):
        # Each turn begins with another side: who comes after the heaviest pays for its memory.
        first = run % len(names)
        for side in names[first:] + names[:first]:
            taken = seconds_of(calls[side], given.device)
            if run >= 2:
                seconds[side].append(taken)
    found = {}
    for side, taken in seconds.items():
        ratios = [s / p for s, p in zip(taken, seconds["plain"], strict=True)]
        found[side] = {"ms": 1000 * statistics.median(taken), "ratio": statistics.median(ratios)}
    if batch == 1:
        for peer, call in slow.items():
            before = seconds_of(calls["plain"], given.device)
            taken = seconds_of(call, given.device)
            after = seconds_of(calls["plain"], given.device)
            found[peer] = {"ms": 1000 * taken, "ratio": 2 * taken / (before + after)}
    return found


def peak_growth(call: Callable[[], object], device: str) -> float:
    """Growth of the peak memory through one call, MB."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    start = _status("VmRSS")
    call()
    return (_status("VmHWM") - start) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


#: glibc gives back at once what is larger than this, in bytes: by default it raises the bound by
#: itself and keeps memory, so that the same call's peak differs by dozens of MB from run to run.
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def print_peak(given: Cost) -> None:
    """The growth of one side, in its second call: what is imported or built once is none of its
    cost."""
    only = replace(given, peers=(given.peak_of,) if given.peak_of in PEERS else ())
    call = sides(only, given.models[0], given.batches[0])[given.peak_of]
    call()
    print(peak_growth(call, given.device))


def measure_memory(given: Cost, name: str, batch: int, side: str) -> float:
    """Median over processes, of one side each: what another left behind would hide the growth."""
    command = [sys.executable, "-m", "benchmarks.maps", "cost",
               "--models", name, "--batches", str(batch), "--threads", str(given.threads),
               "--device", given.device, "--peak-of", side]  # fmt: skip
    peaks = []
    for _ in range(given.memory_runs):
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
            env={**os.environ, **GIVEN_BACK},
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InvalidInputError(f"the memory of {side} could not be measured: {last}")
        peaks.append(float(done.stdout.split()[-1]))
    return statistics.median(peaks)


def batches_of(given: Cost, name: str) -> Tuple[int, ...]:
    """Clips are measured one by one."""
    return (1,) if name in CLIPS else given.batches


def measure(given: Cost, name: str, batch: int) -> Dict[str, Any]:
    """Figures of a model and batch, by side."""
    found: Dict[str, Dict[str, float]] = measure_time(given, name, batch)
    if given.memory_runs and batch == batches_of(given, name)[-1]:
        for side, figures in found.items():
            if side not in BY_CHANNEL:
                figures["mb"] = measure_memory(given, name, batch, side)
    return {"model": name, "batch": batch, "sides": found}


def table(rows: List[Dict[str, Any]]) -> str:
    """Markdown: one column a model and batch; time as ratio to the plain forward, memory in MB."""
    heads = [f"{row['model']}, {row['batch']}" for row in rows]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(rows) + 1) + "|"]
    for side in dict.fromkeys(side for row in rows for side in row["sides"]):
        cells = []
        for row in rows:
            figures = row["sides"].get(side)
            if figures is None:
                cells.append("")
                continue
            digits = 2 if figures["ratio"] < 100 else 0
            shown = f"x {figures['ratio']:.{digits}f}"
            shown = f"{figures['ms']:.0f} ms" if side == "plain" else shown
            cells.append(shown + (f", {figures['mb']:.0f} MB" if "mb" in figures else ""))
        lines.append(f"| {'plain forward' if side == 'plain' else side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_cost(rows: List[Dict[str, Any]], file: Path) -> None:
    """Time over the plain forward, and peak memory, on logarithmic scales."""
    from matplotlib.figure import Figure

    names = [side for side in dict.fromkeys(s for r in rows for s in r["sides"]) if side != "plain"]
    figure = Figure((11, 0.3 * len(names) + 1.6))
    for axis, key in zip(figure.subplots(1, 2, sharey=True), ("ratio", "mb"), strict=True):
        for n, row in enumerate(rows):
            points = [(row["sides"][s][key], len(names) - 1 - i) for i, s in enumerate(names)
                      if key in row["sides"].get(s, {})]  # fmt: skip
            axis.plot([p[0] for p in points], [p[1] for p in points], "osD^v<>*"[n % 8], alpha=0.75,
                      label=f"{row['model']}, batch {row['batch']}")  # fmt: skip
        axis.set_xscale("log")
        axis.grid(alpha=0.3)
        axis.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
    left, right = figure.axes
    left.axvline(1, color="0.5", lw=1)
    left.set_title("time over the plain forward", fontsize=9)
    right.set_title("growth of peak memory, MB", fontsize=9)
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def for_card(given: Cost, row: Dict[str, Any]) -> Dict[str, Any]:
    """The figures of one model as hub_cards/template.md reads them."""
    plain = row["sides"]["plain"]
    found = {"batch": row["batch"], "runs": given.runs, "model": row["model"],
             "plain_ms": round(plain["ms"], 1), "plain_mb": round(plain["mb"])}  # fmt: skip
    for method in ("gate", "contribution"):
        figures = row["sides"][method]
        found[f"{method}_time"] = round(figures["ratio"], 3)
        found[f"{method}_memory"] = round(figures["mb"] / plain["mb"], 3)
    return {**provenance(), **found}


def code_digest() -> str:
    """Return the SHA-256 of the code that makes the figures: the package and the benchmarks."""
    digest = hashlib.sha256()
    for folder in (Path(se_zoo.__file__).parent, Path(__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()


def rows_before(file: Path, content: Dict[str, Any]) -> List[Dict[str, Any]]:
    """What a stopped bench has measured, with the same options, code, versions and machine."""
    if not file.is_file():
        return []
    found = json.loads(file.read_text("utf-8"))
    same = ("options", "code", "libraries", "environment")
    return found["rows"] if all(found.get(k) == content[k] for k in same) else []


def run_cost(given: Cost) -> None:
    """Measure, print and write.

    Raises:
        InvalidInputError: For options that cannot be used.
    """
    unknown = [peer for peer in given.peers if peer not in PEERS]
    if unknown:
        raise InvalidInputError(f"--peers: {', '.join(unknown)}; there are {', '.join(PEERS)}.")
    if given.device != "cpu" and not torch.cuda.is_available():
        raise InvalidInputError(f"--device {given.device}: torch finds no GPU here.")
    if not given.batches or min([given.runs, given.threads, *given.batches]) < 1:
        raise InvalidInputError("--runs, --threads and every one of --batches must be at least 1.")
    for name in given.models:
        if not (name.startswith("se_zoo/") or name in CLIPS or timm.is_model(name)):
            raise InvalidInputError(
                f"--models {name}: neither a backbone of timm, nor one of {', '.join(CLIPS)}, nor "
                "se_zoo/..."
            )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidInputError("several processes would be timed against each other: start one.")
    check_libraries(given.peers)
    proc = Path("/proc/self/clear_refs")
    if given.device == "cpu" and given.memory_runs and not proc.exists():
        raise InvalidInputError(f"there is no {proc}, which is Linux's: add --memory-runs 0.")
    torch.set_num_threads(given.threads)
    if given.peak_of:
        print_peak(given)
        return
    if given.debug:
        given = replace(given, models=("test_resnet",), batches=(1,), runs=1, memory_runs=1,
                        peers=("grad-cam/GradCAM", "grad-cam/ScoreCAM"),
                        output=Path(f"{given.output.parent}-debug", given.output.name))  # fmt: skip
    single = len(given.models) == len(given.batches) == 1 and given.memory_runs
    if given.out is not None and not single:
        raise InvalidInputError("--out takes one model and one batch, and its memory.")
    rows = []
    given.output.mkdir(parents=True, exist_ok=True)
    content = {**provenance(), "options": as_json(asdict(given)), "code": code_digest(),
               "libraries": check_libraries(given.peers)}  # fmt: skip
    before = rows_before(given.output / "cost.json", content)
    for name in given.models:
        for batch in batches_of(given, name):
            done = [row for row in before if (row["model"], row["batch"]) == (name, batch)]
            rows.append(done[0] if done else measure(given, name, batch))
            print(json.dumps(rows[-1]), flush=True)
            write_json(given.output / "cost.json", {**content, "rows": rows})
    if given.out is not None:
        write_json(given.out, for_card(given, rows[0]))
    (given.output / "cost.md").write_text(table(rows) + "\n", encoding="utf-8")
    draw_cost(rows, given.output / "cost.png")
    print(f"\n{table(rows)}\n\nwritten to {given.output}")
