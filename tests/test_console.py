"""Every error ends a command or recipe with one line; the traceback is shown if asked for."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from se_zoo import cli
from se_zoo.console import explained, one_line_errors, without_debug
from se_zoo.errors import InvalidInputError

ROOT = Path(__file__).parent.parent


def named(name: str, message: str) -> ImportError:
    return ModuleNotFoundError(message, name=name)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (InvalidInputError("wrong\n\x1b[31mvalue"), r"wrong \x1b[31mvalue"),
        (named("accelerate", "No module named 'accelerate'"), 'pip install "se_zoo[train]"'),
        (named("av.video", "No module named 'av'"), 'pip install "se_zoo[video]"'),
        (OSError(28, "No space left on device", "x.png"), "No space left on device: 'x.png'"),
        (MemoryError(), "out of memory"),
        (RecursionError("maximum depth"), "nested too deeply"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
            "lower --workers (recipes: --run.workers)",
        ),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing"), "is the disk full?"),
        (KeyError("x"), "KeyError: 'x' (--debug-errors shows where)"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"), "surrogates"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_is_one_line_with_status_1(error: Exception, says: str) -> None:
    with pytest.raises(SystemExit) as info, one_line_errors("program", debug=False):
        raise error
    line = str(info.value.code)
    assert line.startswith("program: ") and says in line and "\n" not in line


def test_torchs_lack_of_memory_is_explained() -> None:
    import torch

    assert "smaller batches" in explained(torch.OutOfMemoryError("CUDA out of memory"))


def test_interruption_has_status_130(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as info, one_line_errors("program"):
        raise KeyboardInterrupt
    assert info.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def test_debug_option_shows_the_traceback_and_is_no_argument(
    capsys: pytest.CaptureFixture,
) -> None:
    assert without_debug(["a", "--debug-errors", "b"]) == (["a", "b"], True)
    with pytest.raises(SystemExit), one_line_errors("program", debug=True):
        raise KeyError("x")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("body", [
    "print('a')",  # noticed at the end
    "print('a' * 1_000_000)",
    """
    try:
        print('a' * 1_000_000)
    except OSError as error:
        raise InvalidInputError("a file cannot be written") from error
    """,
])  # fmt: skip
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no broken pipes")
def test_output_without_a_reader_ends_the_program_silently(body: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = printing(body, write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("call", [
    "from se_zoo import cli; cli.main(['--help'])",
    "import sys; sys.argv = ['recipe', '--help']; from se_zoo.data import DataConfig; "
    "from se_zoo.train.recipe import Options, read_options; "
    "read_options(Options(DataConfig('')), 'Train. ' * 20_000)",
])  # fmt: skip
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no broken pipes")
def test_help_without_a_reader_ends_silently(call: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True,
        timeout=300,
    )  # fmt: skip
    os.close(write)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_output_that_a_full_disk_refuses_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        done = printing("print('a')", full.fileno())
    assert (done.returncode, done.stderr) == (1, "program: [Errno 28] No space left on device\n")


def printing(body: str, stdout: int) -> "subprocess.CompletedProcess[str]":
    """A process that runs statements like a command, with a place for what it prints."""
    code = (
        "from se_zoo.console import one_line_errors\nfrom se_zoo.errors import InvalidInputError\n"
        f"with one_line_errors('program'):\n    {body.strip()}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True,
        timeout=300,
    )  # fmt: skip


def test_broken_pipes_to_others_are_errors() -> None:
    with pytest.raises(SystemExit, match=r"program: .*Broken pipe"), one_line_errors("program"):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("debug", [False, True])
def test_command_turns_any_error_into_one_line(
    debug: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fails(args: Any) -> None:
        raise ZeroDivisionError("in the middle")

    monkeypatch.setitem(cli.COMMANDS, cli.Check, fails)
    with pytest.raises(SystemExit, match="ZeroDivisionError: in the middle"):
        cli.main(["check", "data", *(["--debug-errors"] if debug else [])])
    assert ("Traceback" in capsys.readouterr().err) == debug


#: Makes a package look as if it were not installed.
HIDE = """
import sys, runpy
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "accelerate":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
sys.argv = sys.argv[1:]
sys.path.insert(0, "recipes")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["own_data", "squeeze_only", "speaker"])
def test_recipe_without_its_extra_says_what_to_install(recipe: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDE, f"recipes/{recipe}.py", "--data.path", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert 'pip install "se_zoo[train]"' in line and "Traceback" not in done.stderr
