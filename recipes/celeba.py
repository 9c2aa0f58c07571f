"""Train a timm model with an SE head on CelebA's 40 face attributes (multi-label).

    SE_ZOO_DATA=/path/to/data python recipes/celeba.py          # the sample, 8,000 images
    python recipes/celeba.py --data flwrlabs/celeba             # the full set, from the Hub
    python recipes/celeba.py --no-se --output runs/celeba-plain # same backbone without the block
    python recipes/celeba.py --debug --output runs/debug        # seconds on a CPU
    torchrun --standalone --nproc-per-node 2 recipes/celeba.py  # two GPUs; see README.md for CPUs

Run time: 32 minutes for the sample, on two cores (AMD EPYC with bf16) of a busy machine.
Score to expect: test accuracy 88.8 %, balanced 70.7 %; with --no-se 89.0 % and 71.0 %. Always
answering the majority scores 80.3 % on the sample's test split, and 50 % balanced; most attributes
are rare, so read the balanced figure too.
Data: `$SE_ZOO_DATA/celeba10k` (train, valid and test.parquet) where that variable is set, otherwise
`flwrlabs/celeba` from the Hub; research use only.
Output: `metrics.jsonl` (a line an epoch), `summary.json`, and `export/`, a folder in timm's Hub
format with fp16 weights. Every figure is of the averaged (EMA) weights of the last epoch: none is
picked on the valid split.
"""

import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sized
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import accelerate
import datasets
import numpy as np
import PIL.Image
import timm
import torch
import torch.nn.functional as F
import tyro
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from safetensors.torch import save
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.models import save_for_hf
from timm.utils.model_ema import ModelEmaV3
from torch.utils.data import DataLoader
from torchmetrics.classification import MultilabelStatScores
from tqdm import tqdm

import se_zoo  # the import registers the *_sehead models with timm
from se_zoo.models.cfgs import own_model_args
from se_zoo.models.labels import CELEBA_ATTRIBUTES
from se_zoo.train.state import write_json

HUB_ID, HUB_CONFIG = "flwrlabs/celeba", "img_align+identity+attr"
SPLITS = ("train", "valid", "test")
DEBUG_SAMPLES = {"train": 256, "valid": 128, "test": 128}
DECODED_BYTES_LIMIT = 2**30


def default_data() -> str:
    root = os.environ.get("SE_ZOO_DATA")
    return str(Path(root) / "celeba10k") if root else HUB_ID


@dataclass(frozen=True)
class Config:
    """The whole run; every field is a command line option."""

    data: str = field(default_factory=default_data)
    """Folder with train, valid and test.parquet, or the Hub id flwrlabs/celeba."""
    model: str = "resnet18_slim_sehead"
    gate: Literal["sigmoid", "identity"] = "sigmoid"
    """sigmoid: the paper's block. identity: leaves a pretrained model's logits as they were."""
    se: bool = True
    """--no-se trains the same backbone without the block."""
    pretrained: bool = False
    epochs: int = 20
    batch_size: int = 64
    """Per process."""
    lr: float = 2e-3
    """Peak of the schedule, for one process of 64; it is not scaled with the batch."""
    weight_decay: float = 0.05
    warmup_epochs: int = 1
    drop_rate: float = 0.1
    ema_decay: float = 0.998
    scale: tuple[float, float] = (0.6, 1.0)
    """Share of the image's area that a training crop keeps."""
    ratio: tuple[float, float] = (0.7, 0.95)
    """Width over height of a training crop."""
    hflip: float = 0.5
    color_jitter: float = 0.3
    reprob: float = 0.1
    """Probability of erasing a rectangle."""
    workers: int = 0
    """Loader processes; 0 decodes in the training process."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    seed: int = 0
    output: Path = Path("runs/celeba")
    overwrite: bool = False
    """Replace the results that the output folder holds."""
    debug: bool = False
    """One epoch on 256 images: does everything run?"""
    limit: int | None = None
    """Train on the first so many images."""


def fail(message: str) -> NoReturn:
    raise SystemExit(f"recipes/celeba.py: {message}")


def load_split(data: str, split: str) -> datasets.Dataset:
    """One split from the Hub or a folder, its columns checked."""
    if data == HUB_ID:
        try:
            loaded = datasets.load_dataset(HUB_ID, HUB_CONFIG, split=split)
        except (OSError, ValueError) as error:
            fail(
                f"{HUB_ID} cannot be had from the Hub ({type(error).__name__}: {error}). Set "
                "SE_ZOO_DATA to a folder with celeba10k/train.parquet, valid.parquet and "
                "test.parquet, or give --data a folder that holds these three."
            )
    else:
        folder = Path(data)
        if not folder.is_dir():
            fail(f"no folder {folder}; give --data a folder with parquet files, or {HUB_ID}.")
        missing = [f"{s}.parquet" for s in SPLITS if not (folder / f"{s}.parquet").is_file()]
        if missing:
            fail(f"{folder} lacks {', '.join(missing)}; it needs train, valid and test.parquet.")
        # Split by split, so that a file with other columns reaches the check below.
        file = str(folder / f"{split}.parquet")
        loaded = datasets.load_dataset("parquet", data_files=file, split="train")
    assert isinstance(loaded, datasets.Dataset)
    check_columns(loaded, f"{split} split of {data}")
    return loaded.cast_column("image", datasets.Image())


def check_columns(split: datasets.Dataset, where: str) -> None:
    needed = {"image", *CELEBA_ATTRIBUTES}
    found = set(split.column_names) - {"celeb_id"}  # the Hub's set has the identity too
    if found != needed:
        fail(
            f"wrong columns in the {where}.\n  missing: {sorted(needed - found)}\n"
            f"  unexpected: {sorted(found - needed)}\n  needed: {['image', *CELEBA_ATTRIBUTES]}\n"
            f"  found: {split.column_names}\nRename or drop columns, or give another --data."
        )
    wrong = [n for n in CELEBA_ATTRIBUTES if split.features[n].dtype != "bool"]
    if wrong:  # -1 and 1, as in CelebA's own text file, would train to nonsense
        fail(f"these columns of the {where} must become bool, true for present: {wrong}")


def select(split: datasets.Dataset, name: str, cfg: Config) -> datasets.Dataset:
    """The first images of a split, where --limit or --debug asks for a part."""
    if name == "train" and cfg.limit is not None:
        if not 0 < cfg.limit <= len(split):
            fail(f"--limit {cfg.limit} must lie in 1 to {len(split)}, the size of the train split.")
        return split.select(range(cfg.limit))
    return split.select(range(min(len(split), DEBUG_SAMPLES[name]))) if cfg.debug else split


class FaceAttributes(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images with their 40 attributes as (transformed image, (40,) floats of 0 and 1)."""

    def __init__(self, split: datasets.Dataset, transform: Callable[[PIL.Image.Image], Any]):
        self.transform = transform
        table: Any = split.select_columns(list(CELEBA_ATTRIBUTES)).with_format("numpy")[:]
        columns = np.stack([table[n] for n in CELEBA_ATTRIBUTES], axis=1)
        self.labels = torch.from_numpy(columns).float()  # (N, 40)
        self.rows: Any = split.select_columns(["image"])
        self.decoded: list[PIL.Image.Image] | None = None
        width, height = self.rows[0]["image"].size
        # Small sets are decoded once: for images this small decoding is a good part of an epoch's
        # CPU work. PIL holds 4 bytes a pixel: 0.3 GB for the sample, 25 GB for all of CelebA.
        if len(split) * width * height * 4 <= DECODED_BYTES_LIMIT:
            self.decoded = [row["image"].convert("RGB") for row in self.rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.decoded is not None:
            return self.transform(self.decoded[index]), self.labels[index]
        return self.transform(self.rows[index]["image"].convert("RGB")), self.labels[index]


def build_loaders(cfg: Config, model: torch.nn.Module) -> dict[str, DataLoader]:
    """Loaders of the three splits; only train is augmented, shuffled and cut to full batches."""
    # Size, mean and std are the model's. Evaluation keeps its interpolation and crop as well, so
    # that the scores hold for whoever loads the export with the config beside it.
    data_config = resolve_data_config(model=model)
    augmentation = {
        "is_training": True,
        "scale": cfg.scale,
        "ratio": cfg.ratio,
        "hflip": cfg.hflip,
        "color_jitter": cfg.color_jitter,
        "re_prob": cfg.reprob,
        "interpolation": "bilinear",
    }
    loaders = {}
    for name in SPLITS:
        train = name == "train"
        transform: Any = create_transform(**{**data_config, **(augmentation if train else {})})
        loaders[name] = DataLoader(
            FaceAttributes(select(load_split(cfg.data, name), name, cfg), transform),
            batch_size=cfg.batch_size,
            shuffle=train,
            drop_last=train,  # a last batch of a few images would upset the BatchNorm statistics
            num_workers=cfg.workers,
            pin_memory=torch.cuda.is_available(),
            # A generator of its own: the order depends on the seed alone, in every process.
            generator=torch.Generator().manual_seed(cfg.seed),
        )
    return loaders


@dataclass(frozen=True)
class Run:
    """What the functions below share, once Accelerate has prepared it."""

    cfg: Config
    accelerator: Accelerator
    model: torch.nn.Module
    ema: ModelEmaV3
    optimizer: torch.optim.Optimizer
    loaders: dict[str, DataLoader]


def build_model(cfg: Config) -> torch.nn.Module:
    known = timm.list_models("*_sehead")
    if cfg.model.partition(".")[0] not in known:
        fail(f"--model {cfg.model} has no SE head; choose one of: {', '.join(known)}")
    # As se_zoo/<backbone>_celeba is declared, so that what is trained here loads there.
    args: dict[str, Any] = own_model_args(cfg.model.partition(".")[0], "celeba")
    args["gate"] = cfg.gate
    model = timm.create_model(
        cfg.model,
        pretrained=cfg.pretrained,
        num_classes=len(CELEBA_ATTRIBUTES),
        drop_rate=cfg.drop_rate,
        multi_label=True,
        **args,
    )
    return model if cfg.se else se_zoo.unsqueeze(model)


def lr_at(step: int, steps: int, warmup: int, peak: float) -> float:
    """Learning rate of optimiser step 0 to steps - 1: linear warm-up, then a cosine to 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def train_epoch(run: Run, epoch: int) -> dict[str, float]:
    """One pass over the train split (epochs count from 0)."""
    cfg, accelerator, loader = run.cfg, run.accelerator, run.loaders["train"]
    run.model.train()
    per_epoch, start, lr = len(loader), time.perf_counter(), 0.0
    total = torch.zeros((), device=accelerator.device)
    hide = None if accelerator.is_main_process else True  # None: shown on a terminal only
    bar = tqdm(loader, f"epoch {epoch + 1}", leave=False, disable=hide)
    for step, (images, labels) in enumerate(bar, start=epoch * per_epoch):
        # By hand: a scheduler prepared by Accelerate takes one step a process.
        lr = lr_at(step, cfg.epochs * per_epoch, cfg.warmup_epochs * per_epoch, cfg.lr)
        for group in run.optimizer.param_groups:
            group["lr"] = lr
        logits = run.model(images.contiguous(memory_format=torch.channels_last))  # (B, 40)
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels)
        accelerator.backward(loss)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.ema.update(accelerator.unwrap_model(run.model), step=step + 1)
        total += loss.detach()
        if step % 10 == 0:  # reading the loss waits for the GPU
            bar.set_postfix(loss=f"{loss.item():.4f}")
    mean: Any = accelerator.reduce(total / per_epoch, reduction="mean")
    if not math.isfinite(mean.item()):
        fail(f"loss {mean.item()} in epoch {epoch + 1}; try a lower --lr or --mixed-precision no.")
    seconds = time.perf_counter() - start
    images_seen = per_epoch * cfg.batch_size * accelerator.num_processes
    return {
        "train_loss": round(mean.item(), 5),
        "lr": lr,
        "seconds": round(seconds, 2),
        "images_per_second": round(images_seen / seconds, 1),
    }


def sized(loader: DataLoader) -> Sized:
    assert isinstance(loader.dataset, Sized)  # torch does not declare that a Dataset has a length
    return loader.dataset


@torch.inference_mode()
def evaluate(run: Run, split: str, mixed_precision: bool) -> dict[str, Any]:
    """Loss and accuracies of the EMA weights on a split, every image counted exactly once."""
    accelerator, loader, model = run.accelerator, run.loaders[split], run.ema.module.eval()
    # Each process holds gathered, so complete, counts: a sync at the end would count them twice.
    counts = MultilabelStatScores(len(CELEBA_ATTRIBUTES), average=None, sync_on_compute=False)
    counts = counts.to(accelerator.device)
    seen, loss = 0, torch.zeros((), device=accelerator.device)
    for images, labels in loader:
        images = images.contiguous(memory_format=torch.channels_last)
        with accelerator.autocast() if mixed_precision else nullcontext():
            logits = model(images)
        logits, labels = accelerator.gather_for_metrics((logits.float(), labels))
        # Probabilities, as torchmetrics takes logits that all lie in [0, 1] for probabilities.
        counts.update(logits.sigmoid(), labels.long())
        loss += F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        seen += len(labels)
    if seen != len(sized(loader)):
        raise RuntimeError(f"Evaluated {seen} images of {split}, which has {len(sized(loader))}.")
    loss_mean = loss.item() / (seen * len(CELEBA_ATTRIBUTES))
    return {"loss": round(loss_mean, 5), **accuracies(counts.compute().double().cpu())}


def accuracies(counts: torch.Tensor) -> dict[str, Any]:
    """Accuracy, balanced accuracy (TPR + TNR) / 2 and, to compare with, the accuracy of always
    answering the majority; counts are (40, 5): tp, fp, tn, fn, support."""
    tp, fp, tn, fn, _ = counts.unbind(1)  # (40,) each
    samples = tp + fp + tn + fn
    accuracy = (tp + tn) / samples
    majority = torch.maximum(tp + fn, tn + fp) / samples
    # An attribute that no image has, or all have, lacks one of the two rates (0 / 0, NaN): its
    # balanced accuracy is then the recall of the class that exists.
    balanced = torch.stack([tp / (tp + fn), tn / (tn + fp)]).nanmean(0)
    return {
        "accuracy": round(accuracy.mean().item(), 5),
        "balanced_accuracy": round(balanced.mean().item(), 5),
        "majority_accuracy": round(majority.mean().item(), 5),
        "attribute_accuracy": by_name(accuracy),
        "attribute_balanced_accuracy": by_name(balanced),
    }


def by_name(values: torch.Tensor) -> dict[str, float]:
    rounded = [round(value, 5) for value in values.tolist()]
    return dict(zip(CELEBA_ATTRIBUTES, rounded, strict=True))


def fp16_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict on the CPU, floating tensors as fp16, integer buffers as they are."""
    state = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()  # safetensors refuses channels_last
        state[name] = tensor.half() if tensor.is_floating_point() else tensor
        if not torch.isfinite(state[name]).all():
            fail(f"{name} does not fit into fp16 (largest {tensor.abs().max():.3g}); lower --lr.")
    return state


def export(run: Run, state: dict[str, torch.Tensor]) -> None:
    """Write `export/`: fp16 weights and, with an SE head, the config that timm builds it from."""
    temporary, folder = run.cfg.output / "export.tmp", run.cfg.output / "export"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    if run.cfg.se:
        model = deepcopy(run.ema.module).to("cpu", memory_format=torch.contiguous_format)
        args = own_model_args(run.cfg.model.partition(".")[0], "celeba")
        model_args = args | {"gate": run.cfg.gate, "multi_label": True}
        names = {"label_names": list(CELEBA_ATTRIBUTES)}
        save_for_hf(model, str(temporary), names, model_args, safe_serialization=True)
        config = json.loads((temporary / "config.json").read_text(encoding="utf-8"))
        # timm from 1.0.29 on adds every argument of create_model: num_classes, which transformers
        # would then pass twice, and drop_rate, which is the recipe's business.
        config["model_args"] = model_args
        write_json(temporary / "config.json", config)
    # A new file, and not by save_file, which makes one that only its owner can read.
    (temporary / "model.safetensors").unlink(missing_ok=True)
    (temporary / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))
    temporary.replace(folder)


def commit() -> str | None:
    """The commit of the repository this file is in, "-dirty" if changed; None outside of one."""
    if shutil.which("git") is None:
        return None
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).resolve().parent
    return subprocess.run(git, cwd=folder, capture_output=True, text=True).stdout.strip() or None


def environment(accelerator: Accelerator) -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")  # Linux; platform.processor() is empty there
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "accelerate": accelerate.__version__,
        "cpu": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if accelerator.device.type == "cuda" else None,
        "processes": accelerator.num_processes,
    }


def finish(run: Run, start: float, source: str | None) -> None:
    """Round to fp16, score these weights in full precision, write the export and the summary."""
    state = fp16_state(run.ema.module)
    run.ema.module.load_state_dict(state)  # back to fp32, so the scores are those of the export
    torch.backends.cudnn.allow_tf32 = False  # on by default for convolutions
    scores = {split: evaluate(run, split, mixed_precision=False) for split in ("valid", "test")}
    if not run.accelerator.is_main_process:
        return
    export(run, state)
    summary = {
        "config": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(run.cfg).items()},
        "command": sys.argv,
        "commit": source,
        "environment": environment(run.accelerator),
        "seconds": round(time.perf_counter() - start, 1),
        "parameters": sum(p.numel() for p in run.ema.module.parameters()),
        "samples": {name: len(sized(loader)) for name, loader in run.loaders.items()},
        "weights": "EMA after the last epoch, rounded to fp16, evaluated in fp32",
        **scores,
    }
    write_json(run.cfg.output / "summary.json", summary)
    test = scores["test"]
    print(
        f"test: accuracy {test['accuracy']:.2%} (majority {test['majority_accuracy']:.2%}), "
        f"balanced {test['balanced_accuracy']:.2%}; {summary['seconds']:.0f} s; {run.cfg.output}"
    )


def check(cfg: Config, accelerator: Accelerator) -> None:
    """Refuse what cannot work before anything is loaded, then clear the output folder."""
    if min(cfg.epochs, cfg.batch_size) < 1 or not 0 <= cfg.warmup_epochs < cfg.epochs:
        fail("--epochs and --batch-size must be positive, --warmup-epochs less than --epochs.")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        fail(
            f"{launched} processes were launched, but Accelerate sees {accelerator.num_processes} "
            "and each would train alone; without GPUs set ACCELERATE_USE_CPU=true."
        )
    if cfg.output.is_file():
        fail(f"--output {cfg.output} is a file; name a folder.")
    if cfg.output.is_dir() and any(cfg.output.iterdir()) and not cfg.overwrite:
        fail(f"--output {cfg.output} is not empty; name another folder, or add --overwrite.")
    accelerator.wait_for_everyone()  # all processes have looked before the main one writes
    if accelerator.is_main_process:
        cfg.output.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(cfg.output / "export", ignore_errors=True)
        for name in ("metrics.jsonl", "summary.json"):
            (cfg.output / name).unlink(missing_ok=True)


def start_run(cfg: Config, accelerator: Accelerator) -> Run:
    """Build everything and let Accelerate prepare it."""
    set_seed(cfg.seed)
    model = build_model(cfg).to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    accelerator.print(f"data: {cfg.data}; model: {cfg.model}{'' if cfg.se else ' without SE'}")
    with accelerator.main_process_first():  # the others then read its cache
        loaders = build_loaders(cfg, model)
    # The copy comes before prepare, which replaces model.forward on the object itself.
    ema = ModelEmaV3(model, decay=cfg.ema_decay, use_warmup=True)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]  # norms and biases: no decay
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, cfg.lr, weight_decay=cfg.weight_decay, fused=True)
    model, optimizer, *prepared = accelerator.prepare(model, optimizer, *loaders.values())
    loaders = dict(zip(loaders, prepared, strict=True))
    if len(loaders["train"]) == 0:
        fail("the train split holds less than one batch a process; lower --batch-size.")
    set_seed(cfg.seed, device_specific=True)  # other augmentation and dropout in each process
    return Run(cfg, accelerator, model, ema, optimizer, loaders)


def main(cfg: Config) -> None:
    start, source = time.perf_counter(), commit()  # now: the files may change during training
    if cfg.debug:
        cfg = replace(cfg, epochs=1, warmup_epochs=0)
    accelerator = Accelerator(mixed_precision=cfg.mixed_precision)
    check(cfg, accelerator)
    run = start_run(cfg, accelerator)
    for epoch in range(cfg.epochs):
        row: dict[str, Any] = {"epoch": epoch + 1, **train_epoch(run, epoch)}
        # DDP leaves each process its own BatchNorm statistics: all evaluate the main one's.
        for tensor in run.ema.module.state_dict().values():
            broadcast(tensor)
        scores = evaluate(run, "valid", mixed_precision=True)
        row["valid"] = {k: v for k, v in scores.items() if not k.startswith("attribute_")}
        if accelerator.is_main_process:
            with (cfg.output / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        accelerator.print(
            f"epoch {row['epoch']}/{cfg.epochs}: loss {row['train_loss']:.4f}, "
            f"valid accuracy {scores['accuracy']:.2%}, "
            f"balanced {scores['balanced_accuracy']:.2%}, {row['images_per_second']:.0f} images/s"
        )
    finish(run, start, source)
    # Without this meeting the other processes tear gloo down at once, which can hang (torch 2.6).
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(tyro.cli(Config, description="Train an SE head model on CelebA; see the file's head."))
