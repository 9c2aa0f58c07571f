"""Define an input and a reader, and ways to break texts and JSON that several readers share."""

import copy
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from se_zoo import SEZooError


class Case(NamedTuple):
    """One input.

    Attributes:
        path: The file or folder.
        valid: Whether a right reader accepts it; None where either is right.
        change: What was changed.
    """

    path: Path
    valid: Optional[bool]
    change: str


class Reader(NamedTuple):
    """A reader, and inputs for it.

    Attributes:
        make: Writes an input into an empty folder.
        read: Reads it; raises one of the project's errors for what it refuses.
    """

    make: Callable[[random.Random, Path], Case]
    read: Callable[[Path], Any]


class Refused(SEZooError):
    """What was read is refused, but not by an error: by a report, or by the exit status 2."""


class WrongAnswerError(Exception):
    """An input was accepted, and what came of it is wrong."""


class Exploit:
    """What a hostile pickle would run: it makes the file ``executed`` in the working folder."""

    def __reduce__(self) -> Any:
        """Return the call that unpickling makes."""
        return exec, ("open('executed', 'w').close()",)


#: Values that stand where others belong.
STRANGE: Tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 10**30, -0.5, 1e30, float("nan"), float("inf"), "", "a",
    "\u202etxt", "a\nb", "a\0b", "\ud800", "../../x", "/dev/zero", "x" * 10_000, [], [1], [[]],
    [None] * 5, ["a"] * 3, {}, {"a": 1}, [10**6] * 4, [20_000] * 3, [3, 20_000, 20_000], {"0": "a"},
)  # fmt: skip


def kept_folder() -> Path:
    """Return a new folder that stays, for what all inputs begin with."""
    return Path(tempfile.mkdtemp(prefix="fuzz_"))


def entries(content: Any, start: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
    """Return the places of all entries of nested objects and lists, as paths of keys."""
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    found = []
    for key, value in inner:
        found.append((*start, key))
        if isinstance(value, (dict, list)):
            found += entries(value, (*start, key))
    return found


def put(content: Any, path: Tuple[Any, ...], value: Any) -> None:
    """Set one entry of nested objects and lists."""
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


def change_json(rng: random.Random, content: Any) -> str:
    """Put strange values into JSON, or remove an entry; return what was done."""
    if rng.random() < 0.25:
        path = rng.choice(entries(content))
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        return f"without {path}"
    changes = []
    for _ in range(rng.randint(1, 3)):
        path, value = rng.choice(entries(content)), copy.deepcopy(rng.choice(STRANGE))
        put(content, path, value)
        changes.append(f"{path} = {value!r:.60}")
    return "; ".join(changes)


def break_bytes(rng: random.Random, data: bytes) -> Tuple[bytes, str]:
    """Return bytes that were cut, doubled, nested or hit by chance, and what was done."""
    place = rng.randrange(len(data))
    ways: Dict[str, Callable[[], bytes]] = {
        "cut": lambda: data[:place],
        "doubled": lambda: data + data,
        "hit": lambda: data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :],
        "nested": lambda: b"[" * 100_000,
        "zeros": lambda: data[:place] + b"\0" * 50 + data[place:],
        "digits": lambda: data.replace(b"3", b"3" * 5000, 1),
        "empty": lambda: b"",
        "scrambled": lambda: data[:place] + rng.randbytes(len(data) - place),
    }
    name = rng.choice(sorted(ways))
    return ways[name](), f"{name} at {place}"


#: What may stand in the place of a regular file, and is none.
SPECIAL = ("folder", "FIFO", "socket", "link to /dev/zero", "link to nothing", "link to itself")


def make_special(kind: str, file: Path) -> None:
    """Make one of :data:`SPECIAL`; a file that is there is removed."""
    file.unlink(missing_ok=True)
    if kind == "folder":
        file.mkdir()
    elif kind == "FIFO":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(file))
    else:
        to = {"link to /dev/zero": "/dev/zero", "link to nothing": "/nothing"}
        file.symlink_to(to.get(kind, file.name))
