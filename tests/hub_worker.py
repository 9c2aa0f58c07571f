"""A process whose huggingface_hub talks to the loopback Hub: it runs what a test sends.

The client reads its endpoint when it is imported, and importing torch and timm takes seconds, so
one process serves all tests of a file.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

from .hub_server import client_environment

_LOOP = """
import contextlib, io, json, sys, time
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

answers = sys.stdout
for line in sys.stdin:
    known = {"run": run, "se_zoo": se_zoo, "timm": timm, "torch": torch}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(json.loads(line), known)
        answer = {"answer": known.get("answer")}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), file=answers, flush=True)
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
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LOOP], cwd=package,
            env=client_environment(endpoint, cache, token, package),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def python(self, code: str) -> Any:
        """What the code leaves in ``answer``.

        Raises:
            RuntimeError: With what the code raised.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or "{}")
        if "answer" not in answer:
            raise RuntimeError(answer.get("error", "the process ended"))
        return answer["answer"]

    def se_zoo(self, *args: object) -> Done:
        """A command, as on the command line."""
        arguments: List[str] = [str(a) for a in args]
        return Done(*self.python(f"answer = run(*{arguments!r})"))

    def __enter__(self) -> "HubWorker":
        return self

    def __exit__(self, *args: object) -> None:
        self.process.kill()
        self.process.communicate()
