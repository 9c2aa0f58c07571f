"""The static page in a real browser: it answers as torch does, and says what is wrong."""

import base64
import io
import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.page_time import measure, served_folder
from se_zoo.inference.images import demo_photo
from se_zoo.models.input_size import data_config
from se_zoo.models.pretrained.manifest import sha256_of

from .page_server import (
    MODEL,
    browser,  # noqa: F401
    other_hosts,
    real_runtime,
    written_space,
)

pytestmark = pytest.mark.slow  # the model is exported first, and Chromium compiles WebAssembly
TOLERANCE = 1e-3
READY = "body[data-ready]"
WAIT = 120_000  # milliseconds; a busy machine compiles WebAssembly slowly


class Site(NamedTuple):
    """A page's folder, its address, and the model in it."""

    folder: Path
    address: str
    model: Any


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Site]:
    import warnings

    tmp = tmp_path_factory.mktemp("site")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.onnx and onnxscript, about themselves
        model = written_space(tmp, MODEL, real_runtime())
    with served_folder(tmp / "space") as address:
        yield Site(tmp / "space", address, model)


@pytest.fixture(scope="module")
def page(site: Site, browser: Any) -> Iterator[Any]:
    """The page, once for all tests; ``page.requests`` lists the addresses that it asked."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.requests = []
    opened.on("request", lambda request: opened.requests.append(request.url))
    opened.goto(site.address)
    opened.wait_for_selector(READY, timeout=WAIT)
    yield opened
    opened.close()


def show(page: Any, file: Path) -> None:
    """Choose a photo, and wait for the answer."""
    page.evaluate("document.getElementById('status').textContent = ''")
    page.set_input_files("#choose", str(file))
    page.wait_for_function(
        "name => document.getElementById('status').textContent.startsWith(name + ':')",
        arg=file.name, timeout=WAIT,
    )  # fmt: skip


def choose(page: Any, label: str, versus: str = "") -> None:
    """Click a label, and a label to compare it with."""
    for name, kind in ((label, "label"), (versus, "versus")):
        if name:
            page.fill("#filter", name.replace("_", " "))
            page.click(f"#labels .{kind}")
    page.fill("#filter", "")


def numbers(page: Any) -> Dict[str, Any]:
    """Return what "Save the numbers" saves."""
    with page.expect_download() as download:
        page.click("#save-numbers")
    return json.loads(Path(download.value.path()).read_text("utf-8"))


def assert_same(found: Dict[str, Any], model: Any, file: Path, targets: Sequence[str]) -> None:
    """Compare probabilities and maps with torch's; two targets are compared with each other."""
    wanted = model.explain(file, list(targets), "contribution")
    shares = torch.tensor(found["probabilities"])
    torch.testing.assert_close(shares, wanted.probabilities[0], rtol=0, atol=TOLERANCE)
    assert tuple(found["labels"]) == wanted.label_names
    maps = list(wanted.raw)
    if len(targets) == 2:
        one, other = targets
        maps.append(model.explain(file, one, "difference", versus=other).raw[0])
    assert len(found["maps"]) == len(maps)
    for ours, theirs in zip(found["maps"], maps, strict=True):
        raw = torch.tensor(ours["raw"]).view(theirs.shape) / theirs.abs().max()
        torch.testing.assert_close(raw, theirs / theirs.abs().max(), rtol=0, atol=TOLERANCE)


def a_photo(kind: str, folder: Path) -> Path:
    """Write a photo that is easily read wrongly."""
    portrait = Image.open(demo_photo())
    if kind == "plain":
        file = folder / "plain.png"
        portrait.save(file)
    elif kind == "wide":
        file = folder / "wide.png"
        portrait.crop((0, 60, 512, 300)).resize((3001, 1407)).save(file)
    elif kind == "small":
        file = folder / "small.png"
        portrait.resize((61, 77)).save(file)
    elif kind == "turned":  # a phone's photo: lying pixels, and a note to turn them
        file = folder / "turned.jpg"
        exif = Image.Exif()
        exif[0x0112] = 6
        portrait.transpose(Image.Transpose.ROTATE_90).save(file, quality=95, exif=exif)
    else:
        file = folder / "transparent.png"
        alpha = Image.linear_gradient("L").resize(portrait.size).point(lambda v: 255 * (v > 60))
        portrait.putalpha(alpha)
        portrait.save(file)
    return file


@pytest.mark.parametrize("kind", ["plain", "wide", "small", "turned", "transparent"])
def test_probabilities_and_maps_are_torchs(
    kind: str, site: Site, page: Any, tmp_path: Path
) -> None:
    file = a_photo(kind, tmp_path)
    start = time.perf_counter()
    show(page, file)
    print(f"{kind}: {time.perf_counter() - start:.2f} s, {page.inner_text('#status')}")
    choose(page, "Eyeglasses")
    assert_same(numbers(page), site.model, file, ["Eyeglasses"])
    choose(page, "Wearing_Hat")  # the second label, without another run
    assert_same(numbers(page), site.model, file, ["Wearing_Hat"])
    choose(page, "Smiling", "Big_Nose")
    assert_same(numbers(page), site.model, file, ["Smiling", "Big_Nose"])


@contextmanager
def before_opening(page: Any, statements: str) -> Iterator[None]:
    """Let the page execute statements whenever it opens a photo, ``source`` with ``options``.

    Afterwards ``lastOpened`` is the name of the file that it has decoded last.
    """
    page.evaluate(f"""() => {{
      const real = window.createImageBitmap;
      window.restoreOpening = () => {{ window.createImageBitmap = real; }};
      window.createImageBitmap = async (source, ...options) => {{
        {statements}
        const opened = await real.call(window, source, ...options);
        window.lastOpened = source.name ?? window.lastOpened;
        return opened;
      }};
    }}""")
    try:
        yield
    finally:
        page.evaluate("() => window.restoreOpening()")


def test_a_browser_that_does_not_know_from_image_opens_photos_upright(
    site: Site, page: Any, tmp_path: Path
) -> None:
    """Safari 16 refuses the value, and every photo with it."""
    file = a_photo("turned", tmp_path)
    value = "options[0]?.imageOrientation === 'from-image'"
    refuse = f"if ({value}) throw new TypeError('no such value');"
    with before_opening(page, refuse):
        show(page, file)
    choose(page, "Eyeglasses")
    assert_same(numbers(page), site.model, file, ["Eyeglasses"])


def test_the_photo_that_was_chosen_last_is_shown(page: Any, tmp_path: Path) -> None:
    slow = tmp_path / "slow.png"
    Image.open(demo_photo()).save(slow)
    wait = """if (source.name === "slow.png") await new Promise((go) => { window.goOn = go; });"""
    with before_opening(page, wait):
        page.set_input_files("#choose", str(slow))
        page.wait_for_function("() => Boolean(window.goOn)", timeout=WAIT)
        show(page, a_photo("small", tmp_path))
        page.evaluate("() => window.goOn()")
        page.wait_for_function("() => window.lastOpened === 'slow.png'", timeout=WAIT)
    assert page.inner_text("#status").startswith("small.png:")
    assert numbers(page)["photo"] == "small.png"


def pixels(page: Any, number: int = 0) -> np.ndarray:
    """Return what a figure's canvas shows."""
    address: str = page.evaluate(
        "n => document.querySelectorAll('figure canvas')[n].toDataURL('image/png')", number
    )
    image = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
    return np.asarray(image.convert("RGB")).astype(int)


def test_the_map_is_drawn_as_the_library_draws_it(site: Site, page: Any, tmp_path: Path) -> None:
    file = tmp_path / "as_drawn.png"  # of the drawn size, so that both draw on the same pixels
    photo = Image.open(demo_photo()).resize((416, 512))
    photo.save(file)
    show(page, file)
    choose(page, "Eyeglasses")
    explanation = site.model.explain(photo, "Eyeglasses", "contribution")
    wanted = explanation.overlay([photo])[0].astype(int)
    assert np.abs(pixels(page) - wanted).max() <= 4
    page.locator("#strength").fill("0")
    assert np.abs(pixels(page) - np.asarray(photo).astype(int)).max() <= 1
    page.locator("#strength").fill("0.75")


RESIZE = """async ([url, region, size, interpolation]) => {
  const { resized } = await import("./resize.js");
  const photo = await createImageBitmap(await (await fetch(url)).blob());
  return Array.from(resized(photo, region, size[0], size[1], interpolation));
}"""


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(104, 128), (31, 700), (224, 300)])
def test_resizing_is_pillows_to_the_bit(
    interpolation: str, size: Sequence[int], site: Site, page: Any
) -> None:
    file = site.folder / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (300, 257, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    region = {"left": 7.25, "top": 0, "width": 223.5, "height": 300}
    found = page.evaluate(RESIZE, ["noise.png", region, list(size), interpolation])
    wanted = Image.fromarray(noise).resize(
        (size[0], size[1]), Image.Resampling[interpolation.upper()], box=(7.25, 0, 230.75, 300)
    )
    assert np.array_equal(np.array(found).reshape(np.asarray(wanted).shape), np.asarray(wanted))


def test_zoom_and_arrow_keys_choose_the_part(site: Site, page: Any, tmp_path: Path) -> None:
    file = a_photo("plain", tmp_path)
    show(page, file)
    whole = numbers(page)["region"]
    page.evaluate("document.getElementById('status').textContent = ''")
    page.locator("#zoom").fill("2")
    wait_for_answer(page)
    zoomed = numbers(page)["region"]
    assert zoomed["width"] == pytest.approx(whole["width"] / 2) and zoomed["left"] > whole["left"]
    page.evaluate("document.getElementById('status').textContent = ''")
    page.focus("figure canvas")
    page.keyboard.press("ArrowUp")
    wait_for_answer(page)
    moved = numbers(page)
    region = moved["region"]
    assert region["top"] < zoomed["top"] and region["left"] == zoomed["left"]
    box = (region["left"], region["top"], region["left"] + region["width"],
           region["top"] + region["height"])  # fmt: skip
    config = data_config(site.model)
    rows, columns = config["input_size"][1:]
    resample = Image.Resampling[config["interpolation"].upper()]
    part = Image.open(demo_photo()).resize((columns, rows), resample, box=box)
    part.save(tmp_path / "part.png")  # of the input's size, so that it is not resized again
    choose(page, "Eyeglasses")
    assert_same(numbers(page), site.model, tmp_path / "part.png", ["Eyeglasses"])


TWO_ZOOMS = """() => {
  window.said = [];
  const status = document.getElementById("status");
  new MutationObserver(() => window.said.push(status.textContent))
    .observe(status, { childList: true });
  const zoom = document.getElementById("zoom");
  for (const value of [1.5, 2]) {
    zoom.value = value;
    zoom.dispatchEvent(new Event("input"));
  }
}"""


def test_the_map_follows_while_another_run_waits(page: Any, tmp_path: Path) -> None:
    show(page, a_photo("plain", tmp_path))
    whole = numbers(page)["region"]
    page.evaluate(TWO_ZOOMS)  # the second one comes while the first is at work
    page.wait_for_function("() => window.said.length === 2", timeout=WAIT)  # both are shown
    assert numbers(page)["region"]["width"] == pytest.approx(whole["width"] / 2)


def wait_for_answer(page: Any) -> None:
    page.wait_for_function(
        "() => document.getElementById('status').textContent !== ''", timeout=WAIT
    )


def test_wrong_files_give_a_sentence(page: Any, tmp_path: Path) -> None:
    portrait = demo_photo().read_bytes()
    wrong = {
        "text.jpg": (b"not a photo at all", "text.jpg is not a photo that this browser can read"),
        "empty.png": (b"", "empty.png is empty"),
        "cut.jpg": (portrait[:300], "cut.jpg is not a photo that this browser can read"),
    }
    for name, (content, sentence) in wrong.items():
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#choose", str(tmp_path / name))
        page.wait_for_selector(f"#problem:has-text('{sentence}')", timeout=WAIT)
    show(page, a_photo("small", tmp_path))  # the page still works, and forgets the problem
    assert page.is_hidden("#problem")


def test_an_example_that_cannot_be_loaded_gives_a_sentence(page: Any) -> None:
    page.route("**/example.png", lambda route: route.abort())  # the network is gone
    page.click("#example")
    page.wait_for_selector("#problem:has-text('The example cannot be loaded')", timeout=WAIT)
    page.unroute("**/example.png")


def test_the_link_to_the_model_leaves_photo_and_maps_alone(page: Any) -> None:
    assert page.get_attribute("#credits a", "target") == "_blank"


def test_keyboard_and_names_for_screen_readers(page: Any, tmp_path: Path) -> None:
    show(page, a_photo("plain", tmp_path))
    page.focus("#filter")
    page.keyboard.type("smil")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    pressed = page.locator("#labels .label[aria-pressed=true]")
    assert pressed.get_attribute("title") == "Smiling"
    described = page.get_attribute("figure canvas", "aria-label")
    assert described.startswith("The photo with the map of Smiling") and "strongest" in described
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") != ""  # its own compare button is off
    unnamed = page.evaluate("""() => [...document.querySelectorAll("button, input, canvas, video")]
        .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length))
        .map((e) => e.outerHTML)""")
    assert unnamed == []
    page.fill("#filter", "")


def test_the_camera_gives_a_photo(page: Any) -> None:
    page.click("#camera")
    page.wait_for_selector("#live:not([hidden])", timeout=WAIT)
    page.evaluate("document.getElementById('status').textContent = ''")
    page.click("#shoot")
    page.wait_for_function(
        "() => document.getElementById('status').textContent.startsWith('Photo of the camera:')",
        timeout=WAIT,
    )
    assert page.is_hidden("#live") and page.evaluate("video.srcObject") is None


def test_a_camera_that_is_taken_away_is_told(page: Any) -> None:
    page.click("#camera")
    page.wait_for_selector("#live:not([hidden])", timeout=WAIT)
    page.evaluate("() => { video.srcObject.getTracks()[0].dispatchEvent(new Event('ended')); }")
    page.wait_for_selector("#problem:has-text('The camera was taken away')", timeout=WAIT)
    assert page.is_hidden("#live") and page.evaluate("video.srcObject") is None


def test_the_models_address_tells_its_versions_apart(site: Site, page: Any) -> None:
    """So that the model of an older page at this address does not come from the cache."""
    asked: List[str] = page.workers[0].evaluate(
        "() => performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    wanted = f"{site.address}model.onnx?{sha256_of(site.folder / 'model.onnx')}"
    assert wanted in asked


def test_nothing_leaves_the_page(site: Site, page: Any, tmp_path: Path) -> None:
    """Neither page nor worker asked another server, and both are kept from it."""
    show(page, a_photo("plain", tmp_path))
    assert len(page.requests) > 8 and not other_hosts(page.requests, site.address)
    (tmp_path / "photo.txt").write_text("secret")
    with served_folder(tmp_path) as other:
        ask = "url => fetch(url, {mode: 'no-cors'}).then(() => 'reached', () => 'blocked')"
        assert page.evaluate(ask, f"{other}photo.txt") == "blocked"
        assert page.workers[0].evaluate(ask, f"{other}photo.txt") == "blocked"


SIZES = {"desktop": (1200, 900), "phone": (390, 844)}


@pytest.mark.parametrize("device", SIZES)
def test_it_fits_the_screen(device: str, site: Site, browser: Any, tmp_path: Path) -> None:
    width, height = SIZES[device]
    phone = device == "phone"
    opened = browser.new_page(
        viewport={"width": width, "height": height}, is_mobile=phone, has_touch=phone
    )
    opened.goto(site.address)
    opened.wait_for_selector(READY, timeout=WAIT)
    opened.click("#example")
    opened.wait_for_selector("#result:not([hidden])", timeout=WAIT)
    opened.locator(".versus:enabled").first.click()
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    heights: List[float] = opened.evaluate(
        "[...document.querySelectorAll('.sources button, .label')].filter((e) => e.offsetParent)"
        ".map((e) => e.getBoundingClientRect().height)"
    )
    assert min(heights) >= 44  # a finger's width
    assert opened.locator("figure").count() == 3
    opened.screenshot(path=tmp_path / f"{device}.png", full_page=True)
    opened.close()


DROP = """() => {
  const data = new DataTransfer();
  data.items.add(new File(["a photo"], "early.png"));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
}"""


def test_a_photo_before_the_model_is_told_so_until_the_model_is_there(
    site: Site, browser: Any
) -> None:
    opened = browser.new_page()
    held: List[Any] = []
    opened.route("**/config.json", lambda route: held.append(route))
    opened.goto(site.address)
    opened.evaluate(DROP)
    opened.wait_for_selector("#problem:has-text('The model is still loading. Drop')", timeout=WAIT)
    held[0].continue_()
    opened.wait_for_selector(READY, timeout=WAIT)
    assert opened.is_hidden("#problem")
    opened.close()


def test_a_damaged_model_gives_a_sentence(site: Site, browser: Any, tmp_path: Path) -> None:
    import shutil

    damaged = tmp_path / "damaged"
    shutil.copytree(site.folder, damaged)
    content = (damaged / "model.onnx").read_bytes()
    (damaged / "model.onnx").write_bytes(content[: len(content) // 2])
    with served_folder(damaged) as address:
        opened = browser.new_page()
        opened.goto(address)
        opened.wait_for_selector("#problem:has-text('cut off. Reload the page')", timeout=WAIT)
        assert opened.is_hidden("#progress")
        opened.evaluate(DROP)  # it is not loading any more
        assert "cut off" in opened.inner_text("#problem")
        opened.close()


@pytest.mark.filterwarnings("ignore")  # of torch.onnx and onnxscript, about themselves
def test_the_imagenet_models_map_shows_within_two_seconds(browser: Any, tmp_path: Path) -> None:
    """By processor time and the fastest photo, so that other work of the machine does not count."""
    written_space(tmp_path, "se_zoo/tf_efficientnet_lite0_in1k", real_runtime())
    with served_folder(tmp_path / "space") as address:
        found = measure(browser, address, photos=5)
    print(found)
    assert len(found.photos) == 5 and min(found.processor) < 2
