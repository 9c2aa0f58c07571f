"""Predict and explain a data set of any size: ``se-zoo predict``."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional, Tuple

import tyro

from ..errors import InvalidInputError
from ..text import counted, printable
from ..zoo_names import check_name
from .explain import DEFAULT_MODEL, OBJECTS_MODEL, MapMethod


@dataclass(frozen=True)
class Predict:
    """Predict and explain a data set of any size into parquet files.

    A photo is a row: id, probabilities, map, error. One that cannot be read is a row with its
    error, and the exit status is 0 all the same. A run that was stopped or killed goes on with
    the same command. Several processes share the work: torchrun --nproc-per-node 2 --no-python
    se-zoo predict ...
    """

    source: tyro.conf.Positional[str]
    """A folder of photos, of parquet files or of tars; a file or a quoted glob of these; or
    hf-hub:<data set>."""
    out: Path
    """Folder of the results: part-*.parquet, predict.json and, when all is there, complete.json."""
    model: Optional[str] = None
    """se_zoo/<name>, an architecture *_sehead, hf-hub:<repo> or local-dir:<folder>; by default
    se_zoo/resnet18_slim_celeba, which reads faces that fill the photo."""
    target: Tuple[str, ...] = ()
    """Labels or class indices to explain, such as --target Smiling Male; by default what the model
    predicts."""
    method: Optional[MapMethod] = None
    """Which map; by default the model's own."""
    versus: Optional[str] = None
    """The other class of --method difference; by default the runner-up, if classes compete."""
    top: Optional[int] = None
    """Classes that a row keeps, most probable first; by default 5, and all independent labels."""
    gate: bool = False
    """Keep the SE vector of each photo."""
    image: Optional[str] = None
    """Column of the images, of parquet files and data sets of the Hub."""
    id: Optional[str] = None
    """Column of the ids; by default file and row."""
    split: str = "train"
    """Split of a data set of the Hub."""
    subset: Optional[str] = None
    """Configuration of a data set of the Hub."""
    outside: bool = False
    """Read photos outside the data's folder, where a parquet file names some; only for data that
    you trust."""
    device: Optional[str] = None
    """cpu, cuda, cuda:1; by default a GPU for each process if there are any, else the CPU."""
    batch_size: int = 64
    """Photos that the model gets at a time."""
    workers: Optional[int] = None
    """Processes that read and decode; by default one a CPU core, at most 8."""
    rows_per_file: int = 1024
    """Rows of a parquet file."""
    quiet: bool = False
    """Show neither progress nor the note on the default model."""


def run_predict(args: Predict) -> None:
    """Run ``se-zoo predict``.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If options, data set and model do not fit together, or the folder holds
            predictions of something else.
        UnknownModelError: With the closest names.
    """
    from ..inference.predict.manifest import MANIFEST, check_folder, read_manifest
    from ..inference.predict.open import HUB, open_source
    from ..inference.predict.sources import SourceOptions

    rank, world, local, beside = _process()
    name = DEFAULT_MODEL if args.model is None else args.model
    check_name(name)
    check_folder(args.out)
    options = SourceOptions(args.image, args.id, args.split, args.subset, outside=args.outside)
    if args.source.startswith(HUB) and (args.out / MANIFEST).exists():
        options = options._replace(revision=_recorded_revision(read_manifest(args.out)))
    source = open_source(args.source, options)
    if args.model is None and rank == 0 and not args.quiet:
        print(_reads_faces(), file=sys.stderr, flush=True)
    # These import torch, which takes seconds.
    from ..explanations.target_classes import target_of
    from ..inference.batch import BatchExplainer
    from ..inference.predict.run import predict
    from .device import load_on

    device = args.device or _device(local)
    model = load_on(name, device)
    labels, classes = model.class_labels(), model.num_classes
    target = [target_of(text, labels, classes) for text in args.target] or None
    versus = None if args.versus is None else target_of(args.versus, labels, classes)
    explainer = BatchExplainer(
        model, target, args.method, versus=versus, top=args.top, gate=args.gate,
        device=device, name=name,
    )  # fmt: skip
    where = args.source if args.source.startswith(HUB) else os.path.abspath(args.source)
    workers = args.workers
    if workers is None:
        workers = min(8, max(1, (os.cpu_count() or 1) // beside))
    summary = predict(
        source,
        args.out,
        explainer,
        batch_size=args.batch_size,
        rows_per_file=args.rows_per_file,
        workers=workers,
        process=(rank, world),
        info={"source": where, "source_options": options._asdict()},
        progress=not args.quiet and rank == 0,
    )
    if summary is None:
        print(f"process {rank} of {world} is done", file=sys.stderr)
    else:
        print(
            f"{args.out}: {counted(summary.rows, 'photo')} in {counted(summary.files, 'file')}, "
            f"{summary.errors} of them could not be read (column error){_left_out(source.left_out)}"
        )


def _reads_faces() -> str:
    """Return what is said where nobody chose a model: it answers for any photo."""
    return (
        f"note: the default model, {DEFAULT_MODEL}, reads faces that fill the photo, framed as in "
        "CelebA;\n"
        "  predict finds and frames none in larger photos.\n"
        f"  Objects, animals, scenes: --model {OBJECTS_MODEL}"
    )


def _left_out(endings: Mapping[str, int]) -> str:
    """Return how many files were no data, with their most frequent endings; "" if there are none.

    Args:
        endings: Number of the files with each ending.
    """
    count = sum(endings.values())
    if not count:
        return ""
    frequent = sorted(endings, key=lambda ending: (-endings[ending], ending))
    shown = ", ".join(printable(ending) or "no ending" for ending in frequent[:3])
    more = ", ..." if len(frequent) > 3 else ""
    files = "file was" if count == 1 else "files were"
    return f"; {count} other {files} left out ({shown}{more})"


def _process() -> Tuple[int, int, int, int]:
    """Return rank, world size, and both among the processes of this machine."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    # A launcher without local ranks would put all processes of a machine on its first GPU.
    defaults = ("0", "1", os.environ.get("RANK", "0"), "1")
    found = [os.environ.get(name, default) for name, default in zip(names, defaults, strict=True)]
    try:
        rank, world, local, beside = map(int, found)
    except ValueError:
        raise InvalidInputError(
            f"{', '.join(names)} must be whole numbers, not {', '.join(found)}."
        ) from None
    if not 0 <= rank < world:
        raise InvalidInputError(f"RANK is {rank} and WORLD_SIZE {world}: ranks go from 0.")
    return rank, world, local, max(1, beside)


def _device(local: int) -> str:
    import torch

    return f"cuda:{local % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def _recorded_revision(manifest: dict) -> Optional[str]:
    """Return the commit that a run to go on with has read; a newer one would be other rows."""
    return manifest["facts"].get("source", {}).get("revision")
