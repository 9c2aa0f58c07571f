"""Hub data sets and parquet files, read with the ``datasets`` library."""

from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import torch

from ...errors import DataError
from ..config import ClipDataConfig, TableConfig
from .content import Content, StoredRows, reach_of
from .validate import (
    SPLITS_OPTION,
    check_columns,
    check_same_classes,
    class_indices,
    class_names,
    format_names,
    split_name,
)


def read_columns(
    config: TableConfig, split: str, classes: Optional[Tuple[str, ...]] = None
) -> Content:
    """Read a split's samples and targets.

    Args:
        config: The data set.
        split: Name of the split.
        classes: Classes of the training split; None if this is the training split.

    Raises:
        DataError: If the split cannot be loaded, or its columns have not the declared names or
            types.
    """
    where = split_name(split, config)
    rows = load_rows(config, split)
    check_columns(rows.column_names, config, where)
    folder = Path(config.path)
    file = folder / f"{split}.parquet" if folder.is_dir() else None
    encoded = _encoded(rows, config, where)
    samples = StoredRows(encoded, config.column, reach_of(config), file)
    if config.attributes:
        return Content(samples, config.attributes, _attributes(rows, config, where))
    return Content(samples, *_classes(rows, config.label or "", classes, where))


def load_rows(config: TableConfig, split: str) -> Any:
    """Load a split as a ``datasets.Dataset``, or as an ``IterableDataset`` if it is streamed.

    Raises:
        DataError: If it cannot be loaded.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(
            "datasets, which reads parquet files and Hub data, is not installed: pip install "
            '"se_zoo[train]"'
        ) from None
    folder = Path(config.path)
    local = folder.is_dir()
    file = folder / f"{split}.parquet"
    if local and not file.is_file():
        needed = [f"{name}.parquet" for name in dict.fromkeys(config.splits)]
        found = sorted(path.name for path in folder.glob("*.parquet"))
        raise DataError(
            f"{folder} lacks {file.name}. Needed: {format_names(needed)}; found: "
            f"{format_names(found)}. Rename the files, or set splits to their names "
            f"({SPLITS_OPTION})."
        )
    options: Dict[str, Any] = {"streaming": True} if config.streaming else {}
    try:
        if local:
            # One split at a time, so that check_columns reports a file with other columns.
            return datasets.load_dataset("parquet", data_files=str(file), split="train", **options)
        return datasets.load_dataset(config.path, config.name, split=split, **options)
    # datasets also raises errors of the Hub client, pyarrow and fsspec.
    except Exception as error:
        cause = error.__cause__ or error
        source = str(file) if local else f"the Hub ({config.path} is not a folder here)"
        raise DataError(
            f"cannot load {split_name(split, config)} from {source}: {type(cause).__name__}: "
            f"{cause}. Needed splits: {format_names(dict.fromkeys(config.splits))}."
        ) from error


def _encoded(rows: Any, config: TableConfig, where: str) -> Any:
    """Return the column of the samples as bytes or paths, so that this package decodes them.

    Its errors name the row.
    """
    import datasets

    column, feature = config.column, datasets.Image(decode=False)
    if isinstance(config, ClipDataConfig):
        if not hasattr(datasets, "Video"):
            raise DataError(
                f"datasets {datasets.__version__} is too old for columns of videos: pip install -U "
                '"datasets>=3.2"'
            )
        feature = datasets.Video(decode=False)
    try:
        return rows.select_columns([column]).cast_column(column, feature)
    except (TypeError, ValueError, NotImplementedError) as error:  # pyarrow's derive from these
        raise DataError(
            f"column {column} of {where} holds no {config.noun}s but {rows.features[column]}. Set "
            f"{config.noun} to the column of the {config.noun}s."
        ) from error


def _column(rows: Any, name: str, where: str) -> Any:
    """Return a column as a pyarrow ChunkedArray (N,); raise DataError if it has nulls."""
    column = rows.select_columns([name]).with_format("arrow")[:].column(name)
    if column.null_count:
        first = column.is_null().to_pylist().index(True)
        raise DataError(
            f"column {name} of {where} is empty in {column.null_count} rows, the first is row "
            f"{first}. Fill these rows in, or leave them out."
        )
    return column


def _attributes(rows: Any, config: TableConfig, where: str) -> torch.Tensor:
    """Return the attributes as 0 and 1, float32 (N, A)."""
    check_attribute_types(rows.features, config, where)
    columns = [torch.tensor(_column(rows, n, where).to_numpy()) for n in config.attributes]
    return torch.stack(columns, dim=1).float()


def check_attribute_types(features: Any, config: TableConfig, where: str) -> None:
    """Check that all attributes are bool.

    Raises:
        DataError: If some are not.
    """
    types = {name: getattr(features[name], "dtype", "?") for name in config.attributes}
    wrong = [f"{name} ({dtype})" for name, dtype in types.items() if dtype != "bool"]
    if wrong:  # as targets, the -1 and 1 of CelebA's own text file would give wrong losses
        raise DataError(
            f"attributes must be bool, true for present; in {where} these are not: "
            f"{format_names(wrong)}. Convert them in the file; for -1 and 1, as in CelebA's own "
            "table, with column == 1."
        )


def _classes(
    rows: Any, name: str, classes: Optional[Tuple[str, ...]], where: str
) -> Tuple[Tuple[str, ...], torch.Tensor]:
    """Return class names and indices, int64 (N,), from a ClassLabel or else from the values."""
    feature = rows.features[name]
    dtype, names = getattr(feature, "dtype", ""), getattr(feature, "names", None)
    if not dtype.startswith(("int", "uint", "string", "large_string")):
        raise DataError(
            f"column {name} of {where} must be a ClassLabel, a whole number or a string, but it is "
            f"{feature}. For several yes-or-no columns set attributes instead of label."
        )
    column = _column(rows, name, where)
    if names is None:
        values = [str(value) for value in column.to_pylist()]
        empty = next((row for row, value in enumerate(values) if not value.strip()), None)
        if empty is not None:
            raise DataError(
                f"column {name} of {where} is empty in row {empty}; leave out rows without a label."
            )
        classes = classes or class_names(values, where)
        return classes, class_indices(values, classes, where)
    check_same_classes(names, classes, where, "Write all splits with one ClassLabel.")
    targets = torch.tensor(column.to_numpy(), dtype=torch.long)
    outside = (targets < 0) | (targets >= len(names))
    if outside.any():
        first = int(outside.nonzero()[0])
        raise DataError(
            f"column {name} of {where} holds {int(outside.sum())} values outside its "
            f"{len(names)} classes, the first is {int(targets[first])} in row {first}. -1 marks a "
            "sample without a label; leave such rows out."
        )
    return tuple(names), targets
