"""A training run in a process of its own, for tests that interrupt it.

python -m tests.train_run '{"data": {...}, "optim": {...}, "run": {...}}'
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple
from unittest import mock

import numpy as np
from PIL import Image

from se_zoo.data import ClipDataConfig, DataConfig
from se_zoo.train import (
    AugmentConfig,
    ClipModelConfig,
    Config,
    ModelConfig,
    OptimConfig,
    RunConfig,
    engine,
    train,
)
from se_zoo.train.resume import state


def write_images(
    path: Path,
    counts: Dict[str, int],
    label_of: Callable[[int], str],
    size: Tuple[int, int] = (32, 32),
    name: str = "{}.png",
) -> Path:
    """Write random images (H, W) into ``path/split/label`` and return the path."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for i in range(count):
            target = path / split / label_of(i)
            target.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(target / name.format(i))
    return path


def cat_or_dog(number: int) -> str:
    return ("cat", "dog")[number % 2]


def make_config(options: Dict[str, Dict[str, Any]]) -> Config:
    """A configuration from nested options; what stands in none is that of a tiny run, which saves a
    checkpoint at its end alone. The model says whether it is for clips."""
    clips = options.get("model", {}).get("name") == "framewise_sehead"
    data: Dict[str, Any] = {"label": "label", **options.get("data", {})}
    if data.get("csv"):
        data.update(csv=Path(data["csv"]), attributes=tuple(data["attributes"]))
    model: Dict[str, Any] = {
        "name": "timm_sehead", "backbone": "test_resnet", "input_size": (32, 32),
        "drop_rate": 0.2, **options.get("model", {}),
    }  # fmt: skip
    optim: Dict[str, Any] = {
        "epochs": 2, "batch_size": 8, "lr": 1e-2, "warmup_epochs": 0.5, "ema_decay": 0.9,
        **options.get("optim", {}),
    }  # fmt: skip
    run: Dict[str, Any] = {"log_every": 1, "save_every": None, **options["run"]}
    run.update({k: Path(run[k]) for k in ("output", "resume", "init") if run.get(k)})
    augment: Dict[str, Any] = {"reprob": 0.3, **options.get("augment", {})}
    return Config(
        (ClipDataConfig if clips else DataConfig)(**data),
        (ClipModelConfig if clips else ModelConfig)(**model),
        AugmentConfig(**augment),
        OptimConfig(**optim),
        RunConfig(**run),
    )


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Draw no curves and no samples, which takes half of the time of a tiny run."""
    with (
        mock.patch("se_zoo.train.export._draw_curves"),
        mock.patch("se_zoo.train.classify.draw_samples"),
    ):
        yield


def forget_accelerator() -> None:
    """Accelerate keeps the first Accelerator's settings for the whole process."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def losses(output: Path) -> List[float]:
    """The losses that a run has logged."""
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


def make_state(folder: Path, update: int) -> Path:
    """Write a checkpoint of 200 bytes as a run does."""
    temporary = state.unfinished(folder, update)
    state.begin(temporary)
    (temporary / "model.safetensors").write_bytes(bytes(range(200)))
    return state.finish(temporary, state.Progress(update, [0.1], None, None, {}), keep=3)


def spread_over_cpus() -> None:
    """FSDP2 on CPUs: torch can do it, Accelerate offers it for accelerators alone."""
    from accelerate import Accelerator, FullyShardedDataParallelPlugin, PartialState
    from accelerate.utils import DistributedType

    make = engine.make_accelerator

    def forced(config: Config) -> Accelerator:
        accelerator = make(config)
        # As `accelerate launch --use_fsdp --fsdp_version 2` makes it.
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, cpu_ram_efficient_loading=True)
        if config.run.mixed_precision != "no":
            plugin.set_mixed_precision(config.run.mixed_precision)
        accelerator.state.fsdp_plugin = plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        accelerator.state.distributed_type = DistributedType.FSDP
        return accelerator

    engine.make_accelerator = forced


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    if given.pop("fsdp", False):
        spread_over_cpus()
    with undrawn():
        train(make_config(given))
