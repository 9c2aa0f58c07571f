"""What is looked at before a run starts: its options, its processes, its data."""

import os
from typing import Any, Dict, List, Sequence, Union

from accelerate import Accelerator
from accelerate.tracking import filter_trackers
from accelerate.utils import DistributedType

from ..data import DataConfig, ImageStream, ImageTable, open_stream, open_table
from ..data import check as check_data
from ..data.streams import look
from ..errors import DataError, InvalidInputError
from .config import Config
from .metrics import metric_names
from .order import Plan

#: A split, held or streamed.
AnyTable = Union[ImageTable, ImageStream]

#: Images of each split that are decoded before a streamed run starts.
LOOKED_AT = 16

_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU,
              DistributedType.FSDP)  # fmt: skip


def make_accelerator(config: Config) -> Accelerator:
    """Accelerate, with the trackers that are asked for.

    Raises:
        InvalidInputError: For trackers that cannot be used here.
    """
    accelerator = Accelerator(
        mixed_precision=config.run.mixed_precision,
        project_dir=config.run.output,
        step_scheduler_with_optimizer=False,
    )
    names: List[Any] = list(config.run.trackers)
    found = filter_trackers(names, accelerator.logging_dir) if names else []
    if len(found) != len(names):
        raise InvalidInputError(  # Accelerate would go on without it
            f"--run.trackers {' '.join(names)}: only {', '.join(map(str, found)) or 'none'} can be "
            "used here; install the tracker's package."
        )
    accelerator.log_with = found
    if found and not config.run.dry_run:
        accelerator.init_trackers("logs")  # the folder that TensorBoard writes to
    return accelerator


def check_options(config: Config, accelerator: Accelerator) -> None:
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
        raise InvalidInputError("--optim.warmup-epochs must be less than --optim.epochs.")
    if run.save_every is not None and run.save_every < 1:
        raise InvalidInputError("--run.save-every must be positive.")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise InvalidInputError(
            f"{launched} processes were launched, but Accelerate sees {accelerator.num_processes} "
            "and each would train alone; without GPUs set ACCELERATE_USE_CPU=true."
        )
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


def open_all(config: DataConfig, first: bool) -> Dict[str, AnyTable]:
    """The splits of a data set; ``first`` looks at some of the images before.

    Raises:
        DataError: For splits, columns and images that are not as declared.
    """
    if config.streaming:
        streams = {name: open_stream(config, name) for name in config.splits}
        for stream in streams.values() if first else ():
            look(stream, LOOKED_AT)
        return {**streams}
    if first:
        report = check_data(config, fast=True, progress=False)
        if not report.ok:
            raise DataError(f"{report.errors[0]} All of it: se-zoo check {config.path}")
    return {name: open_table(config, name) for name in config.splits}


def check_task(config: Config, plan: Plan, labels: Sequence[str], multi_label: bool) -> None:
    """Refuse options that do not go with the data.

    Raises:
        InvalidInputError: Naming them.
    """
    if plan.passes == 0:
        raise InvalidInputError(
            f"the training split holds {plan.samples} images, less than one batch of "
            f"{plan.batch_size} on {plan.processes} processes; lower "
            "--optim.batch-size."
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
