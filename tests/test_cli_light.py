"""Imports and light commands: what ``import se_zoo``, help, list and wrong arguments import."""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from se_zoo import __version__

from .explain_command import draw
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


REFUSED = """
import json, sys
sys.argv = ["se-zoo"]
from se_zoo import cli

for line in json.loads({lines!r}):
    try:
        cli.main(line.split())
        print("nothing was refused")
    except SystemExit as stop:
        heavy = sorted({{"torch", "timm"}} & set(sys.modules))
        print(json.dumps([stop.code, heavy]))
"""
#: Commands in a folder with a photo and a text, and what they answer.
WRONG = {
    "explain no.jpg": "no such file or folder: no.jpg",
    "explain folder": "no such file or folder: folder",
    "explain *.webp": "no photo or video in *.webp",
    "explain a.png --model se_zoo/resnet18_slim_celbea": "se_zoo/resnet18_slim_celeba",
    "explain --model se_zoo/resnet18_slim_celbea": "se_zoo/resnet18_slim_celeba",
    "explain a.png --model local-dir:none": "local-dir:none: no such folder",
    "explain a.png --out a.jpg": "must be a .png file",
    "explain a.png --out text/a.png": "text is no folder",
    "explain a.png --out a.png": "a.png would be replaced",
    "explain a.png --crop 5 0 5 9": "is empty",
    "explain a.png --crop 900 0 950 9": "shows nothing of a.png (52 x 64)",
    "explain --crop 900 0 950 9": "(512 x 600)",
    "explain a.png --cmap rainbows": "no colour map",
    "predict none --out new": "no such file: none",
    "predict a.png --out text": "--out text is a file",
    "predict a.png --out .": "no predict.json",
    "predict a.png --out new --model se_zoo/none": "se_zoo has no model 'none'",
    "speaker none --model se_zoo/asd_tiny_grid": "no such file or folder: none",
    "speaker a.png --model se_zoo/asd_tiny_grip": "se_zoo/asd_tiny_grid",
    "speaker a.png --model se_zoo/asd_tiny_grid --out a.avi": "must be an .mp4 file",
    "speaker a.png --model se_zoo/asd_tiny_grid": "a.png is a photo; name a video with sound",
    "speaker . --model se_zoo/asd_tiny_grid": ". has no videos",
    "report none": "no folder of se-zoo predict",
    "report .": "no folder of se-zoo predict",
    "export se_zoo/none": "se_zoo has no model 'none'",
    "space se_zoo/none --out new": "se_zoo has no model 'none'",
    "space se_zoo/resnet18_slim_celeba --out text": "text exists already",
    "demo se_zoo/none": "se_zoo has no model 'none'",
    "demo --out text": "text exists already",
    "demo --port 80000": "--port must be from 1 to 65535, not 80000",
    "card se_zoo/none": "se_zoo has no model 'none'",
    "verify se_zoo/none": "se_zoo has no model 'none'",
    "verify local-dir:.": "has no published hashes; name se_zoo/<name> or hf-hub:<repository>",
    "verify .": "has no published hashes; name se_zoo/<name> or hf-hub:<repository>",
}


@pytest.fixture(scope="module")
def photo_and_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo and a text."""
    folder = tmp_path_factory.mktemp("wrong")
    draw(folder / "a.png")
    (folder / "text").touch()
    return folder


def test_wrong_arguments_are_refused_without_torch(photo_and_text: Path) -> None:
    printed = python(REFUSED.format(lines=json.dumps(list(WRONG))), photo_and_text)
    for (line, says), answer in zip(WRONG.items(), printed.splitlines(), strict=True):
        message, heavy = json.loads(answer)
        assert says in str(message), f"{line}: {message}"
        assert not heavy, f"{line} imports {heavy}"
    assert sorted(path.name for path in photo_and_text.iterdir()) == ["a.png", "text"]


def test_default_model_is_said_to_read_faces_before_torch_is_imported(photo_and_text: Path) -> None:
    code = (
        "import contextlib, io, sys; sys.argv = ['se-zoo']; from se_zoo.cli import plan; "
        "from se_zoo.cli.explain import Explain\n"
        "with contextlib.redirect_stderr(sys.stdout): plan.make_plan(Explain({options}))\n"
        "print('torch' in sys.modules)"
    )
    note = python(code.format(options="('a.png',)"), photo_and_text).splitlines()
    assert note[-1] == "False" and "reads faces only" in note[0]
    assert note[2].endswith("se-zoo explain a.png --model se_zoo/tf_efficientnet_lite0_in1k")
    for options in ("('a.png',), quiet=True", "('a.png',), model='se_zoo/asd_tiny_grid'", ""):
        assert python(code.format(options=options), photo_and_text).splitlines() == ["False"]


# The package

IMPORTS = """
import json, sys, warnings
import torch, timm
before, rng = set(sys.modules), torch.get_rng_state()
handlers = len(warnings.filters)
with warnings.catch_warnings():
    warnings.simplefilter("error")
    import se_zoo
loaded = sorted(set(sys.modules) - before)
import se_zoo.cli
from se_zoo.data import build_tracks, check, open_table, open_tracks
print(json.dumps({
    "loaded": loaded,
    "with data": sorted(sys.modules),
    "rng": bool(torch.equal(rng, torch.get_rng_state())),
    "filters": len(warnings.filters) - handlers,
    "grad": torch.is_grad_enabled(),
    "threads": torch.get_num_threads(),
}))
"""


def test_import_is_light_quiet_and_changes_nothing(tmp_path: Path) -> None:
    found = json.loads(run_with_timm(IMPORTS, tmp_path))
    loaded = found["loaded"]
    for heavy in (
        "matplotlib", "PIL.ImageDraw", "PIL.ImageFont", "tyro", "datasets", "accelerate",
        "torchmetrics", "pandas", "pyarrow", "scipy", "cv2", "captum", "pytorch_grad_cam",
        "torchvision.transforms", "timm.data.imagenet_info", "tensorboard", "av", "onnx",
    ):  # fmt: skip
        assert not [m for m in loaded if m == heavy or m.startswith(f"{heavy}.")], heavy
    foreign = {m.split(".")[0] for m in loaded} - {"se_zoo"} - set(sys.stdlib_module_names)
    assert foreign <= {"timm", "torch", "numpy", "huggingface_hub", "safetensors"}, foreign
    assert "se_zoo.data.tables.parquet" in found["with data"]
    assert not {"datasets", "pandas", "pyarrow", "accelerate"} & set(found["with data"])
    assert found["rng"] and found["grad"] and found["filters"] == 0
    assert not list(tmp_path.iterdir())


def test_public_names_exist_and_are_documented() -> None:
    import se_zoo

    for name in se_zoo.__all__:
        assert hasattr(se_zoo, name)
        assert name == "__version__" or getattr(se_zoo, name).__doc__, f"{name} has no docstring"
