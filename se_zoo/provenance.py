"""Record where a figure comes from: the command, the commit and the machine."""

import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import timm
import torch

from .version import __version__


def commit() -> Optional[str]:
    """Return the commit of this checkout, with "-dirty" if files were changed.

    Returns:
        40 hexadecimal digits; None if the package was installed without its repository.
    """
    if shutil.which("git") is None:
        return None

    def git(*arguments: str) -> str:
        command, folder = ["git", *arguments], Path(__file__).parent
        return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()

    if not git("ls-files", Path(__file__).name):  # a virtual environment inside another checkout
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None


def _cpu() -> str:
    """Return the name of the processor."""
    listing = Path("/proc/cpuinfo")  # Linux, where platform.processor() is empty
    names = re.findall(r"model name\s*: (.*)", listing.read_text()) if listing.exists() else []
    return names[0] if names else platform.processor()


def environment(versions: Optional[Mapping[str, str]] = None, **machine: Any) -> Dict[str, Any]:
    """Return the versions and the machine that a figure was made with.

    Args:
        versions: Versions of further packages, by name.
        **machine: Further facts of the machine.

    Returns:
        Values that JSON can store, by name.
    """
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        **(versions or {}),
        "se_zoo": __version__,
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        **machine,
    }


def options(config: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Flatten a nested configuration to option names, such as ``run.mixed-precision``.

    Args:
        config: The configuration.
        prefix: Beginning of all names.

    Returns:
        Values by option name.
    """
    found: Dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key.replace('_', '-')}"
        found.update(options(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return found


def command_words() -> List[str]:
    """Return the words of this process's command line.

    Returns:
        ``sys.argv``; for a script that a module runs, ``python -m MODULE`` before it, because the
        module may change what the script does.
    """
    given, words = sys.orig_argv, list(sys.argv)
    at = given.index(words[0]) if words[0] in given else 0
    return ["python", "-m", given[at - 1], *words] if "-m" in given[max(0, at - 2) : at] else words


def provenance(command: Optional[str] = None) -> Dict[str, Any]:
    """Return what a file of figures records of its making.

    Args:
        command: Command that makes the figures; by default the command line of this process.

    Returns:
        ``command``, ``commit`` and ``environment``.
    """
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main:
        words = ["python", "-m", main.name.removesuffix(".__main__"), *sys.argv[1:]]
    else:
        words = command_words()
    return {
        "command": command or shlex.join(words),
        "commit": commit(),
        "environment": environment(),
    }
