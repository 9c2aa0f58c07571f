"""Measure how soon the page of `se-zoo space` shows the map of a photo, in Chromium.

    python -m benchmarks.page_time
    python -m benchmarks.page_time --model se_zoo/resnet18_slim_celeba

A photo counts from the moment when its file is chosen until its map is drawn; the model is loaded
before. Run time: a minute or two, most of it the export. Result: docs/demo.md. Needs the extra
export, and playwright with Chromium.
"""

import functools
import http.server
import shutil
import statistics
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple

import tyro
from PIL import Image

from se_zoo.demo.runtime import fetch_runtime
from se_zoo.demo.space import write_space
from se_zoo.inference.images import demo_photo
from se_zoo.models.load_model import load_model

#: Milliseconds: a busy machine compiles WebAssembly slowly.
WAIT = 120_000


@dataclass(frozen=True)
class Options:
    """Options of the measurement."""

    model: str = "se_zoo/tf_efficientnet_lite0_in1k"
    """Model of the page."""
    photos: int = 10
    """Number of photos that are chosen, one after the other."""


class Times(NamedTuple):
    """Seconds that the page took.

    Attributes:
        load: From the page's address to the loaded model.
        photos: From each photo's file to its drawn map.
    """

    load: float
    photos: List[float]


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:  # no lines in between
        pass


@contextmanager
def served_folder(folder: Path) -> Iterator[str]:
    """Yield the address of a folder that is served on loopback."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield Chromium: the system's, or playwright's own."""
    from playwright.sync_api import sync_playwright

    system = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with sync_playwright() as started:
        # Root, as in a container, cannot start Chromium's sandbox.
        browser = started.chromium.launch(executable_path=system, args=["--no-sandbox"])
        yield browser
        browser.close()


def measure(browser: Any, address: str, photos: int) -> Times:
    """Open the page of a model, and choose photos.

    Args:
        browser: Playwright's browser.
        address: Address of the page.
        photos: Number of photos: the portrait, cut differently.

    Returns:
        The times.
    """
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    begin = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("body[data-ready]", timeout=WAIT)
    load, seconds = time.perf_counter() - begin, []
    portrait = Image.open(demo_photo())
    with tempfile.TemporaryDirectory() as folder:
        for number in range(photos):
            file = Path(folder) / f"{number}.jpg"
            portrait.crop((number, number, 512 - number, 600 - number)).save(file, quality=95)
            begin = time.perf_counter()
            page.set_input_files("#choose", str(file))
            # The line is written after the map is drawn.
            page.wait_for_selector(f"#status:has-text('{file.name}: predicted')", timeout=WAIT)
            seconds.append(time.perf_counter() - begin)
    page.close()
    return Times(load, seconds)


def main(options: Options) -> None:
    """Write the page, measure, and print the times."""
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space"
        write_space(load_model(options.model), options.model, space, fetch_runtime())
        with served_folder(space) as address, chromium() as browser:
            found = measure(browser, address, options.photos)
    print(f"{options.model}: loaded after {found.load:.1f} s; file to map: first "
          f"{found.photos[0]:.2f} s, median {statistics.median(found.photos):.2f} s, slowest "
          f"{max(found.photos):.2f} s of {len(found.photos)} photos")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
