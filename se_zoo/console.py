"""Errors of commands and recipes: one line each, the traceback only where it is asked for."""

import io
import os
import select
import sys
import traceback
from contextlib import contextmanager, suppress
from typing import Iterator, List, NoReturn, Optional, Sequence, TextIO, Tuple

from .errors import SEZooError, other_version
from .text import one_line

#: Option of every command and recipe that shows the traceback of an error.
DEBUG_OPTION = "--debug-errors"
#: The extra that installs a package, by the name under which it is imported.
_EXTRAS = {
    "accelerate": "train", "datasets": "train", "torchmetrics": "train", "tensorboard": "train",
    "pyarrow": "predict", "filelock": "train", "av": "video", "cv2": "face", "onnx": "export",
    "onnxscript": "export", "onnxruntime": "export", "pytorch_grad_cam": "compare",
    "captum": "compare", "torchcam": "compare", "scipy": "compare", "ray": "ray",
}  # fmt: skip

#: Exit status where nobody reads the output: that of programs that SIGPIPE ends.
_NO_READER = 141


def without_debug(words: Sequence[str]) -> Tuple[List[str], bool]:
    """Return arguments of the command line without ``--debug-errors``, and whether it was there.

    Args:
        words: The arguments.
    """
    rest = [word for word in words if word != DEBUG_OPTION]
    return rest, len(rest) < len(words)


@contextmanager
def one_line_errors(program: str, debug: Optional[bool] = None) -> Iterator[None]:
    """End the program after any error: with one line on stderr and exit status 1.

    After Ctrl-C the status is 130. Where nobody reads the output any more, as behind ``| head``,
    the program ends silently with the status 141. Names that the terminal's encoding lacks are
    printed escaped.

    Args:
        program: Its name, the beginning of the line.
        debug: Print the traceback first; by default if ``--debug-errors`` is in the command line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        _flush(sys.stdout)  # else a full disk would be noticed after the exit status is chosen
    except KeyboardInterrupt:
        _end("interrupted", 130, debug)
    except Exception as error:
        if _reader_left(error):
            raise SystemExit(_NO_READER) from None
        _end(f"{program}: {one_line(explained(error))}", 1, debug)
    finally:
        _drop_unwritten(sys.stdout)


@contextmanager
def silent_without_reader() -> Iterator[None]:
    """End the program silently, with status 141, where nobody reads its output any more.

    For help behind ``| head``; other errors are raised.
    """
    try:
        yield
    except Exception as error:
        if _reader_left(error):
            raise SystemExit(_NO_READER) from None
        raise
    finally:
        _drop_unwritten(sys.stdout)


def _flush(stream: Optional[TextIO]) -> None:
    """Write out what a stream still holds, unless it is closed."""
    if stream is not None and not stream.closed:  # None: the shell has closed it
        stream.flush()


def _drop_unwritten(stream: Optional[TextIO]) -> None:
    """Drop text that cannot be written: Python would try again, and complain of it, at its end."""
    try:
        _flush(stream)
    except OSError:
        with suppress(OSError, ValueError):  # a stream without a descriptor
            assert stream is not None
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _reader_left(error: BaseException) -> bool:
    """Return whether an error comes of output that is a pipe without a reader.

    Pipes to other processes and to servers break with the same error, so stdout is asked.
    """
    cause: Optional[BaseException] = error
    while cause is not None and not isinstance(cause, BrokenPipeError):
        cause = cause.__cause__ or cause.__context__
    if cause is None or sys.stdout is None or sys.platform == "win32":  # which has no poll
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # POLLERR and POLLHUP are always told
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):  # a stream without a descriptor
        return False


def _end(line: str, status: int, debug: Optional[bool]) -> NoReturn:
    if DEBUG_OPTION in sys.argv if debug is None else debug:
        traceback.print_exc()
    if status == 1:
        raise SystemExit(line)  # Python prints it
    print(line, file=sys.stderr)
    raise SystemExit(status)


def explained(error: BaseException) -> str:
    """Return the message of an error, with what to do where the message does not say it.

    Args:
        error: Any error.
    """
    kind, text = type(error).__name__, str(error)
    if isinstance(error, SEZooError):
        return text
    if isinstance(error, ImportError):
        if moved := other_version(error):
            return moved
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        # In double quotes: the command line of Windows takes single ones for a part of the name.
        install = f'pip install "se_zoo[{extra}]"' if extra else "install the package it needs"
        return f"{text}: {install}."
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
        return f"out of memory ({text or kind}): use smaller batches, inputs or files."
    if isinstance(error, RecursionError):
        return f"a file is nested too deeply ({text})."
    if isinstance(error, OSError):
        return text or kind
    if "DataLoader worker" in text:
        return (
            f"{text.splitlines()[0]} A loader process died, mostly for lack of memory: use a "
            "lower --workers (recipes: --run.workers), then give the same command again."
        )
    if "PytorchStreamWriter" in text or "No space left" in text:
        return f"{text.splitlines()[0]}: a file cannot be written; is the disk full?"
    return f"{kind}: {text} ({DEBUG_OPTION} shows where)"
