"""What `pip install` brings: the code, the models, and what cards are made of."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Dict

import pytest

from se_zoo.models.pretrained.manifest import cards_folder, manifest

from .preloaded import ROOT, run_python

pytestmark = pytest.mark.slow

NAMES = sorted(manifest())
#: What of hub_cards is not for users: figures of a run that is no model of the zoo.
NOT_INSTALLED = "vit_tiny_patch16_224_cls_celeba"
#: Seconds that loading a model and explaining the portrait may take, after the imports.
LIMIT = 5


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this checkout."""
    pytest.importorskip("hatchling", reason="needs hatchling (extra: dev)")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "runs")
    shutil.copytree(ROOT, source, ignore=ignored, dirs_exist_ok=True)
    control = source / "hub_cards" / NOT_INSTALLED / "training.json"
    control.parent.mkdir(exist_ok=True)
    control.write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=source, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def expected_cards() -> Dict[str, bytes]:
    """The files of hub_cards that are to be installed."""
    cards = cards_folder()
    files = {str(p.relative_to(cards)): p.read_bytes() for p in cards.rglob("*") if p.is_file()}
    for name in NAMES:
        assert all(f"{name}/hub/{file}" in files for file in manifest()[name].sha256)
    return {k: v for k, v in files.items() if not k.startswith(NOT_INSTALLED)}


def test_wheel_holds_the_models_and_what_cards_are_made_of(built: Path) -> None:
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        start = "se_zoo/hub_cards/"
        cards = {n[len(start) :]: wheel.read(n) for n in names if n.startswith(start)}
        notices = [n for n in wheel.namelist() if n.endswith("licenses/hub_cards/NOTICE")]
    assert cards == expected_cards()
    code = {name for name in names if not name.startswith(start)}
    files = (p for p in (ROOT / "se_zoo").rglob("*") if p.is_file() and p.suffix != ".pyc")
    assert code == {str(p.relative_to(ROOT)) for p in files}
    assert len(notices) == 1


def test_sdist_holds_all_that_the_tests_need(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    cards = {f"hub_cards/{name}" for name in expected_cards()}
    assert {name for name in names if name.startswith("hub_cards/")} == cards
    for folder in ("tests", "tools", "recipes", "se_zoo"):
        assert {str(p.relative_to(ROOT)) for p in (ROOT / folder).rglob("*.py")} <= names


def test_installed_package_finds_its_models(built: Path, tmp_path: Path) -> None:
    """Away from the checkout, without any network; each explains in seconds.

    Image models explain the portrait, the others random clips or face tracks. A model that was too
    slow is tried once more: the machine may be busy.
    """
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        wheel.extractall(tmp_path)
    code = f"""
import pathlib, time
import se_zoo, timm
from se_zoo.inference.images import demo_photo
assert pathlib.Path(se_zoo.__file__).parent.parent == pathlib.Path.cwd()
def seconds(name):
    start = time.perf_counter()
    model = timm.create_model(name, pretrained=True).eval()
    inputs = list(model.example_inputs().values())
    model.explain(*([demo_photo()] if len(inputs) == 1 and inputs[0].ndim == 4 else inputs))
    return time.perf_counter() - start
for name in se_zoo.list_models(pretrained=True):
    taken = seconds(name)
    print(name, taken if taken < {LIMIT} else min(taken, seconds(name)))
"""
    done = run_python("-c", code, cwd=tmp_path)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _ in rows] == [f"se_zoo/{name}" for name in NAMES], done.stderr
    assert not [row for row in rows if float(row[1]) >= LIMIT]
