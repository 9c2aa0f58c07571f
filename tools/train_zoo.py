"""Train the models of the zoo, one after the other.

    SE_ZOO_DATA=/path/to/data python -m tools.train_zoo                   # all, in order
    SE_ZOO_DATA=/path/to/data python -m tools.train_zoo resnet50_celeba   # one of them
    python -m tools.train_zoo --list

Run time: that of the recipes; the cards and each run's summary.json have it.

Each model has a folder of its own, `runs/zoo/<name>`. The same command skips finished models and
continues an interrupted one. A finished run with other options than today's is an error. The
commands are those of the recipes, and are printed before they run. A machine without bf16
arithmetic trains in fp32; on a CPU with it, :mod:`tools.cpu_training` computes some gradients
faster.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path("runs") / "zoo"

#: Faces framed as in CelebA, at the resolution of the sample data.
FACES = ["--model.input-size", "128", "104", "--model.crop-pct", "1", *(
    word for name in ("mean", "std") for word in (f"--model.{name}", "0.5", "0.5", "0.5")
)]  # fmt: skip
CONVNEXT = [
    "celeba.py", "--model.name", "convnext_atto_sehead", *FACES,
    "--model.args", "output_stride=16", "dilated=False", "--model.drop-path-rate", "0.1",
]  # fmt: skip
VIT = [
    "celeba.py", "--model.name", "vit_tiny_patch16_224_sehead", *FACES,
    "--model.input-size", "128", "112", "--optim.batch-size", "32", "--optim.clip-grad", "1",
    "--augment.reprob", "0", "--augment.scale", "0.7", "1",
]  # fmt: skip

#: Recipe and options by the name of the model, in the order of training: a model comes after the
#: one that it starts from.
JOBS: Dict[str, List[str]] = {
    "resnet18_slim_celeba": [
        "celeba.py", "--optim.epochs", "12", "--augment.half-size-epochs", "7",
    ],
    "framewise_grid": ["grid_clips.py", "speaking", "--seeds", "0"],
    "tf_efficientnet_lite0_celeba": [
        "celeba.py", "--model.name", "tf_efficientnet_lite0_sehead", *FACES,
        "--model.gate", "identity",
        "--model.args", "output_stride=16", "dilated=False",
        "--model.drop-rate", "0.2", "--optim.lr", "1e-3",
        "--run.init", "hub_cards/tf_efficientnet_lite0_in1k/hub",
        "--optim.epochs", "4", "--augment.half-size-epochs", "2",
    ],
    "resnet50_celeba": [
        "celeba.py", "--model.name", "resnet50_sehead", *FACES,
        "--model.args", "output_stride=16", "dilated=False", "--optim.lr", "1e-3",
        "--optim.epochs", "7", "--augment.half-size-epochs", "5",
    ],
    # From se-zoo convert lr-asd WEIGHTS --out lr_asd.
    "asd_small_grid": [
        "grid_speaker.py", "--seeds", "0", "--model.name", "asd_small_sehead",
        "--run.init", "lr_asd", "--optim.lr", "3e-4", "--optim.epochs", "6",
        "--optim.warmup-epochs", "1",
    ],
    "convnext_atto_celeba": [*CONVNEXT, "--optim.epochs", "10"],
    "vit_tiny_patch16_224_celeba": [
        *VIT, "--model.args", "global_pool=avg", "fc_norm=False",
        "--run.init", str(RUNS / "vit_start.safetensors"),
        "--optim.epochs", "8", "--optim.lr", "4e-4",
    ],
    "vit_tiny_patch16_224_cls_celeba": [
        *VIT, "--model.args", "global_pool=token", "fc_norm=False",
        "--run.init", str(RUNS / "vit_tiny_patch16_224_celeba"),
        "--optim.epochs", "1", "--optim.lr", "2e-4", "--optim.warmup-epochs", "0.2",
    ],
    "parity": ["parity.py", "--optim.epochs", "3", "--augment.half-size-epochs", "2"],
}  # fmt: skip
#: Modules of tools/ that write what a job starts from, and the file that they write.
STARTS = {"vit_tiny_patch16_224_celeba": ("tools.vit_start", RUNS / "vit_start.safetensors")}
#: The file that a finished recipe of several runs leaves; other recipes leave summary.json.
LAST_FILE = {
    "framewise_grid": "speaking-2.json", "parity": "parity.json", "asd_small_grid": "figures.json",
}  # fmt: skip


def launch() -> Tuple[List[str], str]:
    """Return what runs a recipe on this machine, and the precision to train in."""
    import torch

    if torch.cuda.is_available():
        return [], "bf16" if torch.cuda.is_bf16_supported() else "no"
    flags = Path("/proc/cpuinfo")
    if flags.is_file() and "_bf16" in flags.read_text("utf-8"):
        return ["-m", "tools.cpu_training"], "bf16"
    return [], "no"


def command_of(name: str) -> List[str]:
    """Return the command that trains a model."""
    recipe, *options = JOBS[name]
    workers = max(1, (os.cpu_count() or 1) - 2)
    start, precision = launch()
    return [
        sys.executable, *start, f"recipes/{recipe}", *options, "--run.output", str(RUNS / name),
        "--run.mixed-precision", precision, "--run.workers", str(workers),
    ]  # fmt: skip


def _check_options(name: str, last: Path) -> None:
    """Refuse a finished run that was not trained with the options of its job.

    Args:
        name: Name of the model.
        last: The file that the finished run left.

    Raises:
        SystemExit: If the recorded command has other options.
    """
    made = json.loads(last.read_text("utf-8"))["command"]
    words = shlex.split(made) if isinstance(made, str) else made
    recipe, *options = JOBS[name]
    given = words[words.index(f"recipes/{recipe}") + 1 :] if f"recipes/{recipe}" in words else []
    if given[: len(options)] != options:
        raise SystemExit(
            f"{name}: {last.parent} is of another command, {shlex.join(words)}; delete it to train "
            "again."
        )


def train(names: List[str]) -> None:
    """Train the named models that are not finished; stop at the first that fails."""
    for name in names:
        last = ROOT / RUNS / name / LAST_FILE.get(name, "summary.json")
        if last.is_file():
            _check_options(name, last)
            print(f"{name}: finished", flush=True)
            continue
        if name in STARTS:
            module, file = STARTS[name]
            subprocess.run([sys.executable, "-m", module, str(file)], cwd=ROOT, check=True)
        command = command_of(name)
        print(f"{name}: {shlex.join(command)}", flush=True)
        subprocess.run(command, cwd=ROOT, check=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="models to train; all by default")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    given = parser.parse_args()
    if given.list:
        print("\n".join(JOBS))
        return
    if unknown := sorted(set(given.names) - set(JOBS)):
        parser.error(f"no such model: {', '.join(unknown)}; the names are: {', '.join(JOBS)}")
    if not os.environ.get("SE_ZOO_DATA"):
        parser.error("set SE_ZOO_DATA to the folder of the sample data")
    train([name for name in JOBS if not given.names or name in given.names])


if __name__ == "__main__":
    main()
