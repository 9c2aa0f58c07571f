"""Broken csv tables of labels, attributes and parts of videos."""

import csv
import io
import random
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from PIL import Image

from se_zoo.data import ClipDataConfig, DataConfig, check, open_table

from .case import SPECIAL, Case, Refused, break_bytes, make_special

_SPLITS = ("train", "valid", "test")
#: Header and three rows of each split, by the kind of table.
HEADERS = {
    "label": ["image", "split", "label"],
    "attributes": ["image", "split", "Old", "Big"],
    "parts": ["video", "split", "label", "start", "end"],
}
#: Cells that no table may have, by the column.
_WRONG: Dict[str, Tuple[str, ...]] = {
    "image": ("", " ", "../x.png", "/etc/passwd", "a\0b.png", "none.png", "s3://x/y.png",
              "x" * 5000, "link/x.png", "~/x.png", "train", "C:\\x.png", "zero.png", "pipe.png"),
    "video": ("", " ", "../x.mp4", "/etc/passwd", "../../dev/zero"),
    "split": ("", " "),
    "label": ("", "  ", "\t"),
    "Old": ("", "maybe", "2", "-1", "nan", "truee", "1.0", "\u0661", "x" * 200_000),
    "start": ("", "one", "-1", "nan", "inf", "1e400", "0x1", "9", "1,5"),
    "end": ("", "0", "-1", "nan", "inf", "1e400", "one"),
}  # fmt: skip
#: Cells that may be right or wrong, by where they stand.
_ODD = ("a\nb", "\u202etxt", 'a"b', "a,b", "a;b", "\u00e9", "\U0001f600", "=1+1", "\ufeff",
        "3" * 5000, "-9", "99999999999", "\x1b[31m", "x" * 140_000)  # fmt: skip


def _rows(kind: str) -> List[List[str]]:
    rows = [list(HEADERS[kind])]
    for split in _SPLITS:
        for n in range(3):
            file = f"{split}{n}.png"
            cells = {"image": file, "video": f"{n}.mp4", "split": split, "label": "ab"[n % 2],
                     "Old": str(n % 2), "Big": "True", "start": "0", "end": "1.5"}  # fmt: skip
            rows.append([cells[name] for name in rows[0]])
    return rows


def _text(rows: List[List[str]], **options: Any) -> str:
    file = io.StringIO()
    csv.writer(file, **options).writerows(rows)
    return file.getvalue()


def text_of(kind: str) -> bytes:
    """Return a valid table of a kind."""
    return _text(_rows(kind)).encode()


def _change_rows(rng: random.Random, rows: List[List[str]]) -> Tuple[str, Optional[bool]]:
    """Change the form of a table; return what was done and whether it is valid then."""
    row, column = rng.randrange(1, len(rows)), rng.randrange(len(rows[0]))
    name = rows[0][column]

    def column_of(value: Callable[[int], str]) -> None:
        for n, cells in enumerate(rows):
            cells.append(value(n))

    kind = rng.choice(["short row", "long row", "no column", "twice", "more", "wide", "no split",
                       "no rows", "order", "renamed"])  # fmt: skip
    if kind == "short row":
        rows[row].pop()
    elif kind == "long row":
        rows[row].append("x")
    elif kind == "no column":
        for cells in rows:
            del cells[column]
    elif kind == "twice":
        column_of(lambda n: rows[n][column])
    elif kind == "more":
        column_of(lambda n: "more")
    elif kind == "wide":
        for cells in rows:
            cells += [f"{n}" for n in range(100_000)]
    elif kind == "no split":
        split = rng.choice(_SPLITS)
        rows[1:] = [cells for cells in rows[1:] if cells[1] != split]
    elif kind == "no rows":
        del rows[1:]
    elif kind == "order":
        rows[1:] = rng.sample(rows[1:], len(rows) - 1)
        return kind, True
    else:
        rows[0][column] = rng.choice(["", name.upper(), name + "\n", "\u202e" + name])
    return f"{kind}, {name}", False


def write_images(folder: Path) -> None:
    """Write the images that the tables name, all of them different."""
    for number, cells in enumerate(_rows("label")[1:]):
        Image.new("RGB", (5, 4), (number, 20 * number, 9)).save(folder / cells[0])


def make_csv(rng: random.Random, folder: Path) -> Case:
    """Write images and a changed csv of their labels, attributes or parts."""
    kind = rng.choice(sorted(HEADERS))
    rows, file = _rows(kind), folder / f"{kind}.csv"
    if kind != "parts":
        write_images(folder)
        (folder / "link").symlink_to("/etc")
        (folder / "zero.png").symlink_to("/dev/zero")
        make_special("FIFO", folder / "pipe.png")
    valid: Optional[bool] = None
    how = rng.choice(["wrong"] * 3 + ["odd"] * 2 + ["form"] * 2 + ["coded", "special", "none"]
                     + ["bytes"] * 2)  # fmt: skip
    change, data = f"{kind}: {how}", b""
    if how == "special":
        change = rng.choice(SPECIAL)
        make_special(change, file)
        return Case(file, False, change)
    if how in ("wrong", "odd"):
        row = rng.randrange(1, len(rows))
        column = rng.choice([n for n, name in enumerate(rows[0]) if how == "odd" or name in _WRONG])
        cell = rng.choice(_WRONG[rows[0][column]] if how == "wrong" else _ODD)
        change = f"{kind}: {rows[0][column]} = {cell!r:.40}"
        rows[row][column] = cell
        valid = False if how == "wrong" else None
    elif how == "form":
        change, valid = _change_rows(rng, rows)
        change = f"{kind}: {change}"
    elif how == "none":
        valid = True
    if how == "coded":
        code = rng.choice(["utf-8-sig", "utf-16", "utf-32", "utf-7", "cp037"])
        ending = rng.choice(["\n", "\r\n", "\r"])
        quoting = rng.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
        data = _text(rows, lineterminator=ending, quoting=quoting).encode(code)
        change = f"{kind}: {code}, {ending!r}"
        valid = code in ("utf-8-sig", "utf-7")
    else:
        data = _text(rows).encode("utf-8")
    if how == "bytes":
        data, done = break_bytes(rng, data)
        change = f"{kind}: {done}"
    file.write_bytes(data)
    return Case(file, valid, change)


def read_csv(file: Path) -> Any:
    """Open all splits of a table, and check a table of images as ``se-zoo check`` does."""
    kind, place = file.stem, str(file.parent)
    if kind == "parts":
        clips = ClipDataConfig(place, csv=file, label="label")
        return [open_table(clips, split) for split in _SPLITS]
    task: Any = {"label": "label"} if kind == "label" else {"attributes": ("Old", "Big")}
    config = DataConfig(place, csv=file, **task)
    tables = [open_table(config, split) for split in _SPLITS]
    report = check(config, workers=0, progress=False)
    if report.errors:
        raise Refused(report.errors[0])
    return [table[0] for table in tables]
