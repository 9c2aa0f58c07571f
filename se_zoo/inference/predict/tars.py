"""Photos in webdataset's tars."""

import os
import tarfile
from array import array
from pathlib import Path
from typing import Any, Dict, List, Optional

from ...data.images import IMAGE_SUFFIXES
from ...errors import InvalidInputError
from .sources import Names, Records, readable


class TarSource:
    """The photos of tars, in their order; an id is the tar's relative path and the member's name.

    The headers of all tars are read once, at the start; their photos are then found without
    reading what is between them.

    Args:
        root: Folder that ids are relative to.
        files: The tars.
        digest: SHA-256 of their names and sizes.

    Raises:
        InvalidInputError: If a file is not an uncompressed tar.
    """

    prefixes: list[str]
    members: "list[_Members]"
    files: "List[Path]"
    digest: str

    def __init__(self, root: Path, files: List[Path], digest: str):
        self.files, self.digest = files, digest
        self.prefixes = [readable(os.fsencode(file.relative_to(root))) for file in files]
        self.members = [_Members(file) for file in files]
        self.counts: List[Optional[int]] = [len(members.names) for members in self.members]

    def read(self, part: int, start: int, stop: int) -> Records:
        """Return ids and bytes; see :class:`Source`."""
        members, found = self.members[part], []
        for i in range(start, stop):
            name = f"{self.prefixes[part]}/{readable(members.names[i])}"
            found.append((name, _bytes(self.files[part], members.offsets[i], members.sizes[i])))
        return found

    def facts(self) -> Dict[str, Any]:
        """Return number, names and sizes of the tars; see :class:`Source`."""
        return {"kind": "tars", "files": len(self.files), "sha256": self.digest}


class _Members:
    """Names and places of a tar's photos."""

    def __init__(self, file: Path):
        self.names, self.offsets, self.sizes = Names(), array("q"), array("q")
        try:
            with tarfile.open(file, "r:") as tar:
                opened: Any = tar
                for member in opened:
                    if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                        self.names.append(os.fsencode(member.name))
                        self.offsets.append(member.offset_data)
                        self.sizes.append(member.size)
                    opened.members = []  # tarfile keeps what it has read
        except (tarfile.TarError, EOFError) as error:
            raise InvalidInputError(
                f"{file} is not an uncompressed tar, or is damaged: {error}"
            ) from error


def _bytes(file: Path, offset: int, size: int) -> Any:
    """Return the bytes of a photo, or the error of reading them."""
    try:
        with file.open("rb") as opened:
            opened.seek(offset)
            content = opened.read(size)
    except OSError as error:
        return error
    return content if len(content) == size else ValueError(f"{file.name} ends within this photo")
