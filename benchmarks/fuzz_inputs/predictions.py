"""Damaged folders of ``se-zoo predict``, which the same command goes on with."""

import functools
import json
import random
import shutil
from pathlib import Path
from typing import Any, List, Optional, Tuple

import pyarrow as pa
import pyarrow.parquet as pq

import se_zoo
from se_zoo.inference.predict.open import open_source
from se_zoo.inference.predict.run import predict

from .case import SPECIAL, Case, WrongAnswerError, break_bytes, change_json, make_special
from .commands import photos, predictions
from .models import saved_model

#: How the second command differs from the first: not at all.
_ROWS: Any = {"batch_size": 64, "rows_per_file": 5}


@functools.lru_cache(maxsize=1)
def _explainer() -> Any:
    return se_zoo.BatchExplainer(f"local-dir:{saved_model()}", device="cpu")


def _content(folder: Path) -> List[Tuple[Any, ...]]:
    """Return what the rows of a folder hold."""
    rows = se_zoo.load_predictions(folder)
    return [(row.id, row.error, row.top, row.target, row.map.tobytes()) for row in rows]


@functools.lru_cache(maxsize=1)
def _right() -> List[Tuple[Any, ...]]:
    return _content(predictions())


def _other_parquet(rng: random.Random, file: Path) -> str:
    """Put another parquet file, of as many rows, in a file's place; return what it is."""
    table = pq.read_table(file)
    kind = rng.choice(["fewer columns", "no columns", "other types", "fewer rows", "no rows"])
    if kind == "fewer columns":
        table = table.drop_columns([rng.choice(table.column_names)])
    elif kind == "no columns":
        table = table.select(["id"]).rename_columns(["x"])
    elif kind == "other types":
        table = pa.table({name: table["id"] for name in table.column_names})
    else:
        table = table.slice(0, 0 if kind == "no rows" else 2)
    pq.write_table(table, file)
    return kind


def make_predictions(rng: random.Random, folder: Path) -> Case:
    """Write a finished folder of predictions with one damaged file."""
    place = folder / rng.choice(["read", "go on"])
    shutil.copytree(predictions(), place)
    files = sorted(place.iterdir())
    file = rng.choice(files)
    ways = ["bytes"] * 5 + ["special", "gone", "strange", "none"]
    ways += ["parquet"] * 3 if file.suffix == ".parquet" else ["json"] * 4
    kind, valid = rng.choice(ways), None
    change: str = kind
    if kind == "bytes":
        data, change = break_bytes(rng, file.read_bytes())
        file.write_bytes(data)
    elif kind == "special":
        change = rng.choice(SPECIAL)
        make_special(change, file)
    elif kind == "gone":
        file.unlink()
    elif kind == "strange":
        name = rng.choice(["part-00000.end", "part-x-y.parquet", "part-00009-000000.parquet",
                           "photo.jpg", "x.tmp"])  # fmt: skip
        (place / name).write_bytes(rng.choice([b"", b"x", b"7", b"-1", file.read_bytes()]))
        change = f"{name} beside"
    elif kind == "parquet":
        change = _other_parquet(rng, file)
    elif kind == "json":
        content = json.loads(file.read_text())
        change = change_json(rng, content)
        file.write_text(json.dumps(content))
    else:
        valid = True
    return Case(place, valid, f"{place.name}, {file.name}: {change}")


def read_predictions(folder: Path) -> Any:
    """Read a folder, or give the command once more; its name says which.

    Raises:
        WrongAnswerError: If the command ends with other rows than those of an undamaged folder.
    """
    if folder.name == "read":
        opened = se_zoo.load_predictions(folder)
        return _content(folder), opened.explanation(opened[0])
    source = str(photos())
    options: Optional[Any] = {"source": source}
    predict(open_source(source), folder, _explainer(), **_ROWS, info=options)
    if _content(folder) != _right():
        raise WrongAnswerError("the rows are not those of an undamaged folder")
    return None
