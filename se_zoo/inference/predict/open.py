"""Find out what a data set consists of, and open it."""

import glob
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

from ...data.images import IMAGE_SUFFIXES
from ...errors import InvalidInputError
from .hub import HubSource
from .manifest import MANIFEST
from .sources import FolderSource, Names, Source, SourceOptions
from .tars import TarSource

HUB = "hf-hub:"


def open_source(given: str, options: Optional[SourceOptions] = None) -> Source:
    """Open a data set.

    Args:
        given: A folder with photos, parquet files or tars at any depth; a file or a glob of these;
            or ``hf-hub:<data set>``.
        options: How it is read.

    Returns:
        The source. Its photos are listed, and none is decoded.

    Raises:
        InvalidInputError: If there are no photos, or files of several kinds, or the first rows of a
            parquet file all name photos outside its folder.
    """
    options = options or SourceOptions()
    if given.startswith(HUB):
        return HubSource(given[len(HUB) :], options)
    root, photos, others, digest, left_out = _list_files(given)
    kinds = sorted({path.suffix.lower() for path in others} | ({"photos"} if photos else set()))
    if not kinds:
        what = "no photos, parquet files or tars in" if Path(given).exists() else "no such file:"
        raise InvalidInputError(f"{what} {given}. A data set of the Hub is {HUB}<name>.")
    if len(kinds) > 1:
        raise InvalidInputError(
            f"{given} holds {' and '.join(kinds)}; name one kind with a quoted glob, such as "
            f'"{root}/**/*{next(k for k in kinds if k != "photos")}".'
        )
    source: Source
    if photos:
        source = FolderSource(root, photos, digest)
    elif kinds == [".tar"]:
        source = TarSource(root, others, digest)
    else:
        from ..rows import schema

        schema()  # where pyarrow is missing, say how to get it before it is imported
        from .parquet import ParquetSource

        source = ParquetSource(root, others, digest, options)
    source.left_out = left_out
    return source


class _Files(NamedTuple):
    """The files of a data set."""

    root: Path
    photos: Names
    others: List[Path]
    """Parquet files and tars."""
    digest: str
    """SHA-256 of names and sizes."""
    left_out: Dict[str, int]
    """Number of the files that are none of these, by their ending."""


def _list_files(given: str) -> _Files:
    """Find the files of a data set."""
    root, photos, digest = Path(given), Names(), hashlib.sha256()
    others: List[Path] = []
    left_out: Counter[str] = Counter()
    if root.is_dir():
        root = root.absolute()  # as the result's, which the files' names are relative to
        found: Iterator[Tuple[bytes, int]] = _walk(os.fsencode(root), b"", frozenset())
    else:
        # A file's own name may look like a pattern.
        names = [given] if root.is_file() else sorted(glob.glob(given, recursive=True))
        files = [p for p in map(Path, names) if p.is_file() and not (p.parent / MANIFEST).exists()]
        root = Path(os.path.commonpath([p.absolute().parent for p in files])) if files else root
        names = [p.absolute().relative_to(root).as_posix() for p in files]
        found = ((os.fsencode(n), p.stat().st_size) for n, p in zip(names, files, strict=True))
    for name, size in found:
        suffix = os.path.splitext(os.fsdecode(name))[1].lower()
        if suffix in (".parquet", ".tar"):
            others.append(root / os.fsdecode(name))
        elif suffix in IMAGE_SUFFIXES:
            photos.append(name)
        else:
            left_out[suffix] += 1
            continue
        digest.update(b"%b\0%d\0" % (name, size))
    return _Files(root.absolute(), photos, others, digest.hexdigest(), dict(left_out))


def _walk(
    folder: bytes, relative: bytes, above: FrozenSet[Tuple[int, int]]
) -> Iterator[Tuple[bytes, int]]:
    """Yield relative path and size of the files below a folder, sorted by name in each folder.

    Hidden ones are left out, and folders of predictions. Links are followed, but not back to a
    folder above.
    """
    status = os.stat(folder)
    place = status.st_dev, status.st_ino
    if place in above:
        return
    with os.scandir(folder) as entries:
        shown = sorted((e for e in entries if not e.name.startswith(b".")), key=lambda e: e.name)
    if any(entry.name == os.fsencode(MANIFEST) for entry in shown):
        return
    for entry in shown:
        if entry.is_dir():
            yield from _walk(entry.path, relative + entry.name + b"/", above | {place})
        else:
            # A broken link is a photo that cannot be read; it becomes a row with an error.
            yield relative + entry.name, entry.stat().st_size if entry.is_file() else -1
