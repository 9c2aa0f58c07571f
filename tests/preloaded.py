"""Start Python processes that have imported torch already.

Importing torch and timm takes seconds, many times what most tests compute. multiprocessing's
fork server imports them once, and every process that a test starts here is a fork of it. The fork
imports se_zoo by itself, under an environment of its own.
"""

import importlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Sequence
from unittest import mock

ROOT = Path(__file__).parent.parent
#: None of these is datasets, which reads its settings when it is imported; the settings of
#: huggingface_hub are read again by every fork.
HEAVY = (
    "torch", "torch._dynamo", "torchvision", "pandas", "pyarrow.dataset", "matplotlib.pyplot",
    "scipy.sparse", "jinja2", "yaml", "tyro", "av", "cv2", "tensorboard.summary",
    "huggingface_hub.hf_api", "huggingface_hub.file_download", "timm", "accelerate",
    "torchmetrics.classification",
)  # fmt: skip
#: Seconds to wait for an answer on a loaded machine.
PATIENCE = 600


def start_process(target: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """Call a function in a new process, a fork of the one that has imported torch.

    Args:
        target: A function of a module.
        *arguments: What it is called with; they are pickled.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(HEAVY))
    # Whether there are GPUs must be found out without making them unusable in the forks.
    settings = {"OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    with mock.patch.dict(os.environ, settings):
        forkserver.ensure_running()
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def start_python(*arguments: object, cwd: Path, env: Mapping[str, str], log: Path) -> BaseProcess:
    """Start ``python ARGUMENTS``: a file, -m and a module, or -c and code; and its arguments.

    Args:
        *arguments: Of the command line.
        cwd: Folder to run it in.
        env: All of its environment.
        log: File for what it prints; errors go to ``LOG.errors``.
    """
    return start_process(_main, [str(a) for a in arguments], str(cwd), dict(env), str(log))


def run_python(
    *arguments: object, cwd: Path = ROOT, env: Optional[Mapping[str, str]] = None
) -> "subprocess.CompletedProcess[str]":
    """Run ``python ARGUMENTS`` to its end; see :func:`start_python`."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        process = start_python(*arguments, cwd=cwd, env=os.environ if env is None else env, log=log)
        process.join(PATIENCE)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        printed, errors = (f.read_text("utf-8") for f in (log, _errors_of(log)))
    if code is None:
        raise TimeoutError(f"{arguments} did not end in {PATIENCE} s; it printed:\n{errors}")
    return subprocess.CompletedProcess([str(a) for a in arguments], code, printed, errors)


def enter(folder: str, environment: Mapping[str, str], first: Optional[str] = None) -> None:
    """Change the folder, the environment and the first place to import from of this process."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [first or folder, *filter(None, paths)]
    _read_hub_settings()


def _read_hub_settings() -> None:
    """Give huggingface_hub, if it is imported, the settings of this process's environment.

    It reads them when it is imported, and a few of its modules copy them.
    """
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is None:
        return
    importlib.reload(constants)
    for name, module in list(sys.modules.items()):
        if name.startswith("huggingface_hub.") and module is not constants:
            for copied in [n for n in vars(module) if n.isupper() and hasattr(constants, n)]:
                setattr(module, copied, getattr(constants, copied))
    sys.modules["huggingface_hub.hf_api"].api.endpoint = constants.ENDPOINT


def _errors_of(log: Path) -> Path:
    return log.with_name(log.name + ".errors")


def _main(arguments: Sequence[str], folder: str, environment: Mapping[str, str], log: str) -> None:
    """Run a file, module or code as ``__main__``, and end as Python would."""
    for number, file in ((1, Path(log)), (2, _errors_of(Path(log)))):
        with file.open("wb") as opened:
            os.dup2(opened.fileno(), number)
    kind, *rest = arguments
    is_file = kind not in ("-m", "-c")
    enter(folder, environment, str(Path(folder, kind).parent) if is_file else None)
    sys.argv = _argv(kind, rest)
    try:
        if kind == "-m":
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            exec(rest[0], {"__name__": "__main__"})
        else:
            runpy.run_path(kind, run_name="__main__")
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _argv(kind: str, rest: List[str]) -> List[str]:
    """Return what ``sys.argv`` holds in such a process."""
    if kind == "-c":
        return ["-c", *rest[1:]]
    return rest if kind == "-m" else [kind, *rest]
