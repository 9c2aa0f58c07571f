"""A page on loopback and a browser to look at it, shared by the tests of the demos."""

import io
import os
import re
import shutil
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from se_zoo.demo import runtime
from se_zoo.demo.space import write_space
from se_zoo.models.load_model import load_model

from .preloaded import PATIENCE, ROOT, start_python

MODEL = "se_zoo/resnet18_slim_celeba"
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, with a camera that shows a test picture; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    named = os.environ.get("SE_ZOO_CHROMIUM")
    system = named or next(filter(None, map(shutil.which, _NAMES)), None)
    # Root, as in a container, cannot start Chromium's sandbox.
    options = ["--no-sandbox", "--use-fake-device-for-media-stream",
               "--use-fake-ui-for-media-stream"]  # fmt: skip
    with playwright.sync_playwright() as started:
        try:
            opened = started.chromium.launch(executable_path=system, args=options)
        except playwright.Error as error:
            if named or "Executable doesn't exist" not in str(error):
                raise
            pytest.skip("no Chromium: apt install chromium, or playwright install chromium")
        yield opened
        opened.close()


@contextmanager
def served_demo(folder: Path, *models: str) -> Iterator[str]:
    """Serve the demo of models with Gradio, and log to a folder; yield its address."""
    log = folder / "log"
    server = start_python("-m", "se_zoo.cli", "demo", *models, cwd=ROOT, env=os.environ, log=log)
    try:
        yield _address(server, log)
    finally:
        server.terminate()
        server.join()


def _address(server: Any, log: Path) -> str:
    """Return where the server says that it runs."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.exitcode is None:
        if log.is_file() and (found := re.search(r"runs at (\S+);", log.read_text("utf-8"))):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"the server ended or hangs: {log.with_name('log.errors').read_text()}")


def tiny_runtime(folder: Path) -> Path:
    """Write a tarball that is laid out as onnxruntime-web's, with nothing in it."""
    file = folder / "ort.tgz"
    with tarfile.open(file, "w:gz") as archive:
        for name in runtime.FILES:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = 2
            archive.addfile(entry, io.BytesIO(b"//"))
    return file


def written_space(folder: Path, name: str, tarball: Path) -> Any:
    """Write a model's page to ``folder/space``, and return the model."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: extra export")
    model = load_model(name)
    write_space(model, name, folder / "space", tarball)
    return model


def real_runtime() -> Path:
    """Return onnxruntime-web's tarball; skips where no earlier command has downloaded it."""
    found = runtime.cached_runtime()
    if found is None:
        pytest.skip("no onnxruntime-web: `python -m se_zoo.demo.runtime` downloads it once")
    return found


def other_hosts(requests: List[str], address: str) -> List[str]:
    """Return the requests that did not go to the page's own server."""
    return [url for url in requests if not url.startswith((address, "blob:", "data:"))]
