"""Measure what an explanation costs: time and peak memory, beside the forward and other libraries.

    pip install -e ".[train,compare]"
    python -m benchmarks.maps cost                         # all models and methods; an hour
    python -m benchmarks.maps cost --debug                 # seconds
    python -m benchmarks.maps cost --models resnet50 --batches 8 --peers grad-cam/GradCAM
    python -m benchmarks.maps cost --models r2plus1d_18 --batches 1            # clips

Every backbone has random weights and its own input size. Measured are the plain forward (timm's or
torchvision's own model), predict + each map that the model offers for one class, and each peer that
has a map of such a head; every map is resized to the input's resolution. The sides take turns in
one process, so that drift of the machine affects all of them; ratios are medians of the ratios of
each turn.
ScoreCAM and AblationCAM take a forward pass for each channel: they run once, at batch 1, between
two plain forwards.
Peak memory on a CPU is the growth of the process over its state before the call, read from the
kernel (VmHWM, Linux). Each figure has a fresh process whose allocator returns freed memory at once
(glibc). On a GPU it is the peak of torch's allocator.
The same command continues a stopped run with the next model or batch.
Results: benchmarks/results/cost.json, and the tables of docs/evidence.md.
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
from typing import Any, Callable, Dict, List, Tuple

import timm
import torch
import torchvision

import se_zoo
from benchmarks.cost_report import cost_table, draw_cost
from se_zoo.errors import InvalidInputError
from se_zoo.explanations.class_token import reads_class_token
from se_zoo.explanations.methods import offered_methods
from se_zoo.explanations.quality.peer_methods import BY_CHANNEL, GRID_PEERS
from se_zoo.explanations.quality.peers import (
    CLASS_TOKEN_PEERS,
    PEERS,
    check_libraries,
    peer_heatmap,
    peer_maps,
)
from se_zoo.files import write_json
from se_zoo.models.zoo_video import CLIPS
from se_zoo.provenance import provenance
from se_zoo.train.options import plain as as_json

#: Peers whose map takes about one forward and one backward pass.
ONE_PASS = ("grad-cam/GradCAM", "grad-cam/GradCAM++", "grad-cam/HiResCAM", "grad-cam/LayerCAM",
            "grad-cam/EigenCAM", "captum/LayerGradCam", "torch-cam/GradCAM",
            "torch-cam/LeGrad", "torch/rollout", "grad-cam/GradCAM-tokens")  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Options of the preset cost: time and memory."""

    output: Path = Path("runs/explain/cost")
    models: Tuple[str, ...] = (
        "resnet50", "convnext_tiny", "vit_base_patch16_224", "deit_base_patch16_224", "r2plus1d_18",
    )  # fmt: skip
    """Names of timm's backbones, of torchvision's clip backbones, or of models of the zoo. Those
    that begin with vit average their patches; DeiT reads its class token."""
    batches: Tuple[int, ...] = (1, 8)
    """Batch sizes of images; clips are measured at batch 1."""
    peers: Tuple[str, ...] = (*ONE_PASS, *BY_CHANNEL)
    """Methods of other libraries."""
    runs: int = 7
    """Timed turns, after two that are not counted."""
    threads: int = 2
    """Threads of torch."""
    device: str = "cpu"
    """cpu or cuda."""
    memory_runs: int = 1
    """Processes for each figure of peak memory, at the last of the batches; 0 skips memory. On
    Linux with glibc the figures of several processes lie within 1 MB."""
    debug: bool = False
    """Run everything once with a tiny model."""
    peak_of: str = ""
    """Internal: print the growth of peak memory of one side and exit."""


def _build(name: str) -> Tuple[Any, Any]:
    """Return the plain model and the squeezed one with the same backbone weights."""
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


def _sides(given: Cost, name: str, batch: int) -> Dict[str, Callable[[], object]]:
    """Return the calls to measure by name; the first is the plain forward."""
    plain, squeezed = (model.to(given.device) for model in _build(name))
    images = torch.randn(batch, *squeezed.input_shape(), device=given.device)
    targets = torch.zeros(batch, dtype=torch.long, device=given.device)
    size = tuple(images.shape[2:])

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return plain(images)

    calls: Dict[str, Callable[[], object]] = {"plain": forward}
    for method in offered_methods(squeezed.is_multi_label(), squeezed.num_classes):
        calls[method] = lambda m=method: se_zoo.explain(squeezed, images, targets, m)
    known = CLASS_TOKEN_PEERS if reads_class_token(squeezed) else GRID_PEERS
    for peer in (peer for peer in given.peers if peer in known):
        if images.dim() == 4 or peer not in BY_CHANNEL:
            calls[peer] = lambda p=peer: peer_heatmap(
                peer_maps(squeezed, images, targets, p), p, size
            )
    return calls


def _seconds_of(call: Callable[[], object], device: str) -> float:
    """Return the seconds that a call takes; on a GPU, between two events."""
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


def _measure_time(given: Cost, name: str, batch: int) -> Dict[str, Dict[str, float]]:
    """Measure milliseconds of each side and its ratio to the plain forward of the same turn."""
    for call in _sides(given, "test_resnet", 1).values():
        call()  # imports at first use do not count
    calls = _sides(given, name, batch)
    slow = {peer: calls.pop(peer) for peer in BY_CHANNEL if peer in calls}
    seconds: Dict[str, List[float]] = {side: [] for side in calls}
    names = list(calls)
    for run in range(given.runs + 2):
        # Each turn begins with another side: the one after the heaviest is slowed by its memory.
        first = run % len(names)
        for side in names[first:] + names[:first]:
            taken = _seconds_of(calls[side], given.device)
            if run >= 2:
                seconds[side].append(taken)
    found = {}
    for side, taken in seconds.items():
        ratios = [s / p for s, p in zip(taken, seconds["plain"], strict=True)]
        found[side] = {"ms": 1000 * statistics.median(taken), "ratio": statistics.median(ratios)}
    if batch == 1:
        for peer, call in slow.items():
            before = _seconds_of(calls["plain"], given.device)
            taken = _seconds_of(call, given.device)
            after = _seconds_of(calls["plain"], given.device)
            found[peer] = {"ms": 1000 * taken, "ratio": 2 * taken / (before + after)}
    return found


def peak_growth(call: Callable[[], object], device: str) -> float:
    """Return how much the peak memory grows during a call, in MiB."""
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


#: Makes glibc return freed blocks above this size (bytes) at once. By default it raises the bound
#: and keeps memory, so that the peak of one call differs by dozens of MB from run to run.
MALLOC_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def _print_peak(given: Cost) -> None:
    """Print how much one side's second call grows the peak memory.

    The first call is not measured: it includes what is imported or built once.
    """
    only = replace(given, peers=(given.peak_of,) if given.peak_of in PEERS else ())
    call = _sides(only, given.models[0], given.batches[0])[given.peak_of]
    call()
    print(peak_growth(call, given.device))


def measure_memory(given: Cost, name: str, batch: int, side: str) -> float:
    """Return a side's growth of peak memory in MiB, the median over fresh processes.

    Each process runs one side only: memory that another side left would hide the growth.

    Raises:
        InvalidInputError: If a process fails.
    """
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
            env={**os.environ, **MALLOC_SETTINGS},
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["the process printed no error"])[-1]
            raise InvalidInputError(f"the memory of {side} could not be measured: {last}")
        peaks.append(float(done.stdout.split()[-1]))
    return statistics.median(peaks)


def _batches_of(given: Cost, name: str) -> Tuple[int, ...]:
    """Return the batch sizes to measure; clips are measured at batch 1."""
    return (1,) if name in CLIPS else given.batches


def _measure(given: Cost, name: str, batch: int) -> Dict[str, Any]:
    """Measure a model at a batch size; return the figures by side."""
    found: Dict[str, Dict[str, float]] = _measure_time(given, name, batch)
    if given.memory_runs and batch == _batches_of(given, name)[-1]:
        for side, figures in found.items():
            if side not in BY_CHANNEL:
                figures["mb"] = measure_memory(given, name, batch, side)
    return {"model": name, "batch": batch, "sides": found}


def code_digest() -> str:
    """Return the SHA-256 of the code that makes the figures: the package and the benchmarks."""
    digest = hashlib.sha256()
    for folder in (Path(se_zoo.__file__).parent, Path(__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()


def _finished_rows(file: Path, content: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the rows of a stopped run with the same options, code, versions and machine."""
    if not file.is_file():
        return []
    found = json.loads(file.read_text("utf-8"))
    same = ("options", "code", "libraries", "environment")
    return found["rows"] if all(found.get(k) == content[k] for k in same) else []


def _check(given: Cost) -> None:
    """Refuse options that cannot be used.

    Raises:
        InvalidInputError: Naming the option.
    """
    unknown = [peer for peer in given.peers if peer not in PEERS]
    if unknown:
        known = ", ".join(PEERS)
        raise InvalidInputError(f"--peers: {', '.join(unknown)}; there are {known}.")
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
        raise InvalidInputError("several processes would slow each other down: start one.")
    check_libraries(given.peers)
    proc = Path("/proc/self/clear_refs")
    if given.device == "cpu" and given.memory_runs and not proc.exists():
        raise InvalidInputError(
            f"peak memory is read from {proc}, which only Linux has: add --memory-runs 0."
        )


def run_cost(given: Cost) -> None:
    """Measure every model and batch, print the table, and write table, plot and JSON.

    Raises:
        InvalidInputError: For options that cannot be used.
    """
    _check(given)
    torch.set_num_threads(given.threads)
    if given.peak_of:
        _print_peak(given)
        return
    if given.debug:
        given = replace(given, models=("test_resnet",), batches=(1,), runs=1, memory_runs=1,
                        peers=("grad-cam/GradCAM", "grad-cam/ScoreCAM"),
                        output=Path(f"{given.output.parent}-debug", given.output.name))  # fmt: skip
    rows = []
    given.output.mkdir(parents=True, exist_ok=True)
    content = {**provenance(), "options": as_json(asdict(given)), "code": code_digest(),
               "libraries": check_libraries(given.peers)}  # fmt: skip
    finished = _finished_rows(given.output / "cost.json", content)
    for name in given.models:
        for batch in _batches_of(given, name):
            done = [row for row in finished if (row["model"], row["batch"]) == (name, batch)]
            rows.append(done[0] if done else _measure(given, name, batch))
            print(json.dumps(rows[-1]), flush=True)
            write_json(given.output / "cost.json", {**content, "rows": rows})
    (given.output / "cost.md").write_text(cost_table(rows) + "\n", encoding="utf-8")
    draw_cost(rows, given.output / "cost.png")
    print(f"\n{cost_table(rows)}\n\nwritten to {given.output}")
