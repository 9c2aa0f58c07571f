"""What all processes of a run must have in common: the run's folder and the data.

Processes of several nodes may see other files under the same name: those on the disk of their own
node or, on a network file system, what was there some seconds ago.
"""

import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, List, Mapping, Union

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from ..data import ImageStream, Table
from ..data.tables.fingerprint import digest_of
from ..errors import DataError, InvalidInputError

#: Seconds until a network file system shows what another node wrote: NFS keeps the names that it
#: knows for up to a minute.
_PATIENCE = 90.0


def is_seen(path: Path) -> bool:
    """Return whether a path that another process made exists here; it may appear late.

    Args:
        path: The path.
    """
    end = time.monotonic() + _PATIENCE
    while not path.exists():
        if time.monotonic() > end:
            return False
        known = next(parent for parent in path.absolute().parents if parent.is_dir())
        with suppress(OSError):
            os.listdir(known)  # so that the client of an NFS asks its server again
        time.sleep(0.5)
    return True


def nodes_without(path: Path, accelerator: Accelerator) -> List[str]:
    """Return the nodes on which a path of the main process is missing; all processes must call it.

    Args:
        path: The path.
        accelerator: Knows the processes.
    """
    if accelerator.num_processes == 1:
        return []
    answers = gather_object([(socket.gethostname(), is_seen(path))])
    return sorted({host for host, seen in answers if not seen})


def check_folder(states: Path, accelerator: Accelerator) -> None:
    """Refuse a run's folder that is another one on other nodes; all processes must call it.

    No checkpoint could be loaded there: such a run could not be resumed.

    Args:
        states: A folder in the run's folder, which the main process has made.
        accelerator: Knows the processes.

    Raises:
        InvalidInputError: If there is such a node; the message names it.
    """
    if accelerator.num_processes == 1:
        return
    # A name that is new: an older run may have left a folder of the same name on every node.
    name: Any = [f"shared-{uuid.uuid4().hex}.tmp"]
    broadcast_object_list(name)
    made = states / name[0]
    if accelerator.is_main_process:
        made.mkdir()
    accelerator.wait_for_everyone()
    blind = nodes_without(made, accelerator)
    if accelerator.is_main_process:
        made.rmdir()
    if blind:
        raise InvalidInputError(
            f"--run.output {states.parent} is another folder on {', '.join(blind)} than on the "
            "node of the main process; name one on a file system that all nodes share."
        )


def check_tables(tables: Mapping[str, Union[Table, ImageStream]], accelerator: Accelerator) -> None:
    """Refuse splits that differ between processes, such as an old copy on a node's own disk.

    Processes with other labels would train on them unnoticed, those with another number of samples
    would wait for each other for hours.

    Args:
        tables: The splits, by name.
        accelerator: Knows the processes.

    Raises:
        DataError: If there is such a split; the message names it and the node.
    """
    if accelerator.num_processes == 1:
        return
    mine = {name: _digest(table) for name, table in tables.items()}
    answers = gather_object([(socket.gethostname(), mine)])
    first, expected = answers[0]
    for number, (host, found) in enumerate(answers):
        differ = [name for name in expected if found.get(name) != expected[name]]
        if differ:
            raise DataError(
                f"process {number} on {host} sees another {differ[0]} split than process 0 on "
                f"{first}; give all nodes the same data."
            )


def _digest(table: Union[Table, ImageStream]) -> str:
    """Return a digest of what a split declares: its size, labels and names, but no contents."""
    if not isinstance(table, Table):
        return digest_of(len(table), table.labels)
    names = "\0".join(getattr(table.stored, "names", ()))
    return digest_of(len(table), table.declared(), names)
