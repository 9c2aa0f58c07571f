"""Tables of the Hub and parquet files, read with the ``datasets`` library."""

from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import torch

from ...errors import DataError
from ..config import ClipDataConfig, TableConfig
from .content import Content, StoredRows
from .validate import (
    check_columns,
    check_same_classes,
    class_indices,
    class_names,
    described,
    listed,
)


def read_columns(
    config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None
) -> Content:
    """A split's samples and its targets; classes: those of the training split.

    Raises:
        DataError: If the split cannot be had, or its columns are not the declared ones in name
            or type.
    """
    where = described(split, config)
    rows = load_rows(config, split)
    check_columns(rows.column_names, config, where)
    samples = StoredRows(_encoded(rows, config, where), config.column)
    if config.attributes:
        return Content(samples, config.attributes, _attributes(rows, config, where))
    return Content(samples, *_classes(rows, config.label or "", classes, where))


def load_rows(config: TableConfig, split: str) -> Any:
    """The split as a ``datasets.Dataset``, or ``datasets.IterableDataset`` if it is streamed.

    Raises:
        DataError: If it cannot be had, with the splits that are needed.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(
            "parquet and Hub data are read with datasets: pip install 'se_zoo[train]'"
        ) from None
    folder = Path(config.path)
    local = folder.is_dir()
    file = folder / f"{split}.parquet"
    if local and not file.is_file():
        needed = [f"{name}.parquet" for name in dict.fromkeys(config.splits)]
        found = sorted(path.name for path in folder.glob("*.parquet"))
        raise DataError(
            f"{folder} lacks {file.name}. Needed: {listed(needed)}; found: {listed(found)}. Rename "
            "the files, or set splits to their names."
        )
    how: Dict[str, Any] = {"streaming": True} if config.streaming else {}
    try:
        if local:
            # Split by split, so that a file with other columns reaches the check of the columns.
            return datasets.load_dataset("parquet", data_files=str(file), split="train", **how)
        return datasets.load_dataset(config.path, config.name, split=split, **how)
    # datasets raises its own, the Hub client's, pyarrow's and fsspec's errors.
    except Exception as error:
        cause = error.__cause__ or error
        source = str(file) if local else f"the Hub ({config.path} is no folder here)"
        raise DataError(
            f"cannot load {described(split, config)} from {source}: {type(cause).__name__}: "
            f"{cause}. Needed splits: {listed(dict.fromkeys(config.splits))}."
        ) from error


def _encoded(rows: Any, config: TableConfig, where: str) -> Any:
    """The samples' column alone, as bytes or paths: what decodes here names the row in errors."""
    import datasets

    column, feature = config.column, datasets.Image(decode=False)
    if isinstance(config, ClipDataConfig):
        if not hasattr(datasets, "Video"):
            raise DataError("columns of videos need datasets 3.2 or newer.")
        feature = datasets.Video(decode=False)
    try:
        return rows.select_columns([column]).cast_column(column, feature)
    except (TypeError, ValueError, NotImplementedError) as error:  # pyarrow's derive from these
        raise DataError(
            f"column {column} of {where} holds no {config.noun}s but {rows.features[column]}."
        ) from error


def _column(rows: Any, name: str, where: str) -> Any:
    """A column as a pyarrow ChunkedArray (N,) without nulls."""
    column = rows.select_columns([name]).with_format("arrow")[:].column(name)
    if column.null_count:
        first = column.is_null().to_pylist().index(True)
        raise DataError(
            f"column {name} of {where} is empty in {column.null_count} rows, the first is row "
            f"{first}."
        )
    return column


def _attributes(rows: Any, config: TableConfig, where: str) -> torch.Tensor:
    """float (N, A) of 0 and 1."""
    check_attribute_types(rows.features, config, where)
    columns = [torch.tensor(_column(rows, n, where).to_numpy()) for n in config.attributes]
    return torch.stack(columns, dim=1).float()


def check_attribute_types(features: Any, config: TableConfig, where: str) -> None:
    """Attributes are bool.

    Raises:
        DataError: Naming those that are not.
    """
    types = {name: getattr(features[name], "dtype", "?") for name in config.attributes}
    wrong = [f"{name} ({dtype})" for name, dtype in types.items() if dtype != "bool"]
    if wrong:  # -1 and 1, as in CelebA's own text file, would train to nonsense
        raise DataError(
            f"attributes must be bool, true for present; in {where} these are not: "
            f"{listed(wrong)}. Convert them where the file is made, for -1 and 1 as in CelebA's "
            "own table with column == 1."
        )


def _classes(
    rows: Any, name: str, classes: Optional[Tuple[str, ...]], where: str
) -> Tuple[Tuple[str, ...], torch.Tensor]:
    """Class names and long (N,): as declared by a ClassLabel, or else from the values."""
    feature = rows.features[name]
    dtype, names = getattr(feature, "dtype", ""), getattr(feature, "names", None)
    if not dtype.startswith(("int", "uint", "string", "large_string")):
        raise DataError(
            f"column {name} of {where} must be a ClassLabel, a whole number or a string, but it is "
            f"{feature}; for several yes-or-no columns set attributes."
        )
    column = _column(rows, name, where)
    if names is None:
        values = [str(value) for value in column.to_pylist()]
        classes = classes or class_names(values, where)
        return classes, class_indices(values, classes, where)
    check_same_classes(names, classes, where, "Write all splits with one ClassLabel.")
    targets = torch.tensor(column.to_numpy(), dtype=torch.long)
    outside = (targets < 0) | (targets >= len(names))
    if outside.any():
        first = int(outside.nonzero()[0])
        raise DataError(
            f"column {name} of {where} holds {int(outside.sum())} values outside of its "
            f"{len(names)} classes, the first is {int(targets[first])} in row {first} (-1 marks "
            "a sample without a label)."
        )
    return tuple(names), targets
