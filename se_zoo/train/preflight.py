"""What is looked at before a run starts: its options, its processes, its data."""

import os
from dataclasses import replace
from datetime import timedelta
from typing import Any, Dict, List, Sequence, Union

import torch
from accelerate import Accelerator
from accelerate.tracking import filter_trackers
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast_object_list
from timm.data.config import resolve_data_config

from ..data import (
    ClipDataConfig,
    ClipTable,
    DataConfig,
    ImageStream,
    Table,
    TableConfig,
    TrackTable,
    open_stream,
    open_table,
)
from ..data import check as check_data
from ..data.tables.stream import decode_first
from ..errors import DataError, InvalidInputError
from ..models import resolve_clip_config
from .config import AnyConfig, Config, ModelConfig
from .metrics import metric_names
from .resume.order import Plan

#: A split, held or streamed.
AnyTable = Union[Table, ImageStream]

#: Images of each split that are decoded before a streamed run starts.
LOOKED_AT = 16

_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU,
              DistributedType.FSDP)  # fmt: skip


#: One process may have to fetch a data set, or train, while the others wait for it.
PATIENCE = InitProcessGroupKwargs(timeout=timedelta(hours=6))


def make_accelerator(config: AnyConfig) -> Accelerator:
    """Accelerate, which knows the trackers that are asked for; :func:`start_trackers` starts them.

    Raises:
        InvalidInputError: For trackers that cannot be used here.
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
        raise InvalidInputError(  # Accelerate would go on without it
            f"--run.trackers {' '.join(names)}: only {', '.join(map(str, found)) or 'none'} can be "
            "used here; install the tracker's package."
        )
    accelerator.log_with = found
    return accelerator


def start_trackers(accelerator: Accelerator) -> None:
    """Start the trackers, once the run's folder is its own."""
    if accelerator.log_with:
        accelerator.init_trackers("logs")  # the folder that TensorBoard writes to


def settle_sharding(accelerator: Accelerator) -> None:
    """Settings of FSDP that its launcher turns on and that models with BatchNorm cannot bear."""
    plugin: Any = getattr(accelerator.state, "fsdp_plugin", None)
    if accelerator.distributed_type != DistributedType.FSDP or plugin is None:
        return
    # It hands out the weights of one process, and fails at buffers; here all have the same.
    plugin.cpu_ram_efficient_loading = False
    # It would cast inputs and leave buffers as they are; autocast knows what each layer needs.
    plugin.mixed_precision_policy = None


def check_launched(accelerator: Accelerator) -> None:
    """Whether Accelerate sees all the processes that were launched.

    Raises:
        InvalidInputError: If it does not.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise InvalidInputError(
            f"{launched} processes were launched, but Accelerate sees {accelerator.num_processes} "
            "and each would work alone; without GPUs set ACCELERATE_USE_CPU=true."
        )


def check_options(config: AnyConfig, accelerator: Accelerator) -> None:
    """Refuse what cannot work before anything is loaded.

    Raises:
        InvalidInputError: Naming the options.
    """
    optim, run = config.optim, config.run
    if min(optim.epochs, optim.batch_size, optim.accumulate, run.keep, run.log_every) < 1:
        raise InvalidInputError(
            "--optim.epochs, --optim.batch-size, --optim.accumulate, --run.keep and "
            "--run.log-every must be positive."
        )
    if not 0 <= optim.warmup_epochs < optim.epochs:
        raise InvalidInputError(
            f"--optim.warmup-epochs is {optim.warmup_epochs:g}; it must be less than "
            f"--optim.epochs, which is {optim.epochs}."
        )
    if optim.lr <= 0 or optim.weight_decay < 0:
        raise InvalidInputError("--optim.lr must be above 0, --optim.weight-decay not below.")
    if isinstance(config.model, ModelConfig) and min(config.model.input_size or (1,)) < 1:
        raise InvalidInputError("--model.input-size must be a height and a width above 0.")
    if isinstance(config.model, ModelConfig) and not 0 < (config.model.crop_pct or 1) <= 1:
        raise InvalidInputError(
            f"--model.crop-pct is {config.model.crop_pct:g}; it must be above 0 and at most 1."
        )
    if run.save_every is not None and run.save_every < 1:
        raise InvalidInputError("--run.save-every must be positive.")
    if run.seed < 0:
        raise InvalidInputError(f"--run.seed is {run.seed}; it must be 0 or more.")
    if run.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise InvalidInputError("--run.mixed-precision fp16 needs a GPU; on a CPU take bf16 or no.")
    check_launched(accelerator)
    kind = accelerator.distributed_type
    if kind not in _SUPPORTED or (
        kind == DistributedType.FSDP and not getattr(accelerator, "is_fsdp2", False)
    ):
        raise InvalidInputError(
            f"Accelerate is configured for {kind.value}, which this engine does not know; use data "
            "parallelism (DDP), or FSDP with fsdp_version 2."
        )
    if kind == DistributedType.FSDP and run.channels_last:
        raise InvalidInputError("FSDP takes no weights in channels_last: --run.no-channels-last.")
    if run.output.is_file():
        raise InvalidInputError(f"--run.output {run.output} is a file; name a folder.")


def open_all(config: TableConfig, first: bool) -> Dict[str, AnyTable]:
    """The splits of a data set; ``first`` looks at some of the images before.

    Raises:
        DataError: For splits, columns and images that are not as declared.
    """
    splits = dict.fromkeys(config.splits)  # one may serve twice
    if isinstance(config, DataConfig) and config.streaming:
        streams = {name: open_stream(config, name) for name in splits}
        for stream in streams.values() if first else ():
            decode_first(stream, LOOKED_AT)
        return {**streams}
    if first:
        report = check_data(config, fast=True, progress=False)
        if not report.ok:
            first_error = report.errors[0].rstrip(".")
            raise DataError(f"{first_error}. All of it: {check_command(config)}")
    elif isinstance(config, ClipDataConfig):  # the first process says what is left out
        config = replace(config, broken="error")
    tables = {name: open_table(config, name) for name in splits}
    train = tables[config.splits[0]]
    for table in tables.values():
        tested = {table.labels[int(t)] for t in table.targets} if train.lost else set()
        if untaught := sorted(tested.intersection(train.lost)):
            raise DataError(
                f"{train.name} has no usable {train.noun} left of classes that {table.name} has: "
                f"{', '.join(untaught)}."
            )
    return {**tables}


def check_command(config: TableConfig) -> str:
    """What looks at all of a data set on the command line."""
    options = " --videos" if isinstance(config, ClipDataConfig) else ""
    if config.csv is not None:
        options += f" --csv {config.csv}"
    if config.label is not None:
        options += f" --label {config.label}"
    if config.attributes:
        options += f" --attributes {' '.join(config.attributes)}"
    return f"se-zoo check {config.path}{options} --splits {' '.join(config.splits)}"


def agree(tables: Dict[str, AnyTable], accelerator: Accelerator) -> Dict[str, AnyTable]:
    """The tables with what the first process leaves out left out on all: only that one has looked
    into every file."""
    kinds = (ClipTable, TrackTable)
    mine = {n: (t.rows, t.skipped) for n, t in tables.items() if isinstance(t, kinds)}
    if not mine or accelerator.num_processes == 1:
        return tables
    ((said),) = broadcast_object_list([mine])
    for name, (rows, skipped) in said.items():
        table = tables[name]
        assert isinstance(table, kinds)
        tables[name] = table.restored(rows, skipped)
    return tables


def check_input(model: torch.nn.Module, config: Config, device: torch.device) -> None:
    """Run the model once on an input of each size that training will use and is in doubt.

    Clip models may take one size only; so may image models that are to train at half size.

    Raises:
        InvalidInputError: If the model does not take the input, naming the size.
    """
    if isinstance(config.data, ClipDataConfig):
        takes = resolve_clip_config(model)
        shape, what = (3, takes.num_frames, *takes.size), f"clips of {takes.num_frames} frames of "
        hint = ""
    elif config.augment.half_size_epochs:
        channels, *size = resolve_data_config(model=model)["input_size"]
        shape, what = (channels, *(side // 2 for side in size)), "images of "
        hint = "; --augment.half-size-epochs 0 leaves out the epochs at half size"
    else:
        return
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, *shape, device=device))
    except torch.OutOfMemoryError:
        raise
    except (InvalidInputError, RuntimeError, AssertionError) as error:
        raise InvalidInputError(
            f"--model.name {config.model.name} does not take {what}"
            f"{shape[-2]} x {shape[-1]} pixels: {error}{hint}"
        ) from error
    finally:
        model.train(was)


def check_task(config: Config, plan: Plan, labels: Sequence[str], multi_label: bool) -> None:
    """Refuse options that do not go with the data.

    Raises:
        InvalidInputError: Naming them.
    """
    if plan.passes == 0:
        raise InvalidInputError(
            f"the training split holds {plan.samples} {config.data.noun}s, less than one batch of "
            f"{plan.batch_size} on {plan.processes} processes; lower "
            "--optim.batch-size."
        )
    if not 0 <= config.augment.half_size_epochs <= plan.epochs:
        raise InvalidInputError(
            f"--augment.half-size-epochs is {config.augment.half_size_epochs}; it must be between "
            f"0 and --optim.epochs, which is {plan.epochs}."
        )
    if config.augment.half_size_epochs and isinstance(config.data, ClipDataConfig):
        raise InvalidInputError(
            "--augment.half-size-epochs is for images; leave it at 0 for clips."
        )
    known = metric_names(len(labels), multi_label)
    if config.run.best not in known:
        raise InvalidInputError(
            f"--run.best {config.run.best} is none of the metrics: {', '.join(known)}."
        )
    augment = config.augment
    single = augment.mixup or augment.cutmix or augment.smoothing
    if multi_label and single:
        raise InvalidInputError(
            "--augment.mixup, --augment.cutmix and --augment.smoothing are for single-label "
            "data; these labels are independent."
        )
    if (augment.mixup or augment.cutmix) and plan.batch_size % 2:
        raise InvalidInputError("mixup and cutmix need an even --optim.batch-size.")
