"""Measure how soon the page of `se-zoo space` shows the map of a photo, in Chromium.

    python -m benchmarks.page_time
    python -m benchmarks.page_time --model se_zoo/resnet18_slim_celeba

A photo counts from the moment when its file is chosen until its map is drawn; the model is loaded
before. The processor time of Chromium is counted too: on a machine without other work it is about
the time that a user waits. Run time: a minute or two, most of it the export. Result: docs/demo.md.
Needs Linux, the extra export, and playwright with Chromium.
"""

import functools
import http.server
import os
import shutil
import statistics
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

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
        processor: Processor time of Chromium and its driver in the same spans.
    """

    load: float
    photos: List[float]
    processor: List[float]


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


def _processor_seconds() -> float:
    """Return the processor time of all processes that this one started, directly or not."""
    parents: Dict[int, int] = {}
    ticks: Dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # the process ended
            continue
        parents[int(stat.parent.name)] = int(fields[1])
        ticks[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    started, more = set(), {os.getpid()}
    while more:
        more = {process for process, parent in parents.items() if parent in more}
        started |= more
    return sum(ticks[process] for process in started) / os.sysconf("SC_CLK_TCK")


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
    load = time.perf_counter() - begin
    seconds: List[float] = []
    processor: List[float] = []
    portrait = Image.open(demo_photo())
    with tempfile.TemporaryDirectory() as folder:
        for number in range(photos):
            file = Path(folder) / f"{number}.jpg"
            portrait.crop((number, number, 512 - number, 600 - number)).save(file, quality=95)
            begin, worked = time.perf_counter(), _processor_seconds()
            page.set_input_files("#choose", str(file))
            # The line is written after the map is drawn.
            page.wait_for_selector(f"#status:has-text('{file.name}: predicted')", timeout=WAIT)
            seconds.append(time.perf_counter() - begin)
            processor.append(_processor_seconds() - worked)
    page.close()
    return Times(load, seconds, processor)


def main(options: Options) -> None:
    """Write the page, measure, and print the times."""
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space"
        write_space(load_model(options.model), options.model, space, fetch_runtime())
        with served_folder(space) as address, chromium() as browser:
            found = measure(browser, address, options.photos)
    print(f"{options.model}: loaded after {found.load:.1f} s")
    for name, values in (("file to map", found.photos), ("processor time", found.processor)):
        print(f"{name}: first {values[0]:.2f} s, fastest {min(values):.2f} s, median "
              f"{statistics.median(values):.2f} s, slowest {max(values):.2f} s")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
