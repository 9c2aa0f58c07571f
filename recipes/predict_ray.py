"""Predict and explain photos on a cluster, with Ray Data.

    python recipes/predict_ray.py photos/ --out predictions --concurrency 2
    python recipes/predict_ray.py shards/ --id name --out predictions --num-gpus 0.5 \
        --checkpoint /mnt/shared/checkpoint

Run time: that of `se-zoo predict` on one of the workers, divided by their number.
Result: parquet files in the columns of `se-zoo predict`; the id keeps the name it has in the data.
Data: a folder of photos, or of parquet files with a column of encoded images.
Needs `pip install "se_zoo[ray]"`. A worker that dies is started again and its batches are done
again; with `--checkpoint`, the same command leaves out the photos that are done. Ray adds files to
those in `--out`: results of an earlier command are refused, and so is a checkpoint of another one
(`<checkpoint>.json` has its options). One machine needs no engine: `se-zoo predict` is faster
there, and its files are the same to the bit each time.
"""

import argparse
import json
import os
import posixpath
from pathlib import Path
from typing import Any, List

from pyarrow.fs import FileSelector, FileSystem, FileType

from se_zoo import BatchExplainer
from se_zoo.console import one_line_errors
from se_zoo.data.images import IMAGE_SUFFIXES
from se_zoo.errors import InvalidInputError


class Explainer(BatchExplainer):
    """Keep the name of the id column: Ray's checkpoints compare it with the data's."""

    def __call__(self, batch: Any) -> Any:
        """Predict and explain an Arrow table; see :class:`se_zoo.BatchExplainer`."""
        name = next(name for name in batch.column_names if name != "image")
        return super().__call__(batch.rename_columns({name: "id"})).rename_columns({"id": name})


def read(args: argparse.Namespace) -> Any:
    """Return the data set, with the column ``image`` and one of ids."""
    import ray.data

    if any(Path(args.source).glob("*.parquet")):
        rows = ray.data.read_parquet(args.source, columns=[args.image, args.id])
        return rows if args.image == "image" else rows.rename_columns({args.image: "image"})
    suffixes = [suffix.lstrip(".") for suffix in sorted(IMAGE_SUFFIXES)]
    files = ray.data.read_binary_files(
        args.source, include_paths=True, file_extensions=suffixes, override_num_blocks=args.blocks
    )
    return files.rename_columns({"bytes": "image"})


def _absolute(place: str) -> str:
    """Return the absolute path of a folder; a URI as it is."""
    return place if "://" in place else os.path.abspath(place)


def _parquet_in(place: str) -> List[str]:
    """Return the names of the parquet files in a folder, which need not exist."""
    files, path = FileSystem.from_uri(_absolute(place))
    found = files.get_file_info(FileSelector(path, allow_not_found=True))
    return [info.base_name for info in found if info.extension == "parquet"]


def check_same_run(args: argparse.Namespace) -> None:
    """Refuse to add to the results of another run; record the options of a new one.

    Args:
        args: The command line.

    Raises:
        InvalidInputError: If --out or --checkpoint is of another run.
    """
    written = _parquet_in(args.out)
    if not args.checkpoint:
        if written:
            raise InvalidInputError(
                f"--out {args.out} holds parquet files, to which Ray would add; delete them, or "
                "name another folder."
            )
        return
    begun = _parquet_in(args.checkpoint)
    # Ray writes a pending checkpoint before the rows, and cleans up after a run that was killed.
    done = [name for name in begun if not name.endswith(".pending.parquet")]
    if (done and not written) or (written and not begun):
        full, empty = (args.checkpoint, args.out) if begun else (args.out, args.checkpoint)
        raise InvalidInputError(
            f"--out and --checkpoint belong together, but {full} has files of a run and {empty} "
            "has none; delete both, or name others."
        )
    now = {name: getattr(args, name) for name in ("model", "target", "image", "id")}
    now |= {"source": _absolute(args.source), "out": _absolute(args.out)}
    files, path = FileSystem.from_uri(_absolute(args.checkpoint))
    record = f"{path.rstrip('/')}.json"
    if not begun:
        files.create_dir(posixpath.dirname(record))
        with files.open_output_stream(f"{record}.tmp") as opened:
            opened.write(json.dumps(now, indent=2).encode())
        files.move(f"{record}.tmp", record)
        return
    if files.get_file_info(record).type == FileType.NotFound:
        raise InvalidInputError(
            f"{record} is missing, so the run of --checkpoint {args.checkpoint} is not known; name "
            "another --checkpoint and --out."
        )
    with files.open_input_stream(record) as opened:
        known = json.loads(opened.read())
    other = [name for name, value in now.items() if known.get(name) != value]
    if other:
        raise InvalidInputError(
            f"--checkpoint {args.checkpoint} is of a run with another {', '.join(other)}; give the "
            "options of then, or another --checkpoint and --out."
        )


def main() -> None:
    """Read the command line and run the pipeline."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="folder of photos or of parquet files")
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument("--model", default="se_zoo/resnet18_slim_celeba", help="name of the model")
    parser.add_argument(
        "--target", nargs="*", action="extend", help="labels to explain; by default the predicted"
    )
    parser.add_argument("--image", default="image", help="parquet: column of the images")
    parser.add_argument("--id", default="id", help="parquet: column of the ids")
    parser.add_argument("--batch-size", type=int, default=64, help="photos at a time")
    parser.add_argument("--concurrency", type=int, default=1, help="workers, a model each")
    parser.add_argument("--num-cpus", type=float, default=1, help="cores that a worker reserves")
    parser.add_argument("--num-gpus", type=float, default=0, help="GPUs of a worker, 0.5 for half")
    parser.add_argument("--blocks", type=int, help="photos: parts that Ray makes of the data")
    parser.add_argument("--checkpoint", help="folder for Ray's checkpoints, seen by all machines")
    args = parser.parse_args()
    import ray  # seconds; and before anything is written, in case it is missing

    try:
        check_same_run(args)
    except InvalidInputError as error:
        raise SystemExit(f"predict_ray: {error}") from error
    ray.init()
    if args.checkpoint:
        from ray.data import DataContext
        from ray.data.checkpoint import CheckpointConfig

        id_column = args.id if any(Path(args.source).glob("*.parquet")) else "path"
        DataContext.get_current().checkpoint_config = CheckpointConfig(
            id_column=id_column, checkpoint_path=args.checkpoint, delete_checkpoint_on_success=False
        )
    rows = read(args).map_batches(
        Explainer,
        fn_constructor_args=(args.model, args.target or None),
        batch_format="pyarrow",
        batch_size=args.batch_size,
        concurrency=args.concurrency,
        num_gpus=args.num_gpus,
        num_cpus=args.num_cpus,
    )
    rows.write_parquet(args.out)


if __name__ == "__main__":
    with one_line_errors("predict_ray"):
        main()
