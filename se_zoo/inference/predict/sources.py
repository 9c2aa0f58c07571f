"""Data sets as parts of numbered photos: a folder, parquet files, tars, a data set of the Hub.

Every source has one fixed order. A part is one of its files (a folder of photos is one part), and
the photos of a part are numbered from 0, so that any range of them can be read again.
"""

import os
from array import array
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Protocol, Tuple

#: Photos of a data set, ``(id, image)``; an image is what :class:`Preprocess` takes.
Records = List[Tuple[str, Any]]


class SourceOptions(NamedTuple):
    """How a data set is read.

    Attributes:
        image: Column of the images; by default ``image``, or the only one that can hold images.
        id: Column of the ids; by default file and row are the id.
        split: Split of a data set of the Hub.
        subset: Configuration of a data set of the Hub.
        revision: Commit of a data set of the Hub; the newest by default.
        outside: Read photos outside the data's folder, where a parquet file names some.
    """

    image: Optional[str] = None
    id: Optional[str] = None
    split: str = "train"
    subset: Optional[str] = None
    revision: Optional[str] = None
    outside: bool = False


class Source(Protocol):
    """A data set in a fixed order.

    Attributes:
        counts: Number of photos of each part; None where only reading tells.
        left_out: Number of the files beside that are no data, by their ending.
        first: Its first file, which is there as long as the data set is; None of a data set of the
            Hub.
    """

    counts: List[Optional[int]]
    left_out: Dict[str, int]
    first: Optional[Path]

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

    root: Path
    names: "Names"
    digest: str

    def __init__(self, root: Path, names: Names, digest: str):
        self.root, self.names, self.digest = root, names, digest
        self.counts: List[Optional[int]] = [len(names)]
        self.left_out: Dict[str, int] = {}
        self.first: Optional[Path] = root / os.fsdecode(names[0])

    def read(self, part: int, start: int, stop: int) -> Records:
        """Return ids and paths; see :class:`Source`."""
        found = [self.names[i] for i in range(start, stop)]
        return [(readable(name), self.root / os.fsdecode(name)) for name in found]

    def facts(self) -> Dict[str, Any]:
        """Return number, names and sizes of the photos; see :class:`Source`."""
        return {"kind": "folder", "photos": len(self.names), "sha256": self.digest}


def readable(name: bytes) -> str:
    """Return a name as text that UTF-8 can store."""
    return name.decode("utf-8", "backslashreplace")
