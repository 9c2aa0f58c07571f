"""Python processes that have imported torch and its like already.

Importing them takes seconds, many times what most tests compute. One process of a session imports
them, and each process that a test wants is a fork of it. The fork imports se_zoo, timm and
huggingface_hub by itself, under an environment of its own.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

ROOT = Path(__file__).parent.parent
#: None of these imports huggingface_hub, which reads its settings when it is imported.
HEAVY = (
    "torch", "torch._dynamo", "torchvision", "pandas", "pyarrow.dataset", "matplotlib.pyplot",
    "scipy.sparse", "jinja2", "yaml", "tyro", "av", "cv2", "tensorboard.summary",
)  # fmt: skip
#: Seconds to wait for an answer on a loaded machine.
PATIENCE = 600


class Process:
    """A Python process that runs what it is sent; a context manager.

    Args:
        connection: To the process, whose first message is its number.
    """

    def __init__(self, connection: socket.socket):
        self.connection = connection
        connection.settimeout(PATIENCE)
        with _closed_on_failure(connection):
            self.pid = int(self._answer())

    def fork(self) -> "Process":
        """Return a process with all that this one has imported."""
        ours, theirs = socket.socketpair()
        with theirs, _closed_on_failure(ours):
            _send(self.connection, {"do": "fork"}, theirs.fileno())
        return Process(ours)

    def python(self, code: str, keep: bool = False) -> Any:
        """Return what the code leaves in ``answer``.

        Args:
            code: To be executed.
            keep: Whether code that comes later knows the names that it defines.

        Raises:
            RuntimeError: With what the code raised.
        """
        _send(self.connection, {"do": "python", "code": code, "keep": keep})
        return self._answer()

    def start(self, *arguments: object, cwd: Path, env: Mapping[str, str], log: Path) -> None:
        """Become ``python ARGUMENTS``: a file, -m and a module, or -c and code; and its arguments.

        Args:
            *arguments: Of the command line.
            cwd: Folder to run it in.
            env: All of its environment.
            log: File for what it prints; errors go to ``LOG.errors``.
        """
        _send(self.connection, {"do": "become", "arguments": [str(a) for a in arguments],
                                "cwd": str(cwd), "env": dict(env), "log": str(log)})  # fmt: skip

    def wait(self) -> int:
        """Return the status with which it ends."""
        return int(self._answer())

    def run(
        self, *arguments: object, cwd: Path = ROOT, env: Optional[Mapping[str, str]] = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run ``python ARGUMENTS`` in a fork of this process; see :meth:`start`."""
        with tempfile.TemporaryDirectory() as folder, self.fork() as process:
            log = Path(folder, "log")
            process.start(*arguments, cwd=cwd, env=os.environ if env is None else env, log=log)
            code = process.wait()
            printed, errors = (f.read_text("utf-8") for f in (log, _errors_of(log)))
        return subprocess.CompletedProcess([str(a) for a in arguments], code, printed, errors)

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process is gone."""
        with contextlib.suppress(ProcessLookupError, ConnectionResetError):
            os.kill(self.pid, signal.SIGKILL)
            while self.connection.recv(4096):
                pass

    def _answer(self) -> Any:
        found = _receive(self.connection)
        if "answer" not in found:
            raise RuntimeError(found.get("error", "the process ended"))
        return found["answer"]

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *args: object) -> None:
        self.kill()
        self.connection.close()


@functools.cache
def preloaded() -> Process:
    """Return the process that is forked."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.preloaded", str(theirs.fileno())],
            cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            # Whether there are GPUs must be found out without making them unusable in the forks.
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
        )  # fmt: skip

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return Process(ours)


@functools.cache
def for_training() -> Process:
    """Return a fork of it that has imported this se_zoo and what trains; it has its own cache."""
    home = tempfile.TemporaryDirectory(prefix="se-zoo-tests-")
    atexit.register(home.cleanup)
    process = preloaded().fork()
    process.python(f"import os; os.environ['HF_HOME'] = {home.name!r}")
    process.python("import accelerate, datasets, torchmetrics, se_zoo.train.recipe")
    return process


@contextlib.contextmanager
def _closed_on_failure(connection: socket.socket) -> Iterator[None]:
    """Close it where an error is raised: an open one would fail a test that comes later."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _errors_of(log: Path) -> Path:
    return log.with_name(log.name + ".errors")


def _send(connection: socket.socket, content: Dict[str, Any], *handles: int) -> None:
    data = json.dumps(content).encode()
    socket.send_fds(connection, [len(data).to_bytes(8, "big")], handles)
    connection.sendall(data)


def _receive(connection: socket.socket) -> Dict[str, Any]:
    """Return the next message, or nothing where the other end is gone."""
    try:
        head, handles, _, _ = socket.recv_fds(connection, 8, 1)
        data, size = b"", int.from_bytes(head, "big")
        while head and len(data) < size:
            part = connection.recv(size - len(data))
            if not part:
                return {}
            data += part
    except ConnectionResetError:
        return {}
    if not head:
        return {}
    return {**json.loads(data), **({"handle": handles[0]} if handles else {})}


# In the process itself


def _serve(connection: socket.socket) -> None:
    """Do what is asked until nobody is there."""
    names: Dict[str, Any] = {}
    _send(connection, {"answer": os.getpid()})
    while request := _receive(connection):
        kind = request.pop("do")
        if kind == "fork" and os.fork() == 0:
            connection.close()
            connection = socket.socket(fileno=request["handle"])
            _send(connection, {"answer": os.getpid()})
        elif kind == "fork":
            os.close(request["handle"])
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        elif kind == "python":
            _send(connection, _execute(request["code"], names if request["keep"] else {**names}))
        else:
            code = _become(**request)
            sys.stdout.flush()
            sys.stderr.flush()
            _send(connection, {"answer": code})
            sys.exit(code)


def _execute(code: str, names: Dict[str, Any]) -> Dict[str, Any]:
    try:
        exec(code, names)
        json.dumps(answer := names.pop("answer", None))
        return {"answer": answer}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _become(arguments: List[str], cwd: str, env: Dict[str, str], log: str) -> int:
    """Run a file, module or code as ``__main__``; return the status that Python would end with."""
    for number, file in ((1, Path(log)), (2, _errors_of(Path(log)))):
        with file.open("wb") as opened:
            os.dup2(opened.fileno(), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    kind, code = arguments[0], ""
    if kind == "-c":
        code = arguments.pop(1)
    first = cwd if kind in ("-m", "-c") else str(Path(kind).absolute().parent)
    sys.path[:1] = [first, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = arguments[1:] if kind == "-m" else arguments
    try:
        if kind == "-m":
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            exec(code, {"__name__": "__main__"})
        else:
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    for name in HEAVY:
        with contextlib.suppress(ImportError):  # of an extra that is not installed
            importlib.import_module(name)
    assert "huggingface_hub" not in sys.modules, "the forks could not say which Hub they ask"
    _serve(socket.socket(fileno=int(sys.argv[1])))
