"""Photos in webdataset's tars."""

import os
import tarfile
from array import array
from pathlib import Path
from typing import Any, Dict, List, Optional

from ...data.images import IMAGE_SUFFIXES, MAX_BYTES
from ...errors import InvalidInputError
from .sources import Names, Records, readable

#: Endings that earlier versions left out, as they did hard links.
_NEWER = (b".jfif", b".jpe")


class TarSource:
    """The photos of tars, in their order; an id is the tar's relative path and the member's name.

    The headers of all tars are read once, at the start; their photos are then found without
    reading what is between them. A hard link is read as the photo that it names, which stands
    before it in the tar.

    Args:
        root: Folder that ids are relative to.
        files: The tars.
        digest: SHA-256 of their names and sizes.

    Raises:
        InvalidInputError: If a file is not an uncompressed tar, or is damaged.
    """

    prefixes: list[str]
    members: "list[_Members]"
    files: "List[Path]"
    digest: str

    def __init__(self, root: Path, files: List[Path], digest: str):
        self.files, self.digest = files, digest
        self.prefixes = [readable(os.fsencode(file.relative_to(root).as_posix())) for file in files]
        self.members = [_Members(file) for file in files]
        self.counts: List[Optional[int]] = [len(members.names) for members in self.members]
        self.left_out: Dict[str, int] = {}
        self.first: Optional[Path] = files[0]

    def read(self, part: int, start: int, stop: int) -> Records:
        """Return ids and bytes; see :class:`Source`."""
        members, found = self.members[part], []
        for i in range(start, stop):
            name = f"{self.prefixes[part]}/{readable(members.names[i])}"
            if i in members.broken:
                why = f"it is a link to {members.broken[i]}, and no photo before it has this name"
                found.append((name, ValueError(why)))
                continue
            found.append((name, _bytes(self.files[part], members.offsets[i], members.sizes[i])))
        return found

    def facts(self) -> Dict[str, Any]:
        """Return number, names and sizes of the tars; see :class:`Source`."""
        facts = {"kind": "tars", "files": len(self.files), "sha256": self.digest}
        newer = sum(members.newer for members in self.members)
        # Earlier versions left these members out, so that their rows have other numbers.
        return {**facts, "newer": newer} if newer else facts


class _Members:
    """Names and places of a tar's photos.

    ``broken`` has the links that lead nowhere, and ``newer`` is the number of members that earlier
    versions did not take for photos.
    """

    newer: int
    broken: Dict[int, str]

    def __init__(self, file: Path):
        self.names, self.offsets, self.sizes = Names(), array("q"), array("q")
        links: Dict[int, bytes] = {}
        try:
            with tarfile.open(file, "r:") as tar:
                opened: Any = tar
                for member in opened:
                    opened.members = []  # tarfile keeps what it has read
                    # Older Pythons take a negative size, and read headers for ever
                    # (CVE-2025-8194).
                    if opened.offset <= member.offset:
                        raise tarfile.ReadError(f"the size of {member.name!r} is negative")
                    photo = Path(member.name).suffix.lower() in IMAGE_SUFFIXES
                    if not photo or not (member.isfile() or member.islnk()):
                        continue
                    if member.islnk():
                        links[len(self.names)] = os.fsencode(member.linkname)
                    self.names.append(os.fsencode(member.name))
                    self.offsets.append(member.offset_data)
                    self.sizes.append(member.size)
                _check_end(opened)
        except (tarfile.TarError, EOFError) as error:
            raise InvalidInputError(
                f"{file} is not an uncompressed tar, or is damaged: {error}"
            ) from error
        endings = sum(name.lower().endswith(_NEWER) for name in self.names)
        self.newer = len(links) + endings
        self.broken = self._follow(links) if links else {}

    def _follow(self, links: Dict[int, bytes]) -> Dict[int, str]:
        """Give each link the place of the photo that it names; return those that name none."""
        broken: Dict[int, str] = {}
        numbers: Dict[bytes, int] = {}  # a later photo of the same name replaces an earlier one
        for i in range(len(self.names)):
            if i in links:
                target = numbers.get(os.path.normpath(links[i]))
                if target is None:
                    broken[i] = readable(links[i])
                    continue
                self.offsets[i], self.sizes[i] = self.offsets[target], self.sizes[target]
            numbers[os.path.normpath(self.names[i])] = i
        return broken


def _check_end(tar: Any) -> None:
    """Refuse a tar whose last header that could be read is not followed by the tar's end.

    tarfile takes a damaged header for the end, and would leave out all photos behind it.
    """
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(2 * tarfile.BLOCKSIZE).strip(b"\0"):  # two blocks of zeros, or no bytes
        raise tarfile.ReadError(f"there is no header at byte {tar.offset:,}")


def _bytes(file: Path, offset: int, size: int) -> Any:
    """Return the bytes of a photo, or the error of reading them."""
    if not 0 <= size <= MAX_BYTES:  # memory would be taken for it before a byte is read
        return ValueError(f"it has {size:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        with file.open("rb") as opened:
            opened.seek(offset)
            content = opened.read(size)
    except OSError as error:
        return error
    return content if len(content) == size else ValueError(f"{file.name} ends within this photo")
