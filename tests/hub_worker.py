"""A process whose huggingface_hub talks to the loopback Hub: it runs what a test sends.

The client reads its endpoint when it is imported, so it needs a process of its own.
"""

import contextlib
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

from .hub_server import client_environment
from .preloaded import ROOT, preloaded

_ENVIRONMENT = """
import os, sys
os.environ.clear()
os.environ.update({environment!r})
os.chdir({folder!r})
sys.path[0] = {folder!r}
"""
_SETUP = """
import contextlib, io, time
time.sleep = lambda seconds: None  # the client waits longer and longer between its attempts
import torch
torch.set_num_threads(1)
import timm, se_zoo
from se_zoo import cli

def run(*args):
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            cli.main([str(a) for a in args])
        except SystemExit as stop:
            code = stop.code
    return [code, out.getvalue()]
"""


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
        folder = str(package or ROOT)
        with contextlib.ExitStack() as on_failure:
            self.process = on_failure.enter_context(preloaded().fork())
            self.process.python(_ENVIRONMENT.format(environment=environment, folder=folder))
            self.process.python(_SETUP, keep=True)
            on_failure.pop_all()

    def python(self, code: str) -> Any:
        """What the code leaves in ``answer``.

        Raises:
            RuntimeError: With what the code raised.
        """
        return self.process.python(code)

    def se_zoo(self, *args: object) -> Done:
        """A command, as on the command line."""
        arguments: List[str] = [str(a) for a in args]
        return Done(*self.python(f"answer = run(*{arguments!r})"))

    def __enter__(self) -> "HubWorker":
        return self

    def __exit__(self, *args: object) -> None:
        self.process.__exit__(*args)
