"""Checks before a run starts: its options, its processes, its data."""

import os
import shlex
import subprocess
from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Union

import torch
from accelerate import Accelerator
from accelerate.tracking import filter_trackers
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast_object_list

from ..data import (
    ClipDataConfig,
    ClipTable,
    DataConfig,
    ImageStream,
    ImageTable,
    Table,
    TableConfig,
    TrackTable,
    open_stream,
    open_table,
)
from ..data import check as check_data
from ..data.tables.parallel_check import most_processes
from ..data.tables.stream import decode_first
from ..errors import DataError, InvalidInputError
from ..ranges import check_ranges
from .config import AnyConfig, Config
from .metrics import metric_names
from .resume.order import Plan

#: A split, as a table or as a stream.
AnyTable = Union[Table, ImageStream]

#: Images of each split that are decoded before a streamed run starts.
_LOOKED_AT = 16

#: Options of the data that ``se-zoo check`` has too, beside the splits.
_CHECKED = frozenset({"name", "csv", "image", "video", "label", "attributes", "ignore", "layout",
                      "lists", "fold", "crop", "min_frames", "outside"})  # fmt: skip

_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU,
              DistributedType.FSDP)  # fmt: skip


#: Processes wait for each other this long, because one may have to download a data set or to train
#: while the others wait.
PATIENCE: Any = InitProcessGroupKwargs(timeout=timedelta(hours=6))


def make_accelerator(config: AnyConfig) -> Accelerator:
    """Return an Accelerator with the trackers of the run; :func:`start_trackers` starts them.

    Raises:
        InvalidInputError: If a tracker is unknown or not installed.
    """
    accelerator = Accelerator(
        mixed_precision=config.run.mixed_precision,
        project_dir=config.run.output,
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[PATIENCE],
    )
    names: List[Any] = list(config.run.trackers)
    try:
        found = filter_trackers(names, accelerator.logging_dir) if names else []
    except ValueError as error:
        raise InvalidInputError(f"--run.trackers {' '.join(names)}: {error}") from error
    if len(found) != len(names):
        raise InvalidInputError(  # Accelerate would silently run without it
            f"--run.trackers {' '.join(names)}: only {', '.join(map(str, found)) or 'none'} can be "
            "used here; install the tracker's package."
        )
    accelerator.log_with = found
    return accelerator


def start_trackers(accelerator: Accelerator) -> None:
    """Start the trackers; call it only after the run has claimed its folder."""
    if accelerator.log_with:
        accelerator.init_trackers("logs")  # the folder that TensorBoard writes to


def configure_fsdp(accelerator: Accelerator) -> None:
    """Turn off settings of FSDP's launcher that fail for models with BatchNorm."""
    plugin: Any = getattr(accelerator.state, "fsdp_plugin", None)
    if accelerator.distributed_type != DistributedType.FSDP or plugin is None:
        return
    # It sends one process's weights to all, and fails at buffers; here all have the same weights.
    plugin.cpu_ram_efficient_loading = False
    # It would cast inputs but not buffers; autocast casts what each layer needs.
    plugin.mixed_precision_policy = None


def check_launched(accelerator: Accelerator) -> None:
    """Check that Accelerate sees all the processes that were launched.

    Raises:
        InvalidInputError: If it does not.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise InvalidInputError(
            f"{launched} processes were launched, but Accelerate sees {accelerator.num_processes}, "
            "so each would work alone; without GPUs set ACCELERATE_USE_CPU=true, with GPUs "
            "LOCAL_RANK, as torchrun does."
        )


def check_options(config: AnyConfig, accelerator: Accelerator) -> None:
    """Refuse options that no data could make valid, before anything is loaded.

    Raises:
        InvalidInputError: If there are such options; the message names them.
    """
    optim, run = config.optim, config.run
    check_ranges(config)
    if run.workers > most_processes():
        raise InvalidInputError(
            f"--run.workers is {run.workers}; this machine takes at most {most_processes()}."
        )
    if not 0 <= optim.warmup_epochs < optim.epochs:
        raise InvalidInputError(
            f"--optim.warmup-epochs is {optim.warmup_epochs:g}; it must be at least 0 and less "
            f"than --optim.epochs, which is {optim.epochs}."
        )
    config.model.check()
    if run.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise InvalidInputError("--run.mixed-precision fp16 needs a GPU; on a CPU use bf16 or no.")
    check_launched(accelerator)
    if accelerator.gradient_accumulation_steps != 1:
        passes = accelerator.gradient_accumulation_steps
        raise InvalidInputError(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS is {passes}, by which every loss would be "
            f"divided once more; unset it, and give --optim.accumulate {passes}."
        )
    kind = accelerator.distributed_type
    if kind not in _SUPPORTED or (
        kind == DistributedType.FSDP and not getattr(accelerator, "is_fsdp2", False)
    ):
        raise InvalidInputError(
            f"Accelerate is configured for {kind.value}, which is not supported; use data "
            "parallelism (DDP), or FSDP with fsdp_version 2."
        )
    if kind == DistributedType.FSDP and run.channels_last:
        raise InvalidInputError(
            "FSDP does not take weights in channels_last; add --run.no-channels-last."
        )
    if run.output == Path():
        raise InvalidInputError("--run.output is empty; name a folder of its own for the run.")
    if run.output.is_file():
        raise InvalidInputError(f"--run.output {run.output} is a file; name a folder.")


def open_split(config: TableConfig, name: str) -> AnyTable:
    """Open one split, as a stream if ``--data.streaming`` asks for it."""
    if isinstance(config, DataConfig) and config.streaming:
        return open_stream(config, name)
    return open_table(config, name)


def open_splits(config: TableConfig, first: bool) -> Dict[str, AnyTable]:
    """Open the splits of a data set.

    Args:
        config: The data set.
        first: Whether this is the first process, which checks some of the samples before.

    Returns:
        The splits, by name.

    Raises:
        DataError: If splits, columns or samples are not as declared, or if a class lost all of its
            training samples.
    """
    names = list(dict.fromkeys(config.splits))  # a split may be named twice
    if config.streaming and getattr(config, "broken", "error") == "skip":
        raise DataError("--data.broken skip needs all images at hand; leave --data.streaming out.")
    if first and not config.streaming:
        report = check_data(config, fast=True, progress=False)
        if not report.ok:
            first_error = report.errors[0].rstrip(".")
            raise DataError(f"{first_error}. To check all of it: {_check_command(config)}")
    elif isinstance(config, (DataConfig, ClipDataConfig)):  # the first process does the skipping
        config = replace(config, broken="error")
    tables = {name: open_split(config, name) for name in names}
    for table in tables.values():
        if isinstance(table, ImageStream) and first:
            decode_first(table, _LOOKED_AT)
    train = tables[config.splits[0]]
    if isinstance(train, Table) and train.lost:
        _check_lost_classes(train, [t for t in tables.values() if isinstance(t, Table)])
    return tables


def _check_lost_classes(train: Table, tables: Sequence[Table]) -> None:
    """Refuse splits with samples of classes that lost all of their training samples."""
    for table in tables:
        found = {table.labels[int(target)] for target in table.targets}
        if lost := sorted(found.intersection(train.lost)):
            raise DataError(
                f"{train.name} has no usable {train.noun} left of classes that {table.name} has: "
                f"{', '.join(lost)}."
            )


def _check_command(config: TableConfig) -> str:
    """Return the command that checks all of a data set, as a shell takes it."""
    words = ["se-zoo", "check", config.path]
    words += ["--videos"] if isinstance(config, ClipDataConfig) else []
    for option in fields(config):
        value = getattr(config, option.name)
        if option.name not in _CHECKED or value in (None, (), option.default):
            continue
        words.append(f"--{option.name.replace('_', '-')}")
        if value is not True:
            words += map(str, value if isinstance(value, tuple) else (value,))
    words += ["--splits", *config.splits]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def share_skipped(tables: Dict[str, AnyTable], accelerator: Accelerator) -> Dict[str, AnyTable]:
    """Return the tables without the samples that the first process skips.

    Only that process has looked into every file.
    """
    kinds = (ImageTable, ClipTable, TrackTable)
    mine = {n: (t.rows, t.skipped) for n, t in tables.items() if isinstance(t, kinds)}
    if not mine or accelerator.num_processes == 1:
        return tables
    ((shared),) = broadcast_object_list([mine])
    for name, (rows, skipped) in shared.items():
        table = tables[name]
        assert isinstance(table, kinds)
        with suppress(KeyError):  # another node has fewer rows: check_tables says so
            tables[name] = table.restored(rows, skipped)
    return tables


def check_input(
    model: torch.nn.Module, inputs: torch.Tensor, config: Config, kind: str, hint: str = ""
) -> None:
    """Check that a model takes an input, by one forward pass in evaluation mode.

    Args:
        model: The model.
        inputs: Its input, on its device.
        config: The run.
        kind: What the input is, for the message: images, or clips of so many frames.
        hint: What to do instead, for the end of the message.

    Raises:
        InvalidInputError: If the model does not take the input; the message has its size.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(inputs)
    except torch.OutOfMemoryError:
        raise
    except (InvalidInputError, RuntimeError, AssertionError) as error:
        height, width = inputs.shape[-2:]
        raise InvalidInputError(
            f"--model.name {config.model.name} does not take {kind} of {height} x {width} pixels: "
            f"{error}{hint}"
        ) from error
    finally:
        model.train(training)


def check_shares(config: AnyConfig, tables: Mapping[str, AnyTable], processes: int) -> None:
    """Refuse splits of which some process would evaluate no sample.

    torchmetrics gathers the predictions, and waits for ever if a process has none.

    Args:
        config: The run.
        tables: The splits, by name.
        processes: Number of processes.

    Raises:
        InvalidInputError: If there is such a split; the message names it.
    """
    for name in config.data.splits[1:]:
        if len(tables[name]) < processes:
            raise InvalidInputError(
                f"the {name} split holds {len(tables[name])} {config.data.noun}s, fewer than the "
                f"{processes} processes, which share it; launch fewer."
            )


def check_task(config: Config, plan: Plan, labels: Sequence[str], multi_label: bool) -> None:
    """Refuse options that do not fit the data.

    Raises:
        InvalidInputError: If there are such options; the message names them.
    """
    if plan.passes == 0:
        raise InvalidInputError(
            f"the training split holds {plan.samples} {config.data.noun}s, fewer than one batch of "
            f"{plan.batch_size} on {plan.processes} processes; lower --optim.batch-size."
        )
    if not 0 <= config.augment.half_size_epochs <= plan.epochs:
        raise InvalidInputError(
            f"--augment.half-size-epochs is {config.augment.half_size_epochs}; it must be between "
            f"0 and --optim.epochs, which is {plan.epochs}."
        )
    if len(labels) < 2 and not multi_label:
        raise InvalidInputError(
            f"the training split has the class {labels[0]} alone; a classifier needs two or more."
        )
    known = metric_names(len(labels), multi_label)
    if config.run.best not in known:
        raise InvalidInputError(
            f"--run.best {config.run.best} is not a metric of this data; choose one of: "
            f"{', '.join(known)}."
        )
    augment = config.augment
    single = augment.mixup or augment.cutmix or augment.smoothing
    if multi_label and single:
        raise InvalidInputError(
            "--augment.mixup, --augment.cutmix and --augment.smoothing are for single-label "
            "data; these labels are independent. Leave them at 0."
        )
    if (augment.mixup or augment.cutmix) and plan.batch_size % 2:
        raise InvalidInputError(
            f"--augment.mixup and --augment.cutmix need an even --optim.batch-size; it is "
            f"{plan.batch_size}."
        )
