"""Measure images a second in training, beside timm's own train.py, and of the SE head alone.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.training --timm-train train.py
    SE_ZOO_DATA=/path/to/data python -m benchmarks.training --head

Run time: about ten minutes each on two cores, by the rates that they measured.
Results: benchmarks/README.md (--timm-train), recipes/squeeze_only.py (--head).

timm's packages do not hold train.py: take it from the repository, at the installed version. The
sides take turns, each in a process of its own. Model, batch, augmentation, precision, EMA and the
photographs (1,000 of ImageNet, in ten folders) are the same. The figure is images over the time of
all updates including their batches. Decoding counts: once for ours, as these photographs fit into
memory, and in every epoch for timm's. Validation and saving do not count.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import tyro

ROOT = Path(__file__).parent.parent
#: Measures one side of a comparison in a folder of its own; returns images a second.
Side = Callable[[Path], float]
UPDATE = re.compile(
    r"Train: .*\((\d+\.\d+)s, +[\d.]+/s\)"
)  # mean seconds of an update, so far in the epoch


@dataclass(frozen=True)
class Bench:
    """Options of the measurement."""

    timm_train: Optional[Path] = None
    """Path of timm's train.py."""
    head: bool = False
    """Measure the SE head alone (recipes/squeeze_only.py) beside the whole model instead."""
    model: str = "resnet18"
    """timm's name of the backbone."""
    size: int = 128
    """Side of the images, in pixels."""
    batch: int = 32
    """Images in a batch."""
    epochs: int = 3
    """Epochs of each run."""
    workers: int = 0
    """Processes that load images."""
    runs: int = 3
    """Runs of each side, in turns."""
    threads: int = 2
    """Threads of torch."""


def _run(command: List[str], threads: int) -> str:
    """Run a command; return its output and errors, or exit if it fails."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return done.stdout + done.stderr


def _run_recipe(name: str, output: Path, threads: int, *options: object) -> Path:
    """Run a recipe and return the run's folder."""
    command = [sys.executable, f"recipes/{name}.py", "--run.output", str(output)]
    _run([*command, *map(str, options)], threads)
    return output


def _write_photographs(folder: Path, data: Path) -> None:
    """Write the ImageNet sample as ten class folders, by the last digit of the row."""
    from se_zoo.data import DataConfig, open_table

    config = DataConfig(
        str(data / "imagenet_sample"),
        label="label",
        ignore=("wnid",),
        splits=("train", "train", "train"),
    )
    photographs: Any = open_table(config, "train")
    for row in range(len(photographs)):
        for split in ("train", "validation") if row < 20 else ("train",):
            target = folder / split / f"class{row % 10}"
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{row}.jpg").write_bytes(photographs.encoded(row))


def _ours(bench: Bench, data: Path, output: Path, *options: str) -> float:
    """Measure images a second of recipes/own_data.py."""
    folder = _run_recipe(
        "own_data", output, bench.threads, "--data.path", data, "--data.splits", "train",
        "validation", "validation", "--model.name", f"{bench.model}_sehead", "--model.input-size",
        bench.size, bench.size, "--model.drop-rate", 0, "--augment.scale", 0.08, 1,
        "--augment.reprob", 0, "--optim.batch-size", bench.batch, "--optim.epochs", bench.epochs,
        "--optim.warmup-epochs", 0, "--run.mixed-precision", "bf16", "--run.workers",
        bench.workers, "--run.log-every", 1, *options,
    )  # fmt: skip
    return bench.batch / statistics.fmean(_update_seconds(folder, bench.batch))


def _update_seconds(folder: Path, images: int) -> List[float]:
    """Return the seconds of every update of a run that logged each."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [images / row["images_per_second"] for row in rows if "loss" in row]


def _timms(bench: Bench, data: Path, output: Path) -> float:
    """Measure images a second of timm's train.py, from the times that it logs."""
    log = _run(
        [sys.executable, str(bench.timm_train), "--data-dir", str(data), "--model", bench.model,
         "--num-classes", "10", "--img-size", str(bench.size), "-b", str(bench.batch),
         "--epochs", str(bench.epochs), "--warmup-epochs", "0", "--opt", "adamw", "--lr", "1e-3",
         "--weight-decay", "0.05", "--smoothing", "0", "--train-interpolation", "bilinear",
         "--channels-last", "--amp", "--amp-dtype", "bfloat16", "--model-ema", "--device", "cpu",
         "--workers", str(bench.workers), "--log-interval", "1", "--output", str(output)],
        bench.threads,
    )  # fmt: skip
    seconds = [float(line) for line in UPDATE.findall(log)]
    per_epoch = len(seconds) // bench.epochs
    means = seconds[per_epoch - 1 :: per_epoch]  # the last line of an epoch has the epoch's mean
    return bench.batch / statistics.fmean(means)


def _celeba_rate(name: str, bench: Bench, output: Path, *options: object) -> float:
    """Measure images a second in the updates of a recipe on CelebA, MobileNetV2 at 224 px."""
    folder = _run_recipe(
        name, output, bench.threads, "--data.limit", 512, "--data.limit-eval", 64, "--optim.epochs",
        bench.epochs, "--optim.warmup-epochs", 0, "--run.log-every", 1, *options,
    )  # fmt: skip
    return 64 / statistics.median(_update_seconds(folder, 64))


def _head_sides(bench: Bench) -> Dict[str, Side]:
    """Return the sides of --head: through the backbone, and the head on cached features."""
    model = ("--model.name", "timm_sehead", "--model.backbone", "mobilenetv2_100")
    return {
        "through the backbone, fp32": lambda output: _celeba_rate(
            "celeba", bench, output, *model, "--run.mixed-precision", "no"
        ),
        "through the backbone, bf16": lambda output: _celeba_rate("celeba", bench, output, *model),
        "the head alone": lambda output: _celeba_rate("squeeze_only", bench, output),
    }


def _timm_sides(bench: Bench, data: Path) -> Dict[str, Side]:
    """Return the sides of --timm-train: timm's script, ours without the block, and with it."""
    return {
        "timm's train.py": lambda output: _timms(bench, data, output),
        "se_zoo, the same model": lambda output: _ours(bench, data, output, "--model.no-se"),
        "se_zoo, with the SE block": lambda output: _ours(bench, data, output),
    }


def _table(found: Dict[str, List[float]]) -> str:
    """Return a Markdown table of medians, and of median ratios to the first side of a round."""
    base = next(iter(found.values()))
    lines = ["| images a second | median | runs | ratio |", "|---|---|---|---|"]
    for name, values in found.items():
        ratio = statistics.median(v / b for v, b in zip(values, base, strict=True))
        runs = ", ".join(f"{v:.0f}" for v in values)
        lines.append(f"| {name} | {statistics.median(values):.0f} | {runs} | x {ratio:.2f} |")
    return "\n".join(lines)


def main(bench: Bench) -> None:
    """Run all sides in turns and print the table."""
    data = os.environ.get("SE_ZOO_DATA")
    if not data:
        sys.exit("Set SE_ZOO_DATA to the folder of the sample data.")
    if not bench.head and (bench.timm_train is None or not bench.timm_train.is_file()):
        sys.exit("--timm-train must be the path of timm's train.py, from its repository.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if bench.head:
            sides = _head_sides(bench)
        else:
            _write_photographs(folder / "data", Path(data))
            sides = _timm_sides(bench, folder / "data")
        found: Dict[str, List[float]] = {name: [] for name in sides}
        for number in range(bench.runs):
            for place, (name, side) in enumerate(sides.items()):
                found[name].append(side(folder / f"run{number}-{place}"))
                print(f"run {number + 1}: {name}: {found[name][-1]:.0f} images/s", flush=True)
    print(_table(found))


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
