"""Write files whole or not at all; read regular files only."""

import json
import os
import re
import secrets
import shutil
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator

#: Seconds in which a renaming is tried again. Windows renames nothing that another program has
#: open, and a virus scanner opens whatever was just written.
_PATIENCE = 3.0 if os.name == "nt" else 0.0


def rename(old: Path, new: Path) -> None:
    """Rename a file or folder; a file of the new name is replaced.

    Args:
        old: The file or folder.
        new: Its new name, on the same disk.

    Raises:
        OSError: If it cannot be renamed; on Windows after three seconds, as long as it is in use.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            os.replace(old, new)
            return
        except PermissionError:
            if time.monotonic() >= until:
                raise
        time.sleep(0.05)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all.

    A process that is killed within the block leaves the temporary file behind.

    Args:
        path: The file, in an existing folder. An old file of that name stays until the new one is
            complete.

    Yields:
        A temporary file to write to. At the end of the block it is renamed to ``path``; after an
        error it is removed. Its name ends in ``.tmp``: tell the format to a writer that chooses it
        by the name.
    """
    # The process alone would not do: containers on a shared disk often have the same number.
    temporary = path.with_name(f"{_shortened(path.name)}.{secrets.randbits(40)}.tmp")
    try:
        yield temporary
        rename(temporary, path)
    finally:
        # Windows removes no file that is open, such as one that is mapped where an error occurs.
        # That must not hide the error.
        with suppress(PermissionError):
            temporary.unlink(missing_ok=True)


def _shortened(name: str) -> str:
    """Return a name that may get an ending: file systems take names of 255 bytes at most."""
    while len(os.fsencode(name)) > 230:
        name = name[:-1]
    return name


def is_taken(out: Path) -> bool:
    """Return whether a path is a file, or a folder that is not empty.

    Args:
        out: The path.
    """
    return out.exists() and (not out.is_dir() or any(out.iterdir()))


def check_new_folder(out: Path) -> None:
    """Refuse a folder that :func:`new_folder` cannot write.

    Args:
        out: The folder.

    Raises:
        FileExistsError: If it is a file or not empty.
        FileNotFoundError: If the folder that it lies in does not exist.
    """
    if out.name in ("", ".."):
        raise FileExistsError(f"{out} is a folder that cannot be replaced; name a new one.")
    if is_taken(out):
        raise FileExistsError(f"{out} exists already; remove it, or name another folder.")
    if not out.resolve().parent.is_dir():
        raise FileNotFoundError(f"{out.parent} is no folder; make it first.")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Write a folder whole or not at all.

    Args:
        out: The folder. It must not exist yet, or be empty; the folder that it lies in exists.

    Yields:
        A temporary folder beside it to write to. At the end of the block it is renamed to ``out``;
        after an error it is removed.

    Raises:
        FileExistsError: If ``out`` is a file or not empty.
        FileNotFoundError: If the folder that it lies in does not exist.
    """
    check_new_folder(out)
    # mkdtemp's would be for its owner alone; this one has the permissions of the user's umask.
    temporary = out.with_name(f"{_shortened(out.name)}.{secrets.randbits(40)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if out.exists():
            out.rmdir()
        rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Write a folder whole or not at all.

    A process that is killed within the block leaves the temporary folder behind; the next call for
    the same folder removes it.

    Args:
        path: The folder, in an existing one. An old folder of that name stays until the new one is
            complete. A process that is killed between its removal and the renaming leaves neither.

    Yields:
        A temporary folder beside it to write to. At the end of the block it is renamed to ``path``;
        after an error it is removed. Its name ends in ``.tmp``.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def name_without_tmp(name: str) -> str:
    """Return the name that a temporary file gets when it is complete.

    Args:
        name: Name of any file, without its folder.

    Returns:
        The name without ``.<number>.tmp`` or ``.tmp``; any other name unchanged.
    """
    return re.sub(r"(\.\d+)?\.tmp$", "", name)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all, with the same bytes on every system.

    Args:
        path: The file, in an existing folder.
        text: Its content.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        path: The file, in an existing folder.
        content: Anything that ``json`` can write.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def check_regular(path: Path) -> None:
    """Refuse devices, pipes and sockets, also behind links: reading them may never end.

    Args:
        path: The file.

    Raises:
        OSError: If it does not exist (``FileNotFoundError``) or is no regular file.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError("it is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise OSError("it is a device, pipe or socket, not a regular file")


def read_regular(path: Path, most: int = 2**30) -> bytes:
    """Read a regular file.

    Args:
        path: The file.
        most: Most bytes that it may have.

    Returns:
        Its content.

    Raises:
        OSError: If it does not exist, is no regular file, is larger, or cannot be read.
    """
    check_regular(path)
    size = path.stat().st_size
    if size > most:
        raise OSError(f"it has {size:,} bytes; at most {most:,} are read")
    return path.read_bytes()


def read_json(path: Path, most: int = 2**27) -> Any:
    """Read a regular JSON file.

    Args:
        path: The file.
        most: Most bytes that it may have.

    Returns:
        Its content.

    Raises:
        OSError: If it does not exist, is no regular file, is larger, or cannot be read.
        ValueError: If it is no JSON in UTF-8, or is nested too deeply.
    """
    try:
        return json.loads(read_regular(path, most).decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
