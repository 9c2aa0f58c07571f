"""A process whose huggingface_hub talks to the loopback Hub: it runs what a test sends.

The client reads its endpoint when it is imported, so it needs a process of its own.
"""

import contextlib
import io
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from .hub_server import client_environment
from .preloaded import PATIENCE, ROOT, enter, start_process


class Done(NamedTuple):
    """How a command of ``se-zoo`` ended: 0 or its message, and what it printed."""

    code: Any
    printed: str


class HubWorker:
    """Runs Python in a process of its own; a context manager.

    Args:
        endpoint: Address of the Hub.
        cache: Home of the client.
        token: Of the user.
        package: Folder to import se_zoo from, see :func:`tests.package_copy.copy_package`.
    """

    def __init__(self, endpoint: str, cache: Path, token: str = "", package: Optional[Path] = None):
        environment = client_environment(endpoint, cache, token, package)
        self.connection, theirs = Pipe()
        self.process = start_process(_serve, theirs, str(package or ROOT), environment)
        theirs.close()

    def python(self, code: str, keep: bool = False) -> Any:
        """Return what the code leaves in ``answer``.

        Args:
            code: To be executed.
            keep: Whether code that comes later knows the names that it defines.

        Raises:
            RuntimeError: With what the code raised.
        """
        self.connection.send((code, keep))
        if not self.connection.poll(PATIENCE):
            raise TimeoutError(f"no answer in {PATIENCE} s to: {code}")
        answer, error = self.connection.recv()
        if error:
            raise RuntimeError(error)
        return answer

    def se_zoo(self, *args: object) -> Done:
        """Run a command, as on the command line."""
        arguments: List[str] = [str(a) for a in args]
        return Done(*self.python(f"answer = run(*{arguments!r})"))

    def __enter__(self) -> "HubWorker":
        return self

    def __exit__(self, *args: object) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, folder: str, environment: Mapping[str, str]) -> None:
    """Run code that comes, until the other end is closed."""
    enter(folder, environment)
    # The client waits longer and longer between its attempts.
    time.sleep = lambda seconds: None
    import timm
    import torch

    import se_zoo
    from se_zoo import cli

    torch.set_num_threads(1)
    names: Dict[str, Any] = {"timm": timm, "torch": torch, "se_zoo": se_zoo, "run": _run}
    names["cli"] = cli
    with contextlib.suppress(EOFError):
        while True:
            try:
                code, keep = connection.recv()
                given = names if keep else {**names}
                exec(code, given)
                connection.send((given.pop("answer", None), ""))
            except EOFError:
                raise
            except Exception as error:
                connection.send((None, f"{type(error).__name__}: {error}"))


def _run(*args: object) -> List[Any]:
    """Return the exit status or message of a command, and what it prints."""
    from se_zoo import cli

    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            cli.main([str(a) for a in args])
        except SystemExit as stop:
            code = stop.code
    return [code, out.getvalue()]
