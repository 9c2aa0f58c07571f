"""Write a table of explanations row by row: csv, JSON lines or parquet."""

import csv
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

from ..errors import InvalidInputError
from ..files import rename, replacing

#: Columns of the table, and the kind of their values; all but the first three hold a list.
COLUMNS: Dict[str, type] = {
    "file": str, "error": str, "picture": str, "target": int, "label": str, "probability": float,
    "predicted": str, "predicted_probability": float, "region": int, "empty": bool,
}  # fmt: skip
_TEXTS = ("file", "error", "picture")
ENDINGS = (".csv", ".jsonl", ".parquet")
#: Rows that are turned into parquet at once.
_GROUP = 10_000

Row = Dict[str, Any]


def part_of(table: Path) -> Path:
    """Return the name under which a table is written until it is complete."""
    return table.with_name(f"{table.name}.part")


def check_table(path: Path) -> None:
    """Check that a table of this name can be written.

    Raises:
        InvalidInputError: If its ending is unknown, or pyarrow is missing for parquet.
    """
    if path.suffix.lower() not in ENDINGS:
        raise InvalidInputError(f"--table {path} must end in {', '.join(ENDINGS)}")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise InvalidInputError(
                f'{path} needs pyarrow: pip install "se_zoo[predict]", or name a .csv or .jsonl'
            ) from None


@contextmanager
def writing_table(path: Path) -> Iterator[Callable[[Row], None]]:
    """Write a table row by row; it takes its name when it is complete.

    Until then it is ``<name>.part``: whole rows, flushed one by one, which an error or a kill
    leaves behind. That of a parquet table holds JSON lines.

    Args:
        path: The table, in an existing folder; its ending is the format.

    Yields:
        A function that writes a row with a value for each of :data:`COLUMNS`.
    """
    ending = path.suffix.lower()
    part = part_of(path)
    with open(part, "w", encoding="utf-8", newline="") as file:
        # One write a row, then a flush: the file never ends within a row.
        if ending == ".csv":
            # csv's own \r\n would be a part of the last column for cut and awk.
            cells = csv.writer(file, lineterminator="\n")
            cells.writerow(COLUMNS)

            def write(row: Row) -> None:
                cells.writerow([_cell(row[name]) for name in COLUMNS])
                file.flush()
        else:

            def write(row: Row) -> None:
                file.write(json.dumps(_encodable(row)) + "\n")
                file.flush()

        yield write
    if ending == ".parquet":
        _write_parquet(part, path)
        part.unlink()
    else:
        rename(part, path)


def _cell(value: Any) -> str:
    """Return a value as text; values of a list are joined by semicolons."""
    values = value if isinstance(value, list) else [value]
    return _escaped(";".join(map(str, values)))


def _escaped(text: str) -> str:
    """Return a text that UTF-8 can encode; bytes of a name that are not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _encodable(row: Row) -> Row:
    """Return a row whose texts UTF-8 can encode."""

    def clean(value: Any) -> Any:
        if isinstance(value, list):
            return [clean(one) for one in value]
        return _escaped(value) if isinstance(value, str) else value

    return {name: clean(value) for name, value in row.items()}


def _write_parquet(lines: Path, path: Path) -> None:
    """Turn JSON lines into a parquet file, in groups of rows, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema(
        [
            (name, kinds[kind] if name in _TEXTS else pa.list_(kinds[kind]))
            for name, kind in COLUMNS.items()
        ]
    )
    with replacing(path) as temporary, pq.ParquetWriter(str(temporary), schema) as writer:
        rows: List[Row] = []
        with open(lines, encoding="utf-8") as file:
            for line in file:
                rows.append(json.loads(line))
                if len(rows) == _GROUP:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))
