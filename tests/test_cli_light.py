"""Help, version and list take no longer than they must: what they import."""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from se_zoo import __version__

from .with_timm import run_with_timm

COMMANDS = """
import json, sys
sys.argv = ["{program}"]
from se_zoo import cli

printed = []
for words in ([], ["--help"], ["--version"], *([name, "--help"] for name in {names})):
    try:
        cli.main(words)
    except SystemExit as stop:
        assert stop.code in (0, None), (words, stop.code)
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {"torch", "timm", "numpy", "PIL", "matplotlib", "huggingface_hub"}


def python(code: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def subcommands() -> List[str]:
    """The names that ``se-zoo --help`` lists."""
    done = subprocess.run(
        [sys.executable, "-m", "se_zoo.cli"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("{", 1)[1].split("}", 1)[0].split(",")


@pytest.mark.parametrize("program", ["/usr/bin/se-zoo", "C:\\Scripts\\se-zoo.exe"])
def test_help_and_version_import_nothing_heavy(tmp_path: Path, program: str) -> None:
    if "\\" in program and sys.platform != "win32":
        program = program.rpartition("\\")[2]  # paths of Windows are parsed on Windows alone
    names = subcommands()
    assert {"explain", "list", "check"} <= set(names)
    printed = python(COMMANDS.format(program=program, names=names), tmp_path)
    assert f"se_zoo {__version__}\n" in printed and printed.count("usage: se-zoo") == 2 + len(names)
    loaded = set(json.loads(printed.splitlines()[-1]))
    assert "tyro" in loaded and not loaded & HEAVY


def test_module_and_bare_command_print_help_without_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "se_zoo.cli"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "usage: se-zoo" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tyro" in loaded and not loaded & HEAVY


def test_names_of_the_package_work_within_the_command(tmp_path: Path) -> None:
    code = (
        "import sys; [sys.modules.pop(m) for m in list(sys.modules) if m.startswith('timm')]; "
        'sys.argv = ["se-zoo"]; import se_zoo; assert "timm" not in sys.modules; '
        "print([n for n in se_zoo.__all__ if not hasattr(se_zoo, n)], "
        'hasattr(se_zoo, "no_such_name"), "se_zoo/resnet18_slim_celeba" in '
        "sys.modules['timm'].list_models('se_zoo/*'))"
    )
    assert run_with_timm(code, tmp_path).split() == ["[]", "False", "True"]


def test_list_imports_little_beyond_timm(tmp_path: Path) -> None:
    code = (
        "import json, sys; before = set(sys.modules); sys.argv = ['se-zoo']; "
        "from se_zoo import cli; cli.main(['list']); "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    printed = run_with_timm(code, tmp_path).splitlines()[-1]
    loaded = {name.split(".")[0] for name in json.loads(printed)}
    foreign = loaded - set(sys.stdlib_module_names)
    assert foreign <= {"se_zoo", "tyro", "docstring_parser", "typeguard", "typing_extensions"}
