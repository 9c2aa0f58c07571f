"""Write the folder of a Hugging Face Space that runs the server's demo."""

import shutil
from pathlib import Path
from string import Template
from typing import Sequence

from ..errors import InvalidInputError
from ..files import new_folder, write_text
from ..version import __version__

_APP = '''"""Serve the demo; se-zoo demo --out wrote this file."""

from se_zoo.demo.server import serve

serve({names!r}, host="0.0.0.0")
'''
_LOCAL = "local-dir:"
#: What is copied of a model's folder. It may hold other files, which are not meant for others.
_NEEDED = ("config.json", "model.safetensors")
_OF_MODEL = (*_NEEDED, "README.md", "NOTICE", "LICENSE")
_README = Path(__file__).parent / "server_page" / "README.md"


def write_server_space(names: Sequence[str], out: Path) -> None:
    """Write ``app.py``, ``requirements.txt`` and ``README.md``, whole or not at all.

    Args:
        names: Models that the Space offers. Those in folders (``local-dir:``) are copied.
        out: Folder to write; it must not exist yet, or be empty.

    Raises:
        InvalidInputError: If a model's folder does not exist or has no weights, or two have the
            same name.
        FileExistsError: If the folder is taken.
    """
    from importlib.metadata import version

    with new_folder(out) as folder:
        served = [_copied(name, folder) for name in names]
        write_text(folder / "app.py", _APP.format(names=served))
        write_text(folder / "requirements.txt", f"se_zoo[demo]=={__version__}\n")
        text = Template(_README.read_text("utf-8")).substitute(
            gradio=version("gradio"), names=", ".join(served), version=__version__
        )
        write_text(folder / "README.md", text)


def _copied(name: str, folder: Path) -> str:
    """Copy a model's files into the Space; return the name by which the Space finds it."""
    if not name.startswith(_LOCAL):
        return name
    source = Path(name[len(_LOCAL) :])
    if not source.is_dir():
        raise InvalidInputError(f"{name}: no such folder")
    missing = [file for file in _NEEDED if not (source / file).is_file()]
    if missing:
        raise InvalidInputError(f"{name} has no {missing[0]}; se_zoo.save writes such a folder.")
    target = folder / source.resolve().name
    if target.exists():
        raise InvalidInputError(f"Two models lie in folders called {target.name}; rename one.")
    target.mkdir()
    for file in (source / name for name in _OF_MODEL):
        if file.is_file():
            shutil.copyfile(file, target / file.name)
    return f"{_LOCAL}{target.name}"
