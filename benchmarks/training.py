"""Images a second in training: beside timm's own train.py, and of the SE head alone.

    python -m benchmarks.training --timm-train pytorch-image-models/train.py
    python -m benchmarks.training --head

Both need SE_ZOO_DATA. timm's packages do not hold train.py: take it from the repository at the
version that is installed. The sides alternate in one run, each in a process of its own, on the
same photographs (1,000 of ImageNet, in ten folders), model, batch, augmentation, precision and
EMA. The figure is images over the time of all updates with their batches, decoding included (ours
once, as these photographs fit into memory; timm's in every epoch); neither side's validation and
saving is counted.
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
#: One side of a comparison: images a second, measured in a folder of its own.
Side = Callable[[Path], float]
UPDATE = re.compile(r"Train: .*\((\d+\.\d+)s, +[\d.]+/s\)")  # the running mean of an epoch


@dataclass(frozen=True)
class Bench:
    """What to measure."""

    timm_train: Optional[Path] = None
    """timm's train.py."""
    head: bool = False
    """Measure an epoch of recipes/squeeze_only.py beside one through the backbone instead."""
    model: str = "resnet18"
    size: int = 128
    """Side of the images, in pixels."""
    batch: int = 32
    epochs: int = 3
    workers: int = 0
    runs: int = 3
    """Alternating runs of each side."""
    threads: int = 2


def run(command: List[str], threads: int) -> str:
    """Standard output and errors of a command that has to succeed."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return done.stdout + done.stderr


def recipe(name: str, output: Path, threads: int, *options: object) -> Path:
    """The folder of a run of a recipe."""
    command = [sys.executable, f"recipes/{name}.py", "--run.output", str(output)]
    run([*command, *map(str, options)], threads)
    return output


def write_photographs(folder: Path, data: Path) -> None:
    """ImageNet's sample as a folder per class, which is the last digit of the real one."""
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


def ours(bench: Bench, data: Path, output: Path, *options: str) -> float:
    """Images a second of recipes/own_data.py."""
    folder = recipe(
        "own_data", output, bench.threads, "--data.path", data, "--data.splits", "train",
        "validation", "validation", "--model.name", f"{bench.model}_sehead", "--model.input-size",
        bench.size, bench.size, "--model.drop-rate", 0, "--augment.scale", 0.08, 1,
        "--augment.reprob", 0, "--optim.batch-size", bench.batch, "--optim.epochs", bench.epochs,
        "--optim.warmup-epochs", 0, "--run.mixed-precision", "bf16", "--run.workers",
        bench.workers, "--run.log-every", 1, *options,
    )  # fmt: skip
    return bench.batch / statistics.fmean(update_seconds(folder, bench.batch))


def update_seconds(folder: Path, images: int) -> List[float]:
    """Seconds of every update of a run that logged each."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [images / row["images_per_second"] for row in rows if "loss" in row]


def timms(bench: Bench, data: Path, output: Path) -> float:
    """Images a second of timm's train.py, from the times that it logs."""
    log = run(
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
    means = seconds[per_epoch - 1 :: per_epoch]  # the last line of an epoch has its whole mean
    return bench.batch / statistics.fmean(means)


def updates_a_second(name: str, bench: Bench, output: Path, *options: object) -> float:
    """Images a second in the updates of a recipe on CelebA, MobileNetV2 at 224 px."""
    folder = recipe(
        name, output, bench.threads, "--data.limit", 512, "--data.limit-eval", 64, "--optim.epochs",
        bench.epochs, "--optim.warmup-epochs", 0, "--run.log-every", 1, *options,
    )  # fmt: skip
    return 64 / statistics.median(update_seconds(folder, 64))


def head_sides(bench: Bench) -> Dict[str, Side]:
    """An epoch through the backbone, and one of the head on cached features."""
    model = ("--model.name", "timm_sehead", "--model.backbone", "mobilenetv2_100")
    return {
        "through the backbone, fp32": lambda output: updates_a_second(
            "celeba", bench, output, *model, "--run.mixed-precision", "no"
        ),
        "through the backbone, bf16": lambda output: updates_a_second(
            "celeba", bench, output, *model
        ),
        "the head alone": lambda output: updates_a_second("squeeze_only", bench, output),
    }


def timm_sides(bench: Bench, data: Path) -> Dict[str, Side]:
    """timm's script, and ours without and with the block."""
    return {
        "timm's train.py": lambda output: timms(bench, data, output),
        "se_zoo, the same model": lambda output: ours(bench, data, output, "--model.no-se"),
        "se_zoo, with the SE block": lambda output: ours(bench, data, output),
    }


def table(found: Dict[str, List[float]]) -> str:
    """Medians, and the median of the ratios to the first side of the same round."""
    base = next(iter(found.values()))
    lines = ["| images a second | median | runs | ratio |", "|---|---|---|---|"]
    for name, values in found.items():
        ratio = statistics.median(v / b for v, b in zip(values, base, strict=True))
        runs = ", ".join(f"{v:.0f}" for v in values)
        lines.append(f"| {name} | {statistics.median(values):.0f} | {runs} | x {ratio:.2f} |")
    return "\n".join(lines)


def main(bench: Bench) -> None:
    data = os.environ.get("SE_ZOO_DATA")
    if not data:
        sys.exit("set SE_ZOO_DATA to the folder of the sample data.")
    if not bench.head and (bench.timm_train is None or not bench.timm_train.is_file()):
        sys.exit("--timm-train: give timm's train.py, from its repository.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if bench.head:
            sides = head_sides(bench)
        else:
            write_photographs(folder / "data", Path(data))
            sides = timm_sides(bench, folder / "data")
        found: Dict[str, List[float]] = {name: [] for name in sides}
        for number in range(bench.runs):
            for place, (name, side) in enumerate(sides.items()):
                found[name].append(side(folder / f"run{number}-{place}"))
                print(f"run {number + 1}: {name}: {found[name][-1]:.0f} images/s", flush=True)
    print(table(found))


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
