"""Data sets as parts of numbered photos: a folder, parquet files, tars, a data set of the Hub.

Every source has one fixed order. A part is one of its files (a folder of photos is one part), and
the photos of a part are numbered from 0, so that any range of them can be read again.
"""

import glob
import hashlib
import os
from array import array
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Protocol, Tuple

from ...data.images import IMAGE_SUFFIXES
from ...errors import InvalidInputError

#: Photos of a data set, ``(id, image)``; an image is what :class:`Preprocess` takes.
Records = List[Tuple[str, Any]]

HUB = "hf-hub:"


class SourceOptions(NamedTuple):
    """How a data set is read.

    Attributes:
        image: Column of the images; by default ``image``, or the only one that can hold images.
        id: Column of the ids; by default file and row are the id.
        split: Split of a data set of the Hub.
        subset: Configuration of a data set of the Hub.
        revision: Commit of a data set of the Hub; the newest by default.
    """

    image: Optional[str] = None
    id: Optional[str] = None
    split: str = "train"
    subset: Optional[str] = None
    revision: Optional[str] = None


class Source(Protocol):
    """A data set in a fixed order.

    Attributes:
        counts: Number of photos of each part; None where only reading tells.
    """

    counts: List[Optional[int]]

    def read(self, part: int, start: int, stop: int) -> Records:
        """Return the photos of a part from number ``start`` up to ``stop``."""
        ...

    def facts(self) -> Dict[str, Any]:
        """Return what is the same for the same photos in the same order, for JSON."""
        ...


class Names:
    """A list of file names that takes little memory, as there may be millions."""

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("q", [0])

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._ends) - 1

    def append(self, name: bytes) -> None:
        """Add a name in the file system's encoding."""
        self._text += name
        self._ends.append(len(self._text))

    def __getitem__(self, index: int) -> bytes:
        """Return a name."""
        return bytes(self._text[self._ends[index] : self._ends[index + 1]])


class FolderSource:
    """Photos at any depth of a folder, or those that a glob names; ids are their relative paths.

    Args:
        root: Folder that the names are relative to.
        names: Relative paths of the photos.
        digest: SHA-256 of their names and sizes.
    """

    def __init__(self, root: Path, names: Names, digest: str):
        self.root, self.names, self.digest = root, names, digest
        self.counts: List[Optional[int]] = [len(names)]

    def read(self, part: int, start: int, stop: int) -> Records:
        """Return ids and paths; see :class:`Source`."""
        found = [self.names[i] for i in range(start, stop)]
        return [(readable(name), self.root / os.fsdecode(name)) for name in found]

    def facts(self) -> Dict[str, Any]:
        """Return number, names and sizes of the photos; see :class:`Source`."""
        return {"kind": "folder", "photos": len(self.names), "sha256": self.digest}


def open_source(given: str, options: Optional[SourceOptions] = None) -> Source:
    """Open a data set.

    Args:
        given: A folder with photos, parquet files or tars at any depth; a file or a glob of these;
            or ``hf-hub:<data set>``.
        options: How it is read.

    Returns:
        The source. Its photos are listed, and none is read.

    Raises:
        InvalidInputError: If there are no photos, or files of several kinds.
    """
    options = options or SourceOptions()
    if given.startswith(HUB):
        from .hub import HubSource

        return HubSource(given[len(HUB) :], options)
    root, photos, others, digest = _list_files(given)
    kinds = sorted({path.suffix.lower() for path in others} | ({"photos"} if photos else set()))
    if not kinds:
        what = "no photos, parquet files or tars in" if Path(given).exists() else "no such file:"
        raise InvalidInputError(f"{what} {given}. A data set of the Hub is {HUB}<name>.")
    if len(kinds) > 1:
        raise InvalidInputError(
            f"{given} holds {' and '.join(kinds)}; name one kind with a quoted glob, such as "
            f"'{root}/**/*{next(k for k in kinds if k != 'photos')}'."
        )
    if photos:
        return FolderSource(root, photos, digest)
    if kinds == [".tar"]:
        from .tars import TarSource

        return TarSource(root, others, digest)
    from .parquet import ParquetSource

    return ParquetSource(root, others, digest, options)


def _list_files(given: str) -> Tuple[Path, Names, List[Path], str]:
    """Return the root, the photos, the other data files, and a digest of names and sizes."""
    root, photos, others, digest = Path(given), Names(), [], hashlib.sha256()
    if root.is_dir():
        found: Iterator[Tuple[bytes, int]] = _walk(os.fsencode(root), b"", frozenset())
    else:
        files = [Path(name) for name in sorted(glob.glob(given, recursive=True))]
        files = [path for path in files if path.is_file()]
        root = Path(os.path.commonpath([p.absolute().parent for p in files])) if files else root
        found = ((os.fsencode(p.absolute().relative_to(root)), p.stat().st_size) for p in files)
    for name, size in found:
        suffix = os.path.splitext(os.fsdecode(name))[1].lower()
        if suffix in (".parquet", ".tar"):
            others.append(root / os.fsdecode(name))
        elif suffix in IMAGE_SUFFIXES:
            photos.append(name)
        else:
            continue
        digest.update(b"%b\0%d\0" % (name, size))
    return root.absolute(), photos, others, digest.hexdigest()


def _walk(
    folder: bytes, relative: bytes, above: FrozenSet[Tuple[int, int]]
) -> Iterator[Tuple[bytes, int]]:
    """Yield relative path and size of the files below a folder, sorted by name in each folder.

    Hidden ones are left out. Links are followed, but not back to a folder above.
    """
    status = os.stat(folder)
    place = status.st_dev, status.st_ino
    if place in above:
        return
    with os.scandir(folder) as entries:
        shown = sorted((e for e in entries if not e.name.startswith(b".")), key=lambda e: e.name)
    for entry in shown:
        if entry.is_dir():
            yield from _walk(entry.path, relative + entry.name + b"/", above | {place})
        else:
            # A broken link is a photo that cannot be read; it becomes a row with an error.
            yield relative + entry.name, entry.stat().st_size if entry.is_file() else -1


def readable(name: bytes) -> str:
    """Return a name as text that UTF-8 can store."""
    return name.decode("utf-8", "backslashreplace")
