"""Fingerprints of data: digests by which a continued run notices that its data were changed."""

import hashlib
import stat
from pathlib import Path
from typing import Iterable, Tuple

#: Files that take no more bytes in all are hashed whole, in a few seconds. Of larger data, names,
#: sizes and times of change are.
_HASHED_BYTES = 2**31


def digest_of(*parts: object) -> str:
    """Return a digest of bytes and of the text of other values, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def files_digest(files: Iterable[Tuple[str, Path]]) -> str:
    """Return a digest of files.

    Args:
        files: Name and place of each file, in an order of its own; files may occur several times.

    Returns:
        The digest of names and contents; for more than 2 GiB of names, sizes and times of change.
    """
    known = [(name, path, *_size_and_time(path)) for name, path in dict(files).items()]
    whole = sum(size for _, _, size, _ in known) <= _HASHED_BYTES
    digest = hashlib.blake2b(digest_size=16)
    for name, path, size, changed in known:
        text = f"{name}\0{size}\0{'' if whole else changed}\0"
        digest.update(text.encode("utf-8", "surrogatepass"))
        if whole and size >= 0:
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


def _size_and_time(path: Path) -> Tuple[int, int]:
    """Return a file's size and time of change; (-1, 0) if it is missing or no regular file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return -1, 0
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (-1, 0)
