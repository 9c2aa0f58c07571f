"""Settings of all tests: no network, one thread, the same random numbers every time."""

import os

# Before huggingface_hub is imported: a test that asks a real Hub is a test that is wrong.
os.environ["HF_HUB_OFFLINE"] = "1"

import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

pytest.register_assert_rewrite("tests.tester")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-golden", action="store_true", help="write tests/golden/ instead of comparing"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests of a module or class to one process: what they share is then made once."""
    if config.getoption("dist") != "load":  # what -n alone sets
        return None
    from xdist.scheduler import LoadScopeScheduling

    return LoadScopeScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def single_thread() -> None:
    """What a module makes once is rounded as in its tests, whichever module comes first."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random inputs and weights are the same in every run and for every order of the tests."""
    import torch  # not by the process that only hands out the tests

    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def data_dir() -> Path:
    """The folder of the sample data; the test is skipped where there is none."""
    folder = os.environ.get("SE_ZOO_DATA")
    if not folder:
        pytest.skip("SE_ZOO_DATA is not set: no sample data")
    return Path(folder)


@pytest.fixture
def breaking_picture(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A picture that breaks while it is decoded: Pillow does so late, and raises any error."""
    from PIL import Image

    def broken() -> None:
        raise SyntaxError("broken PNG file")

    picture = Image.new("RGB", (80, 80))
    monkeypatch.setattr(picture, "load", broken)
    return picture


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """The next test makes an Accelerator with settings of its own."""
    yield
    from .train_run import forget_accelerator

    forget_accelerator()


@pytest.fixture
def undrawn() -> Iterator[None]:
    """Training draws no pictures."""
    from .train_run import undrawn

    with undrawn():
        yield


@pytest.fixture(scope="session")
def published_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to publish; no test changes it. It is trained once for all processes of the session."""
    from filelock import FileLock

    from .publishing import train_faces

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the process has a folder in that of the session
        folder = folder.parent
    with FileLock(folder / "published.lock"):
        if not (folder / "published").exists():
            train_faces(folder / "published")
    return folder / "published" / "run"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Any], Any]:
    """``golden(name, found)``: what the file of that name holds; written first where asked for."""

    def read(name: str, found: Any) -> Any:
        file = GOLDEN / f"{name}.json"
        if request.config.getoption("--write-golden"):
            GOLDEN.mkdir(exist_ok=True)
            file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        known: Dict[str, Any] = json.loads(file.read_text("utf-8"))
        return known

    return read
